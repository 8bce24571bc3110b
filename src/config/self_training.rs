//! Section `finetune.self_training`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MAX_BATCH_SIZE, in_range};
use crate::data::AugmentConfig;
use crate::error::{Error, Result};

/// Section `finetune.self_training`: in each round a teacher labels the images that it is surest of, and a new student
/// is trained from the start on these and the labelled ones.
///
/// The teacher's probabilities are those of the network trained last; where that began with a pretrained encoder, their
/// mean with those of ridge regression on the encoder's frozen features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SelfTrainingConfig {
    /// The largest number of images per class that are given a label, for each round.
    #[schemars(length(min = 1, max = MAX_ROUNDS), inner(range(min = 1, max = MAX_IMAGES)))]
    pub rounds: Vec<usize>,
    /// First divide the teacher's probabilities by their mean over all images, so that no class is preferred.
    pub balance: bool,
    /// Average an image's probabilities with those of this many nearest neighbours, by cosine similarity of
    /// standardised features. The features are those of the pretrained encoder that section `extract` names, or with
    /// `from_scratch` those of the network trained last. All images are compared with each other, which takes time. 0:
    /// no averaging.
    #[schemars(range(max = MAX_NEIGHBOURS))]
    pub neighbours: usize,
    /// Number of images with such a label added to a batch per labelled image.
    #[schemars(range(min = 1, max = MAX_JOINING))]
    pub joining: usize,
    /// Training steps of every student. Absent or null: as many as for the first network.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_STEPS))]
    pub steps: Option<u64>,
    /// Augmentation of the images with such a label. Absent or null: that of `finetune.augment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<AugmentConfig>,
}

/// Most rounds.
const MAX_ROUNDS: usize = 16;
/// Most images of a class.
const MAX_IMAGES: usize = 1_000_000;
/// Most neighbours.
const MAX_NEIGHBOURS: usize = 1_000;
/// Most images with a given label for one with a label.
const MAX_JOINING: usize = 256;
/// Most steps of a student.
const MAX_STEPS: u64 = 1_000_000_000;

impl Default for SelfTrainingConfig {
    fn default() -> Self {
        Self {
            rounds: vec![300, 1_000, 2_500],
            balance: true,
            neighbours: 15,
            joining: 1,
            steps: None,
            augment: None,
        }
    }
}

impl SelfTrainingConfig {
    /// `samples`: those of a step without images that are given labels, `batch_size` of them labelled.
    pub(super) fn validate(&self, batch_size: usize, samples: usize) -> Result<()> {
        let key = |name: &str| format!("finetune.self_training.{name}");
        in_range(&key("rounds"), self.rounds.len(), 1, MAX_ROUNDS)?;
        for (index, &images) in self.rounds.iter().enumerate() {
            in_range(&key(&format!("rounds[{index}]")), images, 1, MAX_IMAGES)?;
        }
        in_range(&key("neighbours"), self.neighbours, 0, MAX_NEIGHBOURS)?;
        in_range(&key("joining"), self.joining, 1, MAX_JOINING)?;
        if let Some(steps) = self.steps
            && !(1..=MAX_STEPS).contains(&steps)
        {
            let problem = format!("must be at least 1 and at most {MAX_STEPS}, got {steps}");
            return Err(Error::config(key("steps"), problem));
        }
        let step = samples + batch_size * self.joining;
        if step > MAX_BATCH_SIZE {
            let problem = format!("makes steps of {step} images, at most {MAX_BATCH_SIZE} are possible");
            return Err(Error::config(key("joining"), problem));
        }
        self.augment.as_ref().map_or(Ok(()), |augment| augment.validate(&key("augment")))
    }
}
