//! Trains a classifier on features (or on images, if the encoder is trained too), and tests it.
//!
//! Training and testing are two steps: a classifier can be trained and chosen with the test set closed, and tested later.

mod frozen;
mod full;
mod mixture;
mod pseudo_labels;
mod ridge;
mod self_training;
mod teacher;
mod testing;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Context;
use super::training_stage::Material;
use crate::config::{FinetuneConfig, FinetuneMode};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::files::{read_json, sha256_file, write_json};
use crate::judge::statistics::Statistics;
use crate::model::{ClassifierShape, FeatureMap, HeadKind};
use crate::progress::{EpochMetrics, Reporter, Stage};
use crate::samples::Samples;
use crate::store::checkpoint::{Checkpoint, DatasetLabel};
use crate::store::replacement::Work;
use crate::training::{self, Evaluation, Keep};

pub(super) use full::full_readout;
pub(super) use mixture::{Pseudo, Unlabeled, batches, mixture};
pub use pseudo_labels::{Round, RoundClass};
pub(super) use ridge::bytes as ridge_bytes;
pub use testing::test_classifier;

/// The file `finetune/summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FinetuneSummary {
    /// What was trained on what, and how the test set was used.
    pub protocol: String,
    /// The data set.
    pub dataset: DatasetLabel,
    /// Labeled training images.
    pub labels: usize,
    /// Images that were trained on without looking at their labels, those of `labels` among them; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabeled: Option<usize>,
    /// Rounds of self-training; absent without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Round>,
    /// Epochs trained.
    pub epochs: usize,
    /// The last epoch.
    pub last_epoch: Option<EpochMetrics>,
    /// Wall time of all epochs, in seconds.
    pub seconds: f64,
    /// Accuracy on the validation split of the classifier that is kept, in 0..=1; absent if nothing is held out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    /// Accuracy on the test set, in 0..=1; absent until the test set is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// Reasons not to trust these numbers; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Names of the classes, in the order of the matrix.
    pub classes: Vec<String>,
    /// The evaluation on the test set, after all training; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Evaluation>,
    /// Interval, calibration and mistakes on the test set; absent until it is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<Statistics>,
    /// SHA-256 of the checkpoint file.
    pub checkpoint: String,
}

impl FinetuneSummary {
    /// Refuses a checkpoint at `path` that these numbers do not belong to.
    ///
    /// # Errors
    /// [`Error::Checkpoint`], [`Error::Io`].
    pub(crate) fn refuse_other(&self, path: &Path) -> Result<()> {
        match sha256_file(path)? == self.checkpoint {
            true => Ok(()),
            false => Err(Checkpoint::refuse(
                path,
                "is not the one that summary.json beside it describes; its training did not finish",
            )),
        }
    }
}

/// Where `finetune` reads from, if not from the run directory.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The pretrained checkpoint or its directory (mode `full`).
    pub checkpoint: Option<PathBuf>,
    /// The directory of features (mode `frozen`).
    pub features: Option<PathBuf>,
    /// The images to train on and those held out, instead of those that section `data` draws.
    pub split: Option<Split>,
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
    let (mut trained, dataset) = train(context, sources, reporter)?;
    context.conclude(trained.work.take(), |work| {
        let purpose =
            format!("finetune: {}", what(&context.config.finetune, trained.unlabeled, &trained.rounds));
        let summary = summarised(context, trained, &work)?;
        let classifier = testing::Trained { files: work.directory(), summary, sources };
        let tested = classifier.test(context, dataset.as_ref(), &purpose, reporter)?;
        let summary = tested.write(work.directory())?;
        context.finish(Stage::Finetune, work)?;
        Ok(summary)
    })
}

/// Trains the classifier and leaves the test set closed; [`test_classifier`] opens it later. If the very same
/// classifier has been tested before, its summary is kept.
///
/// # Errors
/// Those of [`finetune`].
pub fn train_classifier(
    context: &Context,
    sources: &Sources,
    reporter: &mut dyn Reporter,
) -> Result<FinetuneSummary> {
    let (mut trained, _) = train(context, sources, reporter)?;
    context.conclude(trained.work.take(), |work| {
        let summary = summarised(context, trained, &work)?;
        write_json(&work.directory().summary(), &summary)?;
        context.finish(Stage::Finetune, work)?;
        Ok(summary)
    })
}

/// Trains the classifier; also returns the data set, if it was opened.
fn train(
    context: &Context,
    sources: &Sources,
    reporter: &mut dyn Reporter,
) -> Result<(Trained, Option<Dataset>)> {
    match context.config.finetune.mode {
        FinetuneMode::Frozen => Ok((frozen::run(context, sources, reporter)?, None)),
        FinetuneMode::Full | FinetuneMode::Joint => {
            let (trained, dataset) = full::run(context, sources, reporter)?;
            Ok((trained, Some(dataset)))
        }
    }
}

