//! Devices by name, several of them in a step, and the commands that list and check them.

use serde_json::Value;

use crate::support::Folder;

/// A pretraining in seconds, without batch normalisation; 12 images a step.
pub const PRETRAIN: &str = "pretrain --data data --quiet --seed 3 --set data.kind=cifar10 --set pretrain.rotations=all \
                        --set data.train_images=36 --set pretrain.batch_size=12 --set pretrain.epochs=2 \
                        --set pretrain.optimizer.kind=sgd --set pretrain.optimizer.learning_rate=0.05";

/// Losses of all epochs of a run.
pub fn losses(folder: &Folder, run: &str) -> Vec<f64> {
    let lines = String::from_utf8(folder.read(&format!("{run}/pretrain/metrics.jsonl"))).unwrap();
    let loss = |line: &str| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap();
    lines.lines().map(loss).collect()
}

/// Whether two loss curves are the same to 1e-5.
pub fn assert_same_curve(one: &[f64], other: &[f64]) {
    assert_eq!(one.len(), other.len());
    assert!(one.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5), "{one:?} and {other:?}");
}

#[test]
fn every_kind_of_device_is_listed_in_words_and_in_json() {
    let folder = Folder::new();
    let words = folder.succeed("devices").stdout;
    let json: Value = serde_json::from_str(&folder.succeed("devices --json").stdout).unwrap();
    let offers = json.as_array().unwrap();
    assert_eq!(words.lines().count(), offers.len());
    for (line, offer) in words.lines().zip(offers) {
        assert!(line.starts_with(offer["device"].as_str().unwrap()), "{line}");
        assert!(line.contains(offer["what"].as_str().unwrap()), "{line}");
    }
    assert_eq!((&offers[0]["device"], &offers[0]["available"]), (&"flex".into(), &true.into()));
}

#[test]
fn a_device_is_checked_against_flex() {
    let folder = Folder::new();
    let check: Value = serde_json::from_str(&folder.succeed("verify device flex --json").stdout).unwrap();
    assert_eq!((&check["agrees"], check["gradient_difference"].as_f64()), (&true.into(), Some(0.0)));
    assert!(folder.succeed("verify device flex").stdout.contains("differ by at most"));
    folder.refuse("verify device gpu", 2, &["verify device", "`gpu`", "cuda[:n]"]);
}

#[test]
fn a_device_that_is_not_there_is_one_line_with_the_reason_or_the_feature() {
    let folder = Folder::with_data();
    for (device, feature) in [
        ("wgpu:99", "wgpu"),
        ("vulkan:99", "vulkan"),
        ("metal:99", "metal"),
        ("cuda:99", "cuda"),
        ("rocm:99", "rocm"),
        ("ws://127.0.0.1:1", "remote"),
    ] {
        if !cfg!(feature = "remote") || feature != "remote" {
            folder.refuse(&format!("{PRETRAIN} --device {device} --out a"), 1, &[device]);
            folder.refuse(&format!("{PRETRAIN} --devices flex,{device} --out a"), 1, &[device]);
        }
    }
    if !cfg!(feature = "cuda") {
        folder.refuse("run --device cuda --out a", 1, &["`cuda`", "--features cuda"]);
    }
    folder.refuse("run --devices flex,gpu --out a", 2, &["devices[1]", "`gpu`"]);
    assert_eq!(folder.rotnet("run --devices flex,flex --device flex --out a").code, 2);
    assert!(!folder.path("a").exists());
}

#[test]
fn several_devices_train_as_one_and_the_record_names_them() {
    let folder = Folder::with_data();
    folder.succeed(&format!("{PRETRAIN} --out one"));
    let one = losses(&folder, "one");
    for (run, devices) in [("two", "flex,flex"), ("four", "flex,flex,flex,flex")] {
        folder.succeed(&format!("{PRETRAIN} --devices {devices} --out {run}"));
        assert_same_curve(&one, &losses(&folder, run));
    }
    let environment = &folder.json("two/run.json")["environment"];
    assert_eq!(
        (&environment["device"], &environment["further_devices"]),
        (&"flex".into(), &serde_json::json!(["flex"]))
    );
    assert!(folder.json("one/run.json")["environment"].get("further_devices").is_none());
}

#[test]
fn a_run_goes_on_with_other_devices_and_says_so() {
    let folder = Folder::with_data();
    let command = PRETRAIN.replace("--quiet ", "");
    folder.succeed(&format!("{command} --out whole"));
    folder.succeed(&format!("{command} --out cut --set pretrain.epochs=1 --devices flex,flex"));
    let outcome = folder.succeed(&format!("{command} --out cut --resume --device flex"));
    assert!(outcome.stderr.contains("device was \"flex,flex\", is \"flex\""), "{}", outcome.stderr);
    assert_same_curve(&losses(&folder, "whole"), &losses(&folder, "cut"));
    let other_seed = command.replace("--seed 3", "--seed 4");
    folder.refuse(&format!("{other_seed} --out cut --resume"), 1, &["seed was 3, is 4"]);
}
