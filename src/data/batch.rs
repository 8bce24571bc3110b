//! Samples of the training loop made from images, per batch, so that memory does not grow with the rotations.

use rayon::prelude::*;

use super::augment::{AugmentConfig, augment};
use super::images::Images;
use super::rotation::{Rotation, write_rotated};
use crate::samples::Samples;

/// Fewest samples worth a task of their own: at about 2 µs a sample, a tenth of a millisecond's work.
const SAMPLES_A_TASK: usize = 32;

/// Images as they are, labeled with their class.
pub struct PlainImages<'a> {
    images: &'a Images,
    indices: Vec<u32>,
    scale_pixels: bool,
}

impl<'a> PlainImages<'a> {
    /// All images, in their order.
    pub fn all(images: &'a Images, scale_pixels: bool) -> Self {
        Self::new(images, (0..images.len() as u32).collect(), scale_pixels)
    }

    /// The images of the given indices; `scale_pixels` divides by 255.
    pub fn new(images: &'a Images, indices: Vec<u32>, scale_pixels: bool) -> Self {
        Self { images, indices, scale_pixels }
    }
}

impl Samples for PlainImages<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn values(&self) -> usize {
        self.images.values()
    }

    fn fill(&self, _: u64, indices: &[u32], inputs: &mut [f32], labels: &mut [u8]) {
        let resolve = |sample: u32| {
            let index = self.indices[sample as usize] as usize;
            (index, Rotation::Upright, self.images.labels[index])
        };
        let write = |index: usize, rotation: Rotation, row: &mut [f32]| {
            let Images { height, width, .. } = *self.images;
            write_rotated(self.images.image(index), height, width, rotation, self.scale_pixels, row);
        };
        fill(self.images.values(), indices, inputs, labels, resolve, write);
    }
}

/// All four rotations of images, labeled with the number of quarter turns.
///
/// Sample `4 i + k` is image `indices[i]` turned `k` quarters.
pub struct RotatedImages<'a> {
    images: &'a Images,
    indices: Vec<u32>,
    grouped: bool,
    scale_pixels: bool,
    augment: AugmentConfig,
    seed: u64,
}

impl<'a> RotatedImages<'a> {
    /// The images of the given indices; with `grouped`, the four rotations of an image share a batch;
    /// `scale_pixels` divides by 255.
    pub fn new(images: &'a Images, indices: Vec<u32>, grouped: bool, scale_pixels: bool) -> Self {
        Self { images, indices, grouped, scale_pixels, augment: AugmentConfig::default(), seed: 0 }
    }

    /// The same images, augmented before they are rotated; the draws depend on `seed`, epoch and image.
    pub fn augmented(self, augment: AugmentConfig, seed: u64) -> Self {
        Self { augment, seed, ..self }
    }
}

impl Samples for RotatedImages<'_> {
    fn len(&self) -> usize {
        self.indices.len() * Rotation::ALL.len()
    }

    fn values(&self) -> usize {
        self.images.values()
    }

    fn group(&self) -> usize {
        if self.grouped { Rotation::ALL.len() } else { 1 }
    }

    fn fill(&self, epoch: u64, indices: &[u32], inputs: &mut [f32], labels: &mut [u8]) {
        let resolve = |sample: u32| {
            let rotation = Rotation::from_turns(sample);
            (self.indices[sample as usize / 4] as usize, rotation, rotation as u8)
        };
        let Images { height, width, .. } = *self.images;
        let write = |index: usize, rotation: Rotation, row: &mut [f32]| {
            let image = self.images.image(index);
            if self.augment.is_none() {
                return write_rotated(image, height, width, rotation, self.scale_pixels, row);
            }
            let mut augmented = vec![0; image.len()];
            let draw = [self.seed, epoch, index as u64];
            augment(self.augment, image, [height, width], draw, &mut augmented);
            write_rotated(&augmented, height, width, rotation, self.scale_pixels, row);
        };
        fill(self.images.values(), indices, inputs, labels, resolve, write);
    }
}

/// Writes samples of `values` numbers in parallel; `resolve` gives the image, rotation and label of a sample, `write`
/// puts an image in a rotation into its row.
fn fill(
    values: usize,
    samples: &[u32],
    inputs: &mut [f32],
    labels: &mut [u8],
    resolve: impl Fn(u32) -> (usize, Rotation, u8) + Sync,
    write: impl Fn(usize, Rotation, &mut [f32]) + Sync,
) {
    let rows = inputs.par_chunks_exact_mut(values).zip(labels);
    rows.zip(samples).with_min_len(SAMPLES_A_TASK).for_each(|((row, label), &sample)| {
        let (index, rotation, value) = resolve(sample);
        write(index, rotation, row);
        *label = value;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> Images {
        Images {
            pixels: (0..=254).cycle().take(3 * 12).collect(),
            labels: vec![5, 6, 7],
            height: 2,
            width: 2,
        }
    }

    fn batch(samples: &dyn Samples, indices: &[u32]) -> (Vec<f32>, Vec<u8>) {
        let mut inputs = vec![0.0; indices.len() * samples.values()];
        let mut labels = vec![0; indices.len()];
        samples.fill(0, indices, &mut inputs, &mut labels);
        (inputs, labels)
    }

    #[test]
    fn plain_samples_are_the_chosen_images_and_their_classes() {
        let images = images();
        let samples = PlainImages::new(&images, vec![2, 0], true);
        let (inputs, labels) = batch(&samples, &[1, 0]);
        assert_eq!((samples.len(), labels), (2, vec![5, 7]));
        let expected = images.image(0).iter().chain(images.image(2));
        assert!(inputs.iter().zip(expected).all(|(&x, &byte)| x == f32::from(byte) / 255.0));
    }

    #[test]
    fn rotated_samples_are_all_rotations_of_the_chosen_images() {
        let images = images();
        let samples = RotatedImages::new(&images, vec![2, 0], true, false);
        assert_eq!((samples.len(), samples.group()), (8, 4));
        let (inputs, labels) = batch(&samples, &[7, 0, 5]);
        assert_eq!(labels, [3, 0, 1]);
        let expected = [(0, 3), (2, 0), (0, 1)].map(|(index, turns)| {
            super::super::rotation::rotate(images.image(index), 2, 2, Rotation::from_turns(turns))
        });
        assert_eq!(inputs, expected.concat().iter().map(|&byte| f32::from(byte)).collect::<Vec<_>>());
    }
}
