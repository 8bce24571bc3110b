//! `evaluate`, `sweep` and `compare`.

use std::fs;

use serde_json::Value;

use crate::pipeline::SHORT;
use crate::support::Folder;

/// Probes small enough for 50 images.
const PROBES: &str = "--quiet --set evaluate.validation_images=10 --set evaluate.knn_neighbours=[1,5] \
                      --set evaluate.baselines=[\"random\",\"scratch\"] --set evaluate.epochs=2 --set evaluate.batch_size=8 --set evaluate.hidden=[8] \
                      --set evaluate.labels_per_class=[2,0,4000]";

fn keys<'a>(probes: &'a Value, names: &[&str]) -> Vec<Vec<&'a Value>> {
    let probes = probes.as_array().unwrap().iter();
    probes.map(|probe| names.iter().map(|name| &probe[*name]).collect()).collect()
}

#[test]
fn evaluate_fills_the_matrix_and_compares_with_an_untrained_encoder() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let outcome = folder.succeed(&format!("evaluate --run a {PROBES}"));
    assert!(outcome.stdout.contains("turned by") && outcome.stdout.contains("gain of pretraining"));
    let summary = folder.json("a/evaluate/summary.json");

    let cells = keys(&summary["probes"], &["layer", "head"]);
    assert_eq!(cells.len(), 4 * 4);
    assert_eq!(cells[12], [&Value::from("block1+block2+block3"), &Value::from("knn")]);
    for probe in summary["probes"].as_array().unwrap() {
        let [low, high] = [0, 1].map(|end| probe["test_interval"][end].as_f64().unwrap());
        let accuracy = probe["test_accuracy"].as_f64().unwrap();
        assert!(low <= accuracy && accuracy <= high && (accuracy * 20.0).fract() == 0.0, "{probe}");
    }
    let most = keys(&summary["probes"], &["validation_accuracy"]);
    let most = most.iter().map(|cell| cell[0].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(summary["best"]["validation_accuracy"], most);

    let rotation = &summary["rotation"]["test"];
    let confusion: Vec<Vec<u64>> = serde_json::from_value(rotation["confusion"].clone()).unwrap();
    assert!(confusion.iter().all(|row| row.iter().sum::<u64>() == 20));
    let right: u64 = (0..4).map(|turns| confusion[turns][turns]).sum();
    assert_eq!(rotation["accuracy"].as_f64().unwrap(), right as f64 / 80.0);

    let counts = summary["verdict"]["counts"].as_array().unwrap();
    let labels: Vec<u64> = counts.iter().map(|count| count["labels"].as_u64().unwrap()).collect();
    assert_eq!(labels, [20, 50]);
    for count in counts {
        let [own, random] = [0, 1].map(|arm| count["arms"][arm]["test_accuracy"].as_f64().unwrap());
        let gain = count["arms"][1]["gain"]["difference"].as_f64().unwrap();
        assert!((gain - (own - random)).abs() < 1e-9);
        assert_eq!(count["arms"][2]["name"], "scratch");
    }
    // Two epochs of 50 images in four rotations are 8 passes over them, or 20 over 20.
    let passes =
        |labels: &str| folder.json(&format!("a/evaluate/verdict/scratch/{labels}/finetune/summary.json"));
    assert_eq!(passes("labels-all")["epochs"], 8);
    assert_eq!(passes("labels-2")["epochs"], 20);
    assert!(passes("labels-2")["protocol"].as_str().unwrap().contains("from scratch"));
    let (all, whole) = (&counts[1]["arms"][0], folder.json("a/finetune/summary.json"));
    assert_eq!(all["test_accuracy"], whole["test_accuracy"]);

    // The run's own classifier, rotations, 16 probes, and 6 classifiers of the verdict, of which one is the run's own.
    let record = folder.json("a/run.json");
    assert_eq!(record["test_evaluations"], 1 + 1 + 16 + 5);
    let purposes = keys(&record["tested"], &["purpose"]);
    let count = |start: &str| purposes.iter().filter(|p| p[0].as_str().unwrap().starts_with(start)).count();
    assert_eq!(count("finetune: frozen encoder, dense classifier"), 1);
    assert_eq!(count("evaluate: rotation accuracy"), 1);
    assert_eq!(count("evaluate: probe block2 knn"), 1);
    assert_eq!(count("evaluate: verdict, scratch with 2 labels a class"), 1);
    assert_eq!(count("evaluate: "), 1 + 16 + 5);
    folder.succeed("report a --quiet --data data --out page.html");
    let page = String::from_utf8(folder.read("page.html")).unwrap();
    assert!(page.contains("evaluate: verdict, scratch with 2 labels a class"));
    assert!(folder.temporary_files().is_empty());
    folder.refuse(&format!("evaluate --run a {PROBES}"), 1, &["a/evaluate", "--force"]);
    folder.succeed(&format!("evaluate --run a {PROBES} --resume"));
    let again = folder.json("a/evaluate/summary.json");
    assert_eq!(again["probes"], summary["probes"]);
    assert_eq!(again["test_evaluations"], summary["test_evaluations"]);
}

