//! The real binary, killed (SIGKILL) at random moments over all stages, during writes too, and resumed: the results
//! are those of a run that was left alone. `ROTNET_KILLS=100` for the long form; `-- --nocapture` shows the counts.

use std::time::{Duration, Instant, SystemTime};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{Folder, assert_same_results};

/// Kills of a recipe in continuous integration.
const KILLS: u32 = 6;
/// A run that saves after every step, so that much of its time goes into writing.
const RUN: &str = "run --data data --seed 3 --quiet --set data.kind=cifar10 --set save.every_steps=1 \
                   --set pretrain.epochs=3 --set pretrain.batch_size=16 --set finetune.epochs=3 \
                   --set finetune.batch_size=8 --set data.validation_images=10";
/// Everything that has a state of its own or depends on the step.
const COMPACT: &str = "--set encoder.kind=compact --set encoder.widths=[8,16] --set encoder.pools=[true,true] \
                       --set pretrain.rotations=all --set pretrain.batch_size=4 \
                       --set pretrain.optimizer.kind=muon --set pretrain.optimizer.learning_rate=0.02 \
                       --set pretrain.schedule.kind=cosine --set pretrain.schedule.warmup=0.1 \
                       --set pretrain.augment.padding=reflect --set pretrain.augment.crop_padding=4 \
                       --set pretrain.weight_average=0.9 --set pretrain.keep=best --set pretrain.patience=2 \
                       --set pretrain.clip_norm=1 --set pretrain.label_smoothing=0.1 \
                       --set finetune.weight_average=0.9 --set finetune.keep=best \
                       --set finetune.hidden=[16] --set finetune.batch_norm=true";

#[test]
fn kills_at_random_moments_lose_nothing_and_change_no_byte() {
    kill_and_resume(RUN);
}

#[test]
fn kills_of_a_run_with_batch_normalisation_muon_schedule_and_augmentation() {
    kill_and_resume(&format!("{RUN} {COMPACT}"));
}

fn kill_and_resume(recipe: &str) {
    let wanted = std::env::var("ROTNET_KILLS").map_or(KILLS, |count| count.parse().unwrap());
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let folder = Folder::with_data();
    let start = Instant::now();
    folder.succeed(&format!("{recipe} --out whole"));
    let duration = start.elapsed();

    let (mut kills, mut while_writing, mut runs) = (0, 0, 0);
    while kills < wanted {
        runs += 1;
        let run = format!("run{runs}");
        loop {
            let threads = 1 + random.next_u32() % 3;
            let command = format!("{recipe} --out {run} --resume --threads {threads}");
            let mut running = folder.start(&command);
            let limit = match kills < wanted {
                true => duration.mul_f64(f64::from(random.next_u32()) / f64::from(u32::MAX)),
                false => Duration::MAX,
            };
            if running.ends_within(limit) {
                let outcome = running.finish();
                assert_eq!(outcome.code, 0, "seed {seed}, {run}: {}", outcome.stderr);
                break;
            }
            running.signal("KILL");
            running.finish();
            kills += 1;
            while_writing += usize::from(!folder.temporary_files().is_empty());
        }
        assert_same_results(&folder, "whole", &run);
        assert!(folder.temporary_files().is_empty());
        std::fs::remove_dir_all(folder.path(&run)).unwrap();
    }
    println!("{kills} kills ({while_writing} while writing) in {runs} runs, seed {seed}: none lost");
}
