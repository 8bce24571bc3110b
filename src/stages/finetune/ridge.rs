//! The head `ridge`: solved, not trained.

use std::time::Instant;

use crate::checkpoint::{Checkpoint, Header};
use crate::error::{Error, Result};
use crate::features::Features;
use crate::judge::Labeled;
use crate::judge::ridge::{Choice, PENALTIES, choose_by_folds, choose_on};
use crate::model::{Classifier, ClassifierShape, collect, not_finite};
use crate::progress::Stage;
use crate::samples::Samples;
use crate::stages::Context;

/// Parts of the training set that are left out in turn to choose the penalty.
const FOLDS: usize = 5;

/// How a classifier was solved.
pub(super) struct Solved {
    /// How the penalty was chosen, and which one it is.
    pub how: String,
    /// Accuracy on the validation images, which the penalty was chosen by; absent where there are none.
    pub validation: Option<f64>,
    /// Wall time.
    pub seconds: f64,
}

/// Solves for `train` and leaves the checkpoint; the penalty is chosen on `validation`, or by folds where there is none.
pub(super) fn solve(
    context: &Context,
    header: Header,
    shape: &ClassifierShape,
    train: &Features,
    validation: Option<&Features>,
) -> Result<Solved> {
    let start = Instant::now();
    let (choice, chosen) = match validation {
        Some(validation) => (
            choose_on(labeled(train, shape), labeled(validation, shape), &PENALTIES),
            "on the validation images".to_owned(),
        ),
        None => (
            choose_by_folds(labeled(train, shape), &PENALTIES, FOLDS),
            format!("by {FOLDS} folds of the training images"),
        ),
    };
    let best = choice.trials.iter().map(|trial| trial.accuracy).fold(0.0, f64::max);
    let Choice { ridge, temperature, .. } = choice;
    // Scores are near each other; divided by the temperature their softmax is calibrated.
    let scaled = |values: Vec<f32>| values.into_iter().map(|value| value / temperature as f32).collect();
    let network = Classifier::linear(
        shape,
        ridge.moments.clone(),
        scaled(ridge.weight),
        scaled(ridge.bias),
        &context.device,
    );
    let parameters = collect(&network);
    if let Some(parameter) = not_finite(&parameters) {
        return Err(Error::NotFinite {
            stage: Stage::Finetune.name(),
            parameter: parameter.clone(),
            step: 0,
            learning_rate: 0.0,
        });
    }
    Checkpoint { header, parameters, optimizer: Default::default() }
        .save(&context.run.checkpoint(Stage::Finetune))?;
    Ok(Solved {
        validation: validation.map(|_| best),
        how: format!("solved in closed form, penalty {} chosen {chosen}", ridge.penalty),
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn labeled<'a>(features: &'a Features, shape: &ClassifierShape) -> Labeled<'a> {
    Labeled {
        values: features.numbers(),
        labels: features.labels(),
        width: features.values(),
        classes: shape.classes,
    }
}
