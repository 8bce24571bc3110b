//! Every refusal is one line that says what, where and how to mend it, with the right exit status.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::support::{Folder, RECORD};

const DATA: &str = "cifar-10-batches-bin";
const SHORT: &str =
    "--data data --quiet --set data.kind=cifar10 --set pretrain.epochs=1 --set finetune.epochs=1";

#[test]
fn a_missing_data_directory() {
    let folder = Folder::new();
    let parts = ["nowhere", "--data"];
    folder.refuse("run --set data.kind=cifar10 --data nowhere --out a", 1, &parts);
}

#[test]
fn a_missing_file_of_the_data_set() {
    let folder = Folder::with_data();
    fs::remove_file(folder.path("data").join(DATA).join("data_batch_3.bin")).unwrap();
    folder.refuse(&format!("run {SHORT} --out a"), 1, &["data_batch_3.bin"]);
}

#[test]
fn a_truncated_file_is_named_with_its_size() {
    let folder = Folder::with_data();
    let file = folder.path("data").join(DATA).join("data_batch_2.bin");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    folder.refuse(&format!("run {SHORT} --out a"), 1, &["data_batch_2.bin", "30729", "3073"]);
}

#[test]
fn label_ten_is_named_with_its_record() {
    let folder = Folder::with_data();
    let file = folder.path("data").join(DATA).join("data_batch_4.bin");
    let mut bytes = fs::read(&file).unwrap();
    bytes[3 * RECORD] = 10;
    fs::write(&file, bytes).unwrap();
    folder.refuse(&format!("run {SHORT} --out a"), 1, &["data_batch_4.bin", "record 4", "label", "10"]);
}

