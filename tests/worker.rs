//! Workers on loopback: they compute what one process does, and their death loses nothing.

use std::net::TcpListener;
use std::time::Duration;

use rand::{Rng, SeedableRng};

use crate::devices::{PRETRAIN, assert_same_curve, losses};
use crate::relay::{Relay, Way};
use crate::support::{Folder, Running};

/// A worker on a free port, killed when it goes out of scope.
struct Worker {
    process: Option<Running>,
    name: String,
}

impl Worker {
    fn start(folder: &Folder, options: &str) -> Self {
        let mut process = folder.start(&format!("worker --quiet --listen 127.0.0.1:0 --threads 1 {options}"));
        let name = process.first_line();
        assert!(name.starts_with("ws://127.0.0.1:"), "{name}");
        Self { process: Some(process), name }
    }

    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.signal("KILL");
            process.finish();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn two_workers_equal_one_process() {
    let folder = Folder::with_data();
    let [a, b] = [Worker::start(&folder, ""), Worker::start(&folder, "")];
    folder.succeed(&format!("{PRETRAIN} --out local"));
    folder.succeed(&format!("{PRETRAIN} --out workers --devices {},{}", a.name, b.name));
    folder.succeed(&format!("{PRETRAIN} --out mixed --devices flex,{}", b.name));
    let local = losses(&folder, "local");
    assert_same_curve(&local, &losses(&folder, "workers"));
    assert_same_curve(&local, &losses(&folder, "mixed"));
    let environment = &folder.json("workers/run.json")["environment"];
    assert_eq!(environment["device"], a.name.as_str());
}

#[test]
fn a_worker_agrees_with_flex_and_all_stages_run_there() {
    let folder = Folder::with_data();
    let worker = Worker::start(&folder, "");
    folder.succeed(&format!(
        "verify device {} --set encoder.kind=compact --set pretrain.batch_size=8",
        worker.name
    ));
    let short = crate::pipeline::SHORT;
    folder.succeed(&format!("run {short} --out a --device {}", worker.name));
    folder.succeed(&format!("run {short} --out b"));
    assert_same_curve(&losses(&folder, "a")[..1], &losses(&folder, "b")[..1]);
}

#[test]
fn a_worker_killed_within_an_epoch_ends_the_run_with_one_line_and_resume_gives_the_same_curve() {
    let folder = Folder::with_data();
    let long = format!("{PRETRAIN} --set pretrain.epochs=6 --set save.every_steps=1");
    let [a, mut b] = [Worker::start(&folder, ""), Worker::start(&folder, "")];
    folder.succeed(&format!("{long} --out whole --devices {},{}", a.name, b.name));
    let mut running = folder.start(&format!("{long} --out cut --devices {},{}", a.name, b.name));
    running.wait_for(&folder.path("cut/pretrain/metrics.jsonl"));
    let mut random = rand_chacha::ChaCha8Rng::from_seed([std::process::id() as u8; 32]);
    std::thread::sleep(Duration::from_millis(u64::from(random.next_u32() % 60)));
    b.kill();
    assert!(running.ends_within(Duration::from_secs(60)), "the client waits for a dead worker");
    let outcome = running.finish();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{}", outcome.stderr);
    for part in ["error: lost in the middle of the work", &b.name, "--resume"] {
        assert!(lines[0].contains(part), "`{part}` is not in {}", lines[0]);
    }
    assert!(losses(&folder, "cut").len() < 6);

    let c = Worker::start(&folder, "");
    folder.succeed(&format!("{long} --out cut --resume --devices {},{}", a.name, c.name));
    assert_same_curve(&losses(&folder, "whole"), &losses(&folder, "cut"));
}

#[test]
fn tokens_are_asked_for_and_wrong_ones_dead_addresses_and_strangers_are_one_line() {
    let folder = Folder::with_data();
    for (file, token) in [("right", "abc"), ("wrong", "abd"), ("empty", "")] {
        std::fs::write(folder.path(file), token).unwrap();
    }
    let worker = Worker::start(&folder, "--token-file right");
    let check = |file: &str| {
        let script = format!("ROTNET_TOKEN_FILE={file} $ROTNET verify device {} --quiet", worker.name);
        let outcome = folder.shell(&script);
        let lines = outcome.stderr.lines().count();
        (outcome.code, lines, outcome.stderr)
    };
    assert_eq!(check("right").0, 0, "{}", check("right").2);
    for file in ["wrong", "empty", "none"] {
        let (code, lines, text) = check(file);
        assert!(code > 0 && lines == 1 && text.starts_with("error: "), "{file}: {code} {text}");
    }
    folder.refuse(&format!("verify device {}", worker.name), 1, &[&worker.name]);

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    folder.refuse(
        &format!("{PRETRAIN} --out a --device ws://{free}"),
        1,
        &[&format!("ws://{free}"), "refused"],
    );
    assert!(!folder.path("a").exists());
}

#[test]
fn a_worker_of_another_protocol_version_is_refused_in_one_line() {
    let folder = Folder::with_data();
    let worker = Worker::start(&folder, "");
    let relay = Relay::start(&worker.name, speak_version_9);
    folder.refuse(
        &format!("verify device {}", relay.name),
        1,
        &[&relay.name, "version 9", "same version of rotnet"],
    );
}

/// Makes the worker refuse the client, and name another version than its own in its refusal, which all versions
/// understand (burn-remote, shared/task.rs).
fn speak_version_9(way: Way, bytes: &mut [u8]) {
    match way {
        // A short frame of a client: two bytes, four of the mask, then `{"Init": [version, ...`. Under the mask, the
        // version is changed by changing the same bits.
        Way::ToWorker if bytes.starts_with(&[0x82]) => bytes[6 + 7] ^= 11,
        Way::ToWorker => {}
        Way::ToClient => {
            let name = b"IncompatibleProtocol";
            if let Some(place) = bytes.windows(name.len()).position(|window| window == name) {
                bytes[place + name.len() + 1] = 9;
            }
        }
    }
}

#[test]
fn a_step_sends_parameters_and_places_there_and_gradients_back() {
    const STEPS_AN_EPOCH: u64 = 3;
    let folder = Folder::with_data();
    let worker = Worker::start(&folder, "");
    let sent = |epochs: u64| {
        let relay = Relay::start(&worker.name, |_, _| {});
        folder.succeed(&format!(
            "{PRETRAIN} --out {epochs} --set pretrain.epochs={epochs} --devices flex,{}",
            relay.name
        ));
        relay.bytes()
    };
    let ([few_there, few_back], [many_there, many_back]) = (sent(1), sent(5));
    let a_step = |few: u64, many: u64| (many - few) as f64 / (4 * STEPS_AN_EPOCH) as f64;
    let parameters = 4.0 * folder.json("1/pretrain/summary.json")["parameters"].as_f64().unwrap();
    // Half of 12 images in four rotations: seven numbers each, for the worker has the images.
    let places = f64::from(24 * 7 * 4);
    for (measured, least) in
        [(a_step(few_there, many_there), parameters + places), (a_step(few_back, many_back), parameters)]
    {
        assert!((least..1.1 * least).contains(&measured), "{measured} bytes a step, expected {least}");
    }
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    let folder = Folder::new();
    folder.refuse("worker --listen 0.0.0.0:0", 2, &["0.0.0.0:0", "--token-file"]);
    folder.refuse("worker --iroh key", 2, &["public key", "--token-file"]);
    folder.refuse("worker --listen nowhere", 2, &["nowhere"]);
    folder.refuse("worker --device ws://127.0.0.1:1", 2, &["another worker"]);
    folder.refuse("worker --device gpu", 2, &["`gpu`"]);
}
