//! Samples made from images batch by batch, so that memory does not grow with the number of rotations.

use rand::RngExt;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Pictures, Place, Samples};
use crate::data::{
    AugmentConfig, Augmentation, CHANNELS, Changed, Images, Padding, PixelTable, Pixels, Rotation, Shrink,
    write_rotated,
};
use crate::math::random::{Purpose, generator};

/// Number of samples, at least, that are worth a task of their own: at about 2 µs a sample, a tenth of a millisecond's work.
pub(super) const SAMPLES_A_TASK: usize = 32;

/// How the rotated copies of the images are put into batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rotations {
    /// All rotated copies of all images are shuffled together; `batch_size` counts rotated copies (the Keras program).
    Shuffled,
    /// The images are shuffled and the four copies of an image share a batch; `batch_size` counts images
    /// (Gidaris, Singh, Komodakis 2018).
    All,
    /// Each image comes once per epoch, in a random rotation; `batch_size` counts images.
    Random,
}

/// Images as they are, labeled with their class.
pub struct PlainImages<'a> {
    source: Source<'a>,
}

impl<'a> PlainImages<'a> {
    /// All images, in order.
    pub fn all(images: &'a Images, pixels: &Pixels) -> Self {
        Self::new(images, (0..images.len() as u32).collect(), pixels)
    }

    /// The images of the given indices.
    pub fn new(images: &'a Images, indices: Vec<u32>, pixels: &Pixels) -> Self {
        Self { source: Source::new(images, indices, pixels) }
    }

    /// Augments images, differently in every epoch and depending on the seed; not without a `config`.
    pub fn augmented(mut self, config: Option<&AugmentConfig>, seed: u64) -> Self {
        self.source.augmentation = config.map(|config| Augmentation::new(config, seed));
        self
    }

    /// Image, rotation and label of a sample.
    fn resolve(&self, sample: u32) -> (usize, Rotation, u16) {
        let index = self.source.index(sample);
        (index, Rotation::Upright, self.source.images.labels[index])
    }
}

impl Samples for PlainImages<'_> {
    fn len(&self) -> usize {
        self.source.indices.len()
    }

    fn values(&self) -> usize {
        self.source.images.values()
    }

    fn fill(&self, epoch: u64, samples: &[u32], inputs: &mut [f32], labels: &mut [u16]) {
        self.source.fill(epoch, samples, inputs, labels, |sample| self.resolve(sample));
    }

    fn pictures(&self) -> Option<Pictures<'_>> {
        self.source.pictures()
    }

    fn places(&self, epoch: u64, samples: &[u32], labels: &mut [u16]) -> Vec<Place> {
        self.source.places(epoch, samples, labels, |sample| self.resolve(sample))
    }
}

/// Rotations of images, labeled with the number of quarter turns.
///
/// With all four of them, sample `4 i + k` is image `indices[i]` turned `k` quarters.
pub struct RotatedImages<'a> {
    source: Source<'a>,
    rotations: Rotations,
    seed: u64,
}

impl<'a> RotatedImages<'a> {
    /// The images of the given indices; random turns depend on the seed.
    pub fn new(
        images: &'a Images,
        indices: Vec<u32>,
        rotations: Rotations,
        pixels: &Pixels,
        seed: u64,
    ) -> Self {
        Self { source: Source::new(images, indices, pixels), rotations, seed }
    }

    /// Shrinks images to `side` x `side` pixels before the rotation, by averaging over areas.
    pub fn resized(mut self, side: usize) -> Self {
        let images = self.source.images;
        self.source.shrink = Some(Shrink::new([images.height, images.width], side));
        self
    }

    /// Augments images before the rotation, differently in every epoch and depending on the seed; not without a `config`.
    pub fn augmented(mut self, config: Option<&AugmentConfig>) -> Self {
        self.source.augmentation = config.map(|config| Augmentation::new(config, self.seed));
        self
    }

    /// Image, rotation and label of a sample in an epoch.
    fn resolve(&self, epoch: u64, sample: u32) -> (usize, Rotation, u16) {
        let (index, turns) = match self.rotations {
            Rotations::Random => {
                let index = self.source.index(sample);
                let mut random = generator(self.seed, Purpose::Turn, epoch, index as u64);
                (index, random.random_range(0..4))
            }
            _ => (self.source.index(sample / 4), sample),
        };
        let rotation = Rotation::from_turns(turns);
        (index, rotation, rotation as u16)
    }
}

