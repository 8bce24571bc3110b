//! How well the pretrained network recognises how an image was rotated.

use serde::{Deserialize, Serialize};

use super::super::Context;
use crate::data::{Dataset, Images};
use crate::error::Result;
use crate::math::logits::argmax;
use crate::model::{Encoder, ROTATIONS};
use crate::progress::{Event, Reporter, Stage};
use crate::samples::{RotatedImages, Rotations};
use crate::store::checkpoint::Checkpoint;
use crate::store::networks::load_rotation_network;
use crate::training;

/// Rotation accuracy on images that were not trained on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RotationReport {
    /// On the training images that the run held out; absent if there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<RotationAccuracy>,
    /// On the test images.
    pub test: RotationAccuracy,
}

/// Rotation accuracy on a set of images, each in all four rotations.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RotationAccuracy {
    /// Images, before rotation.
    pub images: usize,
    /// Share of rotated images whose rotation was recognised, in 0..=1.
    pub accuracy: f64,
    /// `confusion[quarter turns][quarter turns answered]`, counts.
    pub confusion: Vec<Vec<u64>>,
    /// Accuracy by class of the image; null for a class without images.
    pub by_class: Vec<Option<f64>>,
}

/// Whether a checkpoint holds a rotation head.
pub(super) fn told(checkpoint: &Checkpoint) -> bool {
    !checkpoint.part("head").is_empty()
}

/// Evaluates the rotation head of a checkpoint on the training images `held_out` and on the test images; `None` if it
/// has no head.
pub(super) fn report(
    context: &Context,
    checkpoint: &Checkpoint,
    encoder: Encoder,
    dataset: &Dataset,
    held_out: Option<Vec<u32>>,
    test: &Images,
    reporter: &mut dyn Reporter,
) -> Result<Option<RotationReport>> {
    let place = context.run.result(Stage::Pretrain);
    let Some(network) = load_rotation_network(encoder, &place, checkpoint)? else {
        return Ok(None);
    };
    reporter.report(Event::Note("evaluate: rotation accuracy"));
    let pixels = &checkpoint.header.pixels;
    let judge = |images: &Images, indices: Vec<u32>| {
        let labels: Vec<u16> = indices.iter().map(|&index| images.labels[index as usize]).collect();
        let samples = RotatedImages::new(images, indices, Rotations::All, pixels, 0);
        let (evaluation, logits) = training::predict(&network, &samples, &context.device);
        RotationAccuracy {
            images: labels.len(),
            accuracy: evaluation.accuracy,
            confusion: evaluation.confusion,
            by_class: by_class(&logits, &labels, dataset.class_names.len()),
        }
    };
    Ok(Some(RotationReport {
        validation: held_out.map(|indices| judge(&dataset.train, indices)),
        test: judge(test, (0..test.len() as u32).collect()),
    }))
}

/// Accuracy by class, from logits `[images, turns, answers]`.
fn by_class(logits: &[f32], labels: &[u16], classes: usize) -> Vec<Option<f64>> {
    let mut right = vec![0_u64; classes];
    let mut all = vec![0_u64; classes];
    for (image, &label) in logits.chunks_exact(ROTATIONS * ROTATIONS).zip(labels) {
        for (turns, row) in image.chunks_exact(ROTATIONS).enumerate() {
            right[usize::from(label)] += u64::from(argmax(row) == turns);
            all[usize::from(label)] += 1;
        }
    }
    let shares = right.iter().zip(&all);
    shares.map(|(&right, &all)| (all > 0).then(|| right as f64 / all as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_counts_once_a_rotation_for_its_class() {
        let mut logits = vec![0.0; 2 * 16];
        // The first image recognised in all rotations, the second always called upright.
        (0..4).for_each(|turns| logits[turns * 4 + turns] = 1.0);
        assert_eq!(by_class(&logits, &[2, 0], 3), [Some(0.25), None, Some(1.0)]);
    }
}
