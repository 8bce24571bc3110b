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

/// Section `pretrain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Passes over the training images, in as many rotations as `rotations` says; 0 leaves the encoder as initialised.
    pub epochs: usize,
    /// Steps in all in place of `epochs`; the last epoch ends early where they do not fill it. `--budget` sets it. At
    /// least 1; absent or null: `epochs` decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Samples of a training step (see `rotations` for what counts as one).
    pub batch_size: usize,
    /// How rotated copies are put into batches.
    pub rotations: Rotations,
    /// Smaller images at first, in the order of the steps; afterwards images have their own size. For encoders that take
    /// images of any size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<SizePhase>,
    /// Random changes to the images before they are rotated; absent or null: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<AugmentConfig>,
    /// How parameters are updated.
    pub optimizer: OptimizerConfig,
    /// The learning rate over the run.
    pub schedule: ScheduleConfig,
    /// Share of the target that is spread over all classes, at least 0 and under 1; 0: none.
    pub label_smoothing: f64,
    /// Gradients are scaled down to this norm, over all parameters together, where they are longer; over 0. Absent or
    /// null: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Keep a moving average of the weights with this decay a step, over 0 and under 1, and validate, extract and test
    /// with it; early steps average less. Absent or null: no average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_average: Option<f64>,
    /// Which weights the stage leaves: those of the `last` epoch, or of the `best` by accuracy on the validation split
    /// (see `keep_by`).
    #[serde(skip_serializing_if = "is_default")]
    pub keep: Keep,
    /// The accuracy by which the best epoch is found and by which `patience` goes: `task` (telling the rotations) or
    /// `probe`.
    #[serde(skip_serializing_if = "is_default")]
    pub keep_by: KeepBy,
    /// Look at the features after every so many epochs, with the labels of the validation split; absent or null: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeConfig>,
    /// Stop when so many epochs have brought no new best accuracy on the validation split, at least 1. Absent or null:
    /// never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

/// A part of the training in which images are made smaller, by averaging over areas after the augmentation and before
/// the rotation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SizePhase {
    /// Share of all steps up to which this size holds, over 0 and at most 1, ascending.
    pub until: f64,
    /// Rows and columns, at least 8.
    pub size: usize,
}

/// Section `pretrain.probe`: how good the features are, by the labels of the validation split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Epochs from one look to the next, at least 1.
    pub every: usize,
    /// Training images to compare with, evenly out of those trained on, at least 1.
    pub images: usize,
    /// Blocks whose features are compared (as in section `extract`); none: the encoder's last layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// How the places of a block's output are averaged (as in section `extract`).
    #[serde(skip_serializing_if = "is_default")]
    pub pool: Pool,
    /// Nearest images by cosine that vote, at least 1.
    pub k: usize,
    /// A vote weighs exp(cosine / temperature); over 0 and at most 10.
    pub temperature: f64,
    /// Ridge regression too, with this penalty on weights of standardised features, a sample; over 0. Absent or null: no.
    #[serde(skip_serializing_if = "Option::is_none")]
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