#[test]
fn nothing_is_chosen_on_the_test_set() {
    let folder = Folder::with_data();
    let probes = format!("{PROBES} --set evaluate.baselines=[]");
    folder.succeed(&format!("run {SHORT} --out a"));
    folder.succeed(&format!("evaluate --run a {probes}"));
    let file = folder.path("data/cifar-10-batches-bin/test_batch.bin");
    let mut bytes = fs::read(&file).unwrap();
    // Every image another class, and upside down.
    for record in bytes.chunks_exact_mut(crate::support::RECORD) {
        record[0] = (record[0] + 3) % 10;
        record[1..].reverse();
    }
    fs::write(&file, bytes).unwrap();
    folder.succeed(&format!("evaluate --run a {probes} --force"));
    folder.succeed(&format!("run {SHORT} --out b"));
    folder.succeed(&format!("evaluate --run b {probes} --json"));
    let [a, b] = ["a", "b"].map(|run| folder.json(&format!("{run}/evaluate/summary.json")));
    let decided = ["layer", "head", "chosen", "validation_accuracy"];
    assert_eq!(keys(&a["probes"], &decided), keys(&b["probes"], &decided));
    assert_eq!(a["best"]["head"], b["best"]["head"]);
}

#[test]
fn only_the_blocks_and_heads_asked_for_are_probed_and_bad_wishes_are_named() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --set data.validation_images=10 --out a"));
    let some = "--set evaluate.layers=[\"block2\"] --set evaluate.heads=[\"ridge\"] --set evaluate.views=4";
    folder.succeed(&format!("evaluate --run a {PROBES} {some} --set evaluate.baselines=[]"));
    let summary = folder.json("a/evaluate/summary.json");
    assert_eq!(keys(&summary["probes"], &["layer", "head", "features"]).len(), 1);
    assert_eq!(summary["probes"][0]["features"], 4 * 4 * 64);
    assert!(summary["rotation"]["validation"]["accuracy"].is_number());
    assert!(summary["verdict"].is_null());

    let refuse = |setting: &str, parts: &[&str]| {
        folder.refuse(&format!("evaluate --run a --force --set {setting}"), 2, parts);
    };
    refuse("evaluate.layers=[\"block9\"]", &["block9"]);
    refuse("evaluate.heads=[\"forest\"]", &["evaluate.heads", "forest"]);
    refuse("evaluate.knn_neighbours=[]", &["evaluate.knn_neighbours"]);
    refuse("evaluate.views=2", &["evaluate.views"]);
}

