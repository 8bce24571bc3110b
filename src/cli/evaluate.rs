//! `rotnet evaluate`: the probe matrix and the verdict as tables.

use std::path::PathBuf;

use clap::Args;

use super::options::{ExistingArguments, RunArguments, Settings};
use super::pipeline::{QUICKSTART_RUN, later_context, with_stage};
use super::table::Table;
use super::{print_json, print_line};
use crate::config::Baseline;
use crate::error::Result;
use crate::judge::statistics::Interval;
use crate::stages::{self, EvaluateSummary, LeftOut, RotationAccuracy, Verdict};
use crate::store::run_directory::RunDirectory;

/// Options of `evaluate`.
#[derive(Args, Debug)]
#[command(after_help = "\
Leaves RUN/evaluate/{summary.json, features, verdict}. What to probe and compare is section `evaluate` of the config.

Examples:
  rotnet evaluate runs/a
  rotnet evaluate runs/a --set evaluate.heads=ridge --set evaluate.baselines=[] --force")]
pub struct EvaluateArguments {
    /// The run directory
    #[arg(value_name = "RUN", default_value = QUICKSTART_RUN)]
    run: PathBuf,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    existing: ExistingArguments,
}

pub(super) fn execute(arguments: EvaluateArguments) -> Result<()> {
    let EvaluateArguments { run, settings, existing } = arguments;
    let arguments = RunArguments { settings, out: Some(run), from: None, existing };
    let context = later_context(&arguments, None, RunDirectory::evaluation, |_| Vec::new())?;
    let summary = with_stage(&arguments, &context, |reporter| stages::evaluate(&context, reporter))?;
    match arguments.settings.output.json() {
        true => print_json(&summary),
        false => show(&summary),
    }
}

fn show(summary: &EvaluateSummary) -> Result<()> {
    if let Some(rotation) = &summary.rotation {
        if let Some(validation) = &rotation.validation {
            show_rotation("validation", validation, &summary.classes)?;
        }
        show_rotation("test", &rotation.test, &summary.classes)?;
    }
    if !summary.probes.is_empty() {
        print_line(&format!("\nprobes: {}", summary.protocol))?;
        print_line(&probes(summary).to_string())?;
    }
    if let Some(best) = &summary.best {
        print_line(&format!(
            "best by validation: {}, {}: test accuracy {:.4} ({})",
            best.layer,
            best.head,
            best.test_accuracy,
            interval(best.test_interval)
        ))?;
    }
    if let Some(verdict) = &summary.verdict {
        show_verdict(verdict)?;
    }
    for LeftOut { name, reason } in &summary.left_out {
        print_line(&format!("left out `{name}`: {reason}"))?;
    }
    print_line(&format!(
        "numbers measured on the test set by this run so far: {} (run.json lists them)",
        summary.test_evaluations
    ))
}

fn show_rotation(part: &str, rotation: &RotationAccuracy, classes: &[String]) -> Result<()> {
    print_line(&format!("rotation accuracy on {} {part} images: {:.4}", rotation.images, rotation.accuracy))?;
    let mut confusion = Table::new(["turned by", "told 0", "told 90", "told 180", "told 270"]);
    for (turns, row) in rotation.confusion.iter().enumerate() {
        let all = row.iter().sum::<u64>().max(1) as f64;
        let shares = row.iter().map(|&count| format!("{:.3}", count as f64 / all));
        confusion.row(std::iter::once(format!("{}", 90 * turns)).chain(shares));
    }
    print_line(&confusion.to_string())?;
    let by_class = classes.iter().zip(&rotation.by_class);
    let by_class = by_class.filter_map(|(class, accuracy)| Some(format!("{class} {:.3}", (*accuracy)?)));
    print_line(&format!("by class: {}", by_class.collect::<Vec<_>>().join(", ")))
}

fn probes(summary: &EvaluateSummary) -> Table {
    let mut table =
        Table::new(["layer", "head", "features", "validation", "test", "95 % interval", "chosen"]);
    for probe in &summary.probes {
        table.row([
            probe.layer.clone(),
            probe.head.clone(),
            probe.features.to_string(),
            format!("{:.4}", probe.validation_accuracy),
            format!("{:.4}", probe.test_accuracy),
            interval(probe.test_interval),
            chosen(&probe.chosen),
        ]);
    }
    table
}

fn chosen(value: &serde_json::Value) -> String {
    let pairs = value.as_object().into_iter().flatten().map(|(key, value)| format!("{key} {value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

pub(super) fn interval([low, high]: Interval) -> String {
    format!("{low:.4} to {high:.4}")
}

/// The verdict in a few lines, for the end of a run.
pub(super) fn show_comparison(verdict: &Verdict) -> Result<()> {
    let mut table = Table::new(["encoder", "labels", "test accuracy", "95 % interval"]);
    for count in &verdict.counts {
        for arm in &count.arms {
            let name = in_words(&arm.name).to_owned();
            let accuracy = format!("{:.4}", arm.test_accuracy);
            table.row([name, count.labels.to_string(), accuracy, interval(arm.test_interval)]);
        }
    }
    print_line(&table.to_string())?;
    print_line(&verdict.sentence)
}

fn in_words(arm: &str) -> &str {
    let is = |baseline: Baseline| arm == baseline.name();
    match arm {
        "pretrained" => "pretrained on rotations",
        _ if is(Baseline::Random) => "the same network, untrained (`random`)",
        _ if is(Baseline::Patches) => "whitened patches (`patches`)",
        _ if is(Baseline::Scratch) => "the same network, trained on these labels alone (`scratch`)",
        other => other,
    }
}

fn show_verdict(verdict: &Verdict) -> Result<()> {
    print_line(&format!("\nverdict: {}", verdict.protocol))?;
    let mut table = Table::new([
        "labels a class",
        "encoder",
        "test",
        "95 % interval",
        "seconds",
        "gain of pretraining",
        "adjusted p",
    ]);
    for count in &verdict.counts {
        for arm in &count.arms {
            let labels = match count.labels_per_class {
                0 => "all".to_owned(),
                labels => labels.to_string(),
            };
            let gain = arm.gain.as_ref().map_or_else(String::new, |gain| {
                let points = |share: f64| format!("{:+.1}", 100.0 * share);
                let [low, high] = gain.interval.map(points);
                format!("{} points ({low} to {high})", points(gain.difference))
            });
            let test = format!("{:.4}", arm.test_accuracy);
            let seconds = format!("{:.1}", arm.seconds);
            let p_value = arm.adjusted_p_value.map_or_else(String::new, |value| format!("{value:.2e}"));
            table.row([labels, arm.name.clone(), test, interval(arm.test_interval), seconds, gain, p_value]);
        }
    }
    print_line(&table.to_string())?;
    print_line(&verdict.sentence)
}
