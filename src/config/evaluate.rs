//! Section `evaluate`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::finetune::{MAX_HIDDEN, MAX_LAYERS};
use super::{MAX_BATCH_SIZE, MAX_EPOCHS, in_range, is_false};
use crate::error::{Error, Result};
use crate::judge::{knn, ridge};
use crate::model::{Pool, Views};

/// A classifier on frozen features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProbeHead {
    /// Weighted vote of the nearest neighbours (by cosine); not trained.
    Knn,
    /// Ridge regression of one-hot labels in closed form.
    Ridge,
    /// Softmax regression.
    Linear,
    /// Hidden layers (`evaluate.hidden`) with batch normalisation.
    Mlp,
    /// Convolutions on the feature map of a block, as `finetune.head` `conv`: about ten times the memory and time of the
    /// others.
    Conv,
}

impl ProbeHead {
    /// The name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Knn => "knn",
            Self::Ridge => "ridge",
            Self::Linear => "linear",
            Self::Mlp => "mlp",
            Self::Conv => "conv",
        }
    }
}

/// What a pretrained encoder is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Baseline {
    /// The same network untrained, with the same choice of features and the same head.
    Random,
    /// Whitened random patches (Coates and Ng 2011), untrained, with the same head; in mode `frozen` only, and not with
    /// the head `conv`.
    Patches,
    /// The same network, trained on the labels alone: on as many images as pretraining saw, but in at most
    /// `most_epochs` passes, with the optimizer and augmentation of `pretrain`. A linear classifier takes the place of
    /// `ridge`.
    Scratch,
}

impl Baseline {
    /// The name in the config, and of its directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Patches => "patches",
            Self::Scratch => "scratch",
        }
    }
}

/// Section `evaluate`: how the encoder's features are judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluateConfig {
    /// Use at most this many training images (the first ones) to fit and choose the probes; null: all. This bounds the
    /// time, memory and disk space of the probe matrix.
    #[schemars(range(min = 2))]
    pub train_images: Option<usize>,
    /// How many of those images to hold out for choosing hyperparameters. Ignored if pretraining held out validation
    /// images: then those are used.
    pub validation_images: usize,
    /// Blocks to probe, each alone and all concatenated; empty: every block.
    pub layers: Vec<String>,
    /// How a block's output is averaged, as in section `extract`.
    pub pool: Pool,
    /// Views of an image, as in section `extract`.
    pub views: Views,
    /// Classifiers to probe with; empty: no probes, and no features but those of the verdict.
    pub heads: Vec<ProbeHead>,
    /// `knn`: numbers of neighbours to choose from.
    #[schemars(length(min = 1, max = MAX_CHOICES), inner(range(min = 1, max = MAX_NUMBER)))]
    pub knn_neighbours: Vec<usize>,
    /// `knn`: temperatures to choose from.
    #[schemars(length(min = 1, max = MAX_CHOICES), transform = over_0)]
    pub knn_temperatures: Vec<f32>,
    /// `ridge`: penalties to choose from, per sample, on standardised features.
    #[schemars(length(min = 1, max = MAX_CHOICES), transform = over_0)]
    pub ridge_penalties: Vec<f64>,
    /// `linear`, `mlp`: learning rates to choose from. Everything else about optimizer and schedule is taken from
    /// `finetune`.
    #[schemars(length(min = 1, max = MAX_CHOICES), transform = over_0)]
    pub learning_rates: Vec<f64>,
    /// `linear`, `mlp`: passes over the training images.
    #[schemars(range(min = 1, max = MAX_EPOCHS))]
    pub epochs: usize,
    /// `linear`, `mlp`: samples per training step.
    #[schemars(range(min = 1, max = MAX_BATCH_SIZE))]
    pub batch_size: usize,
    /// `mlp`: widths of the hidden layers.
    #[schemars(length(max = MAX_LAYERS), inner(range(min = 1, max = MAX_HIDDEN)))]
    pub hidden: Vec<usize>,
    /// Baselines that the verdict compares the encoder with. One that does not apply is left out, and the reason is
    /// given. Empty: no verdict.
    pub baselines: Vec<Baseline>,
    /// With few labels the verdict's classifiers train for more epochs, so as to take as many steps as with all labels,
    /// but for no more epochs than this.
    #[schemars(range(min = 1, max = MAX_EPOCHS))]
    pub most_epochs: usize,
    /// Numbers of labels per class at which the verdict compares; 0 means all. Numbers larger than the data set has are
    /// skipped.
    pub labels_per_class: Vec<usize>,
    /// `rotnet run` goes on to evaluate what it has trained, and shows the verdict beside its test accuracy. Results do not
    /// depend on it.
    #[serde(skip_serializing_if = "is_false")]
    pub after_run: bool,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        let knn::Grid { k, temperatures } = knn::Grid::default();
        Self {
            train_images: Some(12_000),
            validation_images: 2_000,
            layers: Vec::new(),
            pool: Pool::Two,
            views: Views::default(),
            heads: vec![ProbeHead::Knn, ProbeHead::Ridge, ProbeHead::Linear, ProbeHead::Mlp],
            knn_neighbours: k,
            knn_temperatures: temperatures,
            ridge_penalties: ridge::PENALTIES.to_vec(),
            learning_rates: vec![1e-3, 3e-3],
            epochs: 12,
            batch_size: 256,
            hidden: vec![256],
            baselines: vec![Baseline::Random, Baseline::Patches, Baseline::Scratch],
            most_epochs: 400,
            labels_per_class: vec![20, 100, 0],
            after_run: false,
        }
    }
}

