//! Section `pretrain`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::training::Common;
use super::{MAX_BATCH_SIZE, MAX_EPOCHS, in_range, is_default};
use crate::data::{AugmentConfig, DataConfig, Rotations};
use crate::error::Result;
use crate::training::{Keep, OptimizerConfig, ScheduleConfig};

/// Section `pretrain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PretrainConfig {
    /// Passes over the training images, in as many rotations as `rotations` says; 0 leaves the encoder as initialised.
    pub epochs: usize,
    /// Samples of a training step (see `rotations` for what counts as one).
    pub batch_size: usize,
    /// How rotated copies are put into batches.
    pub rotations: Rotations,
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
    /// Which weights the stage leaves: those of the `last` epoch, or of the `best` by accuracy on the validation split.
    #[serde(skip_serializing_if = "is_default")]
    pub keep: Keep,
    /// Stop when so many epochs have brought no new best accuracy on the validation split, at least 1. Absent or null:
    /// never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self {
            epochs: 10,
            batch_size: 32,
            rotations: Rotations::Shuffled,
            augment: None,
            optimizer: OptimizerConfig::default(),
            schedule: ScheduleConfig::default(),
            label_smoothing: 0.0,
            clip_norm: None,
            weight_average: None,
            keep: Keep::Last,
            patience: None,
        }
    }
}

impl PretrainConfig {
    pub(super) fn validate(&self, data: &DataConfig) -> Result<()> {
        in_range("pretrain.epochs", self.epochs, 0, MAX_EPOCHS)?;
        in_range("pretrain.batch_size", self.batch_size, 1, MAX_BATCH_SIZE)?;
        if let Some(augment) = &self.augment {
            augment.validate("pretrain.augment")?;
        }
        self.common().validate(data)
    }

    fn common(&self) -> Common<'_> {
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
