//! Modes `full` and `joint`: encoder and classifier together, on images; and with them, in mode `joint`, the rotation head.

use std::path::PathBuf;

use burn::module::Module;
use serde_json::Value;

use super::pseudo_labels::{Round, judged};
use super::self_training::{self, Basis};
use super::{
    Sources, Trained, Unlabeled, batches, choice, configured_shape, kept_accuracy, material, mixture, steps,
};
use crate::config::Config;
use crate::data::{Dataset, Images, Pixels, Split};
use crate::error::{Error, Result};
use crate::model::{
    ClassifierShape, Encoder, FeatureMap, HeadKind, ImageClassifier, JointNetwork, Readout, RotationNetwork,
    fresh_head,
};
use crate::progress::{Event, Reporter, Stage};
use crate::samples::PlainImages;
use crate::samples::Samples;
use crate::stages::extract::{check_data, describe, feature_map};
use crate::stages::training_stage::{self, Material};
use crate::stages::{Context, label};
use crate::store::checkpoint::{Checkpoint, Header};
use crate::store::networks::{load_encoder, load_rotation_network};
use crate::store::stage_directory::checkpoint_in;

/// Trains encoder and classifier; also returns the data set, whose test images are still closed.
pub(super) fn run(
    context: &Context,
    sources: &Sources,
    reporter: &mut dyn Reporter,
) -> Result<(Trained, Dataset)> {
    let config = &context.config;
    let pretrained = pretrained(context, sources)?;
    let readout = pretrained.as_ref().map(|(encoder, ..)| full_readout(config, encoder)).transpose()?;
    context.check(&context.run.files(Stage::Finetune))?;
    let dataset = context.open_data(reporter)?;
    let trained = train(context, sources, &dataset, (pretrained, readout), reporter)?;
    Ok((trained, dataset))
}

/// Trains on the images of `dataset`, from a pretrained encoder (and what is read of it) or from a fresh one.
fn train(
    context: &Context,
    sources: &Sources,
    dataset: &Dataset,
    (pretrained, readout): (Option<Pretrained>, Option<(Readout, Option<FeatureMap>)>),
    reporter: &mut dyn Reporter,
) -> Result<Trained> {
    let config = &context.config;
    let mut recipe = config.recipe(Stage::Finetune);
    let split = match &sources.split {
        Some(split) => {
            recipe["split"] = split.digest().into();
            split.clone()
        }
        None => dataset.labeled_split(&config.data, config.seed)?,
    };
    training_stage::announce(Stage::Finetune, &dataset.name, reporter);
    let unlabeled = Unlabeled::new(config, dataset)?;
    let (rotation, header) = match pretrained {
        Some(pretrained) => pretrained_network(context, sources, pretrained, dataset, reporter)?,
        None => match unlabeled.as_ref().filter(|_| config.finetune.joint().is_some()) {
            Some(unlabeled) => fresh_network(context, dataset, unlabeled.images, &unlabeled.indices),
            None => fresh_network(context, dataset, &dataset.train, &split.train),
        },
    };
    let (readout, map) = match readout {
        Some(readout) => readout,
        None => full_readout(config, &rotation.encoder)?,
    };
    let width = rotation.encoder.read_width(&readout)?;
    let shape = configured_shape(&config.finetune, width, dataset.class_names.len(), map);
    let header = Header {
        stage: Stage::Finetune,
        classifier: Some(shape.clone()),
        readout: Some(readout.clone()),
        epochs: 0,
        partial: None,
        steps: 0,
        dataset: label(dataset),
        recipe,
        ..header
    };
    let start = Start { rotation, readout, shape, header };
    let (trained, rounds, seconds) =
        networks(context, &start, dataset, &split, unlabeled.as_ref(), reporter)?;
    let training_stage::Trained { history, work } = trained;
    Ok(Trained {
        how: choice(&config.finetune).into(),
        seconds,
        dataset: label(dataset),
        classes: dataset.class_names.clone(),
        labels: split.train.len(),
        unlabeled: unlabeled.map(|unlabeled| unlabeled.indices.len()),
        rounds,
        validation: kept_accuracy(&config.finetune, &history),
        history,
        work,
    })
}

/// Trains one network, or with self-training several; gives the last one's training, the rounds before it, and the seconds
/// that all took.
fn networks(
    context: &Context,
    start: &Start,
    dataset: &Dataset,
    split: &Split,
    unlabeled: Option<&Unlabeled<'_>>,
    reporter: &mut dyn Reporter,
) -> Result<(training_stage::Trained, Vec<Round>, f64)> {
    let (config, pixels) = (&context.config, &start.header.pixels);
    let plain = |indices: &Vec<u32>| PlainImages::new(&dataset.train, indices.clone(), pixels);
    let validation = split.validation.as_ref().map(plain);
    let validation = validation.as_ref().map(|samples| samples as &dyn Samples);
    let labeled = &split.train;
    if let (Some(config), Some(unlabeled)) = (&config.finetune.self_training, unlabeled) {
        let basis = Basis { config, start, dataset, labeled, unlabeled, validation };
        let (trained, rounds, seconds) = self_training::run(context, &basis, reporter)?;
        let rounds = match &trained.work {
            Some(work) => judged(rounds, work.directory(), dataset)?,
            None => rounds,
        };
        return Ok((trained, rounds, seconds));
    }
    let samples = batches(config, dataset, labeled, unlabeled, None, pixels);
    let steps = steps(&*samples, &config.finetune);
    let header = start.header.clone();
    let trained = start.train(context, header, (&*samples, false), validation, steps, reporter)?;
    let seconds = training_stage::seconds(&trained.history);
    Ok((trained, Vec::new(), seconds))
}

