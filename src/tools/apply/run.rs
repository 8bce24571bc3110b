//! The networks of a finished run.

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::turns::TurnFinder;
use crate::config::{self, Overrides};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::files::read_json;
use crate::model::{ClassifierShape, ImageClassifier, Mode, Network};
use crate::progress::Stage;
use crate::samples::Batch;
use crate::samples::PlainImages;
use crate::stages::{FinetuneSummary, PretrainSummary, describe};
use crate::store::checkpoint::{Checkpoint, Header};
use crate::store::encoder_source::EncoderSource;
use crate::store::networks::{
    classifier_shape, encoder_of, load_classifier, load_encoder, load_image_classifier, load_rotation_network,
};
use crate::store::run_directory::RunDirectory;
use crate::store::stage_directory::checkpoint_in;

/// A pretrained encoder with its rotation head.
pub(super) struct Pretrained {
    pub finder: TurnFinder,
    /// Rows and columns of the images that it takes.
    pub side: usize,
}

/// Loads what `pretrain` left.
pub(super) fn pretrained(source: &EncoderSource, device: &Device) -> Result<Pretrained> {
    let files = source.files()?;
    let (path, checkpoint) = (&files.place, files.load()?);
    let encoder = encoder_of(device, path, &checkpoint)?;
    let Some(network) = load_rotation_network(encoder, path, &checkpoint)? else {
        return Err(Checkpoint::refuse(path, "holds no rotation head"));
    };
    let temperature =
        PretrainSummary::of(&files)?.and_then(|summary| summary.calibration).map(|found| found.temperature);
    let side = side(path, &checkpoint)?;
    Ok(Pretrained { finder: TurnFinder { network, pixels: checkpoint.header.pixels, temperature }, side })
}

/// The side of the square images that a checkpoint is for.
fn side(path: &Path, checkpoint: &Checkpoint) -> Result<usize> {
    match checkpoint.header.image {
        [height, width, 3] if height == width => Ok(height),
        image => Err(Checkpoint::refuse(path, format!("is for images of {image:?}, not for square ones"))),
    }
}

/// From images to one logit a class, as `finetune` trained it.
pub(in crate::tools) struct ClassFinder {
    pub(in crate::tools) network: ImageClassifier,
    /// What the encoder's checkpoint says of itself.
    pub(in crate::tools) header: Header,
    /// Names of the classes, by logit.
    pub classes: Vec<String>,
    /// Rows and columns of the images that it takes.
    pub side: usize,
}

/// Loads what `finetune` left in a run; `encoder` names a checkpoint with the encoder, if it is not the run's own.
pub(in crate::tools) fn finetuned(
    run: &RunDirectory,
    encoder: Option<PathBuf>,
    device: &Device,
) -> Result<ClassFinder> {
    let path = run.result(Stage::Finetune);
    if !path.exists() {
        let hint = "run `rotnet finetune` first, or ask `rotnet orient`, which needs no classes";
        return Err(Error::checkpoint(&path, "there is no checkpoint of a classifier", hint));
    }
    let summary = run.summary(Stage::Finetune);
    if !summary.exists() {
        let hint = "finish it first: repeat the command that began it, with --resume";
        return Err(Error::checkpoint(&path, "this classifier is not finished", hint));
    }
    let summary: FinetuneSummary = read_json(&summary)?;
    summary.refuse_other(&path)?;
    let checkpoint = Checkpoint::load(&path)?;
    let shape = classifier_shape(&path, &checkpoint)?;
    if shape.classes != summary.classes.len() {
        let problem =
            format!("tells {} classes apart, summary.json {}", shape.classes, summary.classes.len());
        return Err(Checkpoint::refuse(&path, problem));
    }
    let network = match checkpoint.header.encoder {
        Some(_) => full(&path, &checkpoint, device)?,
        None => frozen(run, encoder, &path, &checkpoint, shape, device)?,
    };
    let Loaded { network, side, header } = network;
    Ok(ClassFinder { network, header, classes: summary.classes, side })
}

struct Loaded {
    network: ImageClassifier,
    side: usize,
    header: Header,
}

fn full(path: &Path, checkpoint: &Checkpoint, device: &Device) -> Result<Loaded> {
    Ok(Loaded {
        network: load_image_classifier(device, path, checkpoint)?,
        side: side(path, checkpoint)?,
        header: checkpoint.header.clone(),
    })
}

fn frozen(
    run: &RunDirectory,
    encoder: Option<PathBuf>,
    path: &Path,
    checkpoint: &Checkpoint,
    shape: &ClassifierShape,
    device: &Device,
) -> Result<Loaded> {
    let place = checkpoint_in(&encoder.unwrap_or_else(|| run.stage(Stage::Pretrain)));
    let (encoder, pretrained, digest) = load_encoder(device, place.clone())?;
    if checkpoint.header.input.as_ref() != Some(&digest) {
        let problem = format!("was trained on features of another encoder than {}", place.display());
        let hint =
            "name its checkpoint with --checkpoint, or run `rotnet extract` and `rotnet finetune` again";
        return Err(Error::checkpoint(path, problem, hint));
    }
    let config = run.config(Stage::Finetune);
    let readout = config::load(&config, &Overrides::default())?.extract.readout();
    let layer = describe(&encoder, &readout);
    let width = encoder.read_width(&readout)?;
    if width != shape.features {
        let problem =
            format!("was trained on other features than {} names ({layer}, {width})", config.display());
        return Err(Error::checkpoint(path, problem, "run `rotnet extract` and `rotnet finetune` again"));
    }
    let classifier = load_classifier(path, shape, checkpoint.parameters.clone(), device)?;
    Ok(Loaded {
        side: side(&place, &pretrained)?,
        header: pretrained.header,
        network: ImageClassifier::of(encoder, readout, classifier),
    })
}

impl ClassFinder {
    /// The logits of each image.
    pub fn logits(&self, images: &Images) -> Vec<Vec<f64>> {
        let plain = PlainImages::all(images, &self.header.pixels);
        let indices: Vec<u32> = (0..images.len() as u32).collect();
        let (inputs, _) = Batch::new(&plain, 0, &indices).into_tensors(&self.network.encoder.device());
        let logits: Vec<f64> =
            self.network.logits(inputs, Mode::Evaluate).into_data().iter::<f64>().collect();
        logits.chunks(self.classes.len()).map(<[f64]>::to_vec).collect()
    }
}
