//! What the encoder of a run makes of images: computed for the page, from the checkpoint and the data set.
//!
//! The images shown are validation images if the run holds some out, otherwise training images; of the test set, only
//! those that the classifier got wrong, as listed by its own evaluation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::seq::SliceRandom;

use super::facts::Facts;
use super::picture;
use crate::config::Config;
use crate::data::{self, DataConfig, Dataset, Images, Pixels, Rotation, rotate};
use crate::device::{self, DeviceName};
use crate::error::{Error, Result};
use crate::judge::knn;
use crate::math::logits::{argmax, softmax};
use crate::math::random::{Purpose, generator};
use crate::model::{Encoder, FeatureMoments, ROTATIONS, Readout, RotationNetwork};
use crate::progress::{Event, Reporter, Stage};
use crate::ranks::Alone;
use crate::samples::{PlainImages, RotatedImages, Rotations};
use crate::stages;
use crate::store::checkpoint::Checkpoint;
use crate::store::networks::{load_encoder, load_rotation_network};
use crate::training;

/// Images whose features are compared.
const POOL: usize = 2_000;
/// Of them, those whose rotations are predicted.
const TURNED: usize = 500;
/// Of them, those that are shown with their predictions.
const SHOWN: usize = 12;
/// Neighbours of an image that are shown and counted.
const NEIGHBOURS: usize = 6;
/// Images whose neighbours are counted.
const QUERIES: usize = 1_000;
/// Most images whose neighbours are shown.
const SHOWN_QUERIES: usize = 10;

/// What there is to see of an encoder. What could not be computed is absent, with a note that says why.
#[derive(Default)]
pub(super) struct Look {
    /// Which images are shown, in words.
    pub source: String,
    /// Images in all four rotations, and what the rotation head says.
    pub turns: Option<TurnedImages>,
    /// The first layer's filters as pictures.
    pub filters: Vec<String>,
    /// Images and their nearest neighbours.
    pub neighbours: Option<NearestImages>,
    /// Pictures of the mistakes on the test set, in the order of [`Facts::mistakes`].
    pub mistakes: Vec<String>,
    /// Why something is absent.
    pub notes: Vec<String>,
}

/// Images in all four rotations.
pub(super) struct TurnedImages {
    /// Rotated images predicted.
    pub samples: usize,
    /// Share predicted rightly, by rotation.
    pub accuracy: [f64; ROTATIONS],
    /// Some of them, one image per row.
    pub shown: Vec<[TurnedImage; ROTATIONS]>,
}

/// A rotated image.
pub(super) struct TurnedImage {
    /// The rotated image.
    pub picture: String,
    /// The rotation predicted.
    pub answer: usize,
    /// Probability of that rotation, in 0..=1.
    pub confidence: f32,
}

/// Images and their nearest neighbours.
pub(super) struct NearestImages {
    /// Share of the nearest images that are of the same class.
    pub same_class: f64,
    /// The same if neighbours were drawn at random.
    pub chance: f64,
    /// Of the images nearest to those of a class (row), how many are of each class.
    pub by_class: Vec<Vec<u64>>,
    /// Images whose neighbours were counted.
    pub queries: usize,
    /// Images to choose neighbours from.
    pub pool: usize,
    /// Features per image.
    pub width: usize,
    /// An image, then its neighbours: picture and class.
    pub rows: Vec<Vec<(String, u16)>>,
}

/// Looks at a run; `data` is the folder of the data set, if it is not where the config says.
pub(super) fn look(facts: &Facts, data: Option<&Path>, home: &Path, reporter: &mut dyn Reporter) -> Look {
    let mut look = Look::default();
    if let Err(error) = fill(&mut look, facts, data, home, reporter) {
        look.notes.push(format!("Not all pictures are here: {error}; {}.", error.hint()));
    }
    look
}

