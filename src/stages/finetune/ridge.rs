//! The head `ridge`: solved, not trained.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::judge::ridge::{self, PENALTIES, RidgeChoice, choose_by_folds, choose_on};
use crate::model::{Classifier, ClassifierShape, collect, not_finite};
use crate::progress::{Reporter, Stage};
use crate::samples::Samples;
use crate::stages::resume::refuse_other;
use crate::stages::{Context, memory};
use crate::store::checkpoint::{Checkpoint, Header};
use crate::store::features::Features;
use crate::store::replacement::Work;

/// Folds of the training set, left out in turn to choose the penalty.
const FOLDS: usize = 5;

/// How to get by with less memory.
const LESS: &str = "take fewer labels (data.labels_per_class), narrower features (extract.pool, extract.layers), or the \
                    head `linear`, which reads them as a stream";

/// A solved classifier.
pub(super) struct Solved {
    /// How the penalty was chosen, and which one it is.
    pub how: String,
    /// Accuracy on the validation images, by which the penalty was chosen; `None` if there are none.
    pub validation: Option<f64>,
    /// Wall time, in seconds.
    pub seconds: f64,
    pub work: Work,
}

/// Reports the memory that solving takes, and refuses what does not fit.
///
/// # Errors
/// [`Error::Memory`].
pub(super) fn check_memory(
    train: &Features,
    validation: Option<&Features>,
    classes: usize,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let [images, width] = train.shape();
    let needed = train.held() + bytes(images, validation.map(Samples::len), width, classes);
    let what = format!("ridge regression on {images} x {width} features");
    memory::require(&what, needed, LESS, reporter)
}

/// Peak memory in bytes, including the features.
pub(in crate::stages) fn bytes(
    images: usize,
    validation: Option<usize>,
    width: usize,
    classes: usize,
) -> u64 {
    match validation {
        Some(validation) => ridge::memory_on(images, validation, width, classes, PENALTIES.len()),
        None => ridge::memory_by_folds(images, width, classes, PENALTIES.len(), FOLDS),
    }
}

/// Solves for `train` and writes the checkpoint; the penalty is chosen on `validation`, or by cross-validation if there
/// is none.
pub(super) fn solve(
    context: &Context,
    header: Header,
    shape: &ClassifierShape,
    train: &Features,
    validation: Option<&Features>,
) -> Result<Solved> {
    if let Some(directory) = context.resumed(Stage::Finetune) {
        let path = directory.checkpoint();
        refuse_other(&path, &Checkpoint::load_or_previous(&path)?.0.header, &header)?;
    }
    let start = Instant::now();
    let numbers = (train.numbers()?, validation.map(Features::numbers).transpose()?);
    let train = train.labeled(&numbers.0, shape.classes);
    let validation = validation.zip(numbers.1.as_deref());
    let validation = validation.map(|(features, values)| features.labeled(values, shape.classes));
    let (choice, chosen) = match validation {
        Some(validation) => (choose_on(train, validation, &PENALTIES), "on the validation images".to_owned()),
        None => {
            (choose_by_folds(train, &PENALTIES, FOLDS), format!("by {FOLDS} folds of the training images"))
        }
    };
    let best = choice.trials.iter().map(|trial| trial.accuracy).fold(0.0, f64::max);
    let RidgeChoice { ridge, temperature, .. } = choice;
    // Scores are close to each other; divided by the temperature, their softmax is calibrated.
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
    let work = context.begin(Stage::Finetune)?;
    Checkpoint { header, parameters, optimizer: Default::default() }.save(&work.directory().checkpoint())?;
    Ok(Solved {
        validation: validation.map(|_| best),
        how: format!("solved in closed form, penalty {} chosen {chosen}", ridge.penalty),
        seconds: start.elapsed().as_secs_f64(),
        work,
    })
}
