//! Random sequences of commands, played with the built binary: whatever fails, is stopped, killed or finds the disk
//! full, no finished result changes, and what is recorded of a result is what it was made with.
//!
//! Plays for a minute; `ROTNET_SEQUENCES=2000` plays so many, `ROTNET_SEED=7` begins with the seventh. A sequence that
//! breaks a promise is made shorter as long as it still does, and printed as a shell script.

mod records;
mod step;
mod world;

use std::time::{Duration, Instant, SystemTime};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use step::Step;
use world::{Program, World};

/// Time for continuous integration.
const PLAY: Duration = Duration::from_secs(60);
/// Steps of a sequence.
const LENGTH: std::ops::RangeInclusive<u32> = 5..=30;
/// Times that a shorter sequence is tried, since kills come at other moments.
const TRIES: u32 = 2;

#[test]
fn no_sequence_of_commands_loses_a_result_or_records_what_is_not_so() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let wanted = number("ROTNET_SEQUENCES");
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let first = number("ROTNET_SEED").unwrap_or_else(now);
    let program = Program::new();
    let (start, mut played, mut ends) = (Instant::now(), 0, [0; 3]);
    while wanted.map_or(start.elapsed() < PLAY, |wanted| played < wanted) {
        let seed = first.wrapping_add(played);
        let sequence = sequence(seed);
        match play(&program, &sequence) {
            Ok(found) => (0..3).for_each(|kind| ends[kind] += found[kind]),
            Err(violation) => {
                let (sequence, violation) = shorten(&program, sequence, violation);
                panic!("seed {seed}: {violation}\n\n{}", script(&sequence));
            }
        }
        played += 1;
        if played.is_multiple_of(100) {
            println!("{played} sequences, {:.0} s", start.elapsed().as_secs_f64());
        }
    }
    let [done, failed, stopped] = ends;
    println!(
        "{played} sequences from seed {first}, {} commands ({done} succeeded, {failed} failed, {stopped} were stopped or \
         killed): 0 violations",
        done + failed + stopped
    );
}

fn sequence(seed: u64) -> Vec<Step> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let length = LENGTH.start() + random.next_u32() % (LENGTH.end() - LENGTH.start() + 1);
    (0..length).map(|_| Step::draw(&mut random)).collect()
}

/// Plays a sequence from an empty folder. How its commands ended, or what it broke.
fn play(program: &Program, sequence: &[Step]) -> Result<[usize; 3], String> {
    let mut world = World::new(program);
    for step in sequence {
        world.take(step).map_err(|violation| format!("{violation}\nafter: {}", step.shell()))?;
    }
    world.reproduce()?;
    Ok(world.ends)
}

/// Leaves steps out as long as a promise is broken without them.
fn shorten(program: &Program, mut sequence: Vec<Step>, mut violation: String) -> (Vec<Step>, String) {
    let mut place = sequence.len();
    while place > 0 {
        place -= 1;
        let mut shorter = sequence.clone();
        shorter.remove(place);
        if let Some(found) = (0..TRIES).find_map(|_| play(program, &shorter).err()) {
            (sequence, violation) = (shorter, found);
            place = place.min(sequence.len());
        }
    }
    (sequence, violation)
}

fn script(sequence: &[Step]) -> String {
    let steps = sequence.iter().map(Step::shell).collect::<Vec<_>>().join("\n");
    format!("#!/bin/sh\n# In a folder with data, other, ph and sweep.json as the test makes them.\n{steps}\n")
}
