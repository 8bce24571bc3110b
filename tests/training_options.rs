//! Every option of training: the same bytes on any number of threads and through a stop, and doing what it says.

use crate::pipeline::SHORT;
use crate::support::{Folder, assert_same_results};

/// The optimizers beside Adam, as values of `pretrain.optimizer` without spaces.
const OPTIMIZERS: [&str; 3] = [
    r#"{"kind":"adamw"}"#,
    r#"{"kind":"sgd","learning_rate":0.001}"#,
    r#"{"kind":"muon","others":{"kind":"sgd","learning_rate":0.001}}"#,
];

#[test]
fn every_optimizer_resumes_exactly_on_any_number_of_threads() {
    let folder = Folder::with_data();
    for optimizer in OPTIMIZERS {
        let short = format!("{SHORT} --set pretrain.optimizer={optimizer} --force");
        let one_epoch = short.replace("pretrain.epochs=2", "pretrain.epochs=1");
        folder.succeed(&format!("pretrain {short} --threads 1 --out whole"));
        folder.succeed(&format!("pretrain {one_epoch} --threads 2 --out resumed"));
        let resume = short.replace("--force", "--resume");
        folder.succeed(&format!("pretrain {resume} --threads 3 --out resumed"));
        let file = "pretrain/checkpoint.safetensors";
        assert!(
            folder.read(&format!("whole/{file}")) == folder.read(&format!("resumed/{file}")),
            "{optimizer}"
        );
    }
}

#[test]
fn the_learning_rate_follows_the_schedule() {
    let folder = Folder::with_data();
    let schedules = [
        r#"{"kind":"cosine","warmup":0.2}"#,
        r#"{"kind":"linear"}"#,
        r#"{"kind":"one-cycle"}"#,
        r#"{"kind":"steps","milestones":[0.5]}"#,
    ];
    for schedule in schedules {
        let short = format!("{SHORT} --set pretrain.schedule={schedule} --out a --force");
        folder.succeed(&format!("pretrain {short}"));
        let lines = String::from_utf8(folder.read("a/pretrain/metrics.jsonl")).unwrap();
        let rates: Vec<f64> = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|line| line["learning_rate"].as_f64().unwrap())
            .collect();
        assert!(rates[0] > rates[1] && rates[1] > 0.0, "{schedule}: {rates:?}");
    }
    let steps = "--set finetune.schedule.kind=cosine --set finetune.schedule.end=2 --out b";
    folder.refuse(&format!("pretrain {SHORT} {steps}"), 2, &["finetune.schedule.end"]);
}

#[test]
fn smoothing_clipping_and_averaging_change_the_result_and_resume_exactly() {
    let folder = Folder::with_data();
    let file = "pretrain/checkpoint.safetensors";
    folder.succeed(&format!("pretrain {SHORT} --out plain"));
    for option in ["label_smoothing=0.1", "clip_norm=0.1", "weight_average=0.9"] {
        let short = format!("{SHORT} --set pretrain.{option} --force");
        let one_epoch = short.replace("pretrain.epochs=2", "pretrain.epochs=1");
        folder.succeed(&format!("pretrain {short} --threads 1 --out whole"));
        folder.succeed(&format!("pretrain {one_epoch} --threads 2 --out resumed"));
        let resume = short.replace("--force", "--resume");
        folder.succeed(&format!("pretrain {resume} --threads 3 --out resumed"));
        let whole = folder.read(&format!("whole/{file}"));
        assert!(whole == folder.read(&format!("resumed/{file}")), "{option}");
        assert!(whole != folder.read(&format!("plain/{file}")), "{option}");
        let key = option.split('=').next().unwrap();
        let wrong = format!("pretrain {SHORT} --set finetune.{key}=-1 --out refused");
        folder.refuse(&wrong, 2, &[&format!("finetune.{key}: must be ")]);
    }
    folder.succeed("extract --out whole --quiet");
    folder.succeed("finetune --out whole --quiet --set finetune.weight_average=0.9");
}

