//! Looks at the features during pretraining, and choices by them.

use serde_json::Value;

use crate::pipeline::SHORT;
use crate::support::{Folder, assert_same_results};

const COMPACT: &str = "--set encoder.kind=compact --set encoder.widths=[8,16] --set encoder.pools=[true,true] \
                       --set pretrain.rotations=all --set pretrain.batch_size=5 --set data.validation_images=10";

fn metrics(folder: &Folder, run: &str) -> Vec<Value> {
    let text = String::from_utf8(folder.read(&format!("{run}/pretrain/metrics.jsonl"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_probe_looks_every_so_many_epochs_and_changes_nothing() {
    let folder = Folder::with_data();
    let four = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=4").replace("--quiet ", "");
    let probe =
        r#"--set pretrain.probe={"every":2,"images":30,"layers":["block2"],"pool":"2x2","k":5,"ridge":0.01}"#;
    let outcome = folder.succeed(&format!("pretrain {four} {COMPACT} {probe} --threads 1 --out looked"));
    assert!(
        outcome.stderr.contains(", nearest neighbours 0.")
            || outcome.stderr.contains(", nearest neighbours 1.")
    );
    folder.succeed(&format!("pretrain {four} {COMPACT} {probe} --threads 3 --out again"));
    folder.succeed(&format!("pretrain {four} {COMPACT} --out plain"));
    let looked = metrics(&folder, "looked");
    for (index, epoch) in looked.iter().enumerate() {
        let due = (index + 1) % 2 == 0;
        for key in ["knn_accuracy", "ridge_accuracy"] {
            assert_eq!(epoch.get(key).is_some(), due, "{epoch}");
            assert_eq!(epoch.get(key), metrics(&folder, "again")[index].get(key));
        }
        assert_eq!(epoch["loss"], metrics(&folder, "plain")[index]["loss"]);
    }
    // The classes differ by colour, which even these features tell.
    assert!(looked[3]["ridge_accuracy"].as_f64().unwrap() > 0.3, "{}", looked[3]);
}

#[test]
fn a_probe_sees_no_label_outside_the_draw() {
    let folder = Folder::with_data();
    let four = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=4");
    for images in [20, 40] {
        let probe = format!("--set pretrain.probe={{\"images\":{images},\"k\":3,\"ridge\":0.01}}");
        let draw = "--set data.labels_per_class=2";
        folder.succeed(&format!("pretrain {four} {COMPACT} {draw} {probe} --out {images}"));
    }
    let accuracies = |run: &str| -> Vec<[Value; 2]> {
        metrics(&folder, run)
            .iter()
            .map(|epoch| ["knn_accuracy", "ridge_accuracy"].map(|key| epoch[key].clone()))
            .collect()
    };
    assert_eq!(accuracies("20"), accuracies("40"), "there are 20 such labels");
}

#[test]
fn the_best_epoch_may_be_that_of_the_probe_and_a_resumed_run_finds_the_same() {
    let folder = Folder::with_data();
    let four = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=4");
    let chosen =
        "--set pretrain.probe={\"k\":3,\"images\":40} --set pretrain.keep=best --set pretrain.keep_by=probe";
    let run = format!("run {four} {COMPACT} {chosen}");
    folder.succeed(&format!("{run} --out whole"));
    folder
        .succeed(&format!("{} --out half", run.replace("epochs=4", "epochs=2").replace("run ", "pretrain ")));
    folder.succeed(&format!("{run} --out half --resume"));
    assert_same_results(&folder, "whole", "half");
    let accuracies: Vec<f64> =
        metrics(&folder, "whole").iter().map(|epoch| epoch["knn_accuracy"].as_f64().unwrap()).collect();
    let best = accuracies.iter().copied().fold(0.0, f64::max);
    let first = accuracies.iter().position(|&accuracy| accuracy == best).unwrap() + 1;
    let header = folder.read("whole/pretrain/best.safetensors");
    let text = String::from_utf8_lossy(&header[..4_000]);
    assert!(text.contains(&format!("\\\"epochs\\\":{first},")), "{first}: {text}");
}

#[test]
fn a_probe_without_a_validation_split_and_a_choice_without_a_probe_are_refused() {
    let folder = Folder::with_data();
    let none = COMPACT.replace("validation_images=10", "validation_images=0");
    let refused = [
        (format!("{none} --set pretrain.probe={{}}"), "data.validation_images is 0"),
        (format!("{COMPACT} --set pretrain.probe={{\"k\":0}}"), "pretrain.probe.k"),
        (format!("{COMPACT} --set pretrain.probe={{\"ridge\":0}}"), "pretrain.probe.ridge"),
        (format!("{COMPACT} --set pretrain.keep_by=probe"), "pretrain.keep_by"),
        (format!("{COMPACT} --set pretrain.probe={{\"layers\":[\"block9\"]}}"), "block9"),
    ];
    for (options, problem) in refused {
        folder.refuse(&format!("pretrain {SHORT} {options} --out a"), 2, &[problem]);
    }
}
