//! Modes `full` and `joint`: encoder and classifier together, on images; and with them, in mode `joint`, the rotation head.

use std::path::PathBuf;

use serde_json::Value;

use super::{
    Sources, Trained, Unlabeled, batches, choice, configured_shape, kept_accuracy, material, mixture,
};
use crate::config::Config;
use crate::data::{Dataset, Images, Pixels};
use crate::error::{Error, Result};
use crate::model::{
    ClassifierShape, Encoder, FeatureMap, HeadKind, ImageClassifier, JointNetwork, Readout, RotationNetwork,
    fresh_head,
};
use crate::progress::{Event, Reporter, Stage};
use crate::samples::PlainImages;
use crate::samples::Samples;
use crate::stages::extract::{check_data, describe, feature_map};
use crate::stages::{Context, label, training_stage};
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
    let split = dataset.labeled_split(&config.data, config.seed)?;
    training_stage::announce(Stage::Finetune, &dataset.name, reporter);
    let unlabeled = Unlabeled::new(config, dataset)?;
    let (rotation, header) = match pretrained {
        Some(pretrained) => pretrained_network(context, sources, pretrained, dataset, reporter)?,
        None => match &unlabeled {
            Some(unlabeled) => fresh_network(context, dataset, unlabeled.images, &unlabeled.indices),
            None => fresh_network(context, dataset, &dataset.train, &split.train),
        },
    };
    let (readout, map) = match readout {
        Some(readout) => readout,
        None => full_readout(config, &rotation.encoder)?,
    };
    let validation =
        split.validation.map(|indices| PlainImages::new(&dataset.train, indices, &header.pixels));
    let labels = split.train.len();
    let train = batches(config, dataset, split.train, unlabeled.as_ref(), &header.pixels);
    let width = rotation.encoder.read_width(&readout)?;
    let shape = configured_shape(&config.finetune, width, dataset.class_names.len(), map);
    let stage_header = Header {
        stage: Stage::Finetune,
        classifier: Some(shape.clone()),
        readout: Some(readout.clone()),
        epochs: 0,
        partial: None,
        steps: 0,
        dataset: label(dataset),
        recipe: config.recipe(Stage::Finetune),
        ..header.clone()
    };
    let validation = validation.as_ref().map(|samples| samples as _);
    let start = Start { rotation, readout, shape, header: stage_header };
    let training_stage::Trained { history, work } = start.train(context, &*train, validation, reporter)?;
    Ok(Trained {
        how: choice(&config.finetune).into(),
        seconds: training_stage::seconds(&history),
        dataset: label(dataset),
        classes: dataset.class_names.clone(),
        labels,
        unlabeled: unlabeled.map(|unlabeled| unlabeled.indices.len()),
        validation: kept_accuracy(&config.finetune, &history),
        history,
        work,
    })
}

/// Where training begins.
struct Start {
    rotation: RotationNetwork,
    readout: Readout,
    shape: ClassifierShape,
    header: Header,
}

impl Start {
    fn train(
        self,
        context: &Context,
        samples: &dyn Samples,
        validation: Option<&dyn Samples>,
        reporter: &mut dyn Reporter,
    ) -> Result<training_stage::Trained> {
        let Self { rotation, readout, shape, header } = self;
        let (config, seed) = (&context.config.finetune, context.config.seed);
        let device = context.device.clone().autodiff();
        match mixture(&context.config) {
            None => {
                let network = ImageClassifier::new(rotation.encoder, readout, &shape, seed, &device);
                let material = material(samples, validation, config);
                training_stage::run(context, header, network, config.into(), material, reporter)
            }
            Some(mixture) => {
                let network = JointNetwork::new(rotation, readout, &shape, mixture, seed, &device);
                let material = material(samples, validation, config);
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
