//! The judge is fair: every config goes through `evaluate`, baselines are not held back, and the test set is opened last.

use std::fs;

use serde_json::Value;

use crate::pipeline::SHORT;
use crate::support::Folder;

/// Sets what makes a config small, whatever it is.
const SMALL: &str = "--quiet --data data --set data.kind=cifar10 --set pretrain.batch_size=10 \
                     --set finetune.epochs=1 --set finetune.batch_size=10 --set extract.batch_size=10";
/// A verdict with all baselines, and one probe.
const VERDICT: &str = "--quiet --set evaluate.validation_images=10 --set evaluate.heads=[\"ridge\"] \
                       --set evaluate.layers=[\"block1\"] --set evaluate.labels_per_class=[2] \
                       --set evaluate.most_epochs=1 --set evaluate.epochs=1 \
                       --set evaluate.baselines=[\"random\",\"patches\",\"scratch\"]";

/// What a checkpoint says of itself.
fn header(folder: &Folder, file: &str) -> String {
    let bytes = folder.read(file);
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    String::from_utf8(bytes[8..8 + length].to_vec()).unwrap()
}

fn left_out(summary: &Value) -> Vec<&str> {
    let left_out = summary["left_out"].as_array().into_iter().flatten();
    left_out.map(|entry| entry["name"].as_str().unwrap()).collect()
}

fn arms(summary: &Value) -> Vec<&str> {
    let arms = summary["verdict"]["counts"][0]["arms"].as_array().into_iter().flatten();
    arms.map(|arm| arm["name"].as_str().unwrap()).collect()
}

/// The run was evaluated with every baseline but these, which its summary names with a reason.
fn assert_evaluated(folder: &Folder, run: &str, lacking: &[&str], what: &str) {
    let summary = folder.json(&format!("{run}/evaluate/summary.json"));
    assert_eq!(left_out(&summary), lacking, "{what}");
    let all = ["random", "patches", "scratch"].into_iter().filter(|name| !lacking.contains(name));
    let mut expected: Vec<&str> = all.collect();
    if !expected.is_empty() {
        expected.insert(0, "pretrained");
    }
    assert_eq!(arms(&summary), expected, "{what}");
}

#[test]
fn every_recipe_goes_through_evaluate() {
    let folder = Folder::with_data();
    let recipes: Vec<Value> = serde_json::from_str(&folder.succeed("config list --json").stdout).unwrap();
    for recipe in &recipes {
        let name = recipe["name"].as_str().unwrap();
        let config: Value =
            serde_json::from_str(&folder.succeed(&format!("config show {name}")).stdout).unwrap();
        let mut small = format!("{SMALL} --config {name}");
        let (encoder, finetune) = (&config["encoder"], &config["finetune"]);
        small += &match encoder["kind"].as_str().unwrap() {
            "compact" => {
                let widths = vec![4; encoder["widths"].as_array().unwrap().len()];
                format!(" --set encoder.widths={} --set pretrain.epochs=1", Value::from(widths))
            }
            "rotnet-nin" => " --set encoder.blocks=3 --set pretrain.epochs=1".into(),
            "patches" => " --set encoder.patches=4".into(),
            _ => " --set pretrain.epochs=1".into(),
        };
        if config["data"]["image_size"].is_number() {
            small += " --set data.image_size=32 --set pretrain.sizes=[]";
        }
        if finetune["hidden"].as_array().is_some_and(|widths| !widths.is_empty()) {
            small += " --set finetune.hidden=[4]";
        }
        if config["data"]["labels_per_class"].is_number() {
            small += " --set data.labels_per_class=3";
        }
        if finetune["self_training"].is_object() {
            small += " --set finetune.self_training.steps=4";
        }
        folder.succeed(&format!("run {small} --out {name}"));
        // The quickstart has compared already.
        folder.succeed(&format!("evaluate {name} {VERDICT} --force"));
        let conv = finetune["head"] == "conv";
        let lacking: &[&str] = match (encoder["kind"] == "patches", conv || finetune["mode"] != "frozen") {
            (true, _) => &["random", "patches", "scratch"],
            (_, true) => &["patches"],
            _ => &[],
        };
        assert_evaluated(&folder, name, lacking, name);
    }
    assert_eq!(recipes.len(), 15);
}