#[test]
fn a_config_with_a_typo_a_wrong_type_or_range_is_refused_before_any_work() {
    let folder = Folder::new();
    fs::write(folder.path("typo.json"), r#"{"pretrain": {"epoch": 3}}"#).unwrap();
    let typo = "pretrain.epoch: no such key (did you mean `pretrain.epochs`?)";
    folder.refuse("run --config typo.json --out a", 2, &[&format!("error: typo.json: {typo}")]);
    folder.refuse("run --set pretrain.epoch=3 --out a", 2, &[&format!("error: --set {typo}")]);
    fs::write(folder.path("range.json"), r#"{"pretrain": {"batch_size": 0}}"#).unwrap();
    let range = "error: range.json: pretrain.batch_size: must be at least 1, got 0";
    folder.refuse("run --config range.json --out a", 2, &[range]);
    fs::write(folder.path("base.json"), "{}").unwrap();
    fs::write(folder.path("sweep.json"), r#"{"config": "base.json", "sedes": [1]}"#).unwrap();
    folder.refuse("sweep sweep.json", 2, &["error: sweep.json: sedes: no such key (did you mean `seeds`?)"]);
    fs::write(folder.path("sweep.json"), r#"{"config": "base.json", "grid": {"pretrain.epoch": [1]}}"#)
        .unwrap();
    folder.refuse("sweep sweep.json", 2, &[&format!("error: sweep.json: {typo}")]);
    folder.refuse(
        "run --set pretrain.batch_size=0 --out a",
        2,
        &["pretrain.batch_size: must be at least 1, got 0"],
    );
    folder.refuse("run --set finetune.epochs=ten --out a", 2, &["finetune.epochs", "ten"]);
    let adam = "run --config keras --set pretrain.optimizer.beta_1=1 --out a";
    folder.refuse(adam, 2, &["pretrain.optimizer.beta_1"]);
    let wrong =
        "run --config keras --set pretrain.optimizer.kind=sgd --set pretrain.optimizer.beta_1=0.9 --out a";
    folder.refuse(wrong, 2, &["pretrain.optimizer", "`beta_1` is not a key of sgd"]);
    folder.refuse(
        "run --set pretrain.augment.flip=after-rotation --out a",
        2,
        &[
            "pretrain.augment.flip",
            "a flip after the rotation swaps 90 and 270 degrees and caps the task at 75 %",
        ],
    );
    folder.refuse("run --set finetune.augment={} --out a", 2, &["finetune.augment", "finetune.mode=full"]);
    folder.refuse("run --set pretrain.epochs --out a", 2, &["section.key=value"]);
    folder.refuse("run --device gpu --out a", 2, &["device", "gpu", "flex"]);
    folder.refuse("run --threads 0 --out a", 2, &["threads"]);
    fs::write(folder.path("broken.json"), "{").unwrap();
    folder.refuse("run --config broken.json --out a", 2, &["broken.json", "JSON"]);
    folder.refuse("run --config none.json --out a", 1, &["none.json"]);
    assert!(!folder.path("a").exists());
}

#[test]
fn a_folder_of_data_that_is_not_there_is_no_place_to_generate_scenes_in() {
    let folder = Folder::new();
    for command in ["pretrain --out a", "run", "data info"] {
        let wrong = format!("{command} {} typo", if command == "data info" { "" } else { "--data" });
        folder.refuse(&wrong, 1, &["typo: there is no such folder"]);
    }
    assert!(!folder.path("typo").exists() && !folder.path("a").exists());
}

#[test]
fn unknown_options_are_usage_errors() {
    assert_eq!(Folder::new().rotnet("run --epochs 3").code, 2);
}

#[cfg(not(feature = "ndarray"))]
#[test]
fn a_device_that_is_not_compiled_in_names_the_feature() {
    Folder::new().refuse("run --device ndarray --out a", 1, &["ndarray", "--features ndarray"]);
}

#[test]
fn a_checkpoint_cut_in_half_of_another_kind_or_missing() {
    let folder = Folder::with_data();
    folder.refuse("extract --out a", 1, &["a/pretrain/checkpoint.safetensors", "rotnet pretrain"]);
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    let file = folder.path("a/pretrain/checkpoint.safetensors");
    let bytes = fs::read(&file).unwrap();

    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    folder.refuse("extract --out a", 1, &["checkpoint.safetensors", "damaged"]);

    let mut changed = bytes.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    fs::write(&file, changed).unwrap();
    folder.refuse("extract --out a", 1, &["checkpoint.safetensors", "digest"]);

    let text = String::from_utf8_lossy(&bytes[..2_000]).replace("rotnet-checkpoint", "rotnet-chickpoint");
    fs::write(&file, [text.as_bytes(), &bytes[2_000..]].concat()).unwrap();
    folder.refuse("extract --out a", 1, &["checkpoint.safetensors"]);
    assert!(!folder.path("a/features").exists());
}

#[test]
fn a_checkpoint_of_another_config_is_not_resumed() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --seed 1 --out a"));
    folder.refuse(&format!("pretrain {SHORT} --seed 2 --out a --resume"), 1, &["another config"]);
}

#[test]
fn features_of_another_checkpoint_are_refused() {
    let folder = Folder::with_data();
    folder.refuse("finetune --out a", 1, &["features", "rotnet extract"]);
    folder.succeed(&format!("run {SHORT} --out a"));
    folder.succeed(&format!("pretrain {SHORT} --seed 5 --out a --force"));
    folder.refuse("finetune --out a --force", 1, &["another checkpoint", "rotnet extract"]);
    folder.succeed("finetune --out a --force --quiet --features a/features");
}

#[test]
fn another_data_set_than_the_checkpoint_was_trained_on_needs_a_word() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    let file = folder.path("data").join(DATA).join("data_batch_1.bin");
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    let full = "finetune --quiet --out a --set finetune.mode=full";
    for command in ["extract --quiet --out a", full] {
        folder.refuse(command, 1, &["the checkpoint was trained on", "fingerprint", "--allow-data-mismatch"]);
        folder.succeed(&format!("{command} --allow-data-mismatch --force"));
    }
}

#[test]
fn a_run_that_learned_nothing_says_so_in_its_summary() {
    let folder = Folder::with_data();
    let still = "--set pretrain.optimizer.learning_rate=1e-30 --set finetune.optimizer.learning_rate=1e-30";
    let outcome = folder.succeed(&format!("run {SHORT} {still} --out a"));
    for (stage, text) in [
        ("pretrain", "is no better than guessing (0.25)"),
        ("finetune", "is no better than always answering"),
    ] {
        let summary = folder.json(&format!("a/{stage}/summary.json"));
        let warnings = summary["warnings"].as_array().unwrap();
        assert!(warnings.iter().any(|warning| warning.as_str().unwrap().contains(text)));
        assert!(outcome.stdout.contains(text), "{}", outcome.stdout);
    }
}

#[test]
fn an_output_directory_that_cannot_be_written() {
    let folder = Folder::with_data();
    fs::write(folder.path("file"), "not a directory").unwrap();
    folder.refuse(&format!("pretrain {SHORT} --out file/run"), 1, &["file/run"]);
    assert_eq!(folder.read("file"), b"not a directory");
}

#[test]
fn a_run_that_another_process_writes_to_is_left_alone() {
    let folder = Folder::with_data();
    fs::create_dir(folder.path("a")).unwrap();
    let lock = fs::File::create(folder.path("a/.lock")).unwrap();
    lock.lock().unwrap();
    folder.refuse(&format!("pretrain {SHORT} --out a"), 1, &["in use", "--out"]);
    assert!(!folder.path("a/pretrain").exists());
    drop(lock);
    folder.succeed(&format!("pretrain {SHORT} --out a"));
}

/// Weight decay at this rate makes every parameter -9 times itself at each step: beyond `f32` after some 40 steps, whatever
/// the gradients are.
const RUNAWAY: &str = "--set data.scale_pixels=false --set pretrain.optimizer.kind=sgd \
                       --set pretrain.optimizer.learning_rate=10 --set pretrain.optimizer.weight_decay=1 \
                       --set pretrain.optimizer.momentum=0 --set pretrain.rotations=all";

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint() {
    let folder = Folder::with_data();
    // 50 steps, and the first save behind them.
    let run = format!("pretrain {SHORT} {RUNAWAY} --set pretrain.batch_size=1 --out a");
    let line =
        ["error: pretrain: the loss became ", " in epoch 1, step ", "(learning rate 10)", "scale_pixels"];
    folder.refuse(&run, 1, &line);
    let kept = folder.read("a/pretrain/checkpoint.safetensors");
    folder.refuse(&format!("{run} --resume"), 1, &line);
    assert!(folder.read("a/pretrain/checkpoint.safetensors") == kept);
    assert!(!folder.path("a/pretrain/summary.json").exists());
    assert!(folder.temporary_files().is_empty());
}

#[test]
fn a_parameter_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint_before_it() {
    let folder = Folder::with_data();
    // Black images: no weight reaches the logits, and the loss stays that of guessing.
    for file in fs::read_dir(folder.path("data").join(DATA)).unwrap() {
        let path = file.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes.chunks_exact_mut(RECORD).for_each(|record| record[1..].fill(0));
        fs::write(&path, bytes).unwrap();
    }
    // One step an epoch, a save after each.
    let run =
        format!("pretrain {SHORT} {RUNAWAY} --set pretrain.batch_size=50 --set pretrain.epochs=60 --out a");
    let line = ["error: pretrain: parameter ", " is no longer finite after step ", "(learning rate 10)"];
    folder.refuse(&run, 1, &line);
    let metrics = String::from_utf8(folder.read("a/pretrain/metrics.jsonl")).unwrap();
    assert!((20..60).contains(&metrics.lines().count()), "{metrics}");
    let kept = folder.read("a/pretrain/checkpoint.safetensors");
    folder.refuse(&format!("{run} --resume"), 1, &line);
    assert!(folder.read("a/pretrain/checkpoint.safetensors") == kept);
    assert!(folder.temporary_files().is_empty());
}

/// Serves `body` to every request until the test ends; cuts each answer after `limit` bytes.
fn serve(body: Vec<u8>, limit: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/archive.tar.gz", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body[..limit.min(body.len())]);
        }
    });
    url
}

