//! The page about runs, and TensorBoard's files.

use std::fs;

use crate::pipeline::SHORT;
use crate::support::{Folder, assert_same_results};

/// The page at `name`: it must load nothing and hold every one of `parts`.
fn page(folder: &Folder, name: &str, parts: &[&str]) -> String {
    let html = String::from_utf8(folder.read(name)).unwrap();
    for outside in ["http:", "https:", "<script", "<link", "@import", "url("] {
        let namespaces = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!namespaces.contains(outside), "{outside} in {name}");
    }
    for part in parts {
        assert!(html.contains(part), "`{part}` is not in {name}");
    }
    html
}

#[test]
fn a_finished_run_is_shown_with_pictures_and_its_protocol() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --set data.validation_images=20 --out a<b>"));
    let outcome = folder.succeed("report a<b> --json --quiet");
    let result: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(result["notes"], serde_json::json!([]));
    let parts = [
        "Pretraining: loss",
        "Classifier: accuracy",
        "loss (nats)",
        "Rotations and answers",
        "validation images (not trained on)",
        "Confusion",
        "Most confident mistakes",
        "Nearest neighbours",
        "Accuracy by class",
        "Classes of neighbours",
        "First layer",
        "The test set was used once",
        "a&lt;b&gt;",
    ];
    let html = page(&folder, "a<b>/report.html", &parts);
    assert!(!html.contains("a<b>"));
    assert!(html.matches("data:image/png").count() > 60);
    assert!(folder.temporary_files().is_empty());
    let again = folder.succeed("report a<b> --out again.html --threads 1").stdout;
    assert!(again.starts_with("again.html ("), "{again}");
    assert_eq!(String::from_utf8(folder.read("again.html")).unwrap(), html);
}

#[test]
fn half_a_run_and_single_stages_are_shown() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out half"));
    fs::remove_file(folder.path("half/pretrain/summary.json")).unwrap();
    let config = String::from_utf8(folder.read("half/pretrain/config.json")).unwrap();
    fs::write(folder.path("half/pretrain/config.json"), config.replace("\"epochs\": 2", "\"epochs\": 9"))
        .unwrap();
    folder.succeed("report half");
    page(&folder, "half/report.html", &["unfinished", "2 of 9 epochs so far", "Nearest neighbours"]);

    // The classifier alone, on features that lie elsewhere; no data set within reach.
    folder.succeed(&format!("run {SHORT} --out a"));
    folder.succeed(&format!("finetune {SHORT} --features a/features --out classifier"));
    fs::rename(folder.path("data"), folder.path("elsewhere")).unwrap();
    folder.succeed("report classifier --quiet");
    let parts = ["Classifier: loss", "Confusion", "Note: ", "holds no pretrained one"];
    page(&folder, "classifier/report.html", &parts);
    folder.succeed("report a --quiet");
    page(&folder, "a/report.html", &["Confusion", "First layer", "Not all pictures are here"]);
    folder.succeed("report a --quiet --data elsewhere");
    page(&folder, "a/report.html", &["Nearest neighbours"]);

    folder.refuse("report elsewhere", 1, &["elsewhere", "holds no run"]);
    folder.refuse("report nowhere", 1, &["nowhere", "no such directory"]);
    folder.refuse("report a --out missing/page.html", 1, &["missing/page.html"]);
}

#[test]
fn verdict_and_probes_of_an_evaluated_run_are_shown() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let probes = "--quiet --set evaluate.validation_images=10 --set evaluate.heads=[\"ridge\"] \
                  --set evaluate.baselines=[\"random\"] --set evaluate.labels_per_class=[2,0]";
    folder.succeed(&format!("evaluate a {probes}"));
    folder.succeed("report a --quiet");
    let sentence = folder.json("a/evaluate/summary.json")["verdict"]["sentence"].clone();
    let sentence = sentence.as_str().unwrap().split('`').next().unwrap();
    let parts = ["Accuracy by labels", "labels in all (logarithmic)", "Probes by layer", "block3", sentence];
    page(&folder, "a/report.html", &parts);
}

#[test]
fn several_runs_are_laid_side_by_side() {
    let folder = Folder::with_data();
    let once = SHORT.replace("epochs=2", "epochs=1");
    for seed in [3, 4] {
        let seeded = once.replace("--seed 3", &format!("--seed {seed}"));
        folder.succeed(&format!("run {seeded} --out runs/s{seed}"));
    }
    folder.succeed("report runs/s3 runs/s4 --quiet");
    let parts = ["2 runs", "Side by side", "What differs", "<code>seed</code>", "s4, training", "Means"];
    let html = page(&folder, "report.html", &parts);
    assert!(!html.contains("Accuracy by labels"));
    folder.succeed(&format!("run {once} --set data.labels_per_class=2 --out runs/few"));
    folder.succeed("report runs --quiet");
    page(&folder, "runs/report.html", &["3 runs", "Side by side", "Accuracy by labels"]);
}

#[test]
fn event_files_change_nothing_and_a_resumed_one_goes_on() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out plain"));
    folder.succeed(&format!("run {SHORT} --out logged --tensorboard"));
    assert_same_results(&folder, "plain", "logged");
    let events = "pretrain/events.out.tfevents.rotnet";
    assert!(!folder.path(&format!("plain/{events}")).exists());
    let bytes = folder.read(&format!("logged/{events}"));

    let one_epoch = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=1");
    folder.succeed(&format!("pretrain {one_epoch} --out resumed --set tensorboard=true"));
    let first = folder.read(&format!("resumed/{events}"));
    folder.succeed(&format!("pretrain {SHORT} --out resumed --resume --tensorboard"));
    let both = folder.read(&format!("resumed/{events}"));
    assert!(both.starts_with(&first) && both.len() == bytes.len(), "{} {}", both.len(), bytes.len());
    folder.succeed(&format!("pretrain {SHORT} --out resumed --resume --tensorboard"));
    assert_eq!(folder.read(&format!("resumed/{events}")), both);
    folder.succeed(&format!("pretrain {SHORT} --out resumed --force"));
    assert!(!folder.path(&format!("resumed/{events}")).exists());
}
