//! Batches of images in several roles: with their classes, and turned.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::Samples;
use super::images::{SAMPLES_A_TASK, Scratch, Source};
use crate::data::{AugmentConfig, Augmentation, Images, Pixels, Rotation, write_rotated};
use crate::math::random::{Purpose, generator};

/// What images are shown for.
pub enum Role {
    /// Upright; the label is this class of each of the images.
    Classified(Vec<u16>),
    /// In all four rotations; the label is the number of classes plus the number of quarter turns.
    Turned,
    /// The same in one rotation, at random.
    TurnedOnce,
}

/// Images in one role.
pub struct Portion<'a> {
    source: Source<'a>,
    role: Role,
    /// Images in every group.
    a_group: usize,
    seed: u64,
}

impl<'a> Portion<'a> {
    /// So many of the images of `indices` (which are not empty) in every group.
    pub fn new(
        images: &'a Images,
        indices: Vec<u32>,
        role: Role,
        a_group: usize,
        pixels: &Pixels,
        seed: u64,
    ) -> Self {
        Self { source: Source::new(images, indices, pixels), role, a_group, seed }
    }

    /// Augments images, differently in every pass over them and depending on the seed; not without a `config`.
    pub fn augmented(mut self, config: Option<&AugmentConfig>) -> Self {
        self.source.augmentation = config.map(|config| Augmentation::new(config, self.seed));
        self
    }

    /// Samples of it in every group.
    pub fn samples(&self) -> usize {
        self.a_group * self.copies()
    }

    fn copies(&self) -> usize {
        match self.role {
            Role::Turned => Rotation::ALL.len(),
            Role::Classified(_) | Role::TurnedOnce => 1,
        }
    }
}

/// Images of several portions, in groups of one composition: the first portion's, then the second's, and so on.
///
/// Each portion goes through its images again and again, in a new order each time and across the borders of epochs.
pub struct MixedImages<'a> {
    portions: Vec<Portion<'a>>,
    groups: usize,
    classes: usize,
    seed: u64,
    /// The orders that the latest batch was made with: those of the next one, for the most part.
    orders: Mutex<Orders>,
}

/// By portion and pass: the places of a portion's images in the order of that pass.
type Orders = BTreeMap<(usize, u64), Arc<Vec<u32>>>;

/// An image of a portion.
struct Drawn {
    portion: usize,
    /// How often the portion's images were gone through before.
    pass: u64,
    /// Number of the image in the order of that pass.
    place: usize,
    /// Which of its copies.
    copy: u32,
}

impl<'a> MixedImages<'a> {
    /// So many groups an epoch, of at least one portion.
    pub fn new(portions: Vec<Portion<'a>>, groups: usize, classes: usize, seed: u64) -> Self {
        Self { portions, groups, classes, seed, orders: Mutex::default() }
    }

    fn drawn(&self, epoch: u64, sample: u32) -> Drawn {
        let group = epoch * self.groups as u64 + u64::from(sample) / self.group() as u64;
        let mut rest = sample as usize % self.group();
        let mut number = 0;
        while rest >= self.portions[number].samples() {
            rest -= self.portions[number].samples();
            number += 1;
        }
        let portion = &self.portions[number];
        let image = group * portion.a_group as u64 + (rest / portion.copies()) as u64;
        let images = portion.source.indices.len() as u64;
        Drawn {
            portion: number,
            pass: image / images,
            place: (image % images) as usize,
            copy: (rest % portion.copies()) as u32,
        }
    }

    /// The order of every pass that is drawn from.
    fn orders(&self, drawn: &[Drawn]) -> Orders {
        let mut kept = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut orders = Orders::new();
        for Drawn { portion, pass, .. } in drawn {
            let key = (*portion, *pass);
            orders.entry(key).or_insert_with(|| kept.remove(&key).unwrap_or_else(|| self.order(key).into()));
        }
        kept.clone_from(&orders);
        orders
    }

    fn order(&self, (portion, pass): (usize, u64)) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.portions[portion].source.indices.len() as u32).collect();
        // Number 0 is the order of samples that do not draw their own.
        order.shuffle(&mut generator(self.seed, Purpose::Shuffle, pass, 1 + portion as u64));
        order
    }

    /// Rotation and label of what is drawn, the image at `place` of its portion.
    fn answer(&self, drawn: &Drawn, place: usize) -> (Rotation, u16) {
        let portion = &self.portions[drawn.portion];
        let turns = match &portion.role {
            Role::Classified(classes) => return (Rotation::Upright, classes[place]),
            Role::Turned => drawn.copy,
            Role::TurnedOnce => {
                let index = u64::from(portion.source.indices[place]);
                generator(self.seed, Purpose::Turn, drawn.pass, index).random_range(0..4)
            }
        };
        let rotation = Rotation::from_turns(turns);
        (rotation, (self.classes + rotation as usize) as u16)
    }
}

/// The latest image, if the next sample is of the same portion and pass.
#[derive(Default)]
struct Latest {
    key: Option<(usize, u64)>,
    scratch: Scratch,
}

