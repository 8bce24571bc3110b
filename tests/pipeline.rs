//! The stages end to end.

use crate::support::{Folder, assert_same_results};

/// A short run on the small data set; `--out` is left to the test.
pub const SHORT: &str = "--data data --seed 3 --quiet --set data.kind=cifar10 --set pretrain.epochs=2 \
                     --set pretrain.batch_size=16 --set finetune.epochs=2 --set finetune.batch_size=8";

#[test]
fn run_equals_its_stages_one_by_one_byte_for_byte() {
    let folder = Folder::with_data();
    let whole = folder.succeed(&format!("run {SHORT} --out whole"));
    folder.succeed(&format!("pretrain {SHORT} --out parts"));
    folder.succeed("extract --out parts --quiet");
    let last = folder.succeed("finetune --out parts --quiet");
    assert_same_results(&folder, "whole", "parts");

    let line = whole.stdout.lines().last().unwrap();
    assert!(line.starts_with("Test accuracy: 0.") || line == "Test accuracy: 1.0000", "{line}");
    assert_eq!(line, last.stdout.lines().last().unwrap());
    let summary = folder.json("whole/finetune/summary.json");
    let accuracy = summary["test_accuracy"].as_f64().unwrap();
    assert_eq!(line, format!("Test accuracy: {accuracy:.4}"));
    let rows = summary["test"]["confusion"].as_array().unwrap();
    let cells = rows.iter().flat_map(|row| row.as_array().unwrap());
    assert_eq!(cells.map(|cell| cell.as_u64().unwrap()).sum::<u64>(), 20);
    assert_eq!(folder.json("whole/run.json")["test_evaluations"], 1);
    assert!(folder.temporary_files().is_empty());
}

#[test]
fn a_run_says_by_what_and_when_it_was_made() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    folder.succeed(&format!("run {SHORT} --out a --resume"));
    let record = folder.json("a/run.json");
    let history = record["history"].as_array().unwrap();
    let work: Vec<&str> = history.iter().map(|entry| entry["work"].as_str().unwrap()).collect();
    assert_eq!(work, ["pretrain", "pretrain", "extract", "finetune"]);
    for (entry, command) in history.iter().zip(["pretrain", "run", "run", "run"]) {
        assert_eq!(entry["command"][1], command);
        let [started, ended] = ["started", "ended"].map(|key| entry[key].as_str().unwrap());
        assert!(started.ends_with('Z') && started <= ended, "{entry}");
        assert_eq!(entry["environment"]["rotnet"], env!("CARGO_PKG_VERSION"));
        assert!(!entry["environment"]["processor"].as_str().unwrap().is_empty());
    }
    // The checkpoint says the same of the program, and nothing that differs between two runs of it.
    let header =
        String::from_utf8_lossy(&folder.read("a/pretrain/checkpoint.safetensors")[..20_000]).into_owned();
    let source = &record["environment"]["source"];
    assert_eq!(header.contains("\\\"commit\\\""), source.is_object(), "{source}");
    if let Some(commit) = source["commit"].as_str() {
        assert!(commit.len() == 40 && header.contains(commit));
    }
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let folder = Folder::with_data();
    for threads in [1, 2, 3] {
        folder.succeed(&format!("run {SHORT} --threads {threads} --out threads{threads}"));
    }
    assert_same_results(&folder, "threads1", "threads2");
    assert_same_results(&folder, "threads1", "threads3");
}

#[test]
fn another_seed_changes_the_result() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out three"));
    folder.succeed(&format!("pretrain {SHORT} --seed 4 --out four").replacen("--seed 3 ", "", 1));
    let file = "pretrain/checkpoint.safetensors";
    assert_ne!(folder.read(&format!("three/{file}")), folder.read(&format!("four/{file}")));
}

