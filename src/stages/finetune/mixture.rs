//! What the classifier is trained on where its encoder is trained too: images with labels, and beside them images in
//! rotations.

use crate::config::{Config, JointRotations};
use crate::data::{Dataset, Images, Pixels};
use crate::error::{Error, Result};
use crate::model::{Mixture, ROTATIONS};
use crate::samples::{MixedImages, PlainImages, Portion, Role, Samples};

/// Images whose labels are not looked at.
pub(in crate::stages) struct Unlabeled<'a> {
    pub images: &'a Images,
    /// Which of them are trained on: all that are not held out.
    pub indices: Vec<u32>,
}

impl<'a> Unlabeled<'a> {
    /// Those of the data set, if the config trains on any.
    ///
    /// # Errors
    /// [`Error::Config`] for more classes than labels of batches allow for.
    pub fn new(config: &Config, dataset: &'a Dataset) -> Result<Option<Self>> {
        if config.finetune.joint().is_none() {
            return Ok(None);
        }
        let classes = dataset.class_names.len();
        if classes + ROTATIONS > MOST_LABELS {
            let problem =
                format!("`joint` takes at most {} classes, there are {classes}", MOST_LABELS - ROTATIONS);
            return Err(Error::config("finetune.mode", problem));
        }
        let (images, split) = dataset.pretraining(&config.data, config.seed)?;
        Ok(Some(Self { images, indices: split.train }))
    }
}

/// Different labels in a batch.
const MOST_LABELS: usize = u16::MAX as usize + 1;

/// The batches of the images of `labeled`, with their labels, and of those without.
pub(in crate::stages) fn batches<'a>(
    config: &Config,
    dataset: &'a Dataset,
    labeled: Vec<u32>,
    unlabeled: Option<&Unlabeled<'a>>,
    pixels: &Pixels,
) -> Box<dyn Samples + 'a> {
    let finetune = &config.finetune;
    let (Some(joint), Some(unlabeled)) = (finetune.joint(), unlabeled) else {
        let plain = PlainImages::new(&dataset.train, labeled, pixels);
        return Box::new(plain.augmented(finetune.augment.as_ref(), config.seed));
    };
    let portion =
        |images, indices, role, a_group| Portion::new(images, indices, role, a_group, pixels, config.seed);
    let classes = labeled.iter().map(|&index| dataset.train.labels[index as usize]).collect();
    let labeled = portion(&dataset.train, labeled, Role::Classified(classes), 1);
    let mut portions = vec![labeled.augmented(finetune.augment.as_ref())];
    if joint.turned() > 0 {
        let role = match joint.rotations {
            JointRotations::All => Role::Turned,
            JointRotations::Random => Role::TurnedOnce,
        };
        let turned = portion(unlabeled.images, unlabeled.indices.clone(), role, joint.unlabeled);
        portions.push(turned.augmented(joint.augment.as_ref().or(finetune.augment.as_ref())));
    }
    let groups = unlabeled.indices.len().div_ceil(joint.unlabeled);
    Box::new(MixedImages::new(portions, groups, dataset.class_names.len(), config.seed))
}

/// How a batch is divided between the classifier and rotations, if these are learned.
pub(in crate::stages) fn mixture(config: &Config) -> Option<Mixture> {
    let joint = config.finetune.joint()?;
    Some(Mixture { classified: 1, turned: joint.turned(), weight: joint.weight as f32 })
}
