//! The config: one JSON document, strict, with every key's meaning in its schema.
//!
//! Each section is the property of one module and is handed to that module alone. Keys that are absent
//! take the values of the original Keras program (`configs/seed.json`).

mod load;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::{AugmentConfig, DataConfig};
use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::model::{EncoderConfig, Pool};
use crate::progress::Stage;
use crate::training::{OptimizerConfig, SaveConfig, ScheduleConfig};

pub use load::{Overrides, QUICKSTART, load, resolve, schema};

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The command, the machine and the result to expect, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Decides every random draw: parameters, order of samples, splits.
    pub seed: u64,
    /// Where tensors live: `flex` (default), or `ndarray` in a build with that feature.
    pub device: DeviceName,
    /// Threads to compute with; absent or null: as many as the machine has processors. Results do not depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Which images, how many, and how they are scaled.
    pub data: DataConfig,
    /// The network whose features are wanted.
    pub encoder: EncoderConfig,
    /// Rotation prediction on unlabeled images.
    pub pretrain: PretrainConfig,
    /// Features of every image.
    pub extract: ExtractConfig,
    /// The classifier on top of the features.
    pub finetune: FinetuneConfig,
    /// How often to save within an epoch; results do not depend on it.
    #[serde(skip_serializing_if = "is_default")]
    pub save: SaveConfig,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How the four rotated copies of the images are put into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rotations {
    /// All rotated copies of all images are shuffled together; `batch_size` counts rotated copies (the Keras program).
    Shuffled,
    /// The images are shuffled and the four copies of an image share a batch; `batch_size` counts images
    /// (Gidaris, Singh, Komodakis 2018).
    All,
}

/// Section `pretrain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Passes over all four rotations of every training image; 0 leaves the encoder as initialised.
    pub epochs: usize,
    /// Samples of a training step (see `rotations` for what counts as one).
    pub batch_size: usize,
    /// How rotated copies are put into batches.
    pub rotations: Rotations,
    /// What is done to an image before it is rotated.
    #[serde(skip_serializing_if = "AugmentConfig::is_none")]
    pub augment: AugmentConfig,
    /// How parameters are updated.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    #[serde(skip_serializing_if = "is_constant")]
    pub schedule: ScheduleConfig,
}

fn is_constant(schedule: &ScheduleConfig) -> bool {
    *schedule == ScheduleConfig::default()
}

/// Section `extract`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractConfig {
    /// Images encoded at a time; does not change the features.
    pub batch_size: usize,
    /// Blocks to read (`block1`, `block2`, ...), side by side; none: the encoder's last layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// How the places of a block's output are averaged: `none`, `gap`, `2x2`, `4x4` or `8x8`.
    #[serde(skip_serializing_if = "is_default")]
    pub pool: Pool,
    /// 4: the features of all four rotations of an image, side by side; 1: of the image as it is.
    #[serde(skip_serializing_if = "is_one")]
    pub views: usize,
}

fn is_false(yes: &bool) -> bool {
    !yes
}

fn is_one(views: &usize) -> bool {
    *views == 1
}

/// What `finetune` trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinetuneMode {
    /// The classifier alone, on features written by `extract`.
    Frozen,
    /// Encoder and classifier together, on images, starting from the pretrained encoder.
    Full,
}

/// Section `finetune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// What is trained: `frozen` or `full`.
    pub mode: FinetuneMode,
    /// Passes over the labeled training images.
    pub epochs: usize,
    /// Samples of a training step.
    pub batch_size: usize,
    /// Widths of the classifier's hidden layers; none makes it linear.
    pub hidden: Vec<usize>,
    /// Batch normalisation in the hidden layers.
    #[serde(skip_serializing_if = "is_false")]
    pub batch_norm: bool,
    /// In mode `frozen`: subtract the mean and divide by the deviation of each feature over the training images.
    #[serde(skip_serializing_if = "is_false")]
    pub standardise: bool,
    /// How parameters are updated.
    pub optimizer: OptimizerConfig,
    /// How the learning rate changes.
    #[serde(skip_serializing_if = "is_constant")]
    pub schedule: ScheduleConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            description: String::new(),
            seed: 0,
            device: DeviceName::Flex,
            threads: None,
            data: DataConfig::default(),
            encoder: EncoderConfig::default(),
            pretrain: PretrainConfig::default(),
            extract: ExtractConfig::default(),
            finetune: FinetuneConfig::default(),
            save: SaveConfig::default(),
        }
    }
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 32,
            rotations: Rotations::Shuffled,
            augment: AugmentConfig::default(),
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
        }
    }
}

