//! Disks that are full and directories that cannot be written or went away: a clear error, and nothing lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::pipeline::SHORT;
use crate::support::{Folder, assert_same_results};

const CHECKPOINT: &str = "pretrain/checkpoint.safetensors";
/// The user `nobody`, whom permissions bind where the tests run as root.
const NOBODY: u32 = 65_534;

#[test]
fn a_size_limit_that_a_checkpoint_exceeds_stops_the_run_and_keeps_the_one_before() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out whole"));
    // 1,200 blocks hold the checkpoint before the first step, and not one with the optimizer's state.
    let outcome =
        folder.shell(&format!("trap '' XFSZ; ulimit -f 1200; exec \"$ROTNET\" run {SHORT} --out a"));
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let error = outcome.stderr.trim_end();
    assert!(error.starts_with(&format!("error: cannot write a/{CHECKPOINT}: File too large")), "{error}");
    assert!(error.ends_with("make room, then run again; --resume continues a run"), "{error}");
    assert!(folder.temporary_files().is_empty());
    folder.succeed(&format!("run {SHORT} --out a --resume"));
    assert_same_results(&folder, "whole", "a");
}

#[test]
fn a_full_disk_stops_the_run_and_resume_works_once_there_is_room() {
    let folder = Folder::with_data();
    let long = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=4");
    folder.succeed(&format!("run {long} --out whole"));
    // Room for one checkpoint with the optimizer's state, and not for the next one beside it.
    let script = format!(
        "mkdir full; mount -t tmpfs -o size=2500k tmpfs full || exit 77
         \"$ROTNET\" run {long} --out full/a && exit 78
         ls -A full/a/pretrain; mount -o remount,size=32m full
         \"$ROTNET\" run {long} --out full/a --resume > /dev/null; cp -r full/a a"
    );
    let outcome = folder.spawn(Command::new("unshare").args(["-rm", "sh", "-ec", &script])).finish();
    if outcome.code == 77 || outcome.stderr.starts_with("unshare: ") {
        println!("not tested, since nothing can be mounted here: {}", outcome.stderr);
        return;
    }
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("No space left on device (os error 28); make room"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        outcome.stdout,
        "checkpoint.previous.safetensors\ncheckpoint.safetensors\nconfig.json\nmetrics.jsonl\n"
    );
    assert_same_results(&folder, "whole", "a");
}

/// Runs the binary as a user whom permissions bind, in a folder that it can enter.
fn refused_to_nobody(folder: &Folder, arguments: &str) -> String {
    let program = folder.path("rotnet");
    fs::copy(env!("CARGO_BIN_EXE_rotnet"), &program).unwrap();
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace());
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0);
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let outcome = folder.spawn(&mut command).finish();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    outcome.stderr
}

#[test]
fn a_directory_without_permission_is_named_and_its_results_stay() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    let before = folder.read(&format!("a/{CHECKPOINT}"));
    for path in ["a/pretrain", "a"] {
        fs::set_permissions(folder.path(path), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let error = refused_to_nobody(&folder, &format!("run {SHORT} --out a --resume"));
    assert!(error.starts_with("error: cannot write a/.lock: Permission denied"), "{error}");
    let error = refused_to_nobody(&folder, &format!("run {SHORT} --out a/b"));
    assert!(error.starts_with("error: cannot create a/b: Permission denied"), "{error}");
    assert!(error.ends_with("check the permissions, or choose another path\n"), "{error}");
    assert_eq!(folder.read(&format!("a/{CHECKPOINT}")), before);
    for path in ["a/pretrain", "a"] {
        fs::set_permissions(folder.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_run_whose_directory_is_moved_away_stops_and_goes_on_at_the_new_place() {
    let folder = Folder::with_data();
    let long = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=60");
    folder.succeed(&format!("run {long} --out whole"));
    let mut running = folder.start(&format!("run {long} --out a"));
    running.wait_for(&folder.path("a/pretrain/metrics.jsonl"));
    fs::rename(folder.path("a"), folder.path("b")).unwrap();
    let outcome = running.finish();
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("error: cannot write a/pretrain/"), "{}", outcome.stderr);
    assert!(!folder.path("a").exists());
    folder.succeed(&format!("run {long} --out b --resume"));
    assert_same_results(&folder, "whole", "b");
}
