//! `verify ...`: the commands with which a user checks our promises.

use serde_json::Value;

use crate::pipeline::SHORT;
use crate::support::Folder;

#[test]
fn verify_resume_finds_no_difference_after_kills_and_with_other_threads() {
    let folder = Folder::with_data();
    let command = SHORT.replace("--quiet ", "");
    let outcome = folder.succeed(&format!(
        "verify resume {command} --set data.train_images=40 --set pretrain.batch_size=32 --kills 3 --json"
    ));
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(found["results"].as_array().unwrap().len(), 11);
    let comparisons = found["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 7);
    assert_eq!(comparisons[6]["name"], "shared by 4 ranks");
    assert_eq!(found["golden"], found["golden_shipped"]);
    assert_eq!(comparisons[0]["kills"], 3);
    for comparison in comparisons {
        assert_eq!(comparison["differing"], serde_json::json!([]));
    }
}

#[test]
fn a_run_is_reproduced_and_what_changed_is_named_if_not() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a"));
    let outcome = folder.succeed("verify run a --quiet --threads 1");
    assert_eq!(
        outcome.stdout,
        "pretrain: all 3 results are the same\n\
         extract: all 4 results are the same\n\
         finetune: all 4 results are the same\n"
    );

    // A label of the data set is changed: images stay, the fingerprint and the classifier do not.
    let file = folder.path("data/cifar-10-batches-bin/data_batch_1.bin");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[0] = 9;
    std::fs::write(&file, bytes).unwrap();
    let outcome = folder.rotnet("verify run a --quiet --json");
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.starts_with("error: a does not come out the same, from pretrain on: dataset."),
        "{}",
        outcome.stderr
    );
    let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(found["stages"][0]["stage"], "pretrain");
    folder.refuse("verify run nowhere", 1, &["nowhere", "pretrain"]);
}
