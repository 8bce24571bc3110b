//! A command that fails changes nothing that was there; one that replaces keeps the old result until the new one stands.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::pipeline::SHORT;
use crate::support::{Folder, KILLED, assert_same_results};

/// All files of a run but its lock, with their bytes.
fn files(folder: &Folder, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = walkdir::WalkDir::new(folder.path(run)).into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file() && entry.file_name() != ".lock");
    files.map(|entry| (entry.path().to_path_buf(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_forced_command_that_cannot_begin_leaves_the_run_as_it_was() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let before = files(&folder, "a");
    let typo = SHORT.replace("--data data", "--data typo");
    folder.refuse(&format!("pretrain {typo} --out a --force"), 1, &["typo"]);
    folder.refuse("extract --data typo --out a --force", 1, &["typo"]);
    folder.refuse("finetune --set finetune.mode=full --data typo --out a --force", 1, &["typo"]);
    let too_many = "--set data.validation_images=50";
    folder.refuse(&format!("pretrain {SHORT} {too_many} --out a --force"), 2, &["data.validation_images"]);
    folder.refuse(&format!("finetune --quiet {too_many} --out a --force"), 2, &["data.validation_images"]);
    folder.refuse("extract --set extract.layers=[\"block7\"] --out a --force", 2, &["block7"]);
    assert!(files(&folder, "a") == before);
}

#[test]
fn a_refused_command_leaves_the_configs_as_they_were() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let before = files(&folder, "a");
    let other_seed = SHORT.replace("--seed 3", "--seed 2");
    folder.refuse(&format!("pretrain {other_seed} --out a --resume"), 1, &["another config", "seed"]);
    folder.refuse("finetune --quiet --seed 2 --out a --resume", 1, &["another config", "seed"]);
    folder.refuse("finetune --quiet --seed 2 --out a", 1, &["a/finetune already holds results"]);
    assert!(files(&folder, "a") == before);
    let ridge = "--set finetune.head=ridge --set finetune.hidden=null";
    folder.refuse(&format!("finetune --quiet {ridge} --out a --resume"), 1, &["another config", "hidden"]);
    let fewer = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=1");
    folder.refuse(&format!("pretrain {fewer} --out a --resume"), 1, &["the config asks for", "--force"]);
    assert!(files(&folder, "a") == before);
    // What a later stage is run with is noted there, and not with the stages before it.
    folder.succeed("finetune --quiet --seed 2 --set data.validation_images=10 --out a --force");
    assert_eq!(folder.json("a/pretrain/config.json")["seed"], 3);
    assert_eq!(folder.json("a/finetune/config.json")["seed"], 2);
    let outcome = folder.succeed("verify run a --quiet");
    assert_eq!(outcome.stdout.matches("are the same").count(), 3, "{}", outcome.stdout);
}

#[test]
fn a_result_stays_through_a_forced_run_that_diverges_finds_no_room_or_is_killed() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let before = files(&folder, "a");
    let rate = "--set data.scale_pixels=false --set pretrain.optimizer.kind=sgd --set pretrain.optimizer.learning_rate=10";
    folder.refuse(&format!("pretrain {SHORT} {rate} --out a --force"), 1, &["learning rate 10"]);
    let stays = |after: &BTreeMap<PathBuf, Vec<u8>>| {
        before.iter().all(|(path, bytes)| after.get(path) == Some(bytes))
    };
    assert!(stays(&files(&folder, "a")));
    let small = format!("trap '' XFSZ; ulimit -f 100; \"$ROTNET\" pretrain {SHORT} --seed 5 --out a --force");
    let outcome = folder.shell(&small.replacen("--seed 3 ", "", 1));
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(files(&folder, "a") == before, "and nothing of the attempt is left");

    let long = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=60").replace("--seed 3", "--seed 5");
    folder.succeed(&format!("pretrain {long} --out whole"));
    let mut running = folder.start(&format!("pretrain {long} --out a --force"));
    running.wait_for(&folder.path("a/pretrain.rotnet-new/metrics.jsonl"));
    running.signal("KILL");
    assert_eq!(running.finish().code, KILLED);
    assert!(stays(&files(&folder, "a")));
    folder.succeed("extract --quiet --out a --resume");
    // The new one goes on where it was, and takes the place of the old one when it is done.
    folder.succeed(&format!("pretrain {long} --out a --resume"));
    assert!(!folder.path("a/pretrain.rotnet-new").exists());
    let file = "pretrain/checkpoint.safetensors";
    assert!(folder.read(&format!("a/{file}")) == folder.read(&format!("whole/{file}")));
}