#[test]
fn augmented_and_normalised_images_train_resume_and_are_extracted_plain() {
    let folder = Folder::with_data();
    let normalised = format!("{SHORT} --set data.normalise=true --set data.validation_images=10");
    let augment = r#"pretrain.augment={"brightness":0.4,"contrast":0.4,"saturation":0.4}"#;
    let short = format!("{normalised} --set pretrain.rotations=all --set {augment}");
    let one_epoch = short.replace("pretrain.epochs=2", "pretrain.epochs=1");
    folder.succeed(&format!("run {short} --threads 1 --out whole"));
    folder.succeed(&format!("pretrain {one_epoch} --threads 2 --out resumed"));
    folder.succeed(&format!("run {short} --threads 3 --out resumed --resume"));
    assert_same_results(&folder, "whole", "resumed");

    // Features of one encoder do not depend on the augmentation it was trained with.
    let extract = format!("extract {normalised} --checkpoint whole/pretrain --out plain");
    folder.succeed(&extract);
    let file = "features/test.safetensors";
    assert!(folder.read(&format!("whole/{file}")) == folder.read(&format!("plain/{file}")));
    folder.succeed(&format!("pretrain {normalised} --set pretrain.rotations=all --out plain"));
    let file = "pretrain/checkpoint.safetensors";
    assert!(folder.read(&format!("whole/{file}")) != folder.read(&format!("plain/{file}")));

    let full = r#"--set finetune.mode=full --set finetune.augment={"padding":"reflect"}"#;
    folder.succeed(&format!("finetune --quiet --out whole --force {full}"));
}

#[test]
fn one_random_rotation_an_image() {
    let folder = Folder::with_data();
    let short = format!("{SHORT} --set pretrain.rotations=random");
    folder.succeed(&format!("run {short} --threads 1 --out one"));
    folder.succeed(&format!("run {short} --threads 3 --out three"));
    assert_same_results(&folder, "one", "three");
}

#[test]
fn the_best_epoch_is_kept_and_training_stops_without_a_new_best() {
    let folder = Folder::with_data();
    let chosen =
        format!("{SHORT} --set data.validation_images=10 --set pretrain.keep=best --set pretrain.patience=1")
            .replace("pretrain.epochs=2", "pretrain.epochs=60");
    folder.succeed(&format!("run {chosen} --out whole"));
    let lines = String::from_utf8(folder.read("whole/pretrain/metrics.jsonl")).unwrap();
    let accuracies: Vec<f64> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["validation_accuracy"].as_f64().unwrap())
        .collect();
    // With a patience of 1, every epoch but the last is a new best.
    let (last, before) = accuracies.split_last().unwrap();
    assert!(accuracies.len() < 60 && last <= before.last().unwrap());
    assert!(before.is_sorted_by(|a, b| a < b), "{before:?}");

    // The features are those of the epoch before the last.
    let epochs = format!("pretrain.epochs={}", before.len());
    let shorter = SHORT.replace("pretrain.epochs=2", &epochs);
    folder.succeed(&format!("run {shorter} --set data.validation_images=10 --out shorter"));
    let features = "features/test.safetensors";
    let (a, b) = (format!("whole/{features}"), format!("shorter/{features}"));
    let numbers = |file: &str| {
        let bytes = folder.read(file);
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert!(numbers(&a) == numbers(&b));

    // A run that has stopped by itself is at its end; one without validation cannot choose.
    folder.succeed(&format!("pretrain {chosen} --out whole --resume"));
    let again = String::from_utf8(folder.read("whole/pretrain/metrics.jsonl")).unwrap();
    assert_eq!(again, lines);
    folder.refuse(
        &format!("pretrain {SHORT} --set pretrain.keep=best --out refused"),
        2,
        &["pretrain.keep", "data.validation_images is 0"],
    );
}
