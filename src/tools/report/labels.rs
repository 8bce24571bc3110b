//! What `evaluate` found, and accuracy by number of labels: of one run's verdict, or of the runs of a sweep.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;

use super::Shown;
use super::chart::{Axes, Scale, Series, around, lines, sheet};
use super::figure::{drawn, figure, percent};
use super::sheet::{Sheet, share};
use crate::stages::{EvaluateSummary, FinetuneSummary, ProbeResult, Verdict};
use crate::tools::comparison::differing;

/// Verdict and probes of a run; nothing if it was not evaluated.
pub(super) fn evaluation(run: &Shown) -> Markup {
    let Some(EvaluateSummary { verdict, probes, protocol, .. }) = &run.facts.evaluation else {
        return html! {};
    };
    if verdict.is_none() && probes.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "What the features are worth" }
            @if let Some(verdict) = verdict { p.verdict { (verdict.sentence) } }
            div.pair {
                @if let Some(verdict) = verdict { (verdict_curve(verdict)) }
                @if !probes.is_empty() { (matrix(probes, protocol)) }
            }
        }
    }
}

fn verdict_curve(verdict: &Verdict) -> Markup {
    let mut series: Vec<Series> = Vec::new();
    for count in &verdict.counts {
        for arm in &count.arms {
            let place = series.iter().position(|series| series.name == arm.name).unwrap_or_else(|| {
                series.push(empty(arm.name.clone(), series.len()));
                series.len() - 1
            });
            series[place].points.push((count.labels as f64, arm.test_accuracy));
            series[place].spread.push((arm.test_interval[0], arm.test_interval[1]));
        }
    }
    let caption = html! {
        "Accuracy of a classifier by the number of labels that it was shown, on this encoder and on the baselines. Bars are "
        "95 % intervals over the test images. Where the lines are apart, pretraining is worth its time. Where they meet, "
        "labels have caught up. " (verdict.protocol)
    };
    curve(&series, "encoder", ["lower end of the interval", "upper end of the interval"], caption)
}

/// Accuracy by settings over several runs, and by number of labels if they differ in it; nothing if no runs belong
/// together.
pub(super) fn sweep(runs: &[Shown]) -> Markup {
    // Results by everything in which the runs differ besides labels and seed, then by labels.
    let mut groups = Groups::new();
    for (name, run) in group_names(runs).into_iter().zip(runs) {
        let Some(FinetuneSummary { labels, test: Some(test), .. }) = &run.facts.classifier else {
            continue;
        };
        groups.entry(name).or_default().entry(*labels).or_default().push(test.accuracy);
    }
    let repeated = groups.values().flat_map(BTreeMap::values).any(|results| results.len() > 1);
    let curved = groups.values().any(|by_labels| by_labels.len() > 1);
    html! {
        @if repeated || curved {
            section {
                h2 { "By settings" }
                div.pair {
                    @if curved { (label_curve(&groups)) }
                    (means(&groups))
                }
            }
        }
    }
}

/// Test accuracies by settings, then by number of labels.
type Groups = BTreeMap<String, BTreeMap<usize, Vec<f64>>>;

/// Mean, worst and best.
fn spread(results: &[f64]) -> (f64, f64, f64) {
    let mean = results.iter().sum::<f64>() / results.len().max(1) as f64;
    let ends = |(low, high): (f64, f64), &result: &f64| (low.min(result), high.max(result));
    let (low, high) = results.iter().fold((mean, mean), ends);
    (mean, low, high)
}

fn label_curve(groups: &Groups) -> Markup {
    let mut curves = Vec::new();
    for (name, by_labels) in groups {
        let mut series = empty(name.clone(), curves.len());
        for (&labels, results) in by_labels {
            let (mean, low, high) = spread(results);
            series.points.push((labels as f64, mean));
            series.spread.push((low, high));
        }
        curves.push(series);
    }
    let caption = html! {
        "Test accuracy by the number of labels shown to the classifier. A point is the mean of runs that differ only in seed "
        "or label draw; its bar reaches from the worst to the best of them. A curve that is already high on the left needs "
        "few labels."
    };
    curve(&curves, "settings", ["worst", "best"], caption)
}

