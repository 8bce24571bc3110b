//! The page about runs, and TensorBoard's files.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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

/// The files that the links of a page hold, by the names under which they are saved. No link leads elsewhere.
fn saved(html: &str) -> Vec<(String, String)> {
    let link = |link: &str| {
        let name = link.split_once("download=\"").unwrap().1.split_once('"').unwrap().0;
        let address = link.split_once("href=\"").unwrap().1.split_once('"').unwrap().0;
        let (kind, encoded) = address.split_once(";charset=utf-8;base64,").unwrap();
        assert_eq!(kind, if name.ends_with(".svg") { "data:image/svg+xml" } else { "data:text/csv" });
        (name.to_owned(), String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap())
    };
    html.split("<a ").skip(1).map(link).collect()
}

/// The lines of a CSV file on the page, cells separated.
fn table(html: &str, name: &str) -> Vec<Vec<String>> {
    let files = saved(html);
    let (_, text) = files.iter().find(|(file, _)| file == name).unwrap_or_else(|| panic!("{name}"));
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    reader.records().map(|line| line.unwrap().iter().map(str::to_owned).collect()).collect()
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
        "Pretraining: learning rate",
        "Classifier: speed",
        "Accuracy beside baselines",
        "<code>rotnet evaluate 'a&lt;b&gt;'</code>",
        "Where it comes from",
    ];
    let html = page(&folder, "a<b>/report.html", &parts);
    // Every drawing can be saved as it is, every figure with numbers as a table.
    let files = saved(&html);
    let drawings = files.iter().filter(|(name, _)| name.ends_with(".svg"));
    assert_eq!(drawings.clone().count(), html.matches("<svg role=\"img\"").count());
    assert!(drawings.clone().all(|(_, text)| text.starts_with("<svg xmlns=") && !text.contains("var(")));
    assert_eq!(files.len() - drawings.count(), html.matches("<figure>").count() - 1);
    let metrics = String::from_utf8(folder.read("a<b>/pretrain/metrics.jsonl")).unwrap();
    let epochs: Vec<serde_json::Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (key, name, title) in [
        ("learning_rate", "learning-rate", "learning rate of the last step"),
        ("images_per_second", "speed", "images trained on per second"),
    ] {
        let lines = table(&html, &format!("pretraining-{name}.csv"));
        assert_eq!(lines[0], ["line", "epoch", title]);
        for (line, epoch) in lines[1..].iter().zip(&epochs) {
            assert_eq!(line[2].parse::<f64>().unwrap(), epoch[key].as_f64().unwrap());
        }
    }
    let beside = table(&html, "accuracy-beside-baselines.csv");
    assert_eq!(
        beside.iter().map(|line| &line[0][..]).collect::<Vec<_>>(),
        ["classifier", "this run", "chance"]
    );
    assert_eq!(beside[2][1], "0.1");
    let record = folder.json("a<b>/run.json");
    let execution = &record["history"][0];
    for part in
        [&record["dataset"]["fingerprint"], &execution["started"], &execution["environment"]["rotnet"]]
    {
        assert!(html.contains(part.as_str().unwrap()), "{part}");
    }
    assert!(html.contains("--out 'a&lt;b&gt;'"));
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

    let at_once =
        format!("{SHORT} --set pretrain.epochs=0 --set finetune.head=ridge --set finetune.hidden=[]")
            .replacen("--set pretrain.epochs=2 ", "", 1);
    folder.succeed(&format!("run {at_once} --out at-once"));
    folder.succeed("report at-once");
    page(&folder, "at-once/report.html", &["pretrain: not trained; finetune: solved at once"]);

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
    let html = page(&folder, "a/report.html", &parts);
    let beside = table(&html, "accuracy-beside-baselines.csv");
    let summary = folder.json("a/evaluate/summary.json");
    let counts = summary["verdict"]["counts"].as_array().unwrap();
    let untrained = &counts.last().unwrap()["arms"][1];
    // The comparison's own classifier is the run's to the byte, and not shown again.
    assert_eq!((&beside[1][0][..], &untrained["name"]), ("this run", &"random".into()));
    assert_eq!((beside.len(), &beside[2][0][..], &beside[3][0][..]), (4, "untrained encoder", "chance"));
    assert_eq!(beside[2][1].parse::<f64>().unwrap(), untrained["test_accuracy"].as_f64().unwrap());
    assert!(!html.contains("is not known yet"));
}

