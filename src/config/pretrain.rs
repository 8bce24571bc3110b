//! Section `pretrain`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::training::Common;
use super::{MAX_BATCH_SIZE, MAX_EPOCHS, in_range, is_default};
use crate::data::{AugmentConfig, DataConfig};
use crate::error::{Error, Result};
use crate::model::{EncoderConfig, Pool};
use crate::samples::Rotations;
use crate::training::{Keep, KeepBy, OptimizerConfig, ScheduleConfig};

/// Section `pretrain`: how the encoder learns to predict rotations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Passes over the training images; 0 leaves the encoder as initialised.
    #[schemars(range(min = 0, max = MAX_EPOCHS))]
    pub epochs: usize,
    /// Number of training steps, in place of `epochs`; the last epoch may end early. Set by `--budget`. Absent or null:
    /// train for `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub steps: Option<u64>,
    /// Samples per training step (see `rotations` for what counts as one).
    #[schemars(range(min = 1, max = MAX_BATCH_SIZE))]
    pub batch_size: usize,
    /// How rotated copies are put into batches.
    pub rotations: Rotations,
    /// Begin training on smaller images, phase by phase, and end at full size. Only for encoders that take images of
    /// any size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizePhase>,
    /// Data augmentation, applied before the rotation; absent or null: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<AugmentConfig>,
    /// Optimizer.
    pub optimizer: OptimizerConfig,
    /// Learning rate schedule.
    pub schedule: ScheduleConfig,
    /// Label smoothing: the share of the target that is spread over all classes.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub label_smoothing: f64,
    /// Clip gradients to this norm, taken over all parameters together. Absent or null: no clipping.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip_norm: Option<f64>,
    /// Keep a moving average of the weights with this decay per step (less in early steps), and use it for validation,
    /// extraction and testing. Absent or null: no average.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub weight_average: Option<f64>,
    /// Which weights to keep: those of the `last` epoch, or of the epoch with the `best` accuracy on the validation
    /// images (see `keep_by`).
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Keep::Last))]
    pub keep: Keep,
    /// The accuracy that `keep` and `patience` compare: of the `task` (predicting rotations), or of the `probe`.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = KeepBy::Task))]
    pub keep_by: KeepBy,
    /// Measure the features during training, using the labels of the validation images. Absent or null: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeConfig>,
    /// Stop early after this many epochs without a new best accuracy on the validation images. Absent or null: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_EPOCHS))]
    pub patience: Option<usize>,
}

/// A phase of training on smaller images. They are scaled down, by averaging over areas, after augmentation and before
/// rotation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizePhase {
    /// Where the phase ends, as a share of all steps; later phases have larger values.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub until: f64,
    /// Height and width in pixels.
    #[schemars(range(min = MIN_SIZE, max = MAX_SIZE))]
    pub size: usize,
}

/// Section `pretrain.probe`: how good the features are, measured during training with the labels of the validation
/// images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Probe after every this many epochs.
    #[schemars(range(min = 1, max = MAX_IMAGES))]
    pub every: usize,
    /// Number of training images to compare with, spread evenly over those trained on; with `data.labels_per_class`, over those
    /// that it draws.
    #[schemars(range(min = 1, max = MAX_IMAGES))]
    pub images: usize,
    /// Blocks to read, as in section `extract`; empty: the encoder's last layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// How a block's output is averaged, as in section `extract`.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Pool::default()))]
    pub pool: Pool,
    /// Number of nearest neighbours (by cosine similarity) that vote.
    #[schemars(range(min = 1, max = MAX_IMAGES))]
    pub k: usize,
    /// Temperature: a neighbour's vote has weight exp(cosine / temperature).
    #[schemars(range(max = 10), extend("exclusiveMinimum" = 0))]
    pub temperature: f64,
    /// Also fit ridge regression on standardised features, with this penalty per sample. Absent or null: no ridge
    /// regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub ridge: Option<f64>,
}

impl Default for ProbeConfig {
    /// 20 neighbours (Caron et al. 2021) at temperature 0.07 (Wu et al. 2018).
    fn default() -> Self {
        Self {
            every: 1,
            images: 5_000,
            layers: Vec::new(),
            pool: Pool::default(),
            k: 20,
            temperature: 0.07,
            ridge: None,
        }
    }
}