#[test]
fn a_resumed_run_equals_one_that_was_never_stopped() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out whole"));
    let one_epoch = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=1");
    folder.succeed(&format!("pretrain {one_epoch} --out resumed"));
    folder.succeed(&format!("run {SHORT} --out resumed --resume"));
    assert_same_results(&folder, "whole", "resumed");
    let lines = String::from_utf8(folder.read("resumed/pretrain/metrics.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2);

    folder.succeed(&format!("run {SHORT} --out fresh --resume"));
    assert_same_results(&folder, "whole", "fresh");
}

#[test]
fn a_run_is_resumed_with_its_own_config_where_none_is_named() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out whole"));
    folder.succeed(&format!("pretrain {} --out a", SHORT.replace("pretrain.epochs=2", "pretrain.epochs=1")));
    folder.succeed("run --quiet --out a --resume --set pretrain.epochs=2");
    assert_same_results(&folder, "whole", "a");
}

#[test]
fn full_fine_tuning_trains_the_encoder_and_frozen_does_not() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let before = folder.read("a/pretrain/checkpoint.safetensors");
    let full = "--set finetune.mode=full --set finetune.epochs=1 --quiet";
    let outcome = folder.succeed(&format!("finetune {full} --out a --force"));
    assert!(outcome.stdout.contains("Test accuracy: "));
    assert_eq!(folder.read("a/pretrain/checkpoint.safetensors"), before);
    let summary = folder.json("a/finetune/summary.json");
    assert!(summary["protocol"].as_str().unwrap().starts_with("encoder and classifier"));

    // Features of the fine-tuned encoder are others than those of the pretrained one.
    folder.succeed(&format!("extract --out b --checkpoint a/finetune {SHORT}"));
    assert_ne!(folder.read("a/features/train.safetensors"), folder.read("b/features/train.safetensors"));
}

#[test]
fn an_untrained_encoder_is_a_baseline() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {} --out a", SHORT.replace("pretrain.epochs=2", "pretrain.epochs=0")));
    assert!(folder.json("a/pretrain/summary.json")["last_epoch"].is_null());
}

#[test]
fn validation_images_are_held_out_and_reported() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --set data.validation_images=10 --out a"));
    let summary = folder.json("a/finetune/summary.json");
    assert_eq!(summary["labels"], 40);
    assert!(summary["last_epoch"]["validation_accuracy"].is_number());
    assert_eq!(folder.json("a/pretrain/summary.json")["images"], 40);
}

#[test]
fn fewer_labels_and_fewer_images_train() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --set data.labels_per_class=2 --out a"));
    assert_eq!(folder.json("a/finetune/summary.json")["labels"], 20);
    folder.succeed(&format!("run {SHORT} --set data.train_images=20 --out b"));
    assert_eq!(folder.json("b/pretrain/summary.json")["images"], 20);
}

#[test]
fn a_run_that_could_not_end_does_not_begin() {
    let folder = Folder::with_data();
    let many = "--set data.labels_per_class=6";
    folder.refuse(
        &format!("run {SHORT} {many} --out a"),
        2,
        &["wants 6 images of class airplane, which has 5"],
    );
    assert!(!folder.path("a").exists());
    folder.succeed(&format!("pretrain {SHORT} {many} --out a"));
}

#[test]
fn the_four_rotations_may_share_a_batch() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --set pretrain.rotations=all --out a"));
    assert_eq!(folder.json("a/pretrain/config.json")["pretrain"]["rotations"], "all");
}

#[test]
fn existing_results_stay_unless_forced() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    let file = "a/pretrain/checkpoint.safetensors";
    let before = (folder.read(file), folder.read("a/pretrain/config.json"));
    folder.refuse(
        &format!("pretrain {SHORT} --seed 9 --out a").replacen("--seed 3 ", "", 1),
        1,
        &["a/pretrain", "--force"],
    );
    assert_eq!((folder.read(file), folder.read("a/pretrain/config.json")), before);
    folder.succeed(&format!("pretrain {SHORT} --seed 9 --out a --force").replacen("--seed 3 ", "", 1));
    assert_ne!(folder.read(file), before.0);
    assert!(!folder.path("a/pretrain.rotnet-new").exists());
}

