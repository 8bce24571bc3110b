//! What images without labels are taken for, and which of them are taken at the teacher's word.

use std::collections::BTreeSet;

use burn::tensor::Device;

use super::mixture::Unlabeled;
use crate::config::SelfTrainingConfig;
use crate::data::{Dataset, Pixels};
use crate::error::{Error, Result};
use crate::judge::Labeled;
use crate::judge::knn::{self, Neighbours, QUERIES, nearest};
use crate::judge::pseudo::{Given, balance, propagate, surest};
use crate::judge::ridge::{PENALTIES, choose_by_folds};
use crate::math::logits::softmax;
use crate::model::{Encoder, FeatureMoments, ImageClassifier, Mode, Network, Readout};
use crate::progress::{Event, Reporter, Stage, Unit};
use crate::ranks::Alone;
use crate::samples::{Batch, PlainImages, Samples};
use crate::stages::{encode, memory};

/// Folds of the labelled images, left out in turn to choose the penalty of ridge regression.
const FOLDS: usize = 5;
/// Images that a network is asked about at a time.
const BATCH: usize = 512;
/// What the search for neighbours is called.
pub(super) const COMPARING: &str = "comparing";

/// How to get by with less memory.
const LESS: &str =
    "take fewer images (data.train_images) or narrower features (extract.pool, extract.layers)";

/// What stays the same over all rounds.
pub(super) struct Teacher<'a> {
    config: &'a SelfTrainingConfig,
    device: &'a Device,
    readout: &'a Readout,
    classes: usize,
    /// All images that are not held out.
    images: PlainImages<'a>,
    /// For each of them its label, if it is one of those with labels.
    known: Vec<Option<u16>>,
    /// From the features of the pretrained encoder.
    frozen: Option<Frozen>,
}

/// What the features of a pretrained encoder say.
struct Frozen {
    /// Probabilities by ridge regression, `[images, classes]`.
    ridge: Vec<f32>,
    neighbours: Option<Neighbours>,
}

