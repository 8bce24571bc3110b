//! Loss, accuracy, learning rate and speed by epoch, for every stage, with all runs in the same charts.

use maud::{Markup, html};

use super::Shown;
use super::chart::{Axes, Scale, Series, around, lines, sheet};
use super::drawing::COLOURS;
use super::figure::drawn;
use crate::progress::{EpochMetrics, Stage};

/// Most runs in one chart; of more, only the first are drawn.
const DRAWN: usize = COLOURS;

/// A number of an epoch; absent if it was not measured.
type Value = fn(&EpochMetrics) -> Option<f64>;

/// What a chart shows.
struct Quantity {
    name: &'static str,
    axis: &'static str,
    scale: Scale,
    /// Whether the axis begins at zero.
    from_zero: bool,
    /// Name and value of the solid line, and of the dashed one.
    parts: [(&'static str, Value); 2],
    /// What to see in the solid line alone, and in both.
    captions: [&'static str; 2],
}

const LOSS: Quantity = Quantity {
    name: "loss",
    axis: "loss (nats)",
    scale: Scale::Number,
    from_zero: false,
    parts: [("training", |epoch| Some(epoch.loss)), ("validation", |epoch| epoch.validation_loss)],
    captions: [
        "It should fall and level off. If it jumps, the learning rate is too high.",
        "The dashed line may lie below the solid one: validation is measured after the epoch, on images without augmentation.",
    ],
};
const ACCURACY: Quantity = Quantity {
    name: "accuracy",
    axis: "accuracy",
    scale: Scale::Percent,
    from_zero: false,
    parts: [("training", |epoch| Some(epoch.accuracy)), ("validation", |epoch| epoch.validation_accuracy)],
    captions: [
        "If the curve still rises at its end, more epochs will help.",
        "The gap between the lines is what the network learned about its training images only.",
    ],
};
/// What to see in the probes of pretraining.
const READ: &str = "How well classes of validation images can be read from the features, by ridge regression and by the nearest \
                    training images. This is what pretraining is for. It may level off or fall while rotation accuracy rises.";
const FEATURES: Quantity = Quantity {
    name: "features",
    axis: "accuracy",
    scale: Scale::Percent,
    from_zero: false,
    parts: [("ridge", |epoch| epoch.ridge_accuracy), ("k nearest", |epoch| epoch.knn_accuracy)],
    captions: [READ; 2],
};

/// No second line.
const NONE: (&str, Value) = ("", |_| None);
const RATE: Quantity = Quantity {
    name: "learning rate",
    axis: "learning rate of the last step",
    scale: Scale::Number,
    from_zero: true,
    // Files that are older than schedules say 0.
    parts: [("training", |epoch| Some(epoch.learning_rate).filter(|rate| *rate > 0.0)), NONE],
    captions: ["As set by the schedule. Where the rate falls, the loss should fall once more."; 2],
};
const SPEED: Quantity = Quantity {
    name: "speed",
    axis: "images trained on per second",
    scale: Scale::Number,
    from_zero: true,
    parts: [("training", |epoch| Some(epoch.images_per_second).filter(|speed| speed.is_finite())), NONE],
    captions: ["Rotated copies count as images. A dip is another program at work on the machine, or a resumed epoch.";
        2],
};

/// The curves of every stage that at least one run has begun.
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
                            (curve(runs, stage, title, "", &FEATURES))
                            (curve(runs, stage, title, "", &RATE))
                            (curve(runs, stage, title, "", &SPEED))
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
        let points = |of: Value| -> Vec<(f64, f64)> {
            training.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, of(epoch)?))).collect()
        };
        let [solid, dashed] = quantity.parts;
        let drawn = [(solid.0, points(solid.1), false), (dashed.0, points(dashed.1), true)];
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
    if series.is_empty() {
        return html! {};
    }
    let title = format!("{title}: {}", quantity.name);
    let all = || series.iter().flat_map(|series| &series.points);
    let last = all().map(|(epoch, _)| *epoch).fold(1.0, f64::max);
    let values = around(all().map(|(_, value)| *value));
    let most = all().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let axes = Axes {
        title: &format!("{title} by epoch"),
        x: "epoch",
        y: quantity.axis,
        x_range: if last > 1.0 { 1.0..last } else { 0.5..1.5 },
        y_range: if quantity.from_zero { 0.0..1.05 * most } else { values },
        x_kind: Scale::Count,
        y_kind: quantity.scale,
    };
    let both = series.iter().any(|series| series.dashed);
    let caption = html! {
        (meaning) " " (quantity.captions[usize::from(both)])
        @if runs.len() > DRAWN { " Only the first " (DRAWN) " runs are drawn." }
    };
    drawn(&title, &lines(&axes, &series), &sheet(&axes, "line", ["", ""], &series), caption)
}