/// A sweep that is quick, from `sweep.json` as given, with two images a class held out.
fn sweep(folder: &Folder, file: &str, options: &str) {
    let settings = SHORT.replace("--data data", "").replace("--seed 3", "");
    let base = folder.succeed(&format!("config show {settings}")).stdout;
    fs::write(folder.path("base.json"), base).unwrap();
    fs::write(folder.path("sweep.json"), file).unwrap();
    let held_out = "--set data.validation_images=10 --quiet";
    folder.succeed(&format!("sweep sweep.json --data data --out s {held_out} {options}"));
}

#[test]
fn a_sweep_is_drawn_over_the_numbers_it_varies() {
    let folder = Folder::with_data();
    sweep(
        &folder,
        r#"{"description": "labels <and> arms", "config": "base.json", "label_draws": [0, 1], "variants": {
            "ridge, <b>-1": {"data.labels_per_class": 1, "finetune.head": "ridge", "finetune.hidden": null},
            "ridge, <b>-3": {"like": "ridge, <b>-1", "data.labels_per_class": 3},
            "linear-1": {"data.labels_per_class": 1}, "linear-3": {"data.labels_per_class": 3}}}"#,
        "--test",
    );
    let result: serde_json::Value =
        serde_json::from_str(&folder.succeed("report s --json --quiet").stdout).unwrap();
    assert_eq!((&result["notes"], result["runs"].as_array().unwrap().len()), (&serde_json::json!([]), 8));
    let parts = [
        "labels &lt;and&gt; arms",
        "8 of 8 runs are done",
        "labels a class (logarithmic)",
        "test accuracy (%)",
        "ridge, &lt;b&gt;",
        "All settings",
        "Where it comes from",
        "finetune (16 times)",
        "What differs",
    ];
    let html = page(&folder, "s/report.html", &parts);
    assert!(!html.contains("<b>"));
    let summary = folder.json("s/summary.json");
    let lines = table(&html, "accuracy-by-settings.csv");
    assert_eq!(lines[0][..3], ["line", "labels a class", "test accuracy (share, 0 to 1)"]);
    let names: Vec<(&str, &str)> = lines[1..].iter().map(|line| (&line[0][..], &line[1][..])).collect();
    assert_eq!(names, [("ridge, <b>", "1"), ("ridge, <b>", "3"), ("linear", "1"), ("linear", "3")]);
    for (line, group) in lines[1..].iter().zip(summary["groups"].as_array().unwrap()) {
        for (cell, key) in [(2, "mean"), (3, "deviation"), (4, "runs")] {
            assert_eq!(line[cell].parse::<f64>().unwrap(), group["test"][key].as_f64().unwrap());
        }
    }
    folder.succeed("report s --quiet --threads 1 --out again.html");
    assert_eq!(folder.read("again.html"), folder.read("s/report.html"));
    // A single run of it is a run like others, and a summary that cannot be read does not hide the runs.
    let run = summary["runs"][0]["name"].as_str().unwrap().to_owned();
    folder.succeed(&format!("report s/{run} --quiet --out run.html"));
    page(&folder, "run.html", &["Confusion"]);
    fs::write(folder.path("s/summary.json"), "{").unwrap();
    folder.succeed("report s --quiet --out runs.html");
    page(&folder, "runs.html", &["8 runs", "Note: ", "summary.json"]);
}

#[test]
fn a_sweep_without_numbers_is_a_line_of_dots_each() {
    let folder = Folder::with_data();
    sweep(
        &folder,
        r#"{"config": "base.json", "seeds": [1, 2], "variants": {"frozen": {},
            "wild": {"finetune.epochs": 20, "finetune.optimizer.kind": "sgd", "finetune.optimizer.momentum": 0,
                "finetune.optimizer.learning_rate": 10, "finetune.optimizer.weight_decay": 1}}}"#,
        "",
    );
    folder.succeed("report s --quiet");
    let html =
        page(&folder, "s/report.html", &["validation accuracy (%)", "(2 failed)", "Warning: ", "2 runs"]);
    let lines = table(&html, "accuracy-by-settings.csv");
    assert_eq!((lines.len(), &lines[1][0][..], &lines[1][3][..]), (2, "frozen", "2"));
    assert!(html.contains("1 of the settings have no result"));
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

#[test]
fn only_a_page_is_replaced_by_a_page() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    let checkpoint = folder.read("a/pretrain/checkpoint.safetensors");
    folder.refuse("report a --out a/pretrain/checkpoint.safetensors", 2, &["is no page of this program"]);
    assert_eq!(folder.read("a/pretrain/checkpoint.safetensors"), checkpoint);
    folder.succeed("report a");
    folder.succeed("report a");
}
