//! What the classifier is trained on where its encoder is trained too: images with labels, and beside them images in
//! rotations.

use serde::{Deserialize, Serialize};

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
        let joint = config.finetune.joint().is_some();
        if !joint && config.finetune.self_training.is_none() {
            return Ok(None);
        }
        let classes = dataset.class_names.len();
        if joint && classes + ROTATIONS > MOST_LABELS {
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

/// Labels that were given to images of [`Unlabeled`].
#[derive(Serialize, Deserialize)]
pub(in crate::stages) struct Pseudo {
    /// Which images of [`Unlabeled::images`].
    pub indices: Vec<u32>,
    /// One for each.
    pub labels: Vec<u16>,
}

/// The batches of the images of `labeled`, with their labels, of those that were given labels, and of those without.
pub(in crate::stages) fn batches<'a>(
    config: &Config,
    dataset: &'a Dataset,
    labeled: &[u32],
    unlabeled: Option<&Unlabeled<'a>>,
    pseudo: Option<&Pseudo>,
    pixels: &Pixels,
) -> Box<dyn Samples + 'a> {
    let finetune = &config.finetune;
    let augment = finetune.augment.as_ref();
    let portion =
        |images, indices, role, a_group| Portion::new(images, indices, role, a_group, pixels, config.seed);
    let classes = labeled.iter().map(|&index| dataset.train.labels[index as usize]).collect();
    let first = portion(&dataset.train, labeled.to_vec(), Role::Classified(classes), 1).augmented(augment);
    let (mut portions, mut groups) = (vec![first], None);
    if let (Some(joint), Some(unlabeled)) = (finetune.joint(), unlabeled) {
        if joint.turned() > 0 {
            let role = match joint.rotations {
                JointRotations::All => Role::Turned,
                JointRotations::Random => Role::TurnedOnce,
            };
            let turned = portion(unlabeled.images, unlabeled.indices.clone(), role, joint.unlabeled);
            portions.push(turned.augmented(joint.augment.as_ref().or(augment)));
        }
        groups = Some(unlabeled.indices.len().div_ceil(joint.unlabeled));
    }
    if let (Some(training), Some(unlabeled), Some(pseudo)) = (&finetune.self_training, unlabeled, pseudo) {
        let role = Role::Classified(pseudo.labels.clone());
        let joining = portion(unlabeled.images, pseudo.indices.clone(), role, training.joining);
        portions.push(joining.augmented(training.augment.as_ref().or(augment)));
        groups = groups.or(Some(pseudo.indices.len().div_ceil(training.joining)));
    }
    match groups {
        Some(groups) => Box::new(MixedImages::new(portions, groups, dataset.class_names.len(), config.seed)),
        None => {
            let plain = PlainImages::new(&dataset.train, labeled.to_vec(), pixels);
            Box::new(plain.augmented(augment, config.seed))
        }
    }
}

/// How a batch is divided between the classifier and rotations, if these are learned; `pseudo`: whether images that were
/// given labels are in it.
pub(in crate::stages) fn mixture(config: &Config, pseudo: bool) -> Option<Mixture> {
    let joint = config.finetune.joint()?;
    let training = config.finetune.self_training.as_ref().filter(|_| pseudo);
    let joining = training.map_or(0, |training| training.joining);
    Some(Mixture { classified: 1 + joining, turned: joint.turned(), weight: joint.weight as f32 })
}
