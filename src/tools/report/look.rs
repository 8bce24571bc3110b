//! What the encoder of a run makes of images: computed anew for the page, from the checkpoint and the data set.
//!
//! Shown are validation images where the run holds some out, otherwise training images; of the test set only the
//! images on which the classifier was wrong, as its own evaluation listed them.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};

use super::analysis::{Projection, Rows, best, softmax};
use super::facts::Facts;
use super::picture;
use crate::config::Config;
use crate::data::{self, DataConfig, Dataset, Images, Pixels, Rotation, rotate};
use crate::device::{self, DeviceName};
use crate::error::{Error, Result};
use crate::model::{self, Dense, Encoder, Initialiser, ROTATIONS, Readout, Scheme};
use crate::progress::{Event, Reporter, Stage};
use crate::samples::{Batch, Samples};
use crate::samples::{PlainImages, RotatedImages, Rotations};
use crate::stages::{load_encoder, pretraining_split};
use crate::store::checkpoint::Checkpoint;

/// Images whose features are compared.
const POOL: usize = 2_000;
/// Of them, those whose rotations are predicted.
const TURNED: usize = 500;
/// Of them, those that are shown with their predictions.
const SHOWN: usize = 12;
/// Of them, those in the projection.
const PROJECTED: usize = 1_000;
/// Neighbours of an image that are shown and counted.
const NEIGHBOURS: usize = 6;
/// Images whose neighbours are counted.
const QUERIES: usize = 1_000;
/// Most images whose neighbours are shown.
const SHOWN_QUERIES: usize = 10;
/// Images encoded at a time.
const BATCH: usize = 128;

/// What there is to see of an encoder. What could not be computed is absent, with a note why.
#[derive(Default)]
pub(super) struct Look {
    /// Which images are shown, in words.
    pub source: String,
    /// Images in all four rotations, and what the rotation head says.
    pub turns: Option<Turns>,
    /// The first layer's filters as pictures, and their side.
    pub filters: Vec<String>,
    /// Images and those most like them.
    pub neighbours: Option<Neighbours>,
    /// Images in two dimensions.
    pub projection: Option<(Projection, Vec<u8>)>,
    /// Number of an image of the test set, and its picture.
    pub mistakes: Vec<String>,
    /// Why something is absent.
    pub notes: Vec<String>,
}

/// Images in all four rotations.
pub(super) struct Turns {
    /// Rotated images predicted.
    pub samples: usize,
    /// Share predicted rightly, by rotation.
    pub accuracy: [f64; ROTATIONS],
    /// Some of them, an image a row.
    pub shown: Vec<[Turn; ROTATIONS]>,
}

/// A rotated image.
pub(super) struct Turn {
    /// The rotated image.
    pub picture: String,
    /// The rotation predicted.
    pub answer: usize,
    /// Probability of that rotation, in 0..=1.
    pub confidence: f32,
}

/// Images and those most like them.
pub(super) struct Neighbours {
    /// Share of the nearest images that are of the same class.
    pub same_class: f64,
    /// Images whose neighbours were counted.
    pub queries: usize,
    /// Images to choose neighbours from.
    pub pool: usize,
    /// Numbers an image.
    pub width: usize,
    /// An image, then its neighbours: picture and class.
    pub rows: Vec<Vec<(String, u8)>>,
}

/// Looks at a run; `data` is the folder of the data set, where it lies elsewhere than the config says.
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
    let (encoder, checkpoint, _) = load_encoder(&device, path)?;
    look.filters = filters(&checkpoint);
    let dataset = open(config, data, home, reporter)?;
    let (trained_on, found) = (&checkpoint.header.dataset, &dataset.fingerprint);
    if trained_on.fingerprint != *found || dataset.image_shape() != checkpoint.header.image {
        let problem = format!("is another data set than the run's ({})", trained_on.name);
        return Err(Error::data(&dataset.directory, problem, "name the run's with --data"));
    }
    let (pool, all) = dataset.pretraining(&DataConfig { validation_images: 0, ..config.data.clone() }, 0)?;
    let split = pretraining_split(&checkpoint.header, &dataset, &config.data)?.unwrap_or(all);
    let (mut indices, source) = match split.validation {
        Some(validation) if validation.len() >= SHOWN => (validation, "validation images (not trained on)"),
        _ => (split.train, "training images"),
    };
    look.source = format!("{source} of {}", dataset.name);
    if !dataset.train.is_empty() {
        indices.retain(|&index| (index as usize) < dataset.train.len());
    }
    let images = pool.subset(&spread(&indices, POOL));
    let eye = Eye { device, encoder, pixels: checkpoint.header.pixels.clone() };
    look.turns = turns(&eye, &checkpoint, &images)?;
    match dataset.train.is_empty() {
        true => look.notes.push("No neighbours and no projection: these images have no classes.".into()),
        false => features(look, &eye, &images, &config.extract.readout())?,
    }
    mistakes(look, facts, &dataset)
}

