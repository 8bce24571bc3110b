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
         --set data.labels_per_class=20 --set encoder.kind=compact \
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

const ROUNDS: &str = "--set finetune.self_training.rounds=[1,2] --set finetune.self_training.neighbours=3 \
                      --set finetune.self_training.joining=2 --set save.every_steps=2";

#[test]
fn self_training_writes_its_labels_and_goes_on_after_kills_to_the_same_bytes() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} {COMPACT} --out a"));
    for (mode, more) in [
        ("full", ""),
        ("joint", "--set finetune.weight_average=0.9"),
        ("full", "--set finetune.from_scratch=true"),
    ] {
        let out = format!("{mode}{}", more.len());
        let command = format!(
            "finetune {SHORT} {COMPACT} {JOINT} {ROUNDS} --set finetune.mode={mode} {more} --checkpoint a/pretrain"
        );
        folder.succeed(&format!("{command} --threads 1 --out {out}"));
        let text = String::from_utf8(folder.read(&format!("{out}/finetune/pseudo-labels-2.csv"))).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "image,label,probability");
        let summary = folder.json(&format!("{out}/finetune/summary.json"));
        let round = &summary["rounds"][1];
        assert_eq!(
            (round["images"].as_u64().unwrap() as usize, &round["round"]),
            (lines.len() - 1, &2.into())
        );
        let classes = round["classes"].as_array().unwrap();
        assert!(classes.iter().all(|class| class["images"].as_u64().unwrap() <= 2), "{round}");
        assert!(round["accuracy"].is_number() && round["known"] == round["images"], "{round}");
        let protocol = summary["protocol"].as_str().unwrap();
        assert!(
            protocol.contains("; self-training, ") && protocol.contains(" of 50 images whose own"),
            "{protocol}"
        );
        assert!(!protocol.contains("supervised baseline"), "{protocol}");

        let mut kills = 0;
        for wait in [15, 30, 45, 60, 90, 120] {
            let mut running = folder.start(&format!("{command} --threads 2 --resume --out {out}-cut"));
            if running.ends_within(Duration::from_millis(wait)) {
                assert_eq!(running.finish().code, 0);
                break;
            }
            running.signal("KILL");
            running.finish();
            kills += 1;
        }
        folder.succeed(&format!("{command} --resume --out {out}-cut"));
        assert!(kills > 0, "{out}: killed {kills} times");
        for file in [
            "checkpoint.safetensors",
            "predictions.safetensors",
            "pseudo-labels-1.csv",
            "pseudo-labels-2.csv",
            "rounds/0/finetune/checkpoint.safetensors",
            "rounds/1/finetune/checkpoint.safetensors",
        ] {
            let read = |run: &str| folder.read(&format!("{run}/finetune/{file}"));
            assert!(read(&out) == read(&format!("{out}-cut")), "{out}: {file}");
        }
        // What is there is not touched without a word, and not gone on with under other settings.
        let before = folder.read(&format!("{out}/finetune/pseudo-labels-1.csv"));
        let other = command.replace("neighbours=3", "neighbours=2");
        folder.refuse(&format!("{command} --out {out}"), 1, &["--force"]);
        folder.refuse(
            &format!("{other} --resume --out {out}"),
            1,
            &["recipe.stage.self_training.neighbours was 3, is 2"],
        );
        assert!(before == folder.read(&format!("{out}/finetune/pseudo-labels-1.csv")));
        assert_eq!(
            folder.json(&format!("{out}/finetune/config.json"))["finetune"]["self_training"]["neighbours"],
            3
        );
        folder.succeed(&format!("{other} --force --out {out}"));
        assert_eq!(
            folder.json(&format!("{out}/finetune/config.json"))["finetune"]["self_training"]["neighbours"],
            2
        );
    }
}

#[test]
fn a_student_of_as_many_rounds_as_asked_for_is_planned_and_swept() {
    let folder = Folder::with_data();
    let planned = |more: &str, key: &str| -> u64 {
        let dry =
            folder.succeed(&format!("run {SHORT} {COMPACT} {JOINT} {more} --dry-run --json --out c")).stdout;
        serde_json::from_str::<serde_json::Value>(&dry).unwrap()["stages"][2][key].as_u64().unwrap()
    };
    let steps = |more: &str| planned(more, "steps");
    // 50 images without labels, 3 a step, two epochs.
    assert_eq!(steps(""), 34);
    assert_eq!(steps(ROUNDS), 3 * 34);
    assert_eq!(steps(&format!("{ROUNDS} --set finetune.self_training.steps=7")), 34 + 2 * 7);
    // All 50 images are compared with each other: once by frozen features, else by each teacher's.
    let compared = 2 * 50 * 50 * 16;
    let alone = format!("{ROUNDS} --set finetune.self_training.neighbours=0");
    assert_eq!(planned(ROUNDS, "flop") - planned(&alone, "flop"), compared);
    let scratch = "--set finetune.from_scratch=true";
    let features =
        planned(&format!("{ROUNDS} {scratch}"), "flop") - planned(&format!("{alone} {scratch}"), "flop");
    assert!(features > 2 * compared, "{features}");
    let frozen = format!("finetune {SHORT} {COMPACT} {ROUNDS} --out c");
    folder.refuse(&frozen, 2, &["finetune.self_training: a student is trained with its encoder; it needs finetune.mode=full or joint"]);
    let settings = format!("{SHORT} {COMPACT}").replace("--data data", "").replace("--seed 3", "");
    let base = folder.succeed(&format!("config show {settings}")).stdout;
    std::fs::write(folder.path("base.json"), base).unwrap();
    let sweep = r#"{"config": "base.json", "seeds": [1], "variants": {
        "plain": {"data.labels_per_class": 2, "finetune.mode": "joint", "finetune.joint.weight": 0.5},
        "taught": {"like": "plain", "finetune.self_training.rounds": [1], "finetune.self_training.steps": 2}}}"#;
    std::fs::write(folder.path("sweep.json"), sweep).unwrap();
    folder.succeed("sweep sweep.json --data data --set data.validation_images=10 --out s --test --quiet");
    let found = walk(&folder.path("s"), "pseudo-labels-1.csv");
    assert_eq!(found, 1);
}

/// Files of that name below a folder.
fn walk(folder: &std::path::Path, name: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { walk(&path, name) } else { usize::from(path.ends_with(name)) })
        .sum()
}