fn fill(
    look: &mut Look,
    facts: &Facts,
    data: Option<&Path>,
    home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let Some(config) = &facts.config else {
        look.notes.push("No pictures: the run has no config.json of this version.".into());
        return Ok(());
    };
    let path = facts.run.checkpoint(Stage::Pretrain);
    if !path.exists() {
        look.notes.push("No pictures of the encoder: this directory holds no pretrained one.".into());
        return mistakes(look, facts, &open(config, data, home, reporter)?);
    }
    reporter.report(Event::Note(&format!("{}: looking at images", facts.name)));
    let device = device::open(&DeviceName::Flex)?;
    let (encoder, checkpoint, _) = load_encoder(&device, path.clone())?;
    look.filters = filters(&checkpoint);
    let dataset = open(config, data, home, reporter)?;
    let (trained_on, found) = (&checkpoint.header.dataset, &dataset.fingerprint);
    if trained_on.fingerprint != *found || dataset.image_shape() != checkpoint.header.image {
        let problem = format!("is another data set than the run's ({})", trained_on.name);
        return Err(Error::data(&dataset.directory, problem, "name the run's with --data"));
    }
    let (pool, all) = dataset.pretraining(&DataConfig { validation_images: 0, ..config.data.clone() }, 0)?;
    let split = stages::pretraining_split(&checkpoint.header, &dataset, &config.data)?.unwrap_or(all);
    let (mut indices, source) = match split.validation {
        Some(validation) if validation.len() >= SHOWN => (validation, "validation images (not trained on)"),
        _ => (split.train, "training images"),
    };
    look.source = format!("{source} of {}", dataset.name);
    if !dataset.train.is_empty() {
        indices.retain(|&index| (index as usize) < dataset.train.len());
    }
    let images = pool.subset(&drawn(indices, POOL));
    let pixels = &checkpoint.header.pixels;
    let network = load_rotation_network(encoder.clone(), &path, &checkpoint)?;
    look.turns = network.map(|network| turns(&network, pixels, &images));
    match dataset.train.is_empty() {
        true => look.notes.push("No neighbours: these images have no classes.".into()),
        false => features(look, &encoder, pixels, &images, &config.extract.readout())?,
    }
    mistakes(look, facts, &dataset)
}

/// Neighbours by the features of images with classes.
fn features(
    look: &mut Look,
    encoder: &Encoder,
    pixels: &Pixels,
    images: &Images,
    readout: &Readout,
) -> Result<()> {
    let width = encoder.read_width(readout)?;
    let (mut values, _) = stages::features(encoder, readout, &PlainImages::all(images, pixels), &Alone);
    // So that no feature outweighs the others.
    FeatureMoments::of(&values, width).standardise(&mut values);
    look.neighbours = Some(neighbours(&values, images, width));
    Ok(())
}

fn open(config: &Config, data: Option<&Path>, home: &Path, reporter: &mut dyn Reporter) -> Result<Dataset> {
    let mut section = config.data.clone();
    section.directory = data.map(PathBuf::from).or(section.directory);
    data::open(&section, home, reporter)
}

/// At most so many of the indices, drawn at random, always the same: of images whose classes take turns, evenly spaced ones
/// would be of some classes only.
fn drawn(mut indices: Vec<u32>, most: usize) -> Vec<u32> {
    indices.shuffle(&mut generator(0, Purpose::Shuffle, 0, 0));
    indices.truncate(most);
    indices
}

/// What the network answers to images in all four rotations.
fn turns(network: &RotationNetwork, pixels: &Pixels, images: &Images) -> TurnedImages {
    let chosen: Vec<u32> = (0..images.len().min(TURNED) as u32).collect();
    let rotated = RotatedImages::new(images, chosen, Rotations::All, pixels, 0);
    let (evaluation, mut answers) = training::predict(network, &rotated, &network.encoder.device());
    softmax(&mut answers, ROTATIONS);
    let accuracy = std::array::from_fn(|turns| evaluation.per_class_accuracy[turns].unwrap_or(0.0));
    let answers: Vec<&[f32]> = answers.chunks_exact(ROTATIONS).collect();
    let shown = answers.chunks_exact(ROTATIONS).take(SHOWN).enumerate().map(|(image, answers)| {
        std::array::from_fn(|turns| {
            let Images { height, width, .. } = *images;
            let pixels = rotate(images.image(image), height, width, Rotation::from_turns(turns as u32));
            let picture = picture::data_uri(&pixels, height, width);
            let answer = argmax(answers[turns]);
            TurnedImage { picture, answer, confidence: answers[turns][answer] }
        })
    });
    TurnedImages { samples: answers.len(), accuracy, shown: shown.collect() }
}

