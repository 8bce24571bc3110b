//! What `run` does without a config: the recipe that suits, and the comparison at its end.

use serde_json::Value;

use crate::support::{Folder, assert_same_results};

/// The quickstart on fewer images and for fewer epochs.
const SHORT: &str = "run --quiet --set data.train_images=400 --set pretrain.epochs=1 --set evaluate.most_epochs=12 \
                     --set save.every_steps=2";

/// The arms of the verdict by name.
fn accuracies(summary: &Value) -> Vec<(&str, f64)> {
    let arms = summary["verdict"]["counts"][0]["arms"].as_array().unwrap();
    arms.iter().map(|arm| (arm["name"].as_str().unwrap(), arm["test_accuracy"].as_f64().unwrap())).collect()
}

#[test]
fn the_first_command_shows_what_pretraining_is_worth() {
    let folder = Folder::new();
    let outcome = folder.succeed("run");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let summary = folder.json("runs/quickstart/evaluate/summary.json");
    let [("pretrained", pretrained), ("random", random), ("scratch", scratch)] = accuracies(&summary)[..]
    else {
        panic!("{summary}");
    };
    assert!(pretrained > scratch + 0.1 && pretrained > random + 0.1, "{summary}");
    assert_eq!(*lines.last().unwrap(), format!("Test accuracy: {pretrained:.4}"));
    assert!(lines[lines.len() - 2].starts_with("Pretraining helped: with all 100 labels"), "{lines:?}");
    let shown = |name: &str, accuracy: f64| {
        let holds = |line: &&&str| {
            line.trim_start().starts_with(name) && line.contains(&format!("  100     {accuracy:.4} "))
        };
        assert_eq!(lines.iter().filter(holds).count(), 1, "{name}: {lines:?}");
    };
    shown("pretrained on rotations", pretrained);
    shown("the same network, untrained", random);
    shown("the same network, trained on these labels alone", scratch);
    assert!(outcome.stderr.contains("recipe `quickstart`"), "{}", outcome.stderr);

    // The classifier of the run is that of the comparison, and counts once.
    let tested =
        |folder: &Folder| folder.json("runs/quickstart/run.json")["tested"].as_array().unwrap().len();
    assert_eq!(tested(&folder), 4);
    let again = folder.succeed("run --resume --quiet --json");
    let result: Value = serde_json::from_str(&again.stdout).unwrap();
    assert_eq!(accuracies(&result["evaluate"]), accuracies(&summary));
    assert_eq!(tested(&folder), 4);
}

#[test]
fn a_kill_within_the_comparison_changes_nothing() {
    let folder = Folder::new();
    let end = |text: &str| text.lines().skip(2).map(str::to_owned).collect::<Vec<_>>();
    let whole = end(&folder.succeed(&format!("{SHORT} --threads 1 --out whole")).stdout);
    assert!(whole.len() > 4 && whole[whole.len() - 1].starts_with("Test accuracy: "), "{whole:?}");
    for (run, file) in [
        ("a", "verdict/random/features/manifest.json"),
        ("b", "verdict/scratch/labels-all/finetune/metrics.jsonl"),
        ("c", "verdict/scratch/labels-all/finetune/summary.json"),
    ] {
        let mut running = folder.start(&format!("{SHORT} --threads 2 --out {run}"));
        running.wait_for(&folder.path(&format!("{run}/evaluate/{file}")));
        running.signal("KILL");
        running.finish();
        assert!(!folder.path(&format!("{run}/evaluate/summary.json")).exists());
        let resumed = folder.succeed(&format!("{SHORT} --threads 2 --resume --out {run}")).stdout;
        assert_eq!(end(&resumed), whole, "{run}");
        assert_same_results(&folder, "whole", run);
        let evaluated = |run: &str| folder.without_times(&format!("{run}/evaluate/summary.json"));
        assert_eq!(evaluated(run), evaluated("whole"), "{run}");
        let scratch = "evaluate/verdict/scratch/labels-all/finetune/checkpoint.safetensors";
        assert!(folder.read(&format!("{run}/{scratch}")) == folder.read(&format!("whole/{scratch}")));
    }
}

#[test]
fn the_stages_and_evaluate_one_by_one_do_what_the_first_command_does() {
    let folder = Folder::new();
    folder.succeed(&format!("{SHORT} --out whole"));
    folder.succeed(&format!("{} --out parts", SHORT.replace("run", "pretrain")));
    for command in ["extract --out parts", "finetune --out parts", "evaluate parts"] {
        folder.succeed(&format!("{command} --quiet"));
    }
    assert_same_results(&folder, "whole", "parts");
    let [whole, parts] =
        ["whole", "parts"].map(|run| folder.without_times(&format!("{run}/evaluate/summary.json")));
    assert_eq!(whole, parts);
}

#[test]
fn data_that_is_named_is_not_what_the_quickstart_is_for() {
    let folder = Folder::with_data();
    let shown = |options: &str| {
        let outcome = folder.succeed(&format!("config show {options}"));
        let config: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let [encoder, data] = ["encoder", "data"].map(|key| config[key]["kind"].as_str().unwrap().to_owned());
        let note = outcome.stderr.strip_prefix("note: ").unwrap_or_default().to_owned();
        (encoder, data, config["evaluate"]["after_run"] == true, note)
    };
    for (options, wanted, recipe) in [
        ("", ("compact", "scenes", true), "recipe `quickstart`"),
        ("--data data", ("keras", "cifar10", false), "recipe `keras-scaled`"),
        ("--set data.kind=scenes", ("keras", "scenes", false), "recipe `keras-scaled`"),
    ] {
        let (encoder, data, after_run, note) = shown(options);
        assert_eq!((encoder.as_str(), data.as_str(), after_run), wanted, "{options}");
        assert!(note.contains(recipe), "{options}: {note}");
    }
    assert_eq!(shown("keras").3, "");
    // A file of that name is not asked.
    std::fs::write(folder.path("quickstart"), "{}").unwrap();
    assert_eq!(shown("").0, "compact");
    let short = "--quiet --set pretrain.epochs=1 --set finetune.epochs=1";
    folder.succeed(&format!("run --data data {short}"));
    assert!(folder.path("runs/keras-scaled/finetune/summary.json").exists());
    assert!(!folder.path("runs/quickstart").exists() && !folder.path("runs/keras-scaled/evaluate").exists());
}
