//! The sections of numbers and words: confusion, protocol, differences, config, environment.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};
use serde_json::Value;

use super::Shown;
use super::analysis::interval;
use super::chart::matrix;
use super::facts::{Facts, Training};
use super::figure::{duration, figure, percent};
use crate::progress::Stage;

/// The evaluation of a classifier on the test set.
pub(super) struct TestFigures {
    /// Share classified rightly, in 0..=1.
    pub accuracy: f64,
    /// Test images.
    pub samples: usize,
    /// `[true class][answer]`, counts.
    confusion: Vec<Vec<u64>>,
}

/// The evaluation in the summary of a stage.
pub(super) fn test_accuracy(training: &Training) -> Option<TestFigures> {
    let test = &training.summary["test"];
    Some(TestFigures {
        accuracy: test["accuracy"].as_f64()?,
        samples: test["samples"].as_u64()? as usize,
        confusion: serde_json::from_value(test["confusion"].clone()).ok()?,
    })
}

/// How often each class was taken for which.
pub(super) fn confusion(test: &TestFigures, classes: &[String]) -> Markup {
    let shares: Vec<Vec<f64>> = test
        .confusion
        .iter()
        .map(|row| {
            let all = row.iter().sum::<u64>().max(1) as f64;
            row.iter().map(|&count| count as f64 / all).collect()
        })
        .collect();
    let name = |class: usize| classes.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
    let mut pairs: Vec<(usize, usize, u64)> = Vec::new();
    for (truth, row) in test.confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|(answer, _)| *answer != truth);
        pairs.extend(wrong.map(|(answer, &count)| (truth, answer, count)));
    }
    pairs.sort_by_key(|&(truth, answer, count)| (std::cmp::Reverse(count), truth, answer));
    let caption = html! {
        "Of the test images of a class (row), the share that got each answer (column), in percent; the diagonal is "
        "right. Most frequent: "
        @for (place, (truth, answer, count)) in pairs.iter().filter(|pair| pair.2 > 0).take(3).enumerate() {
            @if place > 0 { ", " }
            (name(*truth)) " taken for " (name(*answer)) " (" (count) "×)"
        }
        "."
    };
    let body = PreEscaped(matrix("Confusion of classes", &shares, classes));
    figure("Confusion", html! { div.matrix { (body) } }, caption)
}

/// Protocol, environment and config of a run.
pub(super) fn section(run: &Shown) -> Markup {
    html! {
        section { h2 { "What the numbers are" } (protocol(&run.facts)) }
        section {
            h2 { "How it was made" }
            (environment(&run.facts))
            @if !run.facts.settings.is_null() {
                details {
                    summary { "Config as resolved" }
                    pre { (serde_json::to_string_pretty(&run.facts.settings).unwrap_or_default()) }
                }
            }
        }
    }
}

/// A number of the run, where it comes from, and how it was taken.
struct Line {
    what: String,
    value: String,
    interval: Option<(f64, f64)>,
    on: String,
    how: String,
}

fn protocol(facts: &Facts) -> Markup {
    let lines = lines(facts);
    let opened = facts.record["test_evaluations"].as_u64();
    html! {
        div.wide { table.protocol {
            thead { tr { th { "number" } th.number { "value" } th.number { "95 % interval" } th { "taken on" } th { "how" } } }
            tbody {
                @for line in &lines {
                    tr {
                        th scope="row" { (line.what) }
                        td.number data-label="value" { (line.value) }
                        td.number data-label="95 % interval" {
                            @match line.interval {
                                Some((low, high)) => { (percent(low)) " to " (percent(high)) },
                                None => "–",
                            }
                        }
                        td data-label="taken on" { (line.on) }
                        td data-label="how" { (line.how) }
                    }
                }
            }
        } }
        p.caption {
            "Intervals say how far a number could be off with other images of the same kind (Wilson), not with another "
            "seed. "
            @match opened {
                Some(0) | None => "The test set has not been used for a number of this run.",
                Some(1) => "The test set was used once for a number of this run, after all choices.",
                Some(count) => { "The test set was used " strong { (count) } " times for numbers of this run: the more often, the less a choice between them is worth." }
            }
        }
        @let purposes = purposes(&facts.record);
        @if !purposes.is_empty() {
            details {
                summary { "What the test set was used for" }
                ul { @for purpose in &purposes { li { (purpose) } } }
            }
        }
    }
}

/// What `run.json` says that the test set was opened for; nothing where an earlier version wrote it.
fn purposes(record: &Value) -> Vec<String> {
    let tested = record["tested"].as_array().into_iter().flatten();
    tested.filter_map(|opening| opening["purpose"].as_str().map(str::to_owned)).collect()
}