impl Samples for RotatedImages<'_> {
    fn len(&self) -> usize {
        let copies = match self.rotations {
            Rotations::Shuffled | Rotations::All => Rotation::ALL.len(),
            Rotations::Random => 1,
        };
        self.source.indices.len() * copies
    }

    fn values(&self) -> usize {
        self.source.values()
    }

    fn group(&self) -> usize {
        match self.rotations {
            Rotations::All => Rotation::ALL.len(),
            Rotations::Shuffled | Rotations::Random => 1,
        }
    }

    fn fill(&self, epoch: u64, samples: &[u32], inputs: &mut [f32], labels: &mut [u16]) {
        self.source.fill(epoch, samples, inputs, labels, |sample| self.resolve(epoch, sample));
    }

    fn pictures(&self) -> Option<Pictures<'_>> {
        self.source.pictures()
    }

    fn places(&self, epoch: u64, samples: &[u32], labels: &mut [u16]) -> Vec<Place> {
        self.source.places(epoch, samples, labels, |sample| self.resolve(epoch, sample))
    }
}

/// Chosen images, and what is done to them on the way into a batch.
pub(super) struct Source<'a> {
    pub images: &'a Images,
    pub indices: Vec<u32>,
    pub table: PixelTable,
    pub augmentation: Option<Augmentation>,
    shrink: Option<Shrink>,
}

/// The latest augmented image, in case it is asked for again.
#[derive(Default)]
pub(super) struct Scratch {
    changed: Changed,
    small: Vec<u8>,
    small_index: Option<usize>,
}

impl<'a> Source<'a> {
    pub fn new(images: &'a Images, indices: Vec<u32>, pixels: &Pixels) -> Self {
        Self { images, indices, table: pixels.table(), augmentation: None, shrink: None }
    }

    /// Height and width of what is put into a batch, before rotation.
    fn size(&self) -> (usize, usize) {
        let images = self.images;
        self.shrink.as_ref().map_or((images.height, images.width), |shrink| (shrink.side, shrink.side))
    }

    fn values(&self) -> usize {
        let (height, width) = self.size();
        height * width * CHANNELS
    }

    /// Image `index` as it is in `epoch`; `scratch` must only be used again in the same epoch.
    pub fn image<'b>(&'b self, index: usize, epoch: u64, scratch: &'b mut Scratch) -> &'b [u8] {
        let Scratch { changed, small, small_index } = scratch;
        if self.shrink.is_some() && *small_index == Some(index) {
            return small;
        }
        let image = match &self.augmentation {
            Some(augmentation) => augmentation.apply(self.images, index, epoch, changed),
            None => self.images.image(index),
        };
        let Some(shrink) = &self.shrink else {
            return image;
        };
        shrink.apply(image, small);
        *small_index = Some(index);
        small
    }

    fn index(&self, place: u32) -> usize {
        self.indices[place as usize] as usize
    }

