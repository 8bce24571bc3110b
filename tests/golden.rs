//! One seed, one result, on any processor: four tiny runs and the drawn scenes, as digests in `tests/golden/runs.json` that every processor
//! must give with every instruction set it has. `ROTNET_GOLDEN=write cargo test golden` writes the digests anew (also those
//! of the kernels, `src/kernels/cpu/golden.rs`), for when results change on purpose.
//!
//! `ROTNET_GOLDEN_BINARY` names another build of the program to check, with words in front that run it:
//! `scripts/check-arm.sh` checks one for ARM in an emulator.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use rotnet::files::sha256;
use safetensors::SafeTensors;

use crate::support::{DETERMINISTIC, Folder, Outcome};

/// Name, command, and the files it leaves that depend on nothing but config, seed and data.
const RUNS: [(&str, &str, &[&str]); 5] = [
    (
        "keras",
        "run --data data --set data.kind=cifar10 --set pretrain.epochs=2 --set pretrain.batch_size=16 \
         --set pretrain.schedule={\"kind\":\"cosine\",\"warmup\":0.2} --set finetune.epochs=2 --set finetune.batch_size=8",
        &DETERMINISTIC,
    ),
    (
        "compact",
        "run --config compact --data data --set data.train_images=40 \
         --set encoder.widths=[32,40] --set encoder.pools=[true,true] --set extract.layers=[\"block2\"] \
         --set extract.views=\"4+flip\" --set pretrain.epochs=2 --set pretrain.batch_size=16 \
         --set pretrain.weight_average=0.9 --set finetune.epochs=2 --set finetune.batch_size=8 \
         --set finetune.label_smoothing=0.1",
        &DETERMINISTIC,
    ),
    (
        "nin",
        "pretrain --data data --set data.kind=cifar10 --set data.train_images=4 --set encoder.kind=rotnet-nin \
         --set encoder.blocks=3 --set pretrain.epochs=1 --set pretrain.batch_size=2 \
         --set pretrain.optimizer={\"kind\":\"sgd\",\"learning_rate\":0.01,\"momentum\":0.9}",
        &["pretrain/checkpoint.safetensors"],
    ),
    (
        "bf16",
        "run --config compact --precision bf16 --data data --set data.train_images=24 \
         --set encoder.widths=[32,40] --set encoder.pools=[true,false] --set extract.layers=[\"block2\"] --set pretrain.epochs=1 \
         --set pretrain.batch_size=6 --set finetune.epochs=1 --set finetune.batch_size=8",
        &DETERMINISTIC,
    ),
    ("scenes", "data synth", &["cifar-10-batches-bin/test_batch.bin"]),
];

/// Runs the program with the kernels of an instruction set, or those that it chooses.
fn rotnet(folder: &Folder, kernels: Option<&str>, arguments: &str) -> Outcome {
    let binary = std::env::var("ROTNET_GOLDEN_BINARY");
    let binary = binary.unwrap_or_else(|_| env!("CARGO_BIN_EXE_rotnet").into());
    let mut words = binary.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(arguments.split_whitespace());
    if let Some(kernels) = kernels {
        command.env("ROTNET_KERNELS", kernels);
    }
    folder.spawn(&mut command).finish()
}

/// Of the tensors in a file: names, types, shapes and bytes, but not what the header says of the program.
fn digest(bytes: &[u8]) -> String {
    let Ok(tensors) = SafeTensors::deserialize(bytes) else { return sha256(bytes) };
    let tensors: BTreeMap<_, _> = tensors.iter().collect();
    let mut all = Vec::new();
    for (name, tensor) in tensors {
        all.extend(format!("{name} {:?} {:?}\n", tensor.dtype(), tensor.shape()).into_bytes());
        all.extend(tensor.data());
    }
    sha256(&all)
}

type Digests = BTreeMap<String, BTreeMap<String, String>>;

/// The digests of all runs.
fn digests(folder: &Folder, kernels: &str) -> Digests {
    let run = |(name, arguments, files): (&str, &str, &[&str])| {
        let out = format!("{name}-{kernels}");
        let arguments = format!("{arguments} --seed 3 --quiet --out {out}");
        let outcome = rotnet(folder, Some(kernels), &arguments);
        assert_eq!(outcome.code, 0, "{kernels}: {arguments}\n{}", outcome.stderr);
        let file = |file: &&str| (file.to_string(), digest(&folder.read(&format!("{out}/{file}"))));
        // The manifest names the checkpoint's file, whose header names the program's commit.
        let numbers = files.iter().filter(|file| !file.ends_with(".json"));
        (name.to_owned(), numbers.map(file).collect())
    };
    RUNS.map(run).into()
}

#[test]
fn golden_runs_come_from_every_instruction_set() {
    let folder = Folder::with_data();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runs.json");
    let has = |kernels: &&str| rotnet(&folder, Some(kernels), "config show quickstart").code == 0;
    let sets: Vec<&str> =
        ["avx512bf16", "avx512", "avx2", "neon", "scalar"].into_iter().filter(has).collect();
    assert!(sets.contains(&"scalar"), "{sets:?}");
    let found: Vec<Digests> = sets.iter().map(|kernels| digests(&folder, kernels)).collect();
    if std::env::var("ROTNET_GOLDEN").is_ok_and(|value| value == "write") {
        let text = serde_json::to_string_pretty(&found[0]).unwrap() + "\n";
        std::fs::write(&kept, text).unwrap();
    }
    let golden: Digests = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    for (kernels, found) in sets.iter().zip(&found) {
        assert_eq!(found, &golden, "{kernels}");
    }
}

#[test]
fn an_instruction_set_that_is_not_there_is_refused() {
    let folder = Folder::new();
    let outcome = rotnet(&folder, Some("sse9"), "config show quickstart");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""));
    assert!(outcome.stderr.contains("ROTNET_KERNELS is \"sse9\"") && outcome.stderr.contains("scalar"));
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
}
