//! Section `finetune.joint`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_BATCH_SIZE, in_range};
use crate::data::AugmentConfig;
use crate::error::{Error, Result};

/// The rotations in which unlabeled images are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JointRotations {
    /// In all four.
    All,
    /// In one, at random.
    Random,
}

impl JointRotations {
    /// Copies of an image in a step.
    pub fn copies(self) -> usize {
        match self {
            Self::All => 4,
            Self::Random => 1,
        }
    }
}

/// Section `finetune.joint`: how mode `joint` learns from unlabeled images beside the labelled ones (S4L: Zhai, Oliver,
/// Kolesnikov, Beyer 2019).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JointConfig {
    /// Weight of the rotation loss relative to the classifier's loss; each is a mean over its images. 0 leaves the
    /// unlabeled images out; an epoch has as many steps as with them.
    #[schemars(range(min = 0, max = MAX_WEIGHT))]
    pub weight: f64,
    /// Number of unlabeled images added to a batch per labelled image. All training images that are not held out serve
    /// as unlabeled ones, also those that have labels; their labels are not used.
    #[schemars(range(min = 1, max = MAX_UNLABELED))]
    pub unlabeled: usize,
    /// Show each unlabeled image in `all` four rotations, or in one chosen at `random`.
    pub rotations: JointRotations,
    /// Augmentation of the unlabeled images. Absent or null: that of `finetune.augment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<AugmentConfig>,
}

/// Largest weight of the rotation loss.
const MAX_WEIGHT: f64 = 100.0;
/// Most images without labels for one with a label.
const MAX_UNLABELED: usize = 256;

impl Default for JointConfig {
    /// Weight and share of Zhai and others: 1 and as many images without labels as with.
    fn default() -> Self {
        Self { weight: 1.0, unlabeled: 1, rotations: JointRotations::All, augment: None }
    }
}

impl JointConfig {
    pub(super) fn validate(&self, batch_size: usize) -> Result<()> {
        if !(0.0..=MAX_WEIGHT).contains(&self.weight) {
            let problem = format!("must be at least 0 and at most {MAX_WEIGHT}, got {}", self.weight);
            return Err(Error::config("finetune.joint.weight", problem));
        }
        in_range("finetune.joint.unlabeled", self.unlabeled, 1, MAX_UNLABELED)?;
        let step = batch_size * (1 + self.turned());
        if step > MAX_BATCH_SIZE {
            let problem = format!(
                "makes steps of {step} images of finetune.batch_size={batch_size}, at most {MAX_BATCH_SIZE} are possible"
            );
            return Err(Error::config("finetune.joint.unlabeled", problem));
        }
        self.augment.as_ref().map_or(Ok(()), |augment| augment.validate("finetune.joint.augment"))
    }

    /// Turned images that join a labelled one.
    pub fn turned(&self) -> usize {
        match self.weight == 0.0 {
            true => 0,
            false => self.unlabeled * self.rotations.copies(),
        }
    }
}