    /// The images, where samples are nothing but turned, moved and mirrored copies of them.
    fn pictures(&self) -> Option<Pictures<'_>> {
        let Images { pixels, height, width, .. } = self.images;
        let edge = self.augmentation.as_ref().map_or(Some((Padding::Zero, 0)), Augmentation::edge);
        let (padding, _) = edge.filter(|(_, reach)| height == width && reach < height)?;
        let reflected = padding == Padding::Reflect;
        let pictures = Pictures { pixels, side: *height, numbers: &self.table.0, reflected };
        self.shrink.is_none().then_some(pictures)
    }

    /// What [`fill`](Self::fill) would write, as places in [`pictures`](Self::pictures).
    fn places(
        &self,
        epoch: u64,
        samples: &[u32],
        labels: &mut [u16],
        resolve: impl Fn(u32) -> (usize, Rotation, u16),
    ) -> Vec<Place> {
        let side = self.images.width;
        let place = |(label, &sample): (&mut u16, &u32)| {
            let (index, rotation, value) = resolve(sample);
            *label = value;
            let [mut row, mut column] = rotation.place_in_source(side);
            if let Some(augmentation) = &self.augmentation {
                let (mirrored, [down, right]) = augmentation.place(index, epoch);
                if mirrored {
                    column = column.map(|factor| -factor);
                    column[2] += side as i32 - 1;
                }
                row[2] += down;
                column[2] += right;
            }
            Place { image: index as u32, row, column }
        };
        labels.iter_mut().zip(samples).map(place).collect()
    }

    /// Writes samples in parallel; `resolve` gives the image, rotation and label of a sample.
    fn fill(
        &self,
        epoch: u64,
        samples: &[u32],
        inputs: &mut [f32],
        labels: &mut [u16],
        resolve: impl Fn(u32) -> (usize, Rotation, u16) + Sync,
    ) {
        let (height, width) = self.size();
        let rows = inputs.par_chunks_exact_mut(self.values()).zip(labels);
        rows.zip(samples).with_min_len(SAMPLES_A_TASK).for_each_init(
            Scratch::default,
            |scratch, ((row, label), &sample)| {
                let (index, rotation, value) = resolve(sample);
                let image = self.image(index, epoch, scratch);
                write_rotated(image, height, width, rotation, &self.table, row);
                *label = value;
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rotate;

    fn images() -> Images {
        Images {
            pixels: (0..=254).cycle().take(3 * 12).collect(),
            labels: vec![5, 6, 7],
            height: 2,
            width: 2,
        }
    }

    fn batch(samples: &dyn Samples, epoch: u64, indices: &[u32]) -> (Vec<f32>, Vec<u16>) {
        let mut inputs = vec![0.0; indices.len() * samples.values()];
        let mut labels = vec![0; indices.len()];
        samples.fill(epoch, indices, &mut inputs, &mut labels);
        (inputs, labels)
    }

    #[test]
    fn plain_samples_are_the_chosen_images_and_their_classes() {
        let images = images();
        let samples = PlainImages::new(&images, vec![2, 0], &Pixels::Scaled);
        let (inputs, labels) = batch(&samples, 0, &[1, 0]);
        assert_eq!((samples.len(), labels), (2, vec![5, 7]));
        let expected = images.image(0).iter().chain(images.image(2));
        assert!(inputs.iter().zip(expected).all(|(&x, &byte)| x == f32::from(byte) / 255.0));
    }

    fn turned(image: &[u8], turns: u32) -> Vec<f32> {
        let rotated = rotate(image, 2, 2, Rotation::from_turns(turns));
        rotated.into_iter().map(f32::from).collect()
    }

    #[test]
    fn rotated_samples_are_all_rotations_of_the_chosen_images() {
        let images = images();
        let samples = RotatedImages::new(&images, vec![2, 0], Rotations::All, &Pixels::Raw, 1);
        assert_eq!((samples.len(), samples.group()), (8, 4));
        let (inputs, labels) = batch(&samples, 0, &[7, 0, 5]);
        assert_eq!(labels, [3, 0, 1]);
        let expected = [(0, 3), (2, 0), (0, 1)];
        let expected = expected.map(|(index, turns)| turned(images.image(index), turns));
        assert_eq!(inputs, expected.concat());
    }

    #[test]
    fn random_turns_take_every_image_once_and_change_with_the_epoch() {
        let images = images();
        let samples = RotatedImages::new(&images, vec![2, 0], Rotations::Random, &Pixels::Raw, 1);
        assert_eq!((samples.len(), samples.group()), (2, 1));
        let mut seen = [false; 4];
        for epoch in 0..30 {
            let (inputs, labels) = batch(&samples, epoch, &[1, 0]);
            for ((index, label), values) in [0, 2].into_iter().zip(&labels).zip(inputs.chunks(12)) {
                assert_eq!(values, turned(images.image(index), u32::from(*label)));
                seen[usize::from(*label)] = true;
            }
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn smaller_images_are_shrunk_before_they_are_turned() {
        let image: Vec<u8> = (0..48).collect();
        let images = Images { pixels: image.repeat(2).into(), labels: vec![0; 2], height: 4, width: 4 };
        let samples = RotatedImages::new(&images, vec![0, 1], Rotations::All, &Pixels::Raw, 1).resized(2);
        let (inputs, _) = batch(&samples, 0, &[0, 1, 7]);
        let small = [8, 9, 10, 14, 15, 16, 32, 33, 34, 38, 39, 40];
        assert_eq!(inputs, [0, 1, 3].map(|turns| turned(&small, turns)).concat());
    }

    #[test]
    fn the_rotated_copies_of_an_image_are_of_one_crop_whatever_the_order() {
        let images = images();
        let config = AugmentConfig { crop_padding: 1, ..AugmentConfig::default() };
        let samples =
            RotatedImages::new(&images, vec![2, 0], Rotations::All, &Pixels::Raw, 1).augmented(Some(&config));
        let mut plain = 0;
        for epoch in 0..10 {
            let (inputs, _) = batch(&samples, epoch, &[4, 5, 6, 7]);
            let upright: Vec<u8> = inputs[..12].iter().map(|&value| value as u8).collect();
            for (turns, values) in inputs.chunks(12).enumerate() {
                assert_eq!(values, turned(&upright, turns as u32));
            }
            let (mixed, _) = batch(&samples, epoch, &[7, 0, 4]);
            assert_eq!(mixed[..12], inputs[36..]);
            assert_eq!(mixed[24..], inputs[..12]);
            plain += usize::from(upright == images.image(0));
        }
        assert!(plain < 5);
    }
}
