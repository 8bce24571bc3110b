//! How right the classifier is, beside what it would be without pretraining and without learning anything.

use maud::{Markup, html};

use super::Shown;
use super::classes::accuracies;
use super::facts::Facts;
use super::figure::{drawn, percent};
use super::rows::{Mark, Row, Rows};
use crate::config::Baseline;
use crate::judge::statistics::{Interval, wilson};
use crate::stages::{Arm, LabelCount};
use crate::tools::shell::quoted;
use crate::training::Evaluation;

/// The section; nothing while the test set is closed.
pub(super) fn section(run: &Shown) -> Markup {
    let Some(test) = run.facts.test() else { return html! {} };
    html! {
        section {
            h2 { "How right the classifier is" }
            div.pair { (beside(&run.facts, test)) (accuracies(test, &run.facts.classes())) }
        }
    }
}

/// The share that those get right who always answer the class that most images belong to.
pub(super) fn chance(test: &Evaluation) -> f64 {
    let images = test.confusion.iter().map(|row| row.iter().sum::<u64>());
    images.max().unwrap_or(0) as f64 / test.samples.max(1) as f64
}

/// The accuracy of the same classifier on the untrained encoder, with as many labels as the run's.
pub(super) fn untrained(facts: &Facts) -> Option<f64> {
    let arms = &comparable(facts)?.arms;
    arms.iter().find(|arm| arm.name == Baseline::Random.name()).map(|arm| arm.test_accuracy)
}

/// The comparison of `evaluate` with as many labels as the run's classifier was shown.
fn comparable(facts: &Facts) -> Option<&LabelCount> {
    let labels = facts.classifier.as_ref()?.labels;
    let verdict = facts.evaluation.as_ref()?.verdict.as_ref()?;
    verdict.counts.iter().find(|count| count.labels == labels)
}

fn beside(facts: &Facts, test: &Evaluation) -> Markup {
    let statistics = facts.classifier.as_ref().and_then(|classifier| classifier.statistics.as_ref());
    let interval: Interval = statistics.map_or_else(
        || wilson(test.accuracy, test.samples as f64),
        |statistics| statistics.accuracy_interval,
    );
    let row = |name: &str, value: f64, interval: Option<Interval>, colour| Row {
        name: name.to_owned(),
        value,
        spread: interval.map(|[low, high]| (low, high)),
        colour,
        ..Row::default()
    };
    let mut rows = vec![row("this run", test.accuracy, Some(interval), 0)];
    let comparison = comparable(facts);
    let own = facts.classifier.as_ref().map(|classifier| &classifier.checkpoint);
    // The comparison's own classifier, unless it is the run's to the byte.
    let arms = comparison.iter().flat_map(|count| &count.arms);
    for Arm { name, test_accuracy, test_interval, .. } in arms.filter(|arm| Some(&arm.checkpoint) != own) {
        rows.push(row(in_words(name), *test_accuracy, Some(*test_interval), 9));
    }
    rows.push(row("chance", chance(test), None, 9));
    let (title, names, value) = ("Accuracy beside baselines", "classifier", "test accuracy");
    let ends = ["lower end of the interval", "upper end of the interval"];
    let rows = Rows { title, names, value, detail: "", ends, mark: Mark::Bar, rows, gap: None };
    let caption = html! {
        "The share of the " (test.samples) " test images that are classified correctly, with 95 % intervals. 'Chance' always "
        "answers the most frequent class. "
        @match comparison {
            Some(_) => "All of them were shown the same labels. The lead over the untrained encoder comes from learning \
                        rotations. The lead over the encoder trained from scratch is what these labels alone cannot teach.",
            None => {
                "How much of this comes from pretraining is not known yet: "
                code { "rotnet evaluate " (quoted(facts.run.root().as_os_str())) }
                @if facts.evaluation.is_some() {
                    " made no comparison with this number of labels (" code { "evaluate.labels_per_class" } ")."
                } @else {
                    " trains the same classifier on the untrained encoder and from scratch, and this figure then shows both."
                }
            }
        }
    };
    drawn(title, &rows.drawing(), &rows.sheet(), caption)
}

/// The name of an arm for those who have not read about it.
fn in_words(arm: &str) -> &str {
    let baselines = [Baseline::Random, Baseline::Patches, Baseline::Scratch];
    match baselines.into_iter().find(|baseline| baseline.name() == arm) {
        Some(Baseline::Random) => "untrained encoder",
        Some(Baseline::Patches) => "patches of images, no training",
        Some(Baseline::Scratch) => "from scratch, labels alone",
        None => "this encoder, as evaluated",
    }
}