#[test]
fn patches_are_a_baseline_and_convolutions_a_head() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let some = "--set evaluate.layers=[\"block2\"] --set evaluate.heads=[\"ridge\",\"conv\"]";
    let arms = "--set evaluate.baselines=[\"patches\"] --set evaluate.labels_per_class=[0]";
    folder.succeed(&format!("evaluate --run a {PROBES} {some} {arms}"));
    let summary = folder.json("a/evaluate/summary.json");
    let cells = keys(&summary["probes"], &["layer", "head"]);
    assert_eq!(cells.len(), 2);
    assert_eq!(cells[1], [&Value::from("block2"), &Value::from("conv")]);
    assert!(summary["probes"][1]["validation_accuracy"].is_number());
    assert_eq!(summary["verdict"]["counts"][0]["arms"][1]["name"], "patches");
    assert_eq!(folder.json("a/evaluate/verdict/patches/pretrain/config.json")["encoder"]["kind"], "patches");
}

#[test]
fn a_sweep_makes_each_run_once_and_shares_what_runs_have_in_common() {
    let folder = Folder::with_data();
    let settings = SHORT.replace("--data data", "").replace("--seed 3", "").replace("--quiet", "");
    folder.succeed(&format!("config {settings}"));
    let base = folder.succeed(&format!("config {settings}")).stdout;
    fs::write(folder.path("base.json"), base).unwrap();
    fs::write(
        folder.path("labels.json"),
        r#"{"description": "labels", "config": "base.json", "grid": {"data.labels_per_class": [1, 3]},
            "seeds": [1, 2], "label_draws": [0, 1]}"#,
    )
    .unwrap();
    fs::write(
        folder.path("arms.json"),
        r#"{"config": "base.json", "variants": {"frozen": {},
            "scratch": {"finetune.mode": "full", "finetune.from_scratch": true},
            "wild": {"finetune.optimizer.kind": "sgd", "finetune.optimizer.learning_rate": 10}}}"#,
    )
    .unwrap();
    let listed = folder.succeed("sweep labels.json --dry-run --json").stdout;
    let names: Vec<String> = serde_json::from_str(&listed).unwrap();
    assert_eq!(names.len(), 8);
    // Without images held out there is nothing to report, unless the test set is opened for all.
    for closed in ["", "--test best"] {
        let parts = ["data.validation_images", "--test"];
        folder.refuse(&format!("sweep labels.json --data data --out s {closed}"), 2, &parts);
    }
    assert!(!folder.path("s").exists());
    let command = "sweep labels.json --data data --out s --set data.validation_images=10";
    let first = folder.succeed(command);
    assert!(first.stdout.contains("data.labels_per_class"), "{}", first.stdout);
    let closed = folder.json("s/summary.json");
    for run in closed["runs"].as_array().unwrap() {
        assert!(run["validation_accuracy"].is_number() && run["test_accuracy"].is_null(), "{run}");
        let place = format!("s/{}", run["name"].as_str().unwrap());
        assert_eq!(folder.json(&format!("{place}/run.json"))["test_evaluations"], 0);
        assert!(!folder.path(&format!("{place}/finetune/predictions.safetensors")).exists());
    }
    assert!(closed["groups"][0]["test"].is_null() && closed["groups"][0]["validation"]["runs"] == 4);
    // Then for the group that is best on them, then for all; each run once.
    folder.succeed(&format!("{command} --test best"));
    let best = folder.json("s/summary.json");
    let means = [0, 1].map(|group| best["groups"][group]["validation"]["mean"].as_f64().unwrap());
    let chosen = usize::from(means[1] > means[0]);
    assert_eq!(best["groups"][chosen]["test"]["runs"], 4);
    assert!(best["groups"][1 - chosen]["test"].is_null());
    let command = &format!("{command} --test");
    folder.succeed(command);
    let summary = folder.json("s/summary.json");
    assert_eq!((&summary["planned"], &summary["done"]), (&Value::from(8), &Value::from(8)));
    let group = &summary["groups"][1];
    assert_eq!(
        (&group["values"]["data.labels_per_class"], &group["runs"]),
        (&Value::from(3), &Value::from(4))
    );
    let accuracies: Vec<f64> = summary["runs"].as_array().unwrap()[4..]
        .iter()
        .map(|run| run["test_accuracy"].as_f64().unwrap())
        .collect();
    let mean = accuracies.iter().sum::<f64>() / 4.0;
    assert!((group["test"]["mean"].as_f64().unwrap() - mean).abs() < 1e-9);
    for run in summary["runs"].as_array().unwrap() {
        let record = folder.json(&format!("s/{}/run.json", run["name"].as_str().unwrap()));
        assert_eq!(record["test_evaluations"], 1);
        assert_eq!(record["tested"][0]["purpose"], "sweep: after all runs were trained");
    }
    let table = String::from_utf8(folder.read("s/sweep.csv")).unwrap();
    assert_eq!(table.lines().count(), 9);
    // One encoder and one set of features a seed.
    assert_eq!(fs::read_dir(folder.path("s/shared")).unwrap().count(), 4);
    assert!(folder.temporary_files().is_empty());

    // A run that is gone is made again, alone, with the same result.
    let name = summary["runs"][0]["name"].as_str().unwrap();
    fs::remove_dir_all(folder.path(&format!("s/{name}"))).unwrap();
    let second = folder.succeed(command);
    assert_eq!(second.stderr.matches("finished already").count(), 7, "{}", second.stderr);
    let again = folder.json("s/summary.json");
    assert_eq!(again["runs"][0]["test_accuracy"], summary["runs"][0]["test_accuracy"]);
    assert_eq!(again["groups"], summary["groups"]);
    // What trains from scratch pretrains nothing; what diverges is noted, and the others are made.
    let arms = folder.succeed("sweep arms.json --data data --out t --json --test").stdout;
    let arms: Value = serde_json::from_str(&arms).unwrap();
    assert_eq!(arms["done"], 3);
    assert_eq!(fs::read_dir(folder.path("t/shared")).unwrap().count(), 2);
    assert!(arms["runs"][1]["encoder"].is_null() && arms["runs"][1]["test_accuracy"].is_number());
    folder.refuse("sweep labels.json --out s --set finetune.epoch=1", 2, &["epoch"]);
}

