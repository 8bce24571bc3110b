//! `evaluate`, `sweep` and `compare`.

use std::fs;

use serde_json::Value;

use crate::images;
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
    let outcome = folder.succeed(&format!("evaluate a {PROBES}"));
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
    folder.refuse(&format!("evaluate a {PROBES}"), 1, &["a/evaluate", "--force"]);
    folder.succeed(&format!("evaluate a {PROBES} --resume"));
    let again = folder.json("a/evaluate/summary.json");
    assert_eq!(again["probes"], summary["probes"]);
    assert_eq!(again["test_evaluations"], summary["test_evaluations"]);

    // Probes that are fitted otherwise are other numbers, the same ones again are not.
    let looks = |options: &str| {
        let only =
            "--set evaluate.baselines=[] --set evaluate.heads=linear --set evaluate.layers=block2 --force";
        folder.succeed(&format!("evaluate a {PROBES} {only} {options}"));
        folder.json("a/run.json")["test_evaluations"].as_u64().unwrap()
    };
    let first = looks("--set evaluate.epochs=3");
    assert_eq!(looks("--set evaluate.epochs=3"), first);
    assert_eq!(looks("--set evaluate.epochs=4"), first + 1);
    assert_eq!(looks("--set evaluate.epochs=4 --set evaluate.train_images=30"), first + 2);
}

/// Pretraining saw the images without labels, too.
#[test]
fn from_scratch_is_trained_on_as_many_images_as_pretraining_saw() {
    let folder = images::with_photos();
    folder.succeed(&format!("run {} --data photos --out a", images::SHORT));
    let summary = folder.json("a/pretrain/summary.json");
    assert_eq!((summary["images"].as_u64(), summary["epochs"].as_u64()), (Some(32), Some(2)));
    let options =
        "--set evaluate.heads=[] --set evaluate.baselines=scratch --set evaluate.labels_per_class=0";
    folder.succeed(&format!("evaluate a --quiet {options}"));
    let scratch = folder.json("a/evaluate/verdict/scratch/labels-all/finetune/summary.json");
    // Two epochs of 32 images in four rotations, over 24 labels.
    assert_eq!(scratch["epochs"].as_u64(), Some((2 * 4 * 32_u64).div_ceil(24)));
}

#[test]
fn as_many_labels_as_every_class_has_are_no_more_than_it_has() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let counts = |labels: &str| {
        let options =
            "--set evaluate.heads=[] --set evaluate.baselines=random --set evaluate.most_epochs=2 --force";
        folder.succeed(&format!("evaluate a --quiet {options} --set evaluate.labels_per_class={labels}"));
        folder.json("a/evaluate/summary.json")["verdict"]["counts"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(["5", "5,0", "6"].map(counts), [1, 1, 0]);
}

#[test]
fn nothing_is_chosen_on_the_test_set() {
    let folder = Folder::with_data();
    let probes = format!("{PROBES} --set evaluate.baselines=[]");
    folder.succeed(&format!("run {SHORT} --out a"));
    folder.succeed(&format!("evaluate a {probes}"));
    let file = folder.path("data/cifar-10-batches-bin/test_batch.bin");
    let mut bytes = fs::read(&file).unwrap();
    // Every image another class, and upside down.
    for record in bytes.chunks_exact_mut(crate::support::RECORD) {
        record[0] = (record[0] + 3) % 10;
        record[1..].reverse();
    }
    fs::write(&file, bytes).unwrap();
    folder.succeed(&format!("evaluate a {probes} --force"));
    folder.succeed(&format!("run {SHORT} --out b"));
    folder.succeed(&format!("evaluate b {probes} --json"));
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
    folder.succeed(&format!("evaluate a {PROBES} {some} --set evaluate.baselines=[]"));
    let summary = folder.json("a/evaluate/summary.json");
    assert_eq!(keys(&summary["probes"], &["layer", "head", "features"]).len(), 1);
    assert_eq!(summary["probes"][0]["features"], 4 * 4 * 64);
    assert!(summary["rotation"]["validation"]["accuracy"].is_number());
    assert!(summary["verdict"].is_null());

    let refuse = |setting: &str, parts: &[&str]| {
        folder.refuse(&format!("evaluate a --force --set {setting}"), 2, parts);
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
    folder.succeed(&format!("evaluate a {PROBES} {some} {arms}"));
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
    folder.succeed(&format!("config show {settings}"));
    let base = folder.succeed(&format!("config show {settings}")).stdout;
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
    folder.refuse("compare a nowhere", 1, &["nowhere", "is not a run"]);
    folder.refuse("compare a data", 1, &["data", "is not a run"]);
    assert_eq!(folder.rotnet("compare a").code, 2);
}
