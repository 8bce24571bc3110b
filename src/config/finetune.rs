//! Section `finetune`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::training::Common;
use super::{MAX_BATCH_SIZE, MAX_EPOCHS, in_range, is_default, is_false};
use crate::data::{AugmentConfig, DataConfig};
use crate::error::{Error, Result};
use crate::model::HeadKind;
use crate::training::{Keep, OptimizerConfig, ScheduleConfig};

/// What `finetune` trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinetuneMode {
    /// The classifier alone, on features written by `extract`.
    Frozen,
    /// Encoder and classifier together, on images, starting from the pretrained encoder; the classifier sees what
    /// section `extract` names.
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
    /// The classifier: `linear`; `mlp` (default), dense layers; `ridge` (mode `frozen`), linear, solved in closed form,
    /// for which the keys of training count for nothing; `conv`, convolutions on the map of one block, which
    /// section `extract` names alone and in one view (in mode `full` the last block where it names none).
    #[serde(skip_serializing_if = "is_default")]
    pub head: HeadKind,
    /// Widths of the classifier's hidden layers; for `mlp` 64 where absent, and none makes it linear; for `conv` the
    /// convolutions, the first 3x3 and the others 1x1, 192, 192, 192 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Vec<usize>>,
    /// Batch normalisation in the hidden layers of `mlp`; those of `conv` have it always.
    #[serde(skip_serializing_if = "is_false")]
    pub batch_norm: bool,
    /// In mode `frozen`: subtract the mean and divide by the deviation of each feature over the training images.
    #[serde(skip_serializing_if = "is_false")]
    pub standardise: bool,
    /// In mode `full`: start from a fresh encoder, not from the pretrained one (the supervised baseline).
    #[serde(skip_serializing_if = "is_false")]
    pub from_scratch: bool,
    /// In mode `full`: what the learning rate is multiplied by for the encoder, 0 to 10; 0 leaves its weights, but not
    /// the running statistics of its norms, as they are. 1 with `from_scratch`.
    #[serde(skip_serializing_if = "is_one")]
    pub encoder_rate: f64,
    /// In mode `full`: random changes to the images; absent or null: none.
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

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            mode: FinetuneMode::Frozen,
            epochs: 10,
            batch_size: 32,
            head: HeadKind::default(),
            hidden: None,
            batch_norm: false,
            standardise: false,
            from_scratch: false,
            encoder_rate: 1.0,
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

fn is_one(rate: &f64) -> bool {
    *rate == 1.0
}

/// Largest factor of the encoder's learning rate.
const MAX_RATE: f64 = 10.0;
/// Most hidden layers.
pub(super) const MAX_LAYERS: usize = 16;
/// Widest hidden layer.
pub(super) const MAX_HIDDEN: usize = 65_536;

impl FinetuneConfig {
    pub(super) fn validate(&self, data: &DataConfig) -> Result<()> {
        in_range("finetune.epochs", self.epochs, 1, MAX_EPOCHS)?;
        in_range("finetune.batch_size", self.batch_size, 1, MAX_BATCH_SIZE)?;
        self.validate_head()?;
        if !(0.0..=MAX_RATE).contains(&self.encoder_rate) {
            let problem = format!("must be at least 0 and at most {MAX_RATE}, got {}", self.encoder_rate);
            return Err(Error::config("finetune.encoder_rate", problem));
        }
        if self.from_scratch && self.encoder_rate != 1.0 {
            let problem = format!(
                "must be 1 with finetune.from_scratch, where it would hold a fresh encoder back, got {}",
                self.encoder_rate
            );
            return Err(Error::config("finetune.encoder_rate", problem));
        }
        if let Some(augment) = &self.augment {
            augment.validate("finetune.augment")?;
        }
        let of_full = [
            ("augment", self.augment.is_some(), "features are of plain images; augmentation"),
            ("from_scratch", self.from_scratch, "a fresh encoder is trained with its classifier; it"),
            ("encoder_rate", self.encoder_rate != 1.0, "a frozen encoder has no learning rate; it"),
        ];
        for (key, set, reason) in of_full {
            if set && self.mode == FinetuneMode::Frozen {
                let problem = format!("{reason} needs finetune.mode=full");
                return Err(Error::config(format!("finetune.{key}"), problem));
            }
        }
        self.common().validate(data)
    }

    /// Widths of the hidden layers.
    pub fn hidden_widths(&self) -> Vec<usize> {
        self.hidden.clone().unwrap_or_else(|| self.head.default_hidden())
    }

    fn validate_head(&self) -> Result<()> {
        let widths = self.hidden_widths();
        if matches!(self.head, HeadKind::Linear | HeadKind::Ridge) && !widths.is_empty() {
            let problem = format!("must be empty or null for head `{}`, got {widths:?}", self.head.name());
            return Err(Error::config("finetune.hidden", problem));
        }
        if self.head == HeadKind::Ridge && self.mode == FinetuneMode::Full {
            let problem = "`ridge` is solved on features: it needs finetune.mode=frozen";
            return Err(Error::config("finetune.head", problem));
        }
        let least = usize::from(self.head == HeadKind::Conv);
        in_range("finetune.hidden", widths.len(), least, MAX_LAYERS)?;
        for (index, &width) in widths.iter().enumerate() {
            in_range(&format!("finetune.hidden[{index}]"), width, 1, MAX_HIDDEN)?;
        }
        Ok(())
    }

    pub(crate) fn common(&self) -> Common<'_> {
        Common {
            section: "finetune",
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
