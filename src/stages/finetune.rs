//! Features (or images, when the encoder is trained too) to a classifier and its test accuracy.

mod frozen;
mod full;
mod ridge;

use std::path::PathBuf;

use serde::Serialize;

use super::training_stage::Material;
use super::{Context, warnings};
use crate::checkpoint::DatasetLabel;
use crate::config::{FinetuneConfig, FinetuneMode};
use crate::error::Result;
use crate::files::{sha256_file, write_json};
use crate::judge::statistics::{Statistics, softmax};
use crate::predictions::{Predictions, Source};
use crate::progress::{EpochMetrics, Reporter, Stage};
use crate::samples::Samples;
use crate::stage_directory::Work;
use crate::training::{self, Evaluation, Keep};

pub(super) use full::full_readout;
pub(super) use ridge::bytes as ridge_bytes;

/// The file `finetune/summary.json`.
#[derive(Clone, Debug, Serialize)]
pub struct FinetuneSummary {
    /// What was trained on what, and how the test set was used.
    pub protocol: String,
    /// The data set.
    pub dataset: DatasetLabel,
    /// Labeled training images.
    pub labels: usize,
    /// Epochs trained.
    pub epochs: usize,
    /// The last epoch.
    pub last_epoch: Option<EpochMetrics>,
    /// Wall time of all epochs, in seconds.
    pub seconds: f64,
    /// Accuracy on the test set, in 0..=1.
    pub test_accuracy: f64,
    /// Why these numbers are none to build on; absent where nothing speaks against them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Names of the classes, in the order of the matrix.
    pub classes: Vec<String>,
    /// The evaluation on the test set, after all training.
    pub test: Evaluation,
    /// Interval, calibration and mistakes on the test set.
    pub statistics: Statistics,
    /// SHA-256 of the checkpoint file.
    pub checkpoint: String,
}

/// Where `finetune` reads from, if not from the run directory.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The pretrained checkpoint or its directory (mode `full`).
    pub checkpoint: Option<PathBuf>,
    /// The directory of features (mode `frozen`).
    pub features: Option<PathBuf>,
}

/// Trains the classifier and evaluates it on the test set, once.
///
/// # Errors
/// Whatever [`crate::Error`] names: features or checkpoint that do not fit, data, disk.
pub fn finetune(
    context: &Context,
    sources: &Sources,
    reporter: &mut dyn Reporter,
) -> Result<FinetuneSummary> {
    let (trained, (test, logits)) = match context.config.finetune.mode {
        FinetuneMode::Frozen => frozen::run(context, sources, reporter)?,
        FinetuneMode::Full => full::run(context, sources, reporter)?,
    };
    let directory = trained.work.directory().clone();
    let checkpoint = sha256_file(&directory.result())?;
    let predictions = predictions(&trained, &checkpoint, logits);
    predictions.save(&directory.predictions())?;
    let summary = FinetuneSummary {
        protocol: format!(
            "{}; {}, test set evaluated once afterwards, nothing selected on it",
            trained.what, trained.how
        ),
        labels: trained.labels,
        epochs: trained.history.len(),
        last_epoch: trained.history.last().cloned(),
        seconds: trained.seconds,
        test_accuracy: test.accuracy,
        warnings: warnings::of_classifier(&test, &trained.classes),
        classes: trained.classes,
        test,
        statistics: predictions.statistics(),
        checkpoint,
        dataset: trained.dataset,
    };
    context.run.record_run(context.environment(), summary.dataset.clone(), Some(&summary.checkpoint))?;
    write_json(&directory.summary(), &summary)?;
    context.finish(Stage::Finetune, trained.work)?;
    Ok(summary)
}

/// How the number of epochs came about, in words.
fn choice(config: &FinetuneConfig) -> &'static str {
    match (config.patience, config.keep) {
        (None, Keep::Last) => "trained for a fixed number of epochs",
        (None, Keep::Best) => "the epoch with the best validation accuracy kept",
        (Some(_), Keep::Last) => "stopped by validation accuracy",
        (Some(_), Keep::Best) => "stopped by validation accuracy, the best epoch kept",
    }
}

/// What is kept of the test set's logits, in the order of its images.
fn predictions(trained: &Trained, checkpoint: &str, mut probabilities: Vec<f32>) -> Predictions {
    let source = Source {
        dataset: trained.dataset.clone(),
        classes: trained.classes.clone(),
        checkpoint: checkpoint.to_owned(),
    };
    softmax(&mut probabilities, source.classes.len());
    Predictions { source, probabilities, labels: trained.test_labels.clone() }
}

struct Trained {
    what: &'static str,
    /// Trained how long, or solved, and how that was chosen.
    how: String,
    seconds: f64,
    dataset: DatasetLabel,
    classes: Vec<String>,
    labels: usize,
    history: Vec<EpochMetrics>,
    test_labels: Vec<u8>,
    work: Work,
}

/// The evaluation on the test set, and its logits.
type Tested = (Evaluation, Vec<f32>);

/// What the loop is given, without any look at the features.
fn material<'a, N>(
    samples: &'a dyn Samples,
    validation: Option<&'a dyn Samples>,
    config: &FinetuneConfig,
) -> Material<'a, N> {
    let steps = training::steps_an_epoch(samples, config.batch_size) * config.epochs as u64;
    Material { samples, steps, before: Vec::new(), validation, look: None }
}
