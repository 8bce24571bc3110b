//! The sections of numbers and words: protocol, differences, config, environment.

use maud::{Markup, html};
use serde::Serialize;
use serde_json::{Value, json};

use super::facts::Facts;
use super::figure::{duration, percent};
use super::{Shown, origin};
use crate::judge::statistics::{Interval, wilson};
use crate::progress::Stage;
use crate::stages::{ExtractSummary, FinetuneSummary};
use crate::store::run_record::RunRecord;
use crate::tools::comparison::differing;

/// Protocol, environment and config of a run.
pub(super) fn section(run: &Shown) -> Markup {
    html! {
        section { h2 { "What the numbers are" } (protocol(&run.facts)) }
        (origin::section(&run.facts.record.iter().collect::<Vec<_>>()))
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

/// A number of the run, what it was taken on, and how.
struct Line {
    what: String,
    value: String,
    interval: Option<Interval>,
    on: String,
    how: String,
}

fn protocol(facts: &Facts) -> Markup {
    let lines = lines(facts);
    let record = facts.record.as_ref();
    let opened = record.map(|record| record.test_evaluations);
    let purposes: Vec<&str> =
        record.iter().flat_map(|record| &record.tested).map(|opening| opening.purpose.as_str()).collect();
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
                                Some([low, high]) => { (percent(low)) " to " (percent(high)) },
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
            "Intervals (Wilson) show how much a number could change with other test images of the same kind. They do not "
            "cover other seeds. "
            @match opened {
                Some(0) | None => "The test set has not been used for a number of this run.",
                Some(1) => "The test set was used once for a number of this run, after all choices.",
                Some(count) => { "The test set was used " strong { (count) } " times for numbers of this run. The more often it is used, the less a choice by these numbers is worth." }
            }
        }
        @if !purposes.is_empty() {
            details {
                summary { "What the test set was used for" }
                ul { @for purpose in &purposes { li { (purpose) } } }
            }
        }
    }
}

fn lines(facts: &Facts) -> Vec<Line> {
    let mut lines = Vec::new();
    for training in &facts.trainings {
        let Some(last) = training.epochs.last() else { continue };
        let (what, seen) = match training.stage {
            Stage::Pretrain => ("Rotation accuracy", "images trained on, rotated"),
            _ => ("Training accuracy of the classifier", "images trained on, with labels"),
        };
        let images = match training.stage {
            Stage::Pretrain => facts.pretraining.as_ref().map(|summary| summary.images),
            _ => facts.classifier.as_ref().map(|summary| summary.labels),
        };
        let images = images.map_or(String::new(), |count| format!("{count} "));
        lines.push(Line {
            what: what.into(),
            value: percent(last.accuracy),
            interval: None,
            on: format!("{images}{seen}"),
            how: format!("mean over epoch {}, while training", last.epoch),
        });
        if let Some(accuracy) = last.validation_accuracy {
            let held_out = training.config.as_ref().map_or(0, |config| config.data.validation_images);
            lines.push(Line {
                what: format!("{what}, validation"),
                value: percent(accuracy),
                interval: (held_out > 0).then(|| wilson(accuracy, held_out as f64)),
                on: format!("{held_out} images held out"),
                how: format!("after epoch {}", last.epoch),
            });
        }
    }
    if let Some(FinetuneSummary { test: Some(test), protocol, .. }) = &facts.classifier {
        lines.push(Line {
            what: "Test accuracy".into(),
            value: percent(test.accuracy),
            interval: Some(wilson(test.accuracy, test.samples as f64)),
            on: format!("{} test images", test.samples),
            how: protocol.clone(),
        });
    }
    lines
}

fn environment(facts: &Facts) -> Markup {
    let mut rows = vec![("Directory", facts.run.root().display().to_string())];
    let first = facts.trainings.first().and_then(|training| training.config.as_ref());
    if let Some(config) = first.or(facts.config.as_ref()) {
        rows.push(("Seed", config.seed.to_string()));
        rows.push(("Encoder", serde_name(&config.encoder.kind)));
    }
    if let Some(RunRecord { environment, .. }) = &facts.record {
        rows.push(("Processor", environment.processor.clone()));
        rows.push(("Kernels", environment.kernels.clone() + environment.rounding()));
        rows.push(("Threads", environment.threads.to_string()));
        rows.push(("Device", environment.device.to_string()));
    }
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
    if let Some(ExtractSummary { layer, images_per_second, train: [_, width], .. }) = &facts.extraction {
        rows.push(("Features", format!("{width} of {layer}, {images_per_second:.0} images/s")));
    }
    html! {
        dl {
            @for (name, value) in &rows {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A value under its name in a config.
fn serde_name(value: &impl Serialize) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}

/// The config keys in which the runs differ.
pub(super) fn differences(runs: &[Shown]) -> Markup {
    let settings: Vec<&Value> = runs.iter().map(|run| &run.facts.settings).collect();
    let differ = differing(&settings);
    let value = |value: &Value| if value.is_null() { "–".to_owned() } else { value.to_string() };
    html! {
        section {
            h2 { "What differs" }
            @if differ.is_empty() {
                p { "The configs are the same in every key." }
            } @else {
                div.wide { table {
                    @if runs.len() <= differ.len() {
                        thead { tr { th { "key" } @for run in runs { th { (run.facts.name) } } } }
                        tbody {
                            @for key in &differ {
                                tr {
                                    th scope="row" { code { (key.key) } }
                                    @for of_run in &key.values { td { (value(of_run)) } }
                                }
                            }
                        }
                    } @else {
                        thead { tr { th { "run" } @for key in &differ { th { code { (key.key) } } } } }
                        tbody {
                            @for (index, run) in runs.iter().enumerate() {
                                tr {
                                    th scope="row" { (run.facts.name) }
                                    @for key in &differ { td { (value(&key.values[index])) } }
                                }
                            }
                        }
                    }
                } }
                p.caption { "Config keys that are not the same in all runs; – marks a key that is not set." }
            }
        }
    }
}