#[test]
fn every_head_mode_encoder_and_judge_of_epochs_goes_through_evaluate() {
    let folder = Folder::with_data();
    let encoders = [
        ("keras", "--set encoder.kind=keras --set pretrain.epochs=1"),
        (
            "compact",
            "--set encoder.kind=compact --set encoder.widths=[4,4] --set encoder.pools=[true,true] --set pretrain.epochs=1",
        ),
        ("patches", "--set encoder.kind=patches --set encoder.patches=4 --set pretrain.epochs=0"),
    ];
    let judges = [
        ("task", ""),
        (
            "probe",
            "--set data.validation_images=10 --set pretrain.probe={\"k\":3} --set pretrain.keep=best \
             --set pretrain.keep_by=probe --set pretrain.patience=1",
        ),
    ];
    let mut evaluated = 0;
    for (encoder, setting) in encoders {
        for (judge, by) in judges {
            let run = format!("{encoder}-{judge}");
            folder.succeed(&format!("pretrain {SMALL} {setting} {by} --out {run}"));
            for head in ["mlp", "linear", "ridge", "conv"] {
                for mode in ["frozen", "full"] {
                    let block = if head == "conv" {
                        "--set extract.layers=[\"block1\"] --set extract.pool=4x4"
                    } else {
                        ""
                    };
                    let hidden = if head == "mlp" || head == "conv" { "[4]" } else { "null" };
                    let settings = format!(
                        "--set finetune.head={head} --set finetune.mode={mode} --set finetune.hidden={hidden} {block}"
                    );
                    let command = format!("evaluate {run} --force {VERDICT} {settings}");
                    let what = format!("{run} {head} {mode}");
                    if mode == "full" && (head == "ridge" || encoder == "patches") {
                        folder.refuse(&command, 2, &["finetune."]);
                        continue;
                    }
                    folder.succeed(&command);
                    let lacking: &[&str] = match (encoder, head, mode) {
                        ("patches", ..) => &["random", "patches", "scratch"],
                        (_, "conv", _) | (_, _, "full") => &["patches"],
                        _ => &[],
                    };
                    assert_evaluated(&folder, &run, lacking, &what);
                    evaluated += 1;
                }
            }
        }
    }
    assert_eq!(evaluated, 2 * (7 + 7 + 4));
    // From scratch the encoder is trained at the full rate, whatever the run's own is.
    let rate =
        "--set finetune.mode=full --set finetune.encoder_rate=0 --set evaluate.baselines=[\"scratch\"]";
    folder.succeed(&format!("evaluate compact-task --force {VERDICT} {rate}"));
    let header =
        header(&folder, "compact-task/evaluate/verdict/scratch/labels-2/finetune/checkpoint.safetensors");
    assert!(header.contains("from_scratch") && !header.contains("encoder_rate"), "{header}");
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_the_first_result_is_touched() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SMALL} --set pretrain.epochs=1 --out a"));
    let none = "--set evaluate.baselines=[]";
    folder.succeed(&format!("evaluate a {VERDICT} {none}"));
    let before = folder.read("a/evaluate/summary.json");
    for (setting, parts) in [
        (
            "--set finetune.head=conv --set extract.layers=[\"block1\",\"block2\"]",
            ["finetune.head", "block1+block2"],
        ),
        ("--set extract.layers=[\"block7\"]", ["extract.layers", "block7"]),
        ("--set evaluate.layers=[\"block7\"]", ["evaluate.layers", "block7"]),
        ("--set evaluate.validation_images=0", ["evaluate.validation_images", "held out"]),
        ("--set data.labels_per_class=9", ["data.labels_per_class", "9 images"]),
    ] {
        folder.refuse(&format!("evaluate a --force {VERDICT} {setting}"), 2, &parts);
        assert!(folder.read("a/evaluate/summary.json") == before, "{setting}");
    }
}

#[test]
fn convolutions_see_the_images_of_the_other_probes_and_the_test_set_is_opened_last() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SMALL} --set pretrain.epochs=1 --set data.validation_images=15 --out a"));
    // Of the first 30 images some are held out, and augmentation is for images alone.
    let settings = "--set evaluate.train_images=30 --set evaluate.heads=[\"ridge\",\"conv\"] \
                    --set finetune.mode=full --set finetune.augment={\"crop_padding\":2}";
    folder.succeed(&format!("evaluate a {VERDICT} {settings}"));
    let summary = folder.json("a/evaluate/summary.json");
    let conv = "a/evaluate/conv/block1/finetune";
    let header = header(&folder, &format!("{conv}/checkpoint.safetensors"));
    assert!(header.contains(summary["split"].as_str().unwrap()), "{header}");
    let labels = folder.json(&format!("{conv}/summary.json"))["labels"].clone();
    let fitted = format!("features of {labels} labeled training images");
    assert!(summary["protocol"].as_str().unwrap().contains(&fitted), "{}", summary["protocol"]);

    let arms =
        ["pretrained", "random", "scratch"].map(|arm| format!("a/evaluate/verdict/{arm}/labels-2/finetune"));
    let time = |stage: &str, file: &str| {
        fs::metadata(folder.path(&format!("{stage}/{file}.safetensors"))).unwrap().modified().unwrap()
    };
    let all: Vec<&str> = arms.iter().map(String::as_str).chain([conv]).collect();
    let trained = all.iter().map(|stage| time(stage, "checkpoint")).max().unwrap();
    let tested = all.iter().map(|stage| time(stage, "predictions")).min().unwrap();
    assert!(trained < tested);
}

