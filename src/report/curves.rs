//! Loss and accuracy by epoch, of every stage, of all runs in the same charts.

use maud::{Markup, PreEscaped, html};

use super::Shown;
use super::chart::{Axes, COLOURS, Scale, Series, around, lines};
use super::facts::Epoch;
use super::page::figure;
use crate::progress::Stage;

/// Most runs in one chart; of more, the first ones are drawn.
const DRAWN: usize = COLOURS;

/// A number of an epoch.
struct Quantity {
    name: &'static str,
    axis: &'static str,
    scale: Scale,
    training: fn(&Epoch) -> f64,
    validation: fn(&Epoch) -> Option<f64>,
}

const LOSS: Quantity = Quantity {
    name: "loss",
    axis: "loss (nats)",
    scale: Scale::Number,
    training: |epoch| epoch.loss,
    validation: |epoch| epoch.validation_loss,
};
const ACCURACY: Quantity = Quantity {
    name: "accuracy",
    axis: "accuracy (%)",
    scale: Scale::Percent,
    training: |epoch| epoch.accuracy,
    validation: |epoch| epoch.validation_accuracy,
};

/// The curves of all stages that any of the runs has begun.
pub(super) fn section(runs: &[Shown]) -> Markup {
    let stages = [
        (
            Stage::Pretrain,
            "Pretraining",
            "Each rotated image is one of four classes, so guessing has loss 1.39 and accuracy 25 %.",
        ),
        (Stage::Finetune, "Classifier", "Trained with labels, on top of what pretraining learned."),
    ];
    let begun = |stage: Stage| {
        let mut trainings = runs.iter().filter_map(|run| run.facts.training(stage));
        trainings.any(|training| !training.epochs.is_empty())
    };
    html! {
        @if stages.iter().any(|(stage, ..)| begun(*stage)) {
            section {
                h2 { "Training" }
                div.pair {
                    @for (stage, title, meaning) in stages {
                        @if begun(stage) {
                            (curve(runs, stage, title, meaning, &LOSS))
                            (curve(runs, stage, title, meaning, &ACCURACY))
                        }
                    }
                }
            }
        }
    }
}

fn curve(runs: &[Shown], stage: Stage, title: &str, meaning: &str, quantity: &Quantity) -> Markup {
    let mut series = Vec::new();
    for (index, run) in runs.iter().take(DRAWN).enumerate() {
        let Some(training) = run.facts.training(stage) else { continue };
        let name = if runs.len() > 1 { format!("{}, ", run.facts.name) } else { String::new() };
        let points = |of: &dyn Fn(&Epoch) -> Option<f64>| -> Vec<(f64, f64)> {
            training.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, of(epoch)?))).collect()
        };
        let drawn = [
            ("training", points(&|epoch| Some((quantity.training)(epoch))), false),
            ("validation", points(&|epoch| (quantity.validation)(epoch)), true),
        ];
        for (part, points, dashed) in drawn {
            if !points.is_empty() {
                // One run alone shows its parts by colour too.
                let colour = if runs.len() > 1 { index } else { usize::from(dashed) };
                series.push(Series {
                    name: format!("{name}{part}"),
                    points,
                    spread: Vec::new(),
                    colour,
                    dashed,
                });
            }
        }
    }
    let title = format!("{title}: {}", quantity.name);
    let all = || series.iter().flat_map(|series| &series.points);
    let last = all().map(|(epoch, _)| *epoch).fold(1.0, f64::max);
    let axes = Axes {
        title: &format!("{title} by epoch"),
        x: "epoch",
        y: quantity.axis,
        x_range: if last > 1.0 { 1.0..last } else { 0.5..1.5 },
        y_range: around(all().map(|(_, value)| *value)),
        x_kind: Scale::Count,
        y_kind: quantity.scale,
    };
    let validated = series.iter().any(|series| series.dashed);
    let caption = html! {
        (meaning) " "
        @match (quantity.scale, validated) {
            (Scale::Percent, true) => "The gap between solid and dashed is what does not carry over to images that were not trained on.",
            (_, true) => "Dashed below solid is no error: validation is measured at the end of the epoch, on images as they are.",
            (Scale::Percent, false) => "A curve that still rises at its end asks for more epochs.",
            (_, false) => "It should fall and level off; a jump is a learning rate too high.",
        }
        @if runs.len() > DRAWN { " Drawn are the first " (DRAWN) " runs." }
    };
    let body = html! {
        @if series.len() > 1 { (legend(series.iter().map(|series| (series.name.as_str(), series.colour, series.dashed)))) }
        (PreEscaped(lines(&axes, &series)))
    };
    figure(&title, body, caption)
}

/// Names with the colours of their lines or points.
pub(super) fn legend<'a>(entries: impl Iterator<Item = (&'a str, usize, bool)>) -> Markup {
    html! {
        ul.legend {
            @for (name, colour, dashed) in entries {
                li { i.dashed[dashed] style=(format!("--c: var(--c{})", colour % COLOURS)) {} (name) }
            }
        }
    }
}
