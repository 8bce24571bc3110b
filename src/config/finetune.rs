//! Section `finetune`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::joint::JointConfig;
use super::self_training::SelfTrainingConfig;
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
    /// Only the classifier, on features written by `extract`.
    Frozen,
    /// Encoder and classifier together, on images, starting from the pretrained encoder. The classifier sees the
    /// features that section `extract` names.
    Full,
    /// The same, and every step also trains the encoder to predict rotations of unlabeled images, as section
    /// `finetune.joint` says. The rotation head starts as pretraining left it.
    Joint,
}

impl FinetuneMode {
    /// The mode's name, if the encoder is trained.
    pub(crate) fn training_encoder(self) -> Option<&'static str> {
        match self {
            Self::Frozen => None,
            Self::Full => Some("full"),
            Self::Joint => Some("joint"),
        }
    }
}

/// Section `finetune`: the classifier, and whether the encoder is trained with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FinetuneConfig {
    /// What is trained: `frozen` a classifier on frozen features, `full` encoder and classifier together, `joint` the
    /// same while the encoder also goes on predicting rotations of unlabeled images.
    pub mode: FinetuneMode,
    /// Passes over the labelled training images. In mode `joint`: passes over the unlabeled images; the labelled ones
    /// are repeated as often as needed.
    #[schemars(range(min = 1, max = MAX_EPOCHS))]
    pub epochs: usize,
    /// Samples per training step. In mode `joint` only labelled ones are counted, and unlabeled ones are added.
    #[schemars(range(min = 1, max = MAX_BATCH_SIZE))]
    pub batch_size: usize,
    /// For mode `joint`: how it uses unlabeled images. Absent or null: the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint: Option<JointConfig>,
    /// Modes `full` and `joint`: self-training, rounds of training on images that a teacher has labelled. Absent or
    /// null: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_training: Option<SelfTrainingConfig>,
    /// The classifier. `linear`: one dense layer. `mlp`: several. `ridge`: ridge regression, solved in closed form, so
    /// that epochs, optimizer and schedule have no effect; mode `frozen` only. `conv`: convolutions on the feature map
    /// of one block, named in `extract.layers`, with one view; modes `full` and `joint` take the last block if none is
    /// named.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = HeadKind::default()))]
    pub head: HeadKind,
    /// Widths of the classifier's hidden layers. For `mlp` the default is 64, and an empty list makes it linear. For
    /// `conv` they are convolutions, the first 3x3 and the others 1x1; the default is 192, 192, 192.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_LAYERS), inner(range(min = 1, max = MAX_HIDDEN)))]
    pub hidden: Option<Vec<usize>>,
    /// Batch normalisation in the hidden layers of `mlp`; `conv` always has it.
    #[serde(skip_serializing_if = "is_false")]
    pub batch_norm: bool,
    /// Mode `frozen`: standardise each feature by its mean and standard deviation over the training images.
    #[serde(skip_serializing_if = "is_false")]
    pub standardise: bool,
    /// Modes `full` and `joint`: start from a freshly initialised encoder, not the pretrained one (the supervised
    /// baseline).
    #[serde(skip_serializing_if = "is_false")]
    pub from_scratch: bool,
    /// Modes `full` and `joint`: what the encoder's learning rate is multiplied by. 0 freezes its weights, but not the
    /// running statistics of its batch norms. Must be 1 with `from_scratch`.
    #[serde(skip_serializing_if = "is_one")]
    #[schemars(range(min = 0, max = MAX_RATE), extend("default" = 1.0))]
    pub encoder_rate: f64,
    /// Modes `full` and `joint`: data augmentation. Absent or null: none.
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
    /// Keep a moving average of the weights with this decay per step (less in early steps), and use it for validation
    /// and testing. Absent or null: no average.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub weight_average: Option<f64>,
    /// Which weights to keep: those of the `last` epoch, or of the epoch with the `best` accuracy on the validation images.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Keep::Last))]
    pub keep: Keep,
    /// Stop early after this many epochs without a new best accuracy on the validation images. Absent or null: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_EPOCHS))]
    pub patience: Option<usize>,
}

impl Default for FinetuneConfig {
    fn default() -> Self {
        Self {
            mode: FinetuneMode::Frozen,
            epochs: 10,
            batch_size: 32,
            joint: None,
            self_training: None,
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
            ("self_training", self.self_training.is_some(), "a student is trained with its encoder; it"),
        ];
        for (key, set, reason) in of_full {
            if set && self.mode == FinetuneMode::Frozen {
                let problem = format!("{reason} needs finetune.mode=full or joint");
                return Err(Error::config(format!("finetune.{key}"), problem));
            }
        }
        match (&self.joint, self.mode) {
            (Some(joint), FinetuneMode::Joint) => joint.validate(self.batch_size)?,
            (None, FinetuneMode::Joint) => JointConfig::default().validate(self.batch_size)?,
            (Some(_), _) => {
                let problem = "is read in finetune.mode=joint only: set that, or leave this section out";
                return Err(Error::config("finetune.joint", problem));
            }
            (None, _) => {}
        }
        if let Some(self_training) = &self.self_training {
            let turned = self.joint().map_or(0, |joint| joint.turned());
            self_training.validate(self.batch_size, self.batch_size * (1 + turned))?;
        }
        self.common().validate(data)
    }

    /// What is learned of images without labels; nothing in other modes.
    pub fn joint(&self) -> Option<JointConfig> {
        (self.mode == FinetuneMode::Joint).then(|| self.joint.clone().unwrap_or_default())
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
        if self.head == HeadKind::Ridge && self.mode != FinetuneMode::Frozen {
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
