//! Mode `joint` of `finetune`: classes and rotations learned at once.

use std::time::Duration;

use crate::pipeline::SHORT;
use crate::support::Folder;

const COMPACT: &str = "--set encoder.kind=compact --set encoder.widths=[8,16] --set encoder.pools=[true,true] \
                       --set pretrain.rotations=all --set pretrain.batch_size=5";
const JOINT: &str = "--set finetune.mode=joint --set finetune.batch_size=3 --set data.labels_per_class=2";

#[test]
fn from_a_pretrained_encoder_it_leaves_a_classifier_like_any_other() {
    let folder = Folder::with_data();
    let joint = format!(
        "{SHORT} {COMPACT} {JOINT} --set data.validation_images=10 --set finetune.keep=best \
         --set finetune.weight_average=0.9 --set finetune.augment={{}}"
    );
    folder.succeed(&format!("run {joint} --threads 1 --out a"));
    let summary = folder.json("a/finetune/summary.json");
    let protocol = summary["protocol"].as_str().unwrap();
    assert!(
        protocol.starts_with(
            "encoder and classifier trained end to end from the pretrained encoder, jointly with the rotations of 40 \
             images whose labels are not used; the epoch with the best validation accuracy kept"
        ),
        "{protocol}"
    );
    assert_eq!((&summary["labels"], &summary["unlabeled"]), (&20.into(), &40.into()));
    let epoch = &summary["last_epoch"];
    assert!(epoch["rotation_loss"].as_f64().unwrap() < epoch["loss"].as_f64().unwrap(), "{epoch}");
    assert!((0.0..=1.0).contains(&epoch["rotation_accuracy"].as_f64().unwrap()), "{epoch}");
    assert!(summary["test_accuracy"].is_number());
    folder.succeed(&format!("run {joint} --threads 3 --out b"));
    for file in ["checkpoint.safetensors", "best.safetensors", "predictions.safetensors"] {
        let file = format!("finetune/{file}");
        assert!(folder.read(&format!("a/{file}")) == folder.read(&format!("b/{file}")), "{file}");
    }
    let dry = folder.succeed(&format!("run {joint} --dry-run --json --out c"));
    let dry: serde_json::Value = serde_json::from_str(&dry.stdout).unwrap();
    // 40 images without labels, 3 a step.
    assert_eq!(dry["stages"][2]["steps"], 2 * 14);
    folder.succeed("export a --what encoder --quiet --out encoder.safetensors");
    folder.succeed("extract --checkpoint a/finetune --config a/finetune/config.json --out d --quiet");
}

#[test]
fn a_run_killed_within_an_epoch_goes_on_to_the_same_bytes() {
    let folder = Folder::with_data();
    let command = format!(
        "finetune {SHORT} {COMPACT} {JOINT} --from-scratch --set save.every_steps=1 --set finetune.epochs=4 \
         --set finetune.joint.unlabeled=2 --set finetune.joint.rotations=random"
    );
    folder.succeed(&format!("{command} --threads 2 --out whole"));
    let config = folder.json("whole/finetune/config.json");
    assert_eq!(
        (&config["finetune"]["mode"], &config["finetune"]["from_scratch"]),
        (&"joint".into(), &true.into())
    );
    let mut within = 0;
    for (part, wait) in [5, 40, 90, 140].into_iter().enumerate() {
        let mut running = folder.start(&format!("{command} --threads {} --resume --out cut", 1 + part % 2));
        let cut = folder.path("cut/finetune/checkpoint.previous.safetensors");
        if part == 0 {
            running.wait_for(&cut);
        }
        if !running.ends_within(Duration::from_millis(wait)) {
            running.signal("KILL");
            within += 1;
        }
        running.finish();
    }
    folder.succeed(&format!("{command} --resume --out cut"));
    assert!(within > 0, "never killed");
    let file = "finetune/checkpoint.safetensors";
    assert!(folder.read(&format!("whole/{file}")) == folder.read(&format!("cut/{file}")));
    let metrics = |run: &str| -> Vec<serde_json::Value> {
        let text = String::from_utf8(folder.read(&format!("{run}/finetune/metrics.jsonl"))).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines
            .map(|line| serde_json::json!([line["loss"], line["rotation_loss"], line["rotation_accuracy"]]))
            .collect()
    };
    assert_eq!(metrics("whole"), metrics("cut"));
    assert_eq!(metrics("whole").len(), 4);
}

#[test]
fn both_tasks_are_learned() {
    let folder = Folder::new();
    folder.succeed(
        "finetune --quiet --from-scratch --out a --set data.kind=scenes --set data.train_images=300 \
         --set data.test_images=100 --set data.labels_per_class=20 --set encoder.kind=compact \
         --set encoder.widths=[16,32] --set encoder.pools=[true,true] --set finetune.mode=joint \
         --set finetune.hidden=[] --set finetune.epochs=6 --set finetune.batch_size=16 \
         --set finetune.optimizer.kind=muon --set finetune.optimizer.learning_rate=0.02",
    );
    let summary = folder.json("a/finetune/summary.json");
    let (chance, last) = (1.0 / summary["classes"].as_array().unwrap().len() as f64, &summary["last_epoch"]);
    let accuracy = |value: &serde_json::Value| value.as_f64().unwrap();
    assert!(accuracy(&last["rotation_accuracy"]) > 0.4, "{last}");
    assert!(accuracy(&last["accuracy"]) > 2.0 * chance, "{last}");
    assert!(accuracy(&summary["test_accuracy"]) > 1.3 * chance, "{}", summary["test_accuracy"]);
}

#[test]
fn keys_of_other_modes_are_refused_by_name() {
    let folder = Folder::with_data();
    let refuse = |set: &str, parts: &[&str]| {
        folder.refuse(&format!("finetune {SHORT} {COMPACT} {set} --out a"), 2, parts);
        assert!(!folder.path("a").exists());
    };
    refuse(
        "--set finetune.mode=full --set finetune.joint.weight=1",
        &["finetune.joint: is read in finetune.mode=joint"],
    );
    refuse(
        "--set finetune.mode=joint --set finetune.joint.weight=101",
        &["finetune.joint.weight: must be at least 0 and at most 100"],
    );
    refuse("--set finetune.mode=joint --set finetune.joint.rate=1", &["finetune.joint.rate: no such key"]);
    refuse(
        "--set finetune.mode=joint --set extract.views=4",
        &["extract.views: must be 1 with finetune.mode=joint"],
    );
    refuse(
        "--set finetune.mode=joint --set finetune.batch_size=1000 --set finetune.joint.unlabeled=100",
        &["finetune.joint.unlabeled: makes steps of 401000 images"],
    );
    refuse(
        "--set finetune.mode=joint --set finetune.head=ridge --set finetune.hidden=[]",
        &["finetune.head"],
    );
}