impl ProbeConfig {
    fn validate(&self, data: &DataConfig) -> Result<()> {
        if data.validation_images == 0 {
            let problem = "looks at a validation split, but data.validation_images is 0";
            return Err(Error::config("pretrain.probe", problem));
        }
        for (key, value) in [("every", self.every), ("images", self.images), ("k", self.k)] {
            in_range(&format!("pretrain.probe.{key}"), value, 1, MAX_IMAGES)?;
        }
        if !(self.temperature > 0.0 && self.temperature <= 10.0) {
            let problem = format!("must be over 0 and at most 10, got {}", self.temperature);
            return Err(Error::config("pretrain.probe.temperature", problem));
        }
        match self.ridge {
            Some(penalty) if !(penalty > 0.0 && penalty.is_finite()) => {
                Err(Error::config("pretrain.probe.ridge", format!("must be over 0, got {penalty}")))
            }
            _ => Ok(()),
        }
    }
}

/// Most images of a probe.
const MAX_IMAGES: usize = 1_000_000;
/// Smallest size: a quarter of CIFAR-10's.
const MIN_SIZE: usize = 8;
/// Largest size: no image that an encoder takes is larger.
const MAX_SIZE: usize = 256;
/// Most steps, so that a mistyped number is noticed.
const MAX_STEPS: u64 = 1_000_000_000;

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            steps: None,
            batch_size: 32,
            rotations: Rotations::Shuffled,
            sizes: Vec::new(),
            augment: None,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            label_smoothing: 0.0,
            clip_norm: None,
            weight_average: None,
            keep: Keep::Last,
            keep_by: KeepBy::Task,
            probe: None,
            patience: None,
        }
    }
}

impl PretrainConfig {
    pub(super) fn validate(&self, data: &DataConfig, encoder: &EncoderConfig) -> Result<()> {
        in_range("pretrain.epochs", self.epochs, 0, MAX_EPOCHS)?;
        in_range("pretrain.batch_size", self.batch_size, 1, MAX_BATCH_SIZE)?;
        if let Some(steps) = self.steps
            && !(1..=MAX_STEPS).contains(&steps)
        {
            let problem = format!("must be at least 1 and at most {MAX_STEPS}, got {steps}");
            return Err(Error::config("pretrain.steps", problem));
        }
        self.validate_sizes(encoder)?;
        match &self.probe {
            Some(probe) => probe.validate(data)?,
            None if self.keep_by == KeepBy::Probe => {
                let problem = "goes by the probe, but there is no section pretrain.probe";
                return Err(Error::config("pretrain.keep_by", problem));
            }
            None => {}
        }
        if let Some(augment) = &self.augment {
            augment.validate("pretrain.augment")?;
        }
        self.common().validate(data)
    }

    fn validate_sizes(&self, encoder: &EncoderConfig) -> Result<()> {
        if let (false, Some(reason)) = (self.sizes.is_empty(), encoder.fixed_size()) {
            return Err(Error::config("pretrain.sizes", reason));
        }
        let mut before = 0.0;
        for (index, phase) in self.sizes.iter().enumerate() {
            if !(phase.until > before && phase.until <= 1.0) {
                let problem = format!("must be over {before} and at most 1, got {}", phase.until);
                return Err(Error::config(format!("pretrain.sizes[{index}].until"), problem));
            }
            let path = format!("pretrain.sizes[{index}].size");
            in_range(&path, phase.size, MIN_SIZE.max(encoder.smallest_side()), MAX_SIZE)?;
            before = phase.until;
        }
        Ok(())
    }

    /// Steps in all, where an epoch has `an_epoch` of them.
    pub fn total_steps(&self, an_epoch: u64) -> u64 {
        self.steps.unwrap_or(self.epochs as u64 * an_epoch)
    }

    pub(crate) fn common(&self) -> Common<'_> {
        Common {
            section: "pretrain",
            optimizer: &self.optimizer,
            schedule: &self.schedule,
            label_smoothing: self.label_smoothing,
            clip_norm: self.clip_norm,
            weight_average: self.weight_average,
            keep: self.keep,
            patience: self.patience,
        }
    }
}
