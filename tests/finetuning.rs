//! What fine-tuning trains: the classifier alone, both parts at their own rates, or everything from scratch.

use std::fs;

use crate::images::{SHORT as PHOTOS, with_photos};
use crate::pipeline::SHORT;
use crate::support::Folder;

const COMPACT: &str = "--set encoder.kind=compact --set encoder.widths=[8,16] --set encoder.pools=[true,true] \
                       --set pretrain.rotations=all --set pretrain.batch_size=5";
const FULL: &str = "--set finetune.mode=full";

/// The tensors of a checkpoint by name, as bytes.
fn tensors(folder: &Folder, file: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
    let bytes = folder.read(file);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let entries = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    entries
        .map(|(name, entry)| {
            let at = |index: usize| 8 + length + entry["data_offsets"][index].as_u64().unwrap() as usize;
            (name.clone(), bytes[at(0)..at(1)].to_vec())
        })
        .collect()
}

#[test]
fn a_frozen_encoder_is_untouched_by_the_classifier_running_statistics_included() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} {COMPACT} --out a"));
    let files =
        ["a/pretrain/checkpoint.safetensors", "a/features/train.safetensors", "a/features/test.safetensors"];
    let before = files.map(|file| folder.read(file));
    let statistics = tensors(&folder, files[0]);
    assert!(statistics.keys().any(|name| name.contains("running_mean")), "{:?}", statistics.keys());
    folder.succeed(&format!("finetune --quiet --out a --force {}", "--set finetune.batch_norm=true"));
    // Bytes of the encoder, and what it makes of images, are as before.
    assert!(before == files.map(|file| folder.read(file)));
    folder.succeed(&format!("extract {SHORT} {COMPACT} --out a --force"));
    assert!(before == files.map(|file| folder.read(file)));
    // The classifier's checkpoint holds nothing of it.
    let trained = tensors(&folder, "a/finetune/checkpoint.safetensors");
    assert!(trained.keys().all(|name| !name.contains("encoder.")), "{:?}", trained.keys());
}

#[test]
fn the_encoder_has_its_own_rate_and_at_zero_keeps_its_weights() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} {COMPACT} --out a"));
    let pretrained = tensors(&folder, "a/pretrain/checkpoint.safetensors");
    let moved = |rate: &str| {
        folder
            .succeed(&format!("finetune --quiet --out a --force {FULL} --set finetune.encoder_rate={rate}"));
        let trained = tensors(&folder, "a/finetune/checkpoint.safetensors");
        let name = "model.encoder.blocks.0.weight";
        let numbers = |bytes: &[u8]| -> Vec<f32> {
            bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
        };
        let (before, after) = (numbers(&pretrained[name]), numbers(&trained[name]));
        before.iter().zip(after).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>()
    };
    let (none, little, whole) = (moved("0"), moved("0.1"), moved("1"));
    assert_eq!(none, 0.0);
    assert!(little > 0.0 && little < 0.5 * whole, "{little} {whole}");
    for (key, value) in [("encoder_rate", "0.1"), ("from_scratch", "true")] {
        let wrong =
            format!("finetune --out a --force --set finetune.mode=frozen --set finetune.{key}={value}");
        folder.refuse(&wrong, 2, &[&format!("finetune.{key}"), "needs finetune.mode=full"]);
    }
}

#[test]
fn a_classifier_that_is_trained_with_its_encoder_sees_what_section_extract_names() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} {COMPACT} --out a"));
    let before = tensors(&folder, "a/pretrain/checkpoint.safetensors");
    let (last, first) = ("model.encoder.blocks.1.weight", "model.encoder.blocks.0.weight");
    // Four rotations of block 1, 8 channels in 2x2 places; block 2 behind it is not computed.
    let read = r#"--set extract.layers=["block1"] --set extract.pool=2x2 --set extract.views=4"#;
    folder.succeed(&format!("finetune --quiet --out a {FULL} {read} --set finetune.hidden=[]"));
    let after = tensors(&folder, "a/finetune/checkpoint.safetensors");
    assert_eq!(after["model.classifier.output.weight"].len(), 4 * (4 * 2 * 2 * 8) * 10);
    assert_ne!(after[first], before[first]);
    assert_eq!(after[last], before[last]);
    // Trained on with another read-out it is another run; without one the last layer is seen.
    folder.refuse(
        &format!("finetune --quiet --resume --out a {FULL} --set extract.views=1 --set finetune.epochs=3"),
        1,
        &["classifier.features was 128, is 32"],
    );
    let plain = "--set extract.layers=[] --set extract.pool=none --set extract.views=1";
    folder.succeed(&format!("finetune --quiet --force --out a {FULL} {plain} --set finetune.hidden=[]"));
    let after = tensors(&folder, "a/finetune/checkpoint.safetensors");
    assert_eq!(after["model.classifier.output.weight"].len(), 4 * 16 * 10);
    assert_ne!(after[last], before[last]);
}

