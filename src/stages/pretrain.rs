//! Trains an encoder on images without labels, by predicting how they were rotated.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::calibration::{Calibration, calibrate};
use super::pretext::Pretext;
use super::probe::Probe;
use super::training_stage::{self, Material, Trained};
use super::{Context, label, warnings};
use crate::error::Result;
use crate::files::{sha256_file, write_json};
use crate::model::RotationNetwork;
use crate::progress::{EpochMetrics, Event, Reporter, Stage};
use crate::samples::{PlainImages, Samples};
use crate::store::checkpoint::{DatasetLabel, Header};
use crate::training;

/// The file `pretrain/summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PretrainSummary {
    /// How the accuracies were measured.
    pub protocol: String,
    /// The data set trained on.
    pub dataset: DatasetLabel,
    /// Images trained on, before rotation.
    pub images: usize,
    /// Parameters of encoder and head.
    pub parameters: usize,
    /// Epochs trained.
    pub epochs: usize,
    /// The last epoch; absent without training.
    pub last_epoch: Option<EpochMetrics>,
    /// Wall time of all epochs, in seconds.
    pub seconds: f64,
    /// How sure the rotation head may be; absent without held-out images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Reasons not to trust these numbers; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// SHA-256 of the checkpoint file.
    pub checkpoint: String,
    /// The run or the network of this program that the encoder was taken over from; absent where it was trained here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
}

impl PretrainSummary {
    /// Rotation accuracy while training, in the last epoch; absent without training.
    pub fn accuracy(&self) -> Option<f64> {
        self.last_epoch.as_ref().map(|epoch| epoch.accuracy)
    }
}

/// Trains encoder and rotation head; leaves `pretrain/` in the run directory.
///
/// # Errors
/// Whatever [`crate::Error`] names: data, results in the way, disk, a loss that is not finite.
pub fn pretrain(context: &Context, reporter: &mut dyn Reporter) -> Result<PretrainSummary> {
    let config = &context.config;
    context.check(&context.run.files(Stage::Pretrain))?;
    let dataset = context.open_data(reporter)?;
    training_stage::announce(Stage::Pretrain, &dataset.name, reporter);

    let pretext = Pretext::new(config, &dataset)?;
    let an_epoch = training::steps_an_epoch(&pretext.samples, config.pretrain.batch_size);
    let steps = config.pretrain.total_steps(an_epoch);
    let image = dataset.image_shape();
    let device = context.device.clone().autodiff();
    let mut network = RotationNetwork::new(&config.encoder, image, config.seed, &device);
    if config.encoder.is_fitted() && context.resumed(Stage::Pretrain).is_none() {
        reporter.report(Event::Note("computing the untrained part of the encoder from the images"));
        let plain = PlainImages::new(pretext.pool, pretext.split.train.clone(), &pretext.pixels);
        network.encoder = network.encoder.fit(&plain, pretext.pixels.step(), config.seed);
    }
    let parameters = training_stage::size(&network);
    let Pretext { split, pixels, .. } = &pretext;
    let probe = Probe::new(config, &dataset, split, pixels, &network.encoder)?;
    let look = probe.as_ref().map(|probe| {
        |network: &RotationNetwork, metrics: &mut EpochMetrics| {
            probe.look(&network.encoder, metrics, &*context.ranks)
        }
    });

    let (pixels, recipe) = (pretext.pixels.clone(), config.recipe(Stage::Pretrain));
    let header = Header {
        encoder: Some(config.encoder.clone()),
        image,
        ..Header::untrained(Stage::Pretrain, config.seed, pixels, label(&dataset), recipe)
    };
    let Trained { history, work } = training_stage::run(
        context,
        header,
        network,
        (&config.pretrain).into(),
        Material {
            samples: &pretext.samples,
            steps,
            before: pretext.before(steps),
            validation: pretext.validation.as_ref().map(|samples| samples as _),
            look: look.as_ref().map(|look| look as _),
        },
        reporter,
    )?;

    context.conclude(work, |work| {
        let result = work.directory().result();
        let held_out = pretext.validation.as_ref().filter(|samples| samples.len() > 0);
        let calibration = held_out.map(|held_out| calibrate(&result, held_out, &context.device));
        let summary = PretrainSummary {
            protocol: "4-way rotation prediction; accuracy while training, on the images trained on".into(),
            dataset: label(&dataset),
            images: pretext.split.train.len(),
            parameters,
            warnings: warnings::of_pretraining(history.last(), pretext.samples.len()),
            epochs: history.len(),
            last_epoch: history.last().cloned(),
            seconds: training_stage::seconds(&history),
            calibration: calibration.transpose()?.flatten(),
            checkpoint: sha256_file(&result)?,
            from: None,
        };
        context.run.record_run(context.environment(), label(&dataset), None)?;
        write_json(&work.directory().summary(), &summary)?;
        context.finish(Stage::Pretrain, work)?;
        Ok(summary)
    })
}