/// Neighbours and projection of the features of images with classes.
fn features(look: &mut Look, eye: &Eye, images: &Images, readout: &Readout) -> Result<()> {
    let width = eye.encoder.read_width(readout)?;
    let values = eye.features(images, readout);
    let some = images.len().min(PROJECTED);
    let projected = Rows::centred(values[..some * width].to_vec(), width).principal();
    look.projection = Some((projected, images.labels[..some].to_vec()));
    look.neighbours = Some(neighbours(&Rows::centred(values, width), images, width));
    Ok(())
}

fn open(config: &Config, data: Option<&Path>, home: &Path, reporter: &mut dyn Reporter) -> Result<Dataset> {
    let mut section = config.data.clone();
    section.directory = data.map(PathBuf::from).or(section.directory);
    data::open(&section, home, reporter)
}

/// So many of the indices, from all over them.
fn spread(indices: &[u32], most: usize) -> Vec<u32> {
    let count = indices.len().min(most);
    (0..count).map(|place| indices[place * indices.len() / count]).collect()
}

/// An encoder that looks at images.
struct Eye {
    device: Device,
    encoder: Encoder,
    pixels: Pixels,
}

impl Eye {
    /// What `see` gives for all samples, in their order.
    fn each(&self, samples: &dyn Samples, see: impl Fn(Tensor<2>) -> Tensor<2>) -> Vec<f32> {
        let indices: Vec<u32> = (0..samples.len() as u32).collect();
        let batches = indices.chunks(BATCH).map(|indices| {
            let (inputs, _) = Batch::new(samples, 0, indices).into_tensors(&self.device);
            see(inputs).into_data().iter::<f32>().collect::<Vec<_>>()
        });
        batches.collect::<Vec<_>>().concat()
    }

    fn features(&self, images: &Images, readout: &Readout) -> Vec<f32> {
        self.each(&PlainImages::all(images, &self.pixels), |inputs| self.encoder.read(inputs, readout))
    }
}

/// What the rotation head says; absent if the checkpoint has none.
fn turns(eye: &Eye, checkpoint: &Checkpoint, images: &Images) -> Result<Option<Turns>> {
    let parameters = checkpoint.part("head");
    if parameters.is_empty() {
        return Ok(None);
    }
    let mut initialiser = Initialiser::new(0, Scheme::Glorot, &eye.device);
    let head = Dense::new(eye.encoder.features(), ROTATIONS, false, &mut initialiser);
    let refuse = |problem| Error::checkpoint("pretrain", problem, "run `rotnet pretrain` again");
    let head = model::load(head, parameters).map_err(refuse)?;
    let chosen: Vec<u32> = (0..images.len().min(TURNED) as u32).collect();
    let rotated = RotatedImages::new(images, chosen, Rotations::All, &eye.pixels, 0);
    let logits = eye.each(&rotated, |inputs| head.forward(eye.encoder.forward(inputs)));
    let answers: Vec<(usize, f32)> =
        logits.chunks_exact(ROTATIONS).map(|logits| best(&softmax(logits))).collect();
    let accuracy = std::array::from_fn(|turns| {
        let right = answers.chunks_exact(ROTATIONS).filter(|answers| answers[turns].0 == turns).count();
        right as f64 / (answers.len() / ROTATIONS).max(1) as f64
    });
    let shown = answers.chunks_exact(ROTATIONS).take(SHOWN).enumerate().map(|(image, answers)| {
        std::array::from_fn(|turns| {
            let Images { height, width, .. } = *images;
            let pixels = rotate(images.image(image), height, width, Rotation::from_turns(turns as u32));
            let picture = picture::data_uri(&pixels, height, width);
            Turn { picture, answer: answers[turns].0, confidence: answers[turns].1 }
        })
    });
    Ok(Some(Turns { samples: answers.len(), accuracy, shown: shown.collect() }))
}

/// The filters of the first convolution, where it sees colours.
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

fn neighbours(rows: &Rows, images: &Images, width: usize) -> Neighbours {
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
    let shown = queries.iter().map(|&query| {
        let others = rows.neighbours(query, NEIGHBOURS).into_iter();
        std::iter::once(query).chain(others).map(picture).collect()
    });
    Neighbours {
        same_class: rows.same_label(&images.labels, QUERIES, NEIGHBOURS),
        queries: QUERIES.min(rows.len()),
        pool: rows.len(),
        width,
        rows: shown.collect(),
    }
}

/// The pictures of the mistakes that the run's evaluation listed.
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