/// The filters of the first convolution, if its inputs are colours.
fn filters(checkpoint: &Checkpoint) -> Vec<String> {
    let first = checkpoint.part("encoder").into_iter().find_map(|(_, data)| {
        let shape: [usize; 4] = data.shape().to_vec().try_into().ok()?;
        (shape[2] == data::CHANNELS).then_some((data, shape))
    });
    let Some((data, [height, width, _, filters])) = first else {
        return Vec::new();
    };
    data.as_slice::<f32>().map_or(Vec::new(), |weights| picture::filters(weights, height, width, filters))
}

/// Neighbours by standardised features `values`, `[images, width]`.
fn neighbours(values: &[f32], images: &Images, width: usize) -> NearestImages {
    let picture = |index: usize| {
        (picture::data_uri(images.image(index), images.height, images.width), images.labels[index])
    };
    let mut queries: Vec<usize> = Vec::new();
    for index in 0..images.len() {
        if queries.len() < SHOWN_QUERIES
            && queries.iter().all(|&query| images.labels[query] != images.labels[index])
        {
            queries.push(index);
        }
    }
    queries.sort_by_key(|&query| images.labels[query]);
    let nearest = |queries: &[usize]| knn::nearest_others(values, queries, width, NEIGHBOURS);
    let shown = queries.iter().zip(nearest(&queries));
    let shown = shown.map(|(&query, others)| std::iter::once(query).chain(others).map(picture).collect());
    let counted: Vec<usize> = (0..images.len().min(QUERIES)).collect();
    let pairs = counted.iter().zip(nearest(&counted));
    let classes = images.labels.iter().map(|&label| usize::from(label) + 1).max().unwrap_or(0);
    let mut by_class = vec![vec![0; classes]; classes];
    for (&query, others) in pairs {
        for other in others {
            by_class[usize::from(images.labels[query])][usize::from(images.labels[other])] += 1;
        }
    }
    let all = by_class.iter().flatten().sum::<u64>().max(1) as f64;
    let same: u64 = (0..classes).map(|class| by_class[class][class]).sum();
    NearestImages {
        same_class: same as f64 / all,
        chance: chance(&images.labels, &counted),
        by_class,
        queries: counted.len(),
        pool: images.len(),
        width,
        rows: shown.collect(),
    }
}

/// Mean share, among the other images, of the class of a query.
fn chance(labels: &[u16], queries: &[usize]) -> f64 {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    labels.iter().for_each(|&label| *counts.entry(label).or_default() += 1);
    let others = labels.len().saturating_sub(1).max(1) as f64;
    let shares = queries.iter().map(|&query| (counts[&labels[query]] - 1) as f64 / others);
    shares.sum::<f64>() / queries.len().max(1) as f64
}

/// Pictures of the mistakes that the run's evaluation listed.
fn mistakes(look: &mut Look, facts: &Facts, dataset: &Dataset) -> Result<()> {
    let mistakes = facts.mistakes();
    if mistakes.is_empty() {
        return Ok(());
    }
    let test = dataset.open_test()?;
    look.mistakes = mistakes
        .iter()
        .map(|mistake| match mistake.index < test.len() {
            true => picture::data_uri(test.image(mistake.index), test.height, test.width),
            false => String::new(),
        })
        .collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_whose_classes_take_turns_are_drawn_from_every_class() {
        let chosen = drawn((0..5_000).collect(), POOL);
        assert_eq!((chosen.len(), drawn((0..30).collect(), POOL).len()), (POOL, 30));
        for class in 0..10 {
            let count = chosen.iter().filter(|&&index| index % 10 == class).count();
            assert!((150..250).contains(&count), "{class}: {count}");
        }
        assert!((chance(&[0, 0, 1, 1, 1], &[0, 2]) - (1.0 / 4.0 + 2.0 / 4.0) / 2.0).abs() < 1e-12);
    }
}