/// Where training begins.
pub(super) struct Start {
    pub rotation: RotationNetwork,
    pub readout: Readout,
    shape: ClassifierShape,
    pub header: Header,
}

impl Start {
    /// Trains a network with a fresh classifier on `samples`, among which are images that were given labels or not.
    pub fn train(
        &self,
        context: &Context,
        header: Header,
        (samples, pseudo): (&dyn Samples, bool),
        validation: Option<&dyn Samples>,
        steps: u64,
        reporter: &mut dyn Reporter,
    ) -> Result<training_stage::Trained> {
        let Self { rotation, readout, shape, .. } = self;
        let (config, seed) = (&context.config.finetune, context.config.seed);
        let device = context.device.clone().autodiff();
        // Clones of a module share their running statistics, `valid` copies them.
        let rotation = RotationNetwork { encoder: rotation.encoder.valid(), head: rotation.head.valid() };
        match mixture(&context.config, pseudo) {
            None => {
                let network = ImageClassifier::new(rotation.encoder, readout.clone(), shape, seed, &device);
                let material = Material { steps, ..material(samples, validation, config) };
                training_stage::run(context, header, network, config.into(), material, reporter)
            }
            Some(mixture) => {
                let network = JointNetwork::new(rotation, readout.clone(), shape, mixture, seed, &device);
                let material = Material { steps, ..material(samples, validation, config) };
                training_stage::run(context, header, network, config.into(), material, reporter)
            }
        }
    }
}

/// A pretrained encoder, its checkpoint and the digest of that.
type Pretrained = (Encoder, Checkpoint, String);

/// The pretrained encoder; none if the encoder is trained from scratch.
fn pretrained(context: &Context, sources: &Sources) -> Result<Option<Pretrained>> {
    if context.config.finetune.from_scratch {
        return Ok(None);
    }
    load_encoder(&context.device, checkpoint_in(&place(context, sources))).map(Some)
}

/// The encoder of a checkpoint that fits the data set, its rotation head (a fresh one if it has none), and what a checkpoint
/// made from it says.
fn pretrained_network(
    context: &Context,
    sources: &Sources,
    (encoder, checkpoint, digest): Pretrained,
    dataset: &Dataset,
    reporter: &mut dyn Reporter,
) -> Result<(RotationNetwork, Header)> {
    check_data(context, &checkpoint, dataset, reporter)?;
    if !checkpoint.header.pixels.is_as(&context.config.data) {
        let text = "pixels are scaled as in the checkpoint, not as the config says";
        reporter.report(Event::Warning(text));
    }
    let path = checkpoint_in(&place(context, sources));
    let network = match load_rotation_network(encoder.clone(), &path, &checkpoint)? {
        Some(network) => network,
        None => {
            let config = checkpoint.header.architecture().unwrap_or_default();
            let head = fresh_head(&config, &encoder, context.config.seed, &context.device);
            RotationNetwork { encoder, head }
        }
    };
    Ok((network, Header { input: Some(digest), ..checkpoint.header }))
}

/// The checkpoint to start from, or its directory.
fn place(context: &Context, sources: &Sources) -> PathBuf {
    sources.checkpoint.clone().unwrap_or_else(|| context.run.stage(Stage::Pretrain))
}

/// What the classifier sees of the encoder, as section `extract` says; for a head of convolutions the map of one block,
/// by default the last.
pub(in crate::stages) fn full_readout(
    config: &Config,
    encoder: &Encoder,
) -> Result<(Readout, Option<FeatureMap>)> {
    let mut extract = config.extract.clone();
    if config.finetune.head != HeadKind::Conv {
        return Ok((extract.readout(), None));
    }
    if extract.layers.is_empty() {
        extract.layers.extend(encoder.block_names().pop());
    }
    let readout = extract.readout();
    encoder.read_width(&readout)?;
    match feature_map(encoder, &extract) {
        Some(map) => Ok((readout, Some(map))),
        None => {
            let problem = format!(
                "`conv` stands on one block in one view where the encoder is trained, got {}",
                describe(encoder, &readout)
            );
            Err(Error::config("finetune.head", problem))
        }
    }
}

/// A fresh encoder and rotation head, as at the start of pretraining, and what a checkpoint made from them says; pixels are
/// scaled as the config says, with the mean and deviation of the images of `indices`.
fn fresh_network(
    context: &Context,
    dataset: &Dataset,
    images: &Images,
    indices: &[u32],
) -> (RotationNetwork, Header) {
    let config = &context.config;
    let image = dataset.image_shape();
    let pixels = Pixels::new(&config.data, images, indices);
    let header = Header {
        encoder: Some(config.encoder.clone()),
        image,
        ..Header::untrained(Stage::Finetune, config.seed, pixels, label(dataset), Value::Null)
    };
    let mut network = RotationNetwork::new(&config.encoder, image, config.seed, &context.device);
    if config.encoder.is_fitted() {
        let images = PlainImages::new(images, indices.to_vec(), &header.pixels);
        network.encoder = network.encoder.fit(&images, header.pixels.step(), config.seed);
    }
    (network, header)
}
