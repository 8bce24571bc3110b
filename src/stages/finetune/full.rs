//! Mode `full`: encoder and classifier together, on images.

use serde_json::Value;

use super::{Sources, Trained, choice, configured_shape, kept_accuracy, material};
use crate::config::Config;
use crate::data::{Dataset, Pixels};
use crate::error::{Error, Result};
use crate::model::{Encoder, FeatureMap, HeadKind, ImageClassifier, Readout, RotationNetwork};
use crate::progress::{Event, Reporter, Stage};
use crate::samples::PlainImages;
use crate::samples::Samples;
use crate::stages::extract::{check_data, describe, feature_map};
use crate::stages::{Context, label, training_stage};
use crate::store::checkpoint::{Checkpoint, Header};
use crate::store::networks::load_encoder;
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
    let split = dataset.labeled_split(&config.data, config.seed)?;
    training_stage::announce(Stage::Finetune, &dataset.name, reporter);
    let (encoder, header) = match pretrained {
        Some(pretrained) => pretrained_encoder(context, pretrained, &dataset, reporter)?,
        None => fresh_encoder(context, &dataset, &split.train),
    };
    let (readout, map) = match readout {
        Some(readout) => readout,
        None => full_readout(config, &encoder)?,
    };
    let plain = |indices| PlainImages::new(&dataset.train, indices, &header.pixels);
    let train = plain(split.train).augmented(config.finetune.augment.as_ref(), config.seed);
    let validation = split.validation.map(plain);
    let width = encoder.read_width(&readout)?;
    let shape = configured_shape(&config.finetune, width, dataset.class_names.len(), map);
    let device = context.device.clone().autodiff();
    let network = ImageClassifier::new(encoder, readout.clone(), &shape, config.seed, &device);
    let stage_header = Header {
        stage: Stage::Finetune,
        classifier: Some(shape),
        readout: Some(readout),
        epochs: 0,
        partial: None,
        steps: 0,
        dataset: label(&dataset),
        recipe: config.recipe(Stage::Finetune),
        ..header.clone()
    };
    let material = material(&train, validation.as_ref().map(|samples| samples as _), &config.finetune);
    let training_stage::Trained { history, work } =
        training_stage::run(context, stage_header, network, (&config.finetune).into(), material, reporter)?;
    let trained = Trained {
        how: choice(&config.finetune).into(),
        seconds: training_stage::seconds(&history),
        dataset: label(&dataset),
        classes: dataset.class_names.clone(),
        labels: train.len(),
        validation: kept_accuracy(&config.finetune, &history),
        history,
        work,
    };
    Ok((trained, dataset))
}

/// The pretrained encoder, its checkpoint and the digest of that; none if the encoder is trained from scratch.
fn pretrained(context: &Context, sources: &Sources) -> Result<Option<(Encoder, Checkpoint, String)>> {
    if context.config.finetune.from_scratch {
        return Ok(None);
    }
    let place = sources.checkpoint.clone().unwrap_or_else(|| context.run.stage(Stage::Pretrain));
    load_encoder(&context.device, checkpoint_in(&place)).map(Some)
}

/// The encoder of a checkpoint that fits the data set, and what a checkpoint made from it says.
fn pretrained_encoder(
    context: &Context,
    (encoder, checkpoint, digest): (Encoder, Checkpoint, String),
    dataset: &Dataset,
    reporter: &mut dyn Reporter,
) -> Result<(Encoder, Header)> {
    check_data(context, &checkpoint, dataset, reporter)?;
    if !checkpoint.header.pixels.is_as(&context.config.data) {
        let text = "pixels are scaled as in the checkpoint, not as the config says";
        reporter.report(Event::Warning(text));
    }
    Ok((encoder, Header { input: Some(digest), ..checkpoint.header }))
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
                "`conv` stands on one block in one view in mode `full`, got {}",
                describe(encoder, &readout)
            );
            Err(Error::config("finetune.head", problem))
        }
    }
}

/// A fresh encoder, as at the start of pretraining, and what a checkpoint made from it says; pixels are scaled as the
/// config says, with the mean and deviation of the images of `indices`.
fn fresh_encoder(context: &Context, dataset: &Dataset, indices: &[u32]) -> (Encoder, Header) {
    let config = &context.config;
    let image = dataset.image_shape();
    let pixels = Pixels::new(&config.data, &dataset.train, indices);
    let header = Header {
        encoder: Some(config.encoder.clone()),
        image,
        ..Header::untrained(Stage::Finetune, config.seed, pixels, label(dataset), Value::Null)
    };
    let mut encoder = RotationNetwork::new(&config.encoder, image, config.seed, &context.device).encoder;
    if config.encoder.is_fitted() {
        let images = PlainImages::new(&dataset.train, indices.to_vec(), &header.pixels);
        encoder = encoder.fit(&images, header.pixels.step(), config.seed);
    }
    (encoder, header)
}