#[test]
fn runs_are_compared_image_by_image_where_the_data_are_the_same() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    folder.succeed(
        &format!("run {SHORT} --set finetune.epochs=9 --out b")
            .replace("finetune.epochs=2", "finetune.epochs=9"),
    );
    let json = folder.succeed("compare a b --json").stdout;
    let found: Value = serde_json::from_str(&json).unwrap();
    let accuracy = |run: usize| found["runs"][run]["test_accuracy"].as_f64().unwrap();
    let difference = &found["pairs"][0]["difference"];
    assert!((difference["difference"].as_f64().unwrap() - (accuracy(1) - accuracy(0))).abs() < 1e-9);
    let changed = difference["gained"].as_f64().unwrap() - difference["lost"].as_f64().unwrap();
    assert_eq!(changed / 20.0, difference["difference"].as_f64().unwrap());
    assert_eq!(found["differing"].as_array().unwrap().len(), 1);
    assert_eq!(found["differing"][0]["key"], "finetune.epochs");

    folder.write_data("other");
    let file = folder.path("other/cifar-10-batches-bin/data_batch_1.bin");
    let mut bytes = fs::read(&file).unwrap();
    bytes[5] ^= 1;
    fs::write(&file, bytes).unwrap();
    folder.succeed(&format!("run {} --out c", SHORT.replace("--data data", "--data other")));
    folder.succeed(&format!("pretrain {SHORT} --out d"));
    let text = folder.succeed("compare a b c d").stdout;
    assert!(text.contains("a and c: no test of the difference, the data sets differ"), "{text}");
    assert!(text.contains("d holds no test predictions"), "{text}");
    folder.refuse("compare a nowhere", 1, &["nowhere", "is no run"]);
    folder.refuse("compare a data", 1, &["data", "is no run"]);
    assert_eq!(folder.rotnet("compare a").code, 2);
}

/// Sets what makes a config small, whatever it is.
const SMALL: &str = "--quiet --data data --set data.kind=cifar10 --set pretrain.batch_size=10 \
                     --set finetune.epochs=1 --set finetune.batch_size=10 --set extract.batch_size=10";
