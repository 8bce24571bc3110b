//! Sweeps of several processes in one directory.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::pipeline::SHORT;
use crate::support::Folder;

const SWEEP: &str = r#"{"config": "base.json", "grid": {"finetune.epochs": [1, 2], "data.labels_per_class": [1, 3]},
                       "seeds": [1, 2]}"#;
const COMMAND: &str = "sweep sweep.json --data data --set data.validation_images=10 --quiet";

fn folder() -> Folder {
    let folder = Folder::with_data();
    let settings = SHORT.replace("--data data", "").replace("--seed 3", "");
    let base = folder.succeed(&format!("config show {settings}")).stdout;
    fs::write(folder.path("base.json"), base).unwrap();
    fs::write(folder.path("sweep.json"), SWEEP).unwrap();
    folder
}

fn without_times(mut summary: Value) -> Value {
    for run in summary["runs"].as_array_mut().unwrap() {
        for key in ["seconds", "shared_seconds", "encoder"] {
            run[key] = Value::Null;
        }
    }
    summary
}

/// Asserts that both sweeps left the same results.
fn assert_same(folder: &Folder, one: &str, other: &str) {
    let [first, second] = [one, other].map(|out| folder.json(&format!("{out}/summary.json")));
    for run in first["runs"].as_array().unwrap() {
        for file in ["finetune/checkpoint.safetensors", "finetune/predictions.safetensors"] {
            let [one, other] = [one, other]
                .map(|out| folder.path(&format!("{out}/{}/{file}", run["name"].as_str().unwrap())));
            assert_eq!(one.exists(), other.exists(), "{other:?}");
            assert!(
                !one.exists() || fs::read(&one).unwrap() == fs::read(&other).unwrap(),
                "{other:?} differs"
            );
        }
    }
    assert_eq!(without_times(first), without_times(second));
    assert!(!folder.path(&format!("{other}/claims")).exists());
}

#[test]
fn four_processes_share_the_runs_and_kills_lose_none() {
    let folder = folder();
    folder.succeed(&format!("{COMMAND} --out alone --test"));

    let together: Vec<_> =
        (0..4).map(|_| folder.start(&format!("{COMMAND} --out together --test"))).collect();
    for process in together {
        let outcome = process.finish();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    }
    assert_same(&folder, "alone", "together");
    for run in folder.json("together/summary.json")["runs"].as_array().unwrap() {
        let record = folder.json(&format!("together/{}/run.json", run["name"].as_str().unwrap()));
        let finished = record["history"].as_array().unwrap().iter().map(|entry| &entry["work"]);
        // Trained once, then tested once.
        assert_eq!(finished.collect::<Vec<_>>(), ["finetune", "finetune"]);
        assert_eq!(record["test_evaluations"], 1);
    }

    let mut killed: Vec<_> =
        (0..4).map(|_| folder.start(&format!("{COMMAND} --out killed --test"))).collect();
    for (index, delay) in [(0, 150), (1, 300), (2, 250)] {
        std::thread::sleep(Duration::from_millis(delay));
        killed[index].signal("KILL");
    }
    let last = killed.pop().unwrap().finish();
    assert_eq!(last.code, 0, "{}", last.stderr);
    killed.into_iter().for_each(|process| drop(process.finish()));
    assert_same(&folder, "alone", "killed");
}

#[test]
fn parts_of_a_sweep_make_the_whole_and_leave_the_test_set_closed() {
    let folder = folder();
    let names: Vec<String> =
        serde_json::from_str(&folder.succeed(&format!("{COMMAND} --dry-run --json")).stdout).unwrap();
    folder.succeed(&format!("{COMMAND} --out parts --shard 2/3"));
    let summary = folder.json("parts/summary.json");
    assert_eq!((&summary["planned"], &summary["done"]), (&8.into(), &3.into()));
    assert_eq!(summary["runs"][0]["name"], names[1].as_str());
    folder.succeed(&format!("{COMMAND} --out parts --only {},{}", names[0], names[1]));
    assert_eq!(folder.json("parts/summary.json")["done"], 4);
    for (part, problem) in [
        ("--shard 4/3", "1/4"),
        ("--shard 0/3", "1/4"),
        ("--only nothing", "no such run"),
        ("--shard 1/2 --test", "cannot open the test set"),
        ("--shard 1/2 --only a", "cannot be used with"),
    ] {
        let outcome = folder.rotnet(&format!("{COMMAND} --out parts {part}"));
        assert!(outcome.code == 2 && outcome.stderr.contains(problem), "{part}: {}", outcome.stderr);
    }
    folder.succeed(&format!("{COMMAND} --out parts --test"));
    folder.succeed(&format!("{COMMAND} --out alone --test"));
    assert_same(&folder, "alone", "parts");
}
