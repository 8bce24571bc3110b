//! Steps in place of epochs, a time budget, sizes of images, and what a run would take.

use crate::pipeline::SHORT;
use crate::support::{Folder, assert_same_results};

const CHECKPOINT: &str = "pretrain/checkpoint.safetensors";
const COMPACT: &str = "--set encoder.kind=compact --set encoder.widths=[8,16] --set encoder.pools=[true,true] \
                       --set pretrain.rotations=all --set pretrain.batch_size=5";

fn epochs(folder: &Folder, run: &str) -> usize {
    let lines = String::from_utf8(folder.read(&format!("{run}/pretrain/metrics.jsonl"))).unwrap();
    lines.lines().count()
}

#[test]
fn steps_take_the_place_of_epochs_and_end_within_one() {
    let folder = Folder::with_data();
    // 50 images, 4 rotations, 16 a step: 13 steps an epoch.
    folder.succeed(&format!("pretrain {SHORT} --out epochs"));
    folder.succeed(&format!("pretrain {SHORT} --set pretrain.steps=26 --out steps"));
    let metrics = |run: &str| {
        let text = String::from_utf8(folder.read(&format!("{run}/pretrain/metrics.jsonl"))).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(metrics("epochs"), metrics("steps"));

    let part = format!("{SHORT} --set pretrain.steps=20 --set pretrain.schedule.kind=cosine");
    folder.succeed(&format!("run {part} --out whole"));
    assert_eq!(epochs(&folder, "whole"), 2);
    assert_ne!(metrics("whole")[1], metrics("epochs")[1]);
    folder.succeed(&format!("run {part} --threads 3 --out resumed"));
    folder.succeed(&format!("run {part} --out resumed --resume"));
    assert_same_results(&folder, "whole", "resumed");
    folder.refuse(
        &format!("pretrain {} --out resumed --resume", part.replace("steps=20", "steps=21")),
        1,
        &["another config", "steps was 20, is 21"],
    );
}

#[test]
fn a_budget_becomes_steps_that_can_be_made_again() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} {COMPACT} --set pretrain.schedule.kind=linear --budget 3s --out a"));
    // Far more than the budget, for machines that are busy with other tests.
    let seconds = folder.json("a/pretrain/summary.json")["seconds"].as_f64().unwrap();
    assert!(seconds > 0.1 && seconds < 60.0, "{seconds}");
    let config = folder.json("a/pretrain/config.json");
    let steps = config["pretrain"]["steps"].as_u64().unwrap();
    assert!(steps > 10, "{steps}");
    assert_eq!(config["pretrain"]["epochs"].as_u64().unwrap(), steps.div_ceil(10));
    assert_eq!(epochs(&folder, "a"), steps.div_ceil(10) as usize);
    folder.succeed("run --quiet --config a/pretrain/config.json --out b");
    assert_same_results(&folder, "a", "b");
    // The same command goes on with the steps that were found, whatever is measured now, and so it does without a budget.
    folder.succeed(&format!(
        "run {SHORT} {COMPACT} --set pretrain.schedule.kind=linear --budget 1s --out a --resume"
    ));
    let without = SHORT.replace("--set pretrain.epochs=2", "");
    assert_ne!(without, SHORT);
    let same = format!("{without} {COMPACT} --set pretrain.schedule.kind=linear --out a --resume");
    folder.succeed(&format!("pretrain {same} --config keras-scaled"));
    assert_eq!(folder.json("a/pretrain/config.json")["pretrain"]["steps"].as_u64(), Some(steps));
    folder.refuse(
        "pretrain --out a --resume --set pretrain.epochs=90",
        2,
        &["no effect beside pretrain.steps"],
    );
    assert_same_results(&folder, "a", "b");
    folder.refuse(&format!("run {SHORT} --budget 1ms --out c"), 2, &[]);
    folder.refuse(&format!("run {SHORT} --budget 0.001s --out c"), 2, &["--budget", "a step takes"]);
    assert!(!folder.path("c").exists());
}