/// Bounds the numbers of a list, which the schema has no attribute for.
fn over_0(list: &mut schemars::Schema) {
    list.insert("items".into(), json!({ "type": "number", "exclusiveMinimum": 0, "maximum": MAX_NUMBER }));
}

/// Most values of a list, and the largest of them.
const MAX_CHOICES: usize = 64;
const MAX_NUMBER: f64 = 1e9;

impl EvaluateConfig {
    pub(super) fn validate(&self) -> Result<()> {
        if let Some(images) = self.train_images {
            in_range("evaluate.train_images", images, 2, usize::MAX)?;
            if self.validation_images >= images {
                return Err(Error::config(
                    "evaluate.validation_images",
                    format!(
                        "must be less than evaluate.train_images ({images}), got {}",
                        self.validation_images
                    ),
                ));
            }
        }
        let neighbours: Vec<f64> = self.knn_neighbours.iter().map(|&k| k as f64).collect();
        choices("evaluate.knn_neighbours", &neighbours)?;
        let temperatures: Vec<f64> = self.knn_temperatures.iter().map(|&value| f64::from(value)).collect();
        choices("evaluate.knn_temperatures", &temperatures)?;
        choices("evaluate.ridge_penalties", &self.ridge_penalties)?;
        choices("evaluate.learning_rates", &self.learning_rates)?;
        in_range("evaluate.epochs", self.epochs, 1, MAX_EPOCHS)?;
        in_range("evaluate.most_epochs", self.most_epochs, 1, MAX_EPOCHS)?;
        in_range("evaluate.batch_size", self.batch_size, 1, MAX_BATCH_SIZE)?;
        in_range("evaluate.hidden", self.hidden.len(), 0, MAX_LAYERS)?;
        for (index, &width) in self.hidden.iter().enumerate() {
            in_range(&format!("evaluate.hidden[{index}]"), width, 1, MAX_HIDDEN)?;
        }
        Ok(())
    }
}

/// A list to choose from: not empty, and every value over 0.
fn choices(path: &str, values: &[f64]) -> Result<()> {
    in_range(path, values.len(), 1, MAX_CHOICES)?;
    match values.iter().find(|&&value| !(value > 0.0 && value <= MAX_NUMBER)) {
        Some(value) => Err(Error::config(path, format!("each must be over 0 and at most 1e9, got {value}"))),
        None => Ok(()),
    }
}
