//! How good the features are while they are learned: nearest neighbours and ridge regression on the validation split.
//!
//! The labels are never trained on; they only influence choices that section `pretrain` bases on the probe.

use super::encode;
use crate::config::{Config, ProbeConfig};
use crate::data::{Dataset, Pixels, Split};
use crate::error::{Error, Result};
use crate::judge::{Labeled, accuracy, knn, ridge};
use crate::model::{Encoder, Readout, Views};
use crate::progress::EpochMetrics;
use crate::ranks::Ranks;
use crate::samples::PlainImages;

/// The images to compare, upright and without augmentation.
pub(super) struct Probe<'a> {
    config: &'a ProbeConfig,
    readout: Readout,
    references: PlainImages<'a>,
    queries: PlainImages<'a>,
    classes: usize,
}

impl<'a> Probe<'a> {
    /// Compares `probe.images` of the training images, of those whose labels `data.labels_per_class` leaves, with the
    /// validation split; `None` if no probe is configured or nothing is held out.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for a readout that the encoder does not have, or a data set without labels.
    pub(super) fn new(
        config: &'a Config,
        dataset: &'a Dataset,
        split: &Split,
        pixels: &Pixels,
        encoder: &Encoder,
    ) -> Result<Option<Self>> {
        let (Some(probe), Some(validation)) = (&config.pretrain.probe, &split.validation) else {
            return Ok(None);
        };
        let readout = Readout { layers: probe.layers.clone(), pool: probe.pool, views: Views::One };
        encoder.read_width(&readout)?;
        let labeled = |index: &u32| (*index as usize) < dataset.train.len();
        let mut labeled: Vec<u32> = split.train.iter().copied().filter(labeled).collect();
        if labeled.is_empty() {
            return Err(Error::config(
                "pretrain.probe",
                format!("{} has no labels for a probe", dataset.name),
            ));
        }
        // Labels that the classifier will not have choose no epoch either.
        if config.data.labels_per_class.is_some() {
            labeled = dataset.labeled_split(&config.data, config.seed)?.train;
        }
        let count = probe.images.min(labeled.len());
        // Training images are in no order of classes in CIFAR-10, but may be elsewhere: an even selection is taken.
        let references = (0..count).map(|place| labeled[place * labeled.len() / count]).collect();
        Ok(Some(Self {
            config: probe,
            readout,
            references: PlainImages::new(&dataset.train, references, pixels),
            queries: PlainImages::new(&dataset.train, validation.clone(), pixels),
            classes: dataset.class_names.len(),
        }))
    }

    /// Adds the accuracies of `encoder` (without automatic differentiation) if a probe is due after this epoch.
    pub(super) fn look(&self, encoder: &Encoder, metrics: &mut EpochMetrics, ranks: &dyn Ranks) {
        if metrics.epoch.is_multiple_of(self.config.every) {
            (metrics.knn_accuracy, metrics.ridge_accuracy) = self.accuracies(encoder, ranks);
        }
    }

    /// Accuracy of the nearest neighbours, and of ridge regression if configured; `ranks` share the images out.
    pub(super) fn accuracies(&self, encoder: &Encoder, ranks: &dyn Ranks) -> (Option<f64>, Option<f64>) {
        let (references, reference_labels) =
            encode::features(encoder, &self.readout, &self.references, ranks);
        let (queries, query_labels) = encode::features(encoder, &self.readout, &self.queries, ranks);
        let width = references.len() / reference_labels.len();
        let ProbeConfig { k, temperature, .. } = *self.config;
        let neighbours = knn::nearest(&references, &queries, width, k);
        let votes = neighbours.vote(&reference_labels, self.classes, k, temperature as f32);
        let labeled =
            Labeled { values: &references, labels: &reference_labels, width, classes: self.classes };
        let ridge = self.config.ridge.map(|penalty| ridge::fit(labeled, penalty).scores(&queries));
        let right = |scores: &[f32]| accuracy(scores, &query_labels, self.classes);
        (Some(right(&votes)), ridge.map(|scores| right(&scores)))
    }
}