#[test]
fn a_finished_stage_that_is_trained_on_stays_until_that_is_done() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    let before = files(&folder, "a");
    let long = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=60");
    folder.succeed(&format!("pretrain {long} --out whole"));
    let mut running = folder.start(&format!("pretrain {long} --out a --resume --tensorboard"));
    running.wait_for(&folder.path("a/pretrain.rotnet-new/events.out.tfevents.rotnet"));
    running.signal("TERM");
    assert_eq!(running.finish().code, 143);
    let after = files(&folder, "a");
    assert!(before.iter().all(|(path, bytes)| after[path] == *bytes));
    folder.succeed(&format!("run {long} --out a --resume"));
    folder.succeed(&format!("run {long} --out whole --resume"));
    assert_same_results(&folder, "whole", "a");
}

#[test]
fn a_forced_run_that_ended_early_goes_on_with_resume() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let other = SHORT.replace("--seed 3", "--seed 5");
    folder.succeed(&format!("run {other} --out whole"));
    let head = "--set finetune.head=conv --set finetune.hidden=[8]";
    folder.refuse(&format!("run {other} {head} --out a --force"), 2, &["finetune.head"]);
    // The encoder is the new one; the classifier that belonged to the old one stays until there is another.
    assert!(folder.path("a/finetune/summary.json").exists());
    let mended = "--set finetune.head=mlp --set finetune.hidden=[64]";
    folder.succeed(&format!("run {other} {mended} --out a --resume"));
    assert!(!folder.path("a/finetune.rotnet-new").exists());
    assert_same_results(&folder, "whole", "a");
    // What is finished is not made again.
    let before = folder.read("a/finetune/summary.json");
    folder.succeed(&format!("run {other} --out a --resume"));
    assert!(folder.read("a/finetune/summary.json") == before);
}

#[test]
fn copies_of_a_stage_are_nobodys_leftovers() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    for end in ["old", "part", "new"] {
        fs::create_dir(folder.path(&format!("a/pretrain.{end}"))).unwrap();
        let copy = folder.path(&format!("a/pretrain.{end}/checkpoint.safetensors"));
        fs::copy(folder.path("a/pretrain/checkpoint.safetensors"), copy).unwrap();
    }
    let before = files(&folder, "a");
    folder.succeed(&format!("run {SHORT} --out a --resume"));
    folder.succeed("report a --quiet --out page.html");
    let after = files(&folder, "a");
    assert!(before.keys().all(|path| after.contains_key(path)));
}

#[test]
fn what_a_kill_left_between_two_results_is_settled_by_the_next_command() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let before = files(&folder, "a");
    fs::rename(folder.path("a/finetune"), folder.path("a/finetune.rotnet-old")).unwrap();
    folder.succeed("report a --quiet --out page.html");
    assert!(files(&folder, "a") == before);
}

#[test]
fn metrics_of_an_epoch_that_a_kill_kept_from_being_saved_go() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out whole"));
    let one = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=1");
    folder.succeed(&format!("pretrain {one} --out a"));
    // As if it had been killed in the second epoch, between metrics and checkpoint.
    fs::copy(folder.path("whole/pretrain/metrics.jsonl"), folder.path("a/pretrain/metrics.jsonl")).unwrap();
    fs::remove_file(folder.path("a/pretrain/summary.json")).unwrap();
    folder.succeed(&format!("pretrain {one} --out a --resume"));
    assert_eq!(folder.read("a/pretrain/metrics.jsonl").iter().filter(|&&byte| byte == b'\n').count(), 1);
}