#[test]
fn held_out_images_are_those_of_the_checkpoint_whatever_a_later_config_says() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    folder.succeed("finetune --out a --quiet --force --set data.validation_images=15");
    folder.succeed(&format!("evaluate a {VERDICT} --set evaluate.baselines=[]"));
    assert!(folder.json("a/evaluate/summary.json")["rotation"]["validation"].is_null());
    folder.succeed("report a --quiet --data data --out page.html");
    let page = String::from_utf8(folder.read("page.html")).unwrap();
    assert!(!page.contains("(not trained on)") && page.contains("training images of"));

    folder.succeed(&format!("run {SHORT} --set data.validation_images=15 --out b"));
    folder.succeed("finetune --out b --quiet --force --set data.validation_images=0");
    folder.succeed(&format!("evaluate b {VERDICT} --set evaluate.baselines=[]"));
    assert_eq!(folder.json("b/evaluate/summary.json")["rotation"]["validation"]["images"], 15);
}

#[test]
fn a_classifier_may_be_chosen_with_the_test_set_closed_and_tested_later() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --set data.validation_images=10 --out a"));
    folder.succeed("extract --out a --quiet");
    let closed = folder.succeed("finetune --out a --quiet --no-test");
    let last = closed.stdout.lines().last().unwrap().to_owned();
    assert!(last.starts_with("Validation accuracy: "), "{last}");
    let summary = folder.json("a/finetune/summary.json");
    for key in ["test_accuracy", "test", "statistics"] {
        assert!(summary.get(key).is_none(), "{key}");
    }
    assert!(summary["protocol"].as_str().unwrap().contains("test set not opened"));
    assert_eq!(last, format!("Validation accuracy: {:.4}", summary["validation_accuracy"].as_f64().unwrap()));
    assert_eq!(folder.json("a/run.json")["test_evaluations"], 0);
    assert!(!folder.path("a/finetune/predictions.safetensors").exists());
    // What reads summaries copes.
    folder.succeed("report a --quiet --data data --out page.html");
    assert!(folder.succeed("verify run a --quiet").stdout.contains("finetune: all"));
    let test = folder.succeed("finetune --out a --quiet --resume");
    assert!(test.stdout.lines().last().unwrap().starts_with("Test accuracy: "));
    let tested = folder.json("a/finetune/summary.json");
    assert_eq!(tested["checkpoint"], summary["checkpoint"]);
    assert_eq!(folder.json("a/run.json")["test_evaluations"], 1);
    // The same as in one go; and what was tested stays tested.
    folder.succeed(&format!("run {SHORT} --set data.validation_images=10 --out b"));
    assert!(
        folder.read("a/finetune/predictions.safetensors")
            == folder.read("b/finetune/predictions.safetensors")
    );
    let before = folder.read("a/finetune/summary.json");
    folder.succeed("finetune --out a --quiet --resume --no-test");
    assert!(folder.read("a/finetune/summary.json") == before);
    assert!(folder.succeed("compare a b").stdout.contains("against"));
    folder.succeed("finetune --out b --quiet --force --no-test --set finetune.epochs=1");
    assert!(folder.succeed("compare a b").stdout.contains("b holds no test predictions"));
}

#[test]
fn from_scratch_a_recipe_of_a_pretrained_encoder_trains_at_the_full_rate() {
    let folder = Folder::with_data();
    let compact = "--set encoder.kind=compact --set encoder.widths=[4,4] --set encoder.pools=[true,true]";
    let settings = SHORT.replace("--data data", "").replace("--quiet", "");
    let half = "--set finetune.mode=full --set finetune.encoder_rate=0.5";
    let config = folder.succeed(&format!("config show {settings} {compact} {half}")).stdout;
    fs::write(folder.path("half.json"), config).unwrap();
    let scratch = "finetune --config half.json --data data --quiet --from-scratch";
    folder.succeed(&format!("{scratch} --out a"));
    folder.succeed(&format!("{scratch} --set finetune.encoder_rate=1 --out b"));
    let file = "finetune/checkpoint.safetensors";
    assert!(folder.read(&format!("a/{file}")) == folder.read(&format!("b/{file}")));
    folder.refuse(
        &format!("{scratch} --set finetune.encoder_rate=0.5 --out c"),
        2,
        &["finetune.encoder_rate", "must be 1 with finetune.from_scratch"],
    );
}