#[test]
fn images_grow_and_the_run_is_the_same_through_a_stop_and_on_any_threads() {
    let folder = Folder::with_data();
    let sizes = r#"--set pretrain.sizes=[{"until":0.4,"size":20},{"until":0.7,"size":24}]"#;
    let run = format!("run {SHORT} {COMPACT} {sizes} --set pretrain.augment={{}}");
    folder.succeed(&format!("{run} --threads 1 --out whole"));
    folder.succeed(&format!("{run} --threads 3 --out three"));
    assert_same_results(&folder, "whole", "three");
    let mut running = folder.start(&format!("{run} --set save.every_steps=1 --out killed"));
    running.wait_for(&folder.path("killed/pretrain/checkpoint.previous.safetensors"));
    running.signal("KILL");
    running.finish();
    folder.succeed(&format!("{run} --set save.every_steps=1 --out killed --resume"));
    assert_same_results(&folder, "whole", "killed");
    folder.succeed(&format!("{} --out plain", run.replace(sizes, "")));
    assert!(folder.read(&format!("whole/{CHECKPOINT}")) != folder.read(&format!("plain/{CHECKPOINT}")));

    let refused = [
        (sizes.replace("24", "40"), "pretrain.sizes[1].size"),
        (sizes.replace("24", "4"), "pretrain.sizes[1].size: must be at least 8, got 4"),
        (sizes.replace("0.7", "0.4"), "pretrain.sizes[1].until: must be over 0.4"),
    ];
    for (wrong, problem) in refused {
        folder.refuse(&format!("pretrain {SHORT} {COMPACT} {wrong} --out c"), 2, &[problem]);
    }
    let patches = "--set encoder.kind=patches --set pretrain.epochs=0";
    folder.refuse(&format!("pretrain {SHORT} {patches} {sizes} --out c"), 2, &["`patches` is not trained"]);
    let keras = format!("pretrain {SHORT} {sizes} --out c");
    folder.refuse(&keras, 2, &["pretrain.sizes", "encoder `keras` is made for one size"]);
}

#[test]
fn a_dry_run_measures_and_writes_nothing() {
    let folder = Folder::with_data();
    let dry = format!("run {SHORT} {COMPACT} --dry-run --out a");
    let outcome = folder.succeed(&format!("{dry} --json"));
    assert!(!folder.path("a").exists());
    let result: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let stages = result["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 3);
    // Two 3x3 convolutions, each 2 x 9 x inputs x outputs a place, and a head of 16 x 4.
    let flop = 2 * (9 * 3 * 8 * 1024 + 9 * 8 * 16 * 256 + 16 * 4);
    assert_eq!(stages[0]["flop_a_sample"], flop);
    assert_eq!(stages[0]["steps"], 20);
    assert_eq!(stages[0]["flop"], 3 * flop * 2 * 200);
    // Weights, scales, shifts and running statistics of the two blocks, and the head.
    assert_eq!(stages[0]["parameters"], 9 * 3 * 8 + 9 * 8 * 16 + 4 * (8 + 16) + 16 * 4 + 4);
    assert!(result["seconds"].as_f64().unwrap() > 0.0);
    // Half of the steps with a quarter of the places.
    let smaller = r#"--set pretrain.sizes=[{"until":0.5,"size":16}]"#;
    let outcome = folder.succeed(&format!("{dry} {smaller} --json"));
    let result: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let small = 2 * (9 * 3 * 8 * 256 + 9 * 8 * 16 * 64 + 16 * 4);
    assert_eq!(result["stages"][0]["flop_a_sample"], (flop + small) / 2);

    folder.succeed(&format!("run {SHORT} {COMPACT} --out b"));
    for stage in [0, 2] {
        let name = ["pretrain", "", "finetune"][stage];
        let written: u64 = ["checkpoint", "checkpoint.previous"]
            .map(|file| folder.read(&format!("b/{name}/{file}.safetensors")).len() as u64)
            .iter()
            .sum();
        let told = stages[stage]["disk_bytes"].as_u64().unwrap();
        assert!(told <= written && written < told + 20_000, "{name}: {told} {written}");
    }
    for options in ["", "--set finetune.mode=full --set finetune.augment={}"] {
        let text = folder.succeed(&format!("{dry} {options}")).stdout;
        assert!(text.lines().last().unwrap().starts_with("in all: "), "{text}");
    }
    // The generated scenes need not be there.
    folder.succeed("pretrain --quiet --dry-run --set pretrain.batch_size=8 --out c");
    assert!(!folder.path("data/scenes").exists() && !folder.path("c").exists());
    folder.refuse("run --dry-run --budget 1m", 2, &["--dry-run"]);
}

#[test]
fn a_dry_run_counts_features_only_where_they_are_held() {
    let folder = Folder::with_data();
    // 5,000 and 1,000 images of 16 x 16 x 192 numbers: those of training stay on the disk.
    let (train, test) = (5_000 * 49_152 * 4, 1_000 * 49_152 * 4);
    let told = |options: &str| {
        let dry = "run --quiet --dry-run --json --set data.kind=scenes --set encoder.kind=compact \
                   --set encoder.widths=[192] --set encoder.pools=[true] --set pretrain.batch_size=4 \
                   --set extract.layers=[\"block1\"] --set extract.batch_size=4 --set finetune.batch_size=8 --out a";
        let outcome = folder.succeed(&format!("{dry} {options}"));
        let result: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
        (result["memory_bytes"].as_u64(), result["stages"][1]["disk_bytes"].as_u64().unwrap())
    };
    let (memory, disk) = told("");
    assert!(disk > train + test, "{disk}");
    // Only Linux tells what a process takes.
    if let Some(memory) = memory {
        assert!(memory > test && memory < train, "{memory}");
        // The rows, a fold's rows, both centred, and their products.
        let solved = told("--set finetune.head=ridge --set finetune.hidden=null").0.unwrap();
        assert!(solved > 3 * train && solved < 4 * train, "{solved}");
    }
}