impl Default for ExtractConfig {
    fn default() -> Self {
        Self { batch_size: 256, layers: Vec::new(), pool: Pool::default(), views: 1 }
    }
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            mode: FinetuneMode::Frozen,
            epochs: 10,
            batch_size: 32,
            hidden: vec![64],
            batch_norm: false,
            standardise: false,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
        }
    }
}

/// Largest number of samples in a step: beyond it a batch of 32x32 images alone takes 800 MB.
const MAX_BATCH_SIZE: usize = 65_536;
/// Largest number of epochs, so that a mistyped one is noticed.
const MAX_EPOCHS: usize = 100_000;
/// Most hidden layers.
const MAX_LAYERS: usize = 16;
/// Widest hidden layer.
const MAX_HIDDEN: usize = 65_536;
/// Most threads.
const MAX_THREADS: usize = 1_024;

impl Config {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key, the range and the value.
    pub fn validate(&self) -> Result<()> {
        if let Some(threads) = self.threads {
            in_range("threads", threads, 1, MAX_THREADS)?;
        }
        self.data.validate()?;
        self.save.validate()?;
        self.encoder.validate()?;
        in_range("pretrain.epochs", self.pretrain.epochs, 0, MAX_EPOCHS)?;
        in_range("pretrain.batch_size", self.pretrain.batch_size, 1, MAX_BATCH_SIZE)?;
        self.pretrain.augment.validate()?;
        self.pretrain.optimizer.validate("pretrain.optimizer")?;
        self.pretrain.schedule.validate("pretrain.schedule")?;
        in_range("extract.batch_size", self.extract.batch_size, 1, MAX_BATCH_SIZE)?;
        in_range("finetune.epochs", self.finetune.epochs, 1, MAX_EPOCHS)?;
        in_range("finetune.batch_size", self.finetune.batch_size, 1, MAX_BATCH_SIZE)?;
        if !matches!(self.extract.views, 1 | 4) {
            let problem = format!("must be 1 or 4, got {}", self.extract.views);
            return Err(Error::config("extract.views", problem));
        }
        in_range("finetune.hidden", self.finetune.hidden.len(), 0, MAX_LAYERS)?;
        for (index, &width) in self.finetune.hidden.iter().enumerate() {
            in_range(&format!("finetune.hidden[{index}]"), width, 1, MAX_HIDDEN)?;
        }
        self.finetune.optimizer.validate("finetune.optimizer")?;
        self.finetune.schedule.validate("finetune.schedule")
    }

    /// What decides the result of a stage besides data set and architecture. Epochs are part of it where the
    /// learning rate depends on them.
    pub fn recipe(&self, stage: Stage) -> Value {
        let data = DataConfig { directory: None, ..self.data.clone() };
        let (pretrain, finetune) = (&self.pretrain, &self.finetune);
        let stage = match stage {
            Stage::Pretrain => {
                let epochs = if is_constant(&pretrain.schedule) { 0 } else { pretrain.epochs };
                json!(PretrainConfig { epochs, ..pretrain.clone() })
            }
            Stage::Extract => json!(self.extract),
            Stage::Finetune => {
                let epochs = if is_constant(&finetune.schedule) { 0 } else { finetune.epochs };
                json!(FinetuneConfig { epochs, ..finetune.clone() })
            }
        };
        json!({ "seed": self.seed, "device": self.device, "data": data, "stage": stage })
    }

    /// Writes the config as resolved, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::files::write_json(path, self)
    }
}

fn in_range(path: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if value < least {
        return Err(Error::config(path, format!("must be at least {least}, got {value}")));
    }
    if value > most {
        return Err(Error::config(path, format!("must be at most {most}, got {value}")));
    }
    Ok(())
}