impl<'a> Teacher<'a> {
    /// `labeled` are the images with labels, `pretrained` the encoder that every student begins with, if it is one.
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::Stopped`].
    pub fn new(
        (config, device): (&'a SelfTrainingConfig, &'a Device),
        (dataset, labeled): (&Dataset, &[u32]),
        unlabeled: &Unlabeled<'a>,
        (pretrained, readout, pixels): (Option<&Encoder>, &'a Readout, &Pixels),
        reporter: &mut dyn Reporter,
    ) -> Result<Self> {
        let with_labels: BTreeSet<u32> = labeled.iter().copied().collect();
        let label = |index: &u32| with_labels.contains(index).then(|| dataset.train.labels[*index as usize]);
        let mut teacher = Self {
            config,
            device,
            readout,
            classes: dataset.class_names.len(),
            images: PlainImages::new(unlabeled.images, unlabeled.indices.clone(), pixels),
            known: unlabeled.indices.iter().map(label).collect(),
            frozen: None,
        };
        if let Some(encoder) = pretrained {
            let (features, width) = teacher.features(encoder, reporter)?;
            let ridge = teacher.ridge(&features, width);
            let neighbours = teacher.neighbours(&features, width, reporter)?;
            teacher.frozen = Some(Frozen { ridge, neighbours });
        }
        Ok(teacher)
    }

    /// The surest images of every class, at most `count` of each, by `network` and the frozen features. `sample` is the
    /// number of an image among [`Unlabeled::indices`].
    ///
    /// # Errors
    /// [`Error::Memory`], [`Error::Stopped`].
    pub fn chosen(
        &self,
        network: &ImageClassifier,
        count: usize,
        reporter: &mut dyn Reporter,
    ) -> Result<Vec<Given>> {
        let mut said = self.probabilities(network);
        if let Some(frozen) = &self.frozen {
            said.iter_mut().zip(&frozen.ridge).for_each(|(value, ridge)| *value = 0.5 * (*value + ridge));
        }
        if self.config.balance {
            balance(&mut said, self.classes);
        }
        for (row, label) in said.chunks_exact_mut(self.classes).zip(&self.known) {
            if let Some(label) = label {
                row.fill(0.0);
                row[usize::from(*label)] = 1.0;
            }
        }
        let own;
        let neighbours = match &self.frozen {
            Some(frozen) => &frozen.neighbours,
            None if self.config.neighbours > 0 => {
                let (features, width) = self.features(&network.encoder, reporter)?;
                own = self.neighbours(&features, width, reporter)?;
                &own
            }
            None => &None,
        };
        if let Some(neighbours) = neighbours {
            said = propagate(&said, self.classes, neighbours);
        }
        Ok(surest(&said, self.classes, count, |sample| self.known[sample].is_none()))
    }

    /// Probabilities by a network, `[images, classes]`.
    fn probabilities(&self, network: &ImageClassifier) -> Vec<f32> {
        let indices: Vec<u32> = (0..self.images.len() as u32).collect();
        let logits = |indices: &[u32]| -> Vec<f32> {
            let (inputs, _) = Batch::new(&self.images, 0, indices).into_tensors(self.device);
            network.logits(inputs, Mode::Evaluate).into_data().iter::<f32>().collect()
        };
        let mut all: Vec<f32> = indices.chunks(BATCH).flat_map(logits).collect();
        softmax(&mut all, self.classes);
        all
    }

    /// Standardised features of all images, and their width.
    fn features(&self, encoder: &Encoder, reporter: &mut dyn Reporter) -> Result<(Vec<f32>, usize)> {
        let (images, width) = (self.images.len(), encoder.read_width(self.readout)?);
        let needed = knn::memory(images, 0, width, 0) + self.graph_memory();
        memory::require(&format!("self-training on {images} x {width} features"), needed, LESS, reporter)?;
        let (mut features, _) = encode::features(encoder, self.readout, &self.images, &Alone);
        FeatureMoments::of(&features, width).standardise(&mut features);
        Ok((features, width))
    }

    /// Bytes of the neighbours of all images.
    fn graph_memory(&self) -> u64 {
        self.images.len() as u64 * (self.config.neighbours as u64 + 1) * size_of::<(u32, f32)>() as u64
    }

    fn ridge(&self, features: &[f32], width: usize) -> Vec<f32> {
        let (mut values, mut labels) = (Vec::new(), Vec::new());
        for (row, label) in features.chunks_exact(width).zip(&self.known) {
            if let Some(label) = label {
                values.extend_from_slice(row);
                labels.push(*label);
            }
        }
        let train = Labeled { values: &values, labels: &labels, width, classes: self.classes };
        let choice = choose_by_folds(train, &PENALTIES, FOLDS);
        let mut scores = choice.ridge.scores(features);
        scores.iter_mut().for_each(|score| *score /= choice.temperature as f32);
        softmax(&mut scores, self.classes);
        scores
    }

    /// The neighbours of each image; work can be stopped between pieces of them.
    fn neighbours(
        &self,
        features: &[f32],
        width: usize,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<Neighbours>> {
        if self.config.neighbours == 0 {
            return Ok(None);
        }
        let images = self.images.len();
        reporter
            .report(Event::Note(&format!("comparing {images} images of {width} features with each other")));
        reporter.report(Event::TaskStarted { label: COMPARING, total: images as u64, unit: Unit::Images });
        let mut all: Option<Neighbours> = None;
        for queries in features.chunks(QUERIES * width) {
            if let Some(stop) = reporter.stop() {
                return Err(Error::Stopped {
                    stage: Stage::Finetune.name(),
                    stop,
                    state: "while images were compared; what was trained before is saved".into(),
                });
            }
            // An image is its own nearest neighbour.
            let found = nearest(features, queries, width, self.config.neighbours + 1);
            match &mut all {
                Some(all) => all.append(found),
                None => all = Some(found),
            }
            reporter.report(Event::TaskAdvanced((queries.len() / width) as u64));
        }
        reporter.report(Event::TaskFinished);
        Ok(all)
    }
}