#[test]
fn blocks_of_a_compact_encoder_are_read_pooled_in_four_views_and_classified() {
    let folder = Folder::with_data();
    let compact =
        "--set encoder.kind=compact --set encoder.widths=[8,16,16] --set encoder.pools=[true,true,false]";
    folder.succeed(&format!("pretrain {SHORT} {compact} --out a"));
    let read = "--set extract.layers=[\"block2\",\"block3\"] --set extract.pool=2x2 --set extract.views=4";
    folder.succeed(&format!("extract --out a --quiet {read}"));
    let manifest = folder.json("a/features/manifest.json");
    assert_eq!(manifest["train"], serde_json::json!([50, 4 * 2 * 4 * 16]));
    assert_eq!(manifest["origin"]["layer"], "block2+block3 pooled to 2x2, four views");
    let head = "--set finetune.hidden=[32,16] --set finetune.batch_norm=true --set finetune.standardise=true";
    folder.succeed(&format!("finetune --out a --quiet {head}"));
    folder.succeed("finetune --out a --quiet --force --set finetune.hidden=[]");

    let wrong = "--set extract.layers=[\"block4\"]";
    folder.refuse(&format!("extract --out a --force {wrong}"), 2, &["block4", "block1 to block3"]);
    let encoder = compact.replace("[true,true,false]", "[true,true,true]");
    folder.succeed(&format!("pretrain {SHORT} {encoder} --out b"));
    let wrong = "--set extract.layers=[\"block3\"] --set extract.pool=8x8";
    folder.refuse(&format!("extract --out b {wrong}"), 2, &["block3 is 4x4", "8x8"]);
}

#[test]
fn a_compact_run_is_the_same_for_any_number_of_threads_and_through_a_stop() {
    let folder = Folder::with_data();
    let compact = "--set encoder.kind=compact --set encoder.widths=[16,32] --set encoder.pools=[true,false]";
    let short = format!("{SHORT} {compact} --set pretrain.rotations=all");
    folder.succeed(&format!("run {short} --threads 1 --out one"));
    folder.succeed(&format!("run {short} --threads 3 --out three"));
    assert_same_results(&folder, "one", "three");
    let half = short.replace("pretrain.epochs=2", "pretrain.epochs=1");
    folder.succeed(&format!("pretrain {half} --out stopped"));
    folder.succeed(&format!("run {short} --out stopped --resume"));
    assert_same_results(&folder, "one", "stopped");
}

#[test]
fn every_optimizer_and_schedule_trains_alike_on_any_threads_and_through_a_stop() {
    let folder = Folder::with_data();
    let compact = "--set encoder.kind=compact --set encoder.widths=[16,32] --set encoder.pools=[true,true]";
    for (kind, rate) in [("adamw", 0.001), ("sgd", 0.05), ("muon", 0.05)] {
        let optimizer =
            format!("--set pretrain.optimizer.kind={kind} --set pretrain.optimizer.learning_rate={rate}");
        let rest = "--set pretrain.optimizer.weight_decay=0.01 --set pretrain.schedule.kind=cosine \
                    --set pretrain.schedule.warmup=0.1 --set pretrain.augment.padding=reflect \
                    --set pretrain.augment.crop_padding=4 --set pretrain.rotations=all";
        let short = format!("{SHORT} {compact} {optimizer} {rest}");
        folder.succeed(&format!("run {short} --threads 1 --out {kind}1"));
        folder.succeed(&format!("run {short} --threads 2 --out {kind}2"));
        assert_same_results(&folder, &format!("{kind}1"), &format!("{kind}2"));

        let other = short.replace("pretrain.epochs=2", "pretrain.epochs=1");
        folder.succeed(&format!("pretrain {other} --out {kind}3"));
        let parts = ["another config"];
        folder.refuse(&format!("pretrain {short} --out {kind}3 --resume"), 1, &parts);
    }
    let file = "pretrain/checkpoint.safetensors";
    assert_ne!(folder.read(&format!("sgd1/{file}")), folder.read(&format!("muon1/{file}")));
}