fn lines(facts: &Facts) -> Vec<Line> {
    let mut lines = Vec::new();
    for training in &facts.trainings {
        let Some(last) = training.epochs.last() else { continue };
        let (what, seen) = match training.stage {
            Stage::Pretrain => ("Rotation accuracy", "images trained on, rotated"),
            _ => ("Training accuracy of the classifier", "images trained on, with labels"),
        };
        let images = training.summary["images"].as_u64().or(training.summary["labels"].as_u64());
        let images = images.map_or(String::new(), |count| format!("{count} "));
        lines.push(Line {
            what: what.into(),
            value: percent(last.accuracy),
            interval: None,
            on: format!("{images}{seen}"),
            how: format!("mean over epoch {}, while training", last.epoch),
        });
        if let Some(accuracy) = last.validation_accuracy {
            let held_out = facts.settings["data"]["validation_images"].as_f64().unwrap_or(0.0);
            lines.push(Line {
                what: format!("{what}, validation"),
                value: percent(accuracy),
                interval: (held_out > 0.0).then(|| interval(accuracy, held_out)),
                on: format!("{held_out} images held out"),
                how: format!("after epoch {}", last.epoch),
            });
        }
        if let Some(test) = test_accuracy(training) {
            lines.push(Line {
                what: "Test accuracy".into(),
                value: percent(test.accuracy),
                interval: Some(interval(test.accuracy, test.samples as f64)),
                on: format!("{} test images", test.samples),
                how: training.summary["protocol"].as_str().unwrap_or_default().into(),
            });
        }
    }
    lines
}

fn environment(facts: &Facts) -> Markup {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let environment = &facts.record["environment"];
    let dataset = &facts.record["dataset"];
    let mut rows = vec![
        ("Directory", facts.run.root().display().to_string()),
        ("Data set", text(&dataset["name"])),
        ("Fingerprint", text(&dataset["fingerprint"]).chars().take(16).collect()),
        ("Seed", text(&facts.settings["seed"])),
        ("Encoder", text(&facts.settings["encoder"]["kind"])),
        ("rotnet", text(&environment["rotnet"])),
        ("Processor", text(&environment["processor"])),
        ("Kernels", text(&environment["kernels"])),
        ("Threads", text(&environment["threads"])),
        ("Device", text(&environment["device"])),
    ];
    for training in &facts.trainings {
        let seconds: f64 = training.epochs.iter().map(|epoch| epoch.seconds).sum();
        let rates = training.epochs.iter().map(|epoch| epoch.images_per_second);
        let rate = rates.sum::<f64>() / training.epochs.len().max(1) as f64;
        let label = if training.stage == Stage::Pretrain { "Pretraining" } else { "Classifier" };
        rows.push((
            label,
            format!("{} epochs, {}, {rate:.0} samples/s", training.epochs.len(), duration(seconds)),
        ));
    }
    if let (Some(layer), Some(rate)) =
        (facts.extraction["layer"].as_str(), facts.extraction["images_per_second"].as_f64())
    {
        let width = &facts.extraction["train"][1];
        rows.push(("Features", format!("{width} of {layer}, {rate:.0} images/s")));
    }
    html! {
        dl {
            @for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// The config keys in which runs differ.
pub(super) fn differences(runs: &[Shown]) -> Markup {
    let flat: Vec<BTreeMap<String, String>> = runs
        .iter()
        .map(|run| {
            let mut keys = BTreeMap::new();
            flatten("", &run.facts.settings, &mut keys);
            keys.remove("description");
            keys
        })
        .collect();
    let all: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    let differ: Vec<&String> =
        all.into_iter().filter(|key| flat.iter().any(|keys| keys.get(*key) != flat[0].get(*key))).collect();
    html! {
        section {
            h2 { "What differs" }
            @if differ.is_empty() {
                p { "The configs are the same in every key." }
            } @else {
                @let value = |keys: &BTreeMap<String, String>, key: &str| keys.get(key).map_or("–".to_owned(), String::clone);
                div.wide { table {
                    @if runs.len() <= differ.len() {
                        thead { tr { th { "key" } @for run in runs { th { (run.facts.name) } } } }
                        tbody {
                            @for key in &differ {
                                tr {
                                    th scope="row" { code { (key) } }
                                    @for keys in &flat { td { (value(keys, key)) } }
                                }
                            }
                        }
                    } @else {
                        thead { tr { th { "run" } @for key in &differ { th { code { (key) } } } } }
                        tbody {
                            @for (run, keys) in runs.iter().zip(&flat) {
                                tr {
                                    th scope="row" { (run.facts.name) }
                                    @for key in &differ { td { (value(keys, key)) } }
                                }
                            }
                        }
                    }
                } }
                p.caption { "Keys of the config that are not the same in all runs; – is a key that is not set." }
            }
        }
    }
}

/// Every value that is no section, by its dotted key.
pub(super) fn flatten(path: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            flatten(&path, value, keys);
        }),
        Value::Null => {}
        value => {
            keys.insert(path.to_owned(), value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_flattened_to_dotted_keys() {
        let mut keys = BTreeMap::new();
        let value = serde_json::json!({"a": {"b": 1, "c": null}, "d": [1, 2]});
        flatten("", &value, &mut keys);
        let expected = [("a.b", "1"), ("d", "[1,2]")].map(|(key, value)| (key.into(), value.into()));
        assert_eq!(keys, BTreeMap::from(expected));
    }
}