impl Samples for MixedImages<'_> {
    fn len(&self) -> usize {
        self.groups * self.group()
    }

    fn values(&self) -> usize {
        self.portions[0].source.images.values()
    }

    fn group(&self) -> usize {
        self.portions.iter().map(Portion::samples).sum()
    }

    fn in_order(&self) -> bool {
        true
    }

    fn fill(&self, epoch: u64, samples: &[u32], inputs: &mut [f32], labels: &mut [u16]) {
        let drawn: Vec<Drawn> = samples.iter().map(|&sample| self.drawn(epoch, sample)).collect();
        let orders = self.orders(&drawn);
        let rows = inputs.par_chunks_exact_mut(self.values()).zip(labels).zip(&drawn);
        let make = |latest: &mut Latest, ((row, label), drawn): ((&mut [f32], &mut u16), &Drawn)| {
            let key = (drawn.portion, drawn.pass);
            if latest.key != Some(key) {
                *latest = Latest { key: Some(key), scratch: Scratch::default() };
            }
            let source = &self.portions[drawn.portion].source;
            let place = orders[&key][drawn.place] as usize;
            let (rotation, answer) = self.answer(drawn, place);
            let index = source.indices[place] as usize;
            let image = source.image(index, drawn.pass, &mut latest.scratch);
            let (height, width) = (source.images.height, source.images.width);
            write_rotated(image, height, width, rotation, &source.table, row);
            *label = answer;
        };
        rows.with_min_len(SAMPLES_A_TASK).for_each_init(Latest::default, make);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images of 2x2, each of one colour: its index.
    fn images(count: u8) -> Images {
        let pixels: Vec<u8> = (0..count).flat_map(|index| [index; 12]).collect();
        Images { pixels: pixels.into(), labels: vec![9; usize::from(count)], height: 2, width: 2 }
    }

    /// Index of the image and label of every sample of an epoch.
    fn epoch(samples: &MixedImages<'_>, epoch: u64) -> Vec<(usize, u16)> {
        let indices: Vec<u32> = (0..samples.len() as u32).collect();
        let mut inputs = vec![0.0; indices.len() * samples.values()];
        let mut labels = vec![0; indices.len()];
        samples.fill(epoch, &indices, &mut inputs, &mut labels);
        inputs.chunks(12).map(|image| image[0] as usize).zip(labels).collect()
    }

    fn mixed<'a>(images: &'a Images, unlabeled: Role, a_group: usize) -> MixedImages<'a> {
        let portion = |indices, role, a_group| Portion::new(images, indices, role, a_group, &Pixels::Raw, 3);
        let labeled = portion(vec![4, 1, 7], Role::Classified(vec![0, 1, 2]), 1);
        let unlabeled = portion((0..10).collect(), unlabeled, a_group);
        MixedImages::new(vec![labeled, unlabeled], 10_usize.div_ceil(a_group), 3, 3)
    }

    #[test]
    fn an_epoch_goes_through_the_unlabeled_images_once_and_through_the_labels_as_often_as_it_takes() {
        let images = images(10);
        let samples = mixed(&images, Role::Turned, 2);
        assert_eq!((samples.group(), samples.len()), (9, 45));
        let first = epoch(&samples, 0);
        let mut seen = [0; 10];
        for group in first.chunks(9) {
            assert!([(4, 0), (1, 1), (7, 2)].contains(&group[0]));
            for image in group[1..].chunks(4) {
                assert_eq!(image.iter().map(|one| one.1).collect::<Vec<_>>(), [3, 4, 5, 6]);
                assert!(image.iter().all(|one| one.0 == image[0].0));
                seen[image[0].0] += 1;
            }
        }
        assert_eq!(seen, [1; 10]);
        // Five groups an epoch: the second pass over the labels goes on in the second epoch.
        let second = epoch(&samples, 1);
        let labeled: Vec<usize> = first.iter().chain(&second).step_by(9).map(|one| one.0).collect();
        for pass in labeled.chunks_exact(3) {
            let mut pass = pass.to_vec();
            pass.sort_unstable();
            assert_eq!(pass, [1, 4, 7]);
        }
        assert_ne!(first, second);
    }

    #[test]
    fn any_part_of_an_epoch_is_as_in_the_whole_and_turns_are_drawn_anew() {
        let images = images(10);
        let samples = mixed(&images, Role::TurnedOnce, 3);
        assert_eq!((samples.group(), samples.len()), (4, 16));
        let whole = epoch(&samples, 2);
        let part: Vec<u32> = (5..11).collect();
        let (mut inputs, mut labels) = (vec![0.0; 6 * 12], vec![0; 6]);
        mixed(&images, Role::TurnedOnce, 3).fill(2, &part, &mut inputs, &mut labels);
        assert_eq!(labels, whole[5..11].iter().map(|one| one.1).collect::<Vec<_>>());
        let turns =
            |number| -> Vec<u16> { epoch(&samples, number).iter().skip(1).map(|one| one.1).collect() };
        assert!((0..6).flat_map(turns).filter(|label| *label > 3).count() > 20);
    }
}