/// The summary of a classifier in the stage's directory, before it is tested.
fn summarised(context: &Context, trained: Trained, work: &Work) -> Result<FinetuneSummary> {
    let files = work.directory();
    let checkpoint = sha256_file(&files.result())?;
    let before: Option<FinetuneSummary> = read_json(&files.summary()).ok();
    if let Some(tested) = before.filter(|before| before.test.is_some() && before.checkpoint == checkpoint) {
        return Ok(tested);
    }
    let predictions = files.predictions();
    if predictions.exists() {
        std::fs::remove_file(&predictions).map_err(Error::io("remove", &predictions))?;
    }
    let summary = FinetuneSummary {
        protocol: protocol(
            &what(&context.config.finetune, trained.unlabeled, &trained.rounds),
            &trained.how,
            testing::CLOSED,
        ),
        labels: trained.labels,
        unlabeled: trained.unlabeled,
        rounds: trained.rounds,
        epochs: trained.history.len(),
        last_epoch: trained.history.last().cloned(),
        seconds: trained.seconds,
        validation_accuracy: trained.validation,
        test_accuracy: None,
        warnings: Vec::new(),
        classes: trained.classes,
        test: None,
        statistics: None,
        checkpoint,
        dataset: trained.dataset,
    };
    context.run.record_run(context.environment(), summary.dataset.clone(), None)?;
    Ok(summary)
}

/// What is trained, and on what.
fn what(config: &FinetuneConfig, unlabeled: Option<usize>, rounds: &[Round]) -> String {
    let images = unlabeled.unwrap_or_default();
    let from = match (config.from_scratch, config.mode) {
        (true, FinetuneMode::Full) if rounds.is_empty() => "from scratch (supervised baseline)",
        (true, _) => "from scratch",
        (false, _) => "from the pretrained encoder",
    };
    let trained = match (config.mode, config.head) {
        (FinetuneMode::Full, _) => format!("encoder and classifier trained end to end {from}"),
        (FinetuneMode::Joint, _) => format!(
            "encoder and classifier trained end to end {from}, jointly with the rotations of {images} images whose \
             labels are not used"
        ),
        (FinetuneMode::Frozen, HeadKind::Conv) => "frozen encoder, convolutions on its map".into(),
        (FinetuneMode::Frozen, HeadKind::Linear | HeadKind::Mlp) => {
            "frozen encoder, dense classifier on its features".into()
        }
        (FinetuneMode::Frozen, HeadKind::Ridge) => {
            "frozen encoder, ridge regression of one-hot labels on its features".into()
        }
    };
    let counts: Vec<String> = rounds.iter().map(|round| round.images.to_string()).collect();
    match &counts[..] {
        [] => trained,
        counts => format!(
            "{trained}; self-training, {} given labels by what was trained before, of {images} images whose own are not \
             used",
            counts.join(", then ")
        ),
    }
}

fn protocol(what: &str, how: &str, test: &str) -> String {
    format!("{what}; {how}, {test}")
}

/// Validation accuracy of the epoch that is kept.
fn kept_accuracy(config: &FinetuneConfig, history: &[EpochMetrics]) -> Option<f64> {
    match config.keep {
        Keep::Last => history.last()?.validation_accuracy,
        Keep::Best => history.iter().filter_map(|epoch| epoch.validation_accuracy).reduce(f64::max),
    }
}

/// How the number of epochs was chosen, in words.
fn choice(config: &FinetuneConfig) -> &'static str {
    match (config.patience, config.keep) {
        (None, Keep::Last) => "trained for a fixed number of epochs",
        (None, Keep::Best) => "the epoch with the best validation accuracy kept",
        (Some(_), Keep::Last) => "stopped by validation accuracy",
        (Some(_), Keep::Best) => "stopped by validation accuracy, the best epoch kept",
    }
}

struct Trained {
    /// How it was trained or solved, in words.
    how: String,
    seconds: f64,
    dataset: DatasetLabel,
    classes: Vec<String>,
    labels: usize,
    /// Images trained on without their labels.
    unlabeled: Option<usize>,
    rounds: Vec<Round>,
    /// Accuracy on the validation split.
    validation: Option<f64>,
    history: Vec<EpochMetrics>,
    /// On the first rank.
    work: Option<Work>,
}

/// The classifier that the config describes, on `features` numbers per image; only head `conv` reads `map`.
pub(super) fn configured_shape(
    config: &FinetuneConfig,
    features: usize,
    classes: usize,
    map: Option<FeatureMap>,
) -> ClassifierShape {
    ClassifierShape {
        features,
        hidden: config.hidden_widths(),
        batch_norm: config.batch_norm,
        classes,
        map: map.filter(|_| config.head == HeadKind::Conv),
    }
}

/// What the training loop is given.
fn material<'a, N>(
    samples: &'a dyn Samples,
    validation: Option<&'a dyn Samples>,
    config: &FinetuneConfig,
) -> Material<'a, N> {
    Material { samples, steps: steps(samples, config), before: Vec::new(), validation, look: None }
}

/// Steps of all epochs.
fn steps(samples: &dyn Samples, config: &FinetuneConfig) -> u64 {
    training::steps_an_epoch(samples, config.batch_size) * config.epochs as u64
}
