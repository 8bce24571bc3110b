//! Stopped, killed or damaged: once resumed, the result is that of a run that was left alone.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::pipeline::SHORT;
use crate::support::{Folder, KILLED, assert_same_results};

const CHECKPOINT: &str = "pretrain/checkpoint.safetensors";
const PREVIOUS: &str = "pretrain/checkpoint.previous.safetensors";

/// The header of a checkpoint.
fn header(folder: &Folder, path: &str) -> serde_json::Value {
    let bytes = folder.read(path);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let text = header["__metadata__"]["rotnet"].as_str().unwrap();
    serde_json::from_str::<serde_json::Value>(text).unwrap()["header"].take()
}

#[test]
fn a_signal_saves_within_the_epoch_and_says_how_to_go_on() {
    let folder = Folder::with_data();
    let long = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=40");
    folder.succeed(&format!("run {long} --out whole"));
    for (signal, code) in [("INT", 130), ("TERM", 143), ("USR1", 138)] {
        let out = folder.path(signal);
        let command = format!("run {long} --out {signal}");
        let mut running = folder.start(&command);
        running.wait_for(&out.join("pretrain/metrics.jsonl"));
        running.signal(signal);
        let outcome = running.finish();
        assert_eq!(outcome.code, code, "{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
        let line = outcome.stderr.trim_end();
        assert!(line.starts_with(&format!("pretrain: stopped by SIG{signal} after ")), "{line}");
        assert!(line.ends_with(&format!("{command} --resume`")), "{line}");
        assert!(folder.temporary_files().is_empty());
        folder.succeed(&format!("{command} --resume"));
        assert_same_results(&folder, "whole", signal);
    }
}

/// Starts `run` with arguments that are not split, waits for its first epoch, ends it by SIGTERM, and gives the command
/// that it says to continue with.
fn stopped_with(folder: &Folder, arguments: &[&OsStr], out: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rotnet"));
    let long = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=40");
    command.arg("run").args(long.split_whitespace()).args(arguments);
    let mut running = folder.spawn(&mut command);
    running.wait_for(&folder.path("").join(out).join("pretrain/metrics.jsonl"));
    running.signal("TERM");
    let outcome = running.finish();
    assert_eq!(outcome.code, 143, "{}", outcome.stderr);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    let (_, hint) = outcome.stderr.split_once("continue with `").unwrap();
    hint.trim_end().strip_suffix('`').unwrap().to_owned()
}

#[test]
fn the_command_to_go_on_with_can_be_pasted_into_a_shell() {
    let folder = Folder::with_data();
    let out = "it's; \"two\" $words [a]*";
    let arguments = ["--set", r#"evaluate.heads=["ridge"]"#, "--out", out].map(OsStr::new);
    let hint = stopped_with(&folder, &arguments, Path::new(out));
    assert!(hint.contains(r#" --set 'evaluate.heads=["ridge"]' "#), "{hint}");
    let outcome = folder.shell(&hint);
    assert!(
        outcome.code == 0 && folder.path(out).join("finetune/summary.json").exists(),
        "{hint}\n{}",
        outcome.stderr
    );
}

#[cfg(target_os = "linux")]
#[test]
fn an_argument_without_an_encoding_ends_in_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::with_data();
    let out = OsStr::from_bytes(b"run\xff");
    let hint = stopped_with(&folder, &["--out".as_ref(), out], Path::new(out));
    assert!(hint.ends_with(r"--out $'run\377' --resume"), "{hint}");
}

#[test]
fn a_run_killed_within_an_epoch_goes_on_after_the_last_save_by_steps() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out whole"));
    let saving = format!("run {SHORT} --set save.every_steps=2 --out killed");
    let mut running = folder.start(&saving);
    running.wait_for(&folder.path("killed").join(PREVIOUS));
    let saved_steps = || header(&folder, &format!("killed/{CHECKPOINT}"))["steps"].as_u64();
    while saved_steps() == Some(0) {}
    running.signal("KILL");
    assert_eq!(running.finish().code, KILLED);
    assert!(saved_steps() >= Some(2));
    folder.succeed(&format!("{saving} --resume"));
    assert_same_results(&folder, "whole", "killed");
    assert!(folder.temporary_files().is_empty());
}

#[test]
fn a_second_signal_ends_at_once() {
    let folder = Folder::new();
    let step_of_seconds = "pretrain --quiet --data scenes --set pretrain.batch_size=20000 --out a";
    folder.succeed("data synth --quiet --out scenes");
    let mut running = folder.start(step_of_seconds);
    running.wait_for(&folder.path("a").join(CHECKPOINT));
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    running.signal("INT");
    let outcome = running.finish();
    assert_eq!(outcome.code, 130);
    assert_eq!(outcome.stderr, "");
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out whole"));
    folder.succeed(&format!("pretrain {SHORT} --out damaged"));
    let file = folder.path("damaged").join(CHECKPOINT);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let talking = SHORT.replace("--quiet ", "");
    let outcome = folder.succeed(&format!("run {talking} --out damaged --resume"));
    for part in [
        "warning: ",
        "its content does not match its digest; continuing from the checkpoint before it",
        "resuming after epoch 1",
    ] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    assert_same_results(&folder, "whole", "damaged");
}

#[test]
fn two_damaged_checkpoints_are_an_error() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    for name in [CHECKPOINT, PREVIOUS] {
        let path = folder.path("a").join(name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    folder.refuse(&format!("pretrain {SHORT} --out a --resume"), 1, &["checkpoint.safetensors", "damaged"]);
}

#[test]
fn one_process_at_a_time_writes_a_run() {
    let folder = Folder::with_data();
    let long = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=1000");
    let mut running = folder.start(&format!("pretrain {long} --out a"));
    running.wait_for(&folder.path("a").join(CHECKPOINT));
    for options in ["--resume", "--force"] {
        folder.refuse(
            &format!("pretrain {long} --out a {options}"),
            1,
            &["a is in use by another rotnet process (", "--out"],
        );
    }
    running.signal("KILL");
    running.finish();
    folder.succeed(&format!("pretrain {SHORT} --out a --force"));
}

#[test]
fn finished_stages_are_not_done_again() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let times = |name: &str| folder.json(&format!("a/{name}/summary.json"))["seconds"].clone();
    let before = ["pretrain", "features", "finetune"].map(times);
    let talking = SHORT.replace("--quiet ", "");
    let outcome = folder.succeed(&format!("run {talking} --out a --resume"));
    assert!(outcome.stderr.contains("the features exist already"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("epoch 1: "), "{}", outcome.stderr);
    assert_eq!(["pretrain", "features", "finetune"].map(times), before);
    assert_eq!(folder.json("a/run.json")["test_evaluations"], 1);

    fs::remove_file(folder.path("a/features/manifest.json")).unwrap();
    folder.succeed(&format!("run {SHORT} --out a --resume"));
    folder.succeed(&format!("run {SHORT} --out b"));
    assert_same_results(&folder, "a", "b");
}

#[test]
fn a_changed_setting_is_named() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    folder.refuse(
        &format!("run {SHORT} --set pretrain.batch_size=8 --out a --resume"),
        1,
        &["recipe.stage.batch_size was 16, is 8", "--force"],
    );
    let more = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=3");
    folder.refuse(
        &format!("run {more} --out a --resume"),
        1,
        &["a/finetune/checkpoint.safetensors", "input was ", "--force"],
    );
}