/// A verdict with all baselines, and one probe.
const VERDICT: &str = "--quiet --set evaluate.validation_images=10 --set evaluate.heads=[\"ridge\"] \
                       --set evaluate.layers=[\"block1\"] --set evaluate.labels_per_class=[2] \
                       --set evaluate.most_epochs=1 --set evaluate.epochs=1";

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
fn every_shipped_config_goes_through_evaluate() {
    let folder = Folder::with_data();
    let configs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut seen = 0;
    for entry in fs::read_dir(configs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mut small = format!("{SMALL} --config {}", path.display());
        let (encoder, finetune) = (&config["encoder"], &config["finetune"]);
        small += match encoder["kind"].as_str().unwrap() {
            "compact" => " --set encoder.widths=[4,4,4,4,4] --set pretrain.epochs=1",
            "rotnet-nin" => " --set encoder.blocks=3 --set pretrain.epochs=1",
            "patches" => " --set encoder.patches=4",
            _ => " --set pretrain.epochs=1",
        };
        if finetune["hidden"].as_array().is_some_and(|widths| !widths.is_empty()) {
            small += " --set finetune.hidden=[4]";
        }
        if config["data"]["labels_per_class"].is_number() {
            small += " --set data.labels_per_class=3";
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        folder.succeed(&format!("run {small} --out {name}"));
        folder.succeed(&format!("evaluate --run {name} {VERDICT}"));
        let conv = finetune["head"] == "conv";
        let lacking: &[&str] = match (encoder["kind"] == "patches", conv || finetune["mode"] == "full") {
            (true, _) => &["random", "patches", "scratch"],
            (_, true) => &["patches"],
            _ => &[],
        };
        assert_evaluated(&folder, name, lacking, name);
        seen += 1;
    }
    assert_eq!(seen, 11);
}

#[test]
fn every_head_mode_encoder_and_judge_of_epochs_goes_through_evaluate() {
    let folder = Folder::with_data();
    let encoders = [
        ("seed", "--set encoder.kind=seed --set pretrain.epochs=1"),
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
                    let command = format!("evaluate --run {run} --force {VERDICT} {settings}");
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
    folder.succeed(&format!("evaluate --run compact-task --force {VERDICT} {rate}"));
    let config = folder.json("compact-task/evaluate/verdict/scratch/config.json");
    assert!(config["finetune"]["encoder_rate"].is_null(), "{config}");
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_the_first_result_is_touched() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SMALL} --set pretrain.epochs=1 --out a"));
    let none = "--set evaluate.baselines=[]";
    folder.succeed(&format!("evaluate --run a {VERDICT} {none}"));
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
        folder.refuse(&format!("evaluate --run a --force {VERDICT} {setting}"), 2, &parts);
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
    folder.succeed(&format!("evaluate --run a {VERDICT} {settings}"));
    let summary = folder.json("a/evaluate/summary.json");
    let conv = "a/evaluate/conv/block1/finetune";
    let bytes = folder.read(&format!("{conv}/checkpoint.safetensors"));
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
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
    folder.succeed(&format!("evaluate --run a {VERDICT} --set evaluate.baselines=[]"));
    assert!(folder.json("a/evaluate/summary.json")["rotation"]["validation"].is_null());
    folder.succeed("report a --quiet --data data --out page.html");
    let page = String::from_utf8(folder.read("page.html")).unwrap();
    assert!(!page.contains("(not trained on)") && page.contains("training images of"));

    folder.succeed(&format!("run {SHORT} --set data.validation_images=15 --out b"));
    folder.succeed("finetune --out b --quiet --force --set data.validation_images=0");
    folder.succeed(&format!("evaluate --run b {VERDICT} --set evaluate.baselines=[]"));
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
    assert!(folder.succeed("reproduce a --quiet").stdout.contains("finetune: all"));
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
    let config = folder.succeed(&format!("config {settings} {compact} {half}")).stdout;
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