/// Chance, and the untrained encoder if it was evaluated, in a few words.
pub(super) fn remark(facts: &Facts, test: &Evaluation) -> String {
    let untrained = untrained(facts).map(|accuracy| format!(", untrained {}", percent(accuracy)));
    format!("chance {}{}", percent(chance(test)), untrained.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::figure::tests::files;
    use super::super::sheet::tests::cells;
    use super::*;

    /// A run with six test images of classes `a`, `a`, `a`, `a`, `b`, `b`, and what `evaluate` found with `labels`.
    fn facts(labels: Option<usize>) -> Facts {
        let home = tempfile::tempdir().unwrap();
        let write = |stage: &str, document: serde_json::Value| {
            std::fs::create_dir_all(home.path().join(stage)).unwrap();
            std::fs::write(home.path().join(stage).join("summary.json"), document.to_string()).unwrap();
        };
        let dataset = json!({"name": "drawn", "fingerprint": "f"});
        let test = json!({
            "samples": 6, "loss": 1.0, "accuracy": 0.75, "per_class_accuracy": [0.5, 1.0],
            "confusion": [[3, 1], [0, 2]]
        });
        write(
            "finetune",
            json!({
                "protocol": "p", "dataset": dataset, "labels": 9, "epochs": 3, "last_epoch": null, "seconds": 2.0,
                "classes": ["a", "b"], "test": test, "checkpoint": "own"
            }),
        );
        if let Some(labels) = labels {
            let arm = |name: &str, accuracy: f64, checkpoint: &str| {
                json!({
                    "name": name, "test_accuracy": accuracy, "test_interval": [accuracy - 0.125, accuracy + 0.125],
                    "seconds": 1.0, "checkpoint": checkpoint
                })
            };
            let arms = [arm("pretrained", 0.75, "own"), arm("random", 0.5, "r"), arm("scratch", 0.625, "s")];
            let counts = [json!({"labels_per_class": 0, "labels": labels, "arms": arms})];
            write(
                "evaluate",
                json!({
                    "dataset": dataset, "classes": ["a", "b"], "checkpoint": "e", "protocol": "p", "probes": [],
                    "verdict": {"sentence": "s", "protocol": "p", "counts": counts}, "test_evaluations": 3
                }),
            );
        }
        let facts = Facts::read(home.path(), "<run>".into());
        assert!(facts.notes.is_empty(), "{:?}", facts.notes);
        facts
    }

    #[test]
    fn chance_counts_the_images_of_classes_and_evaluate_is_named_until_it_has_run() {
        let facts = facts(None);
        let test = facts.test().unwrap();
        assert!((chance(test) - 4.0 / 6.0).abs() < 1e-12);
        assert_eq!(remark(&facts, test), "chance 66.7\u{a0}%");
        let page = beside(&facts, test).into_string();
        let root = quoted(facts.run.root().as_os_str());
        assert!(page.contains(&format!("<code>rotnet evaluate {root}</code>")), "{page}");
        let names: Vec<String> = cells(&files(&page)[1].1).into_iter().map(|line| line[0].clone()).collect();
        assert_eq!(names, ["classifier", "this run", "chance"]);
    }

    #[test]
    fn what_was_evaluated_with_the_same_labels_is_beside_it() {
        let facts = facts(Some(9));
        let test = facts.test().unwrap();
        assert_eq!(remark(&facts, test), "chance 66.7\u{a0}%, untrained 50.0\u{a0}%");
        let page = beside(&facts, test).into_string();
        assert!(!page.contains("rotnet evaluate"));
        let read = cells(&files(&page)[1].1);
        let shares: Vec<(&str, &str)> = read[1..].iter().map(|line| (&line[0][..], &line[1][..])).collect();
        let chance = (4.0 / 6.0_f64).to_string();
        let expected = [
            ("this run", "0.75"),
            ("untrained encoder", "0.5"),
            ("from scratch, labels alone", "0.625"),
            ("chance", &chance),
        ];
        assert_eq!(shares, expected);
        assert_eq!(read[2][2..4], ["0.375", "0.625"]);
    }

    #[test]
    fn what_was_evaluated_with_other_labels_is_not_compared() {
        let facts = facts(Some(8));
        let test = facts.test().unwrap();
        assert_eq!(untrained(&facts), None);
        assert!(beside(&facts, test).into_string().contains("no comparison with this number of labels"));
    }
}