#[test]
fn a_download_with_a_wrong_digest_is_not_unpacked() {
    let folder = Folder::new();
    let url = serve(vec![7; 5_000], usize::MAX);
    let digest = "0".repeat(64);
    folder.refuse(
        &format!("data fetch --out data --quiet --sha256 {digest} --url {url}"),
        1,
        &["SHA-256", &digest],
    );
    assert!(!folder.path("data").join(DATA).exists());
}

#[test]
fn a_server_that_cuts_the_connection_half_way() {
    let folder = Folder::new();
    let url = serve(vec![7; 5_000], 2_500);
    let digest = "0".repeat(64);
    folder.refuse(
        &format!("data fetch --out data --quiet --sha256 {digest} --url {url}"),
        1,
        &[&url, "again"],
    );
    assert!(!folder.path("data").join(DATA).exists());
}

#[cfg(not(feature = "mpi"))]
#[test]
fn a_program_that_cannot_share_work_is_not_started_several_times() {
    let folder = Folder::with_data();
    let started = |rank: &str, arguments: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rotnet"));
        command.args(arguments.split_whitespace());
        command.env("OMPI_COMM_WORLD_SIZE", "2").env("OMPI_COMM_WORLD_RANK", rank);
        folder.spawn(&mut command).finish()
    };
    let run = format!("run {SHORT} --out a");
    let [first, second] = ["0", "1"].map(|rank| started(rank, &run));
    assert_eq!([first.code, second.code], [2, 2]);
    assert!(
        first.stderr.starts_with("error: started 2 times, and built without the feature `mpi`"),
        "{}",
        first.stderr
    );
    assert_eq!((first.stderr.lines().count(), second.stderr.as_str()), (1, ""));
    assert!(!folder.path("a").exists());
    // What each may do by itself.
    assert_eq!(started("1", "config show quickstart").code, 0);
}