#[test]
fn from_scratch_needs_no_checkpoint_and_resumes_exactly() {
    let folder = Folder::with_data();
    let augment =
        r#"--set finetune.augment={"crop_padding":2,"padding":"reflect"} --set data.normalise=true"#;
    let command =
        format!("finetune {SHORT} {COMPACT} --from-scratch {augment} --set data.labels_per_class=3");
    folder.succeed(&format!("{command} --threads 1 --out a"));
    let summary = folder.json("a/finetune/summary.json");
    assert!(summary["protocol"].as_str().unwrap().contains("from scratch (supervised baseline)"));
    assert_eq!(summary["labels"], 30);
    assert_eq!(folder.json("a/finetune/config.json")["finetune"]["from_scratch"], true);
    assert!(!folder.path("a/pretrain").exists());
    let half = command.replace("finetune.epochs=2", "finetune.epochs=1");
    folder.succeed(&format!("{half} --out b"));
    folder.succeed(&format!("{command} --threads 3 --out b --resume"));
    let file = "finetune/checkpoint.safetensors";
    assert!(folder.read(&format!("a/{file}")) == folder.read(&format!("b/{file}")));
    // Its encoder begins as that of pretraining does.
    folder.succeed(&format!(
        "run {SHORT} {COMPACT} --set pretrain.epochs=0 {FULL} --set finetune.epochs=1 --out c"
    ));
    folder.succeed(&format!("finetune {SHORT} {COMPACT} --from-scratch --set finetune.epochs=1 --out d"));
    let (fine, scratch) = ("c/finetune/checkpoint.safetensors", "d/finetune/checkpoint.safetensors");
    assert!(tensors(&folder, fine) == tensors(&folder, scratch));
    // Features of a supervised encoder can be read like those of another.
    folder.succeed(&format!("extract {SHORT} --checkpoint d/finetune --out d"));
    folder.succeed(&format!(
        "run {SHORT} {COMPACT} --threads 2 --set pretrain.epochs=0 {FULL} --set finetune.epochs=1 --out e"
    ));
    assert!(folder.read(fine) == folder.read("e/finetune/checkpoint.safetensors"));
}

#[test]
fn features_are_not_said_to_come_from_other_images_or_labels() {
    let folder = with_photos();
    folder.succeed(&format!("run {PHOTOS} --data photos --out a"));
    folder.succeed(&format!("finetune {PHOTOS} --data ./photos --out a --force"));
    fs::write(folder.path("table.csv"), "file,label\ntrain/red/0.png,blue\n").unwrap();
    fs::create_dir(folder.path("others")).unwrap();
    let before = folder.read("a/finetune/summary.json");
    let finetune = format!("finetune {PHOTOS} --out a --force");
    folder.refuse(
        &format!("{finetune} --data others --set data.kind=folder"),
        2,
        &["data.directory is", "photos"],
    );
    folder.refuse(&format!("{finetune} --data photos --labels table.csv"), 2, &["data.labels is", "photos"]);
    assert!(before == folder.read("a/finetune/summary.json"));
    // Moved is not another.
    fs::rename(folder.path("photos"), folder.path("moved")).unwrap();
    folder.succeed(&format!("{finetune} --data moved"));
    let config = folder.json("a/finetune/config.json");
    assert!(config["data"]["directory"].as_str().unwrap().ends_with("moved"), "{config}");
}