fn means(groups: &Groups) -> Markup {
    let titles = ["mean test accuracy", "worst", "best"].map(share);
    let mut data = Sheet::new(["settings", "labels", "runs"].map(str::to_owned).into_iter().chain(titles));
    for (name, by_labels) in groups {
        for (labels, results) in by_labels {
            let (mean, low, high) = spread(results);
            let numbers = [mean, low, high].map(|number| number.to_string());
            let counts = [labels.to_string(), results.len().to_string()];
            data.line(std::iter::once(name.clone()).chain(counts).chain(numbers));
        }
    }
    let body = html! {
        div.wide { table {
            thead { tr {
                th { "settings" } th.number { "labels" } th.number { "runs" } th.number { "mean" }
                th.number { "worst to best" }
            } }
            tbody {
                @for (name, by_labels) in groups {
                    @for (labels, results) in by_labels {
                        @let (mean, low, high) = spread(results);
                        tr {
                            th scope="row" { (name) }
                            td.number { (labels) }
                            td.number { (results.len()) }
                            td.number { (percent(mean)) }
                            td.number { (percent(low)) " to " (percent(high)) }
                        }
                    }
                }
            }
        } }
    };
    let caption = html! {
        "Test accuracy of runs with the same settings, which differ only in seed or label draw. Where the ranges of two "
        "settings overlap, these runs do not tell which is better."
    };
    figure("Means", body, &data, caption)
}

fn empty(name: String, colour: usize) -> Series {
    Series { name, points: Vec::new(), spread: Vec::new(), colour, dashed: false }
}

fn curve(series: &[Series], arm: &str, ends: [&str; 2], caption: Markup) -> Markup {
    let points = || series.iter().flat_map(|series| &series.points);
    let bars = series.iter().flat_map(|series| &series.spread).flat_map(|&(low, high)| [low, high]);
    let (least, most) = points()
        .fold((f64::INFINITY, 0.0_f64), |(least, most), &(labels, _)| (least.min(labels), most.max(labels)));
    let axes = Axes {
        title: "Test accuracy by number of labels",
        x: "labels in all",
        y: "test accuracy",
        x_range: least.max(1.0) * 0.85..most.max(2.0) * 1.15,
        y_range: around(points().map(|point| point.1).chain(bars)),
        x_kind: Scale::Logarithmic,
        y_kind: Scale::Percent,
    };
    drawn("Accuracy by labels", &lines(&axes, series), &sheet(&axes, arm, ends, series), caption)
}

/// Settings that do not make a curve of their own.
const NUMBERED: [&str; 3] = ["seed", "data.labels_per_class", "data.label_draw"];

/// For each run, the settings besides seed and labels that tell it apart from the others.
fn group_names(runs: &[Shown]) -> Vec<String> {
    let settings: Vec<&Value> = runs.iter().map(|run| &run.facts.settings).collect();
    let mut differing = differing(&settings);
    differing.retain(|key| !NUMBERED.contains(&key.key.as_str()));
    let name = |run: usize| {
        let set = differing.iter().filter(|key| !key.values[run].is_null());
        let set: Vec<String> = set.map(|key| format!("{} {}", key.key, key.values[run])).collect();
        if set.is_empty() { "all runs".to_owned() } else { set.join(", ") }
    };
    (0..runs.len()).map(name).collect()
}

/// Every layer by every head.
fn matrix(probes: &[ProbeResult], protocol: &str) -> Markup {
    let mut heads: Vec<&str> = Vec::new();
    let mut layers: Vec<(&str, usize)> = Vec::new();
    for probe in probes {
        if !heads.contains(&probe.head.as_str()) {
            heads.push(&probe.head);
        }
        if !layers.iter().any(|(layer, _)| *layer == probe.layer) {
            layers.push((&probe.layer, probe.features));
        }
    }
    let find =
        |layer: &str, head: &str| probes.iter().find(|probe| probe.layer == layer && probe.head == head);
    let body = html! {
        div.wide { table {
            thead { tr { th { "layer" } th.number { "features" } @for head in &heads { th.number { (head) } } } }
            tbody {
                @for (layer, features) in &layers {
                    tr {
                        th scope="row" { (layer) }
                        td.number { (features) }
                        @for head in &heads {
                            td.number {
                                @if let Some(probe) = find(layer, head) {
                                    (percent(probe.test_accuracy))
                                    div.detail { (percent(probe.test_interval[0])) " to " (percent(probe.test_interval[1])) }
                                } @else { "–" }
                            }
                        }
                    }
                }
            }
        } }
    };
    let caption = html! {
        "Test accuracy (with its 95 % interval) of simple heads on the features of each layer. The best layer is rarely the "
        "last one, which is specialised in rotation. " (protocol)
    };
    let titles = ["test accuracy", "lower end of the interval", "upper end of the interval"].map(share);
    let mut data = Sheet::new(["layer", "features", "head"].map(str::to_owned).into_iter().chain(titles));
    for ProbeResult { layer, features, head, test_accuracy, test_interval: [low, high], .. } in probes {
        let numbers = [test_accuracy, low, high].map(|number| number.to_string());
        data.line([layer.clone(), features.to_string(), head.clone()].into_iter().chain(numbers));
    }
    figure("Probes by layer", body, &data, caption)
}
