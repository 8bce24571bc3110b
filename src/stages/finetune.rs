//! Features (or images, when the encoder is trained too) to a classifier and its test accuracy.

mod ridge;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use super::extract::{check_data, load_encoder};
use super::training_stage::{self, Material};
use super::{Context, label, warnings};
use crate::checkpoint::{DatasetLabel, Header};
use crate::config::{Config, FinetuneConfig, FinetuneMode};
use crate::data::{self, Dataset, Pixels, PlainImages};
use crate::error::{Error, Result};
use crate::features::{FeatureFiles, Features, Manifest};
use crate::files::{sha256_file, write_json};
use crate::judge::statistics::{Statistics, softmax};
use crate::model::{
    Classifier, ClassifierShape, Encoder, FeatureMap, HeadKind, ImageClassifier, RotationNetwork,
};
use crate::predictions::{Predictions, Source};
use crate::progress::{EpochMetrics, Event, Reporter, Stage};
use crate::run_directory::checkpoint_in;
use crate::samples::Samples;
use crate::training::{self, Evaluation, Keep};

/// The file `finetune/summary.json`.
#[derive(Clone, Debug, Serialize)]
pub struct FinetuneSummary {
    /// What was trained on what, and how the test set was used.
    pub protocol: String,
    /// The data set.
    pub dataset: DatasetLabel,
    /// Labeled training images.
    pub labels: usize,
    /// Epochs trained.
    pub epochs: usize,
    /// The last epoch.
    pub last_epoch: Option<EpochMetrics>,
    /// Wall time of all epochs, in seconds.
    pub seconds: f64,
    /// Accuracy on the test set, in 0..=1.
    pub test_accuracy: f64,
    /// Why these numbers are none to build on; absent where nothing speaks against them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Names of the classes, in the order of the matrix.
    pub classes: Vec<String>,
    /// The evaluation on the test set, after all training.
    pub test: Evaluation,
    /// Interval, calibration and mistakes on the test set.
    pub statistics: Statistics,
    /// SHA-256 of the checkpoint file.
    pub checkpoint: String,
}

/// Where `finetune` reads from, if not from the run directory.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The pretrained checkpoint or its directory (mode `full`).
    pub checkpoint: Option<PathBuf>,
    /// The directory of features (mode `frozen`).
    pub features: Option<PathBuf>,
}

/// Trains the classifier and evaluates it on the test set, once.
///
/// # Errors
/// Whatever [`crate::Error`] names: features or checkpoint that do not fit, data, disk.
pub fn finetune(
    context: &Context,
    sources: &Sources,
    reporter: &mut dyn Reporter,
) -> Result<FinetuneSummary> {
    let (trained, (test, logits)) = match context.config.finetune.mode {
        FinetuneMode::Frozen => frozen(context, sources, reporter)?,
        FinetuneMode::Full => full(context, sources, reporter)?,
    };
    let checkpoint = sha256_file(&context.run.result(Stage::Finetune))?;
    let predictions = predictions(&trained, &checkpoint, logits);
    predictions.save(&context.run.predictions())?;
    let summary = FinetuneSummary {
        protocol: format!(
            "{}; {}, test set evaluated once afterwards, nothing selected on it",
            trained.what, trained.how
        ),
        labels: trained.labels,
        epochs: trained.history.len(),
        last_epoch: trained.history.last().cloned(),
        seconds: trained.seconds,
        test_accuracy: test.accuracy,
        warnings: warnings::of_classifier(&test, &trained.classes),
        classes: trained.classes,
        test,
        statistics: predictions.statistics(),
        checkpoint,
        dataset: trained.dataset,
    };
    context.run.record_run(context.environment(), summary.dataset.clone(), Some(&summary.checkpoint))?;
    write_json(&context.run.summary(Stage::Finetune), &summary)?;
    Ok(summary)
}

/// How the number of epochs came about, in words.
fn choice(config: &FinetuneConfig) -> &'static str {
    match (config.patience, config.keep) {
        (None, Keep::Last) => "trained for a fixed number of epochs",
        (None, Keep::Best) => "the epoch with the best validation accuracy kept",
        (Some(_), Keep::Last) => "stopped by validation accuracy",
        (Some(_), Keep::Best) => "stopped by validation accuracy, the best epoch kept",
    }
}

/// What is kept of the test set's logits, in the order of its images.
fn predictions(trained: &Trained, checkpoint: &str, mut probabilities: Vec<f32>) -> Predictions {
    let source = Source {
        dataset: trained.dataset.clone(),
        classes: trained.classes.clone(),
        checkpoint: checkpoint.to_owned(),
    };
    softmax(&mut probabilities, source.classes.len());
    Predictions { source, probabilities, labels: trained.test_labels.clone() }
}

struct Trained {
    what: &'static str,
    /// Trained how long, or solved, and how that was chosen.
    how: String,
    seconds: f64,
    dataset: DatasetLabel,
    classes: Vec<String>,
    labels: usize,
    history: Vec<EpochMetrics>,
    test_labels: Vec<u8>,
}

/// The evaluation on the test set, and its logits.
type Tested = (Evaluation, Vec<f32>);

fn frozen(context: &Context, sources: &Sources, reporter: &mut dyn Reporter) -> Result<(Trained, Tested)> {
    let config = &context.config;
    let files = match &sources.features {
        Some(directory) => FeatureFiles::new(directory),
        None => context.run.features(),
    };
    let manifest = files.read_manifest()?;
    if sources.features.is_none() {
        check_origin(context, &files, &manifest.origin.checkpoint)?;
    }
    let map = frozen_map(&config.finetune, &manifest)?;
    let classes = manifest.classes.len();
    let all = Features::load(&files.train(), &manifest.origin, classes)?;
    context.begin(Stage::Finetune)?;
    training_stage::announce(Stage::Finetune, &manifest.origin.dataset.name, reporter);

    let chosen = data::labeled_split(all.labels(), classes, &config.data, config.seed)?;
    let train = all.subset(&chosen.train);
    let validation = chosen.validation.map(|indices| all.subset(&indices));
    drop(all);
    let shape = ClassifierShape {
        features: train.values(),
        hidden: config.finetune.hidden_widths(),
        batch_norm: config.finetune.batch_norm,
        classes,
        map,
    };
    let header = Header {
        stage: Stage::Finetune,
        rotnet: env!("CARGO_PKG_VERSION").into(),
        epochs: 0,
        partial: None,
        steps: 0,
        seed: config.seed,
        encoder: None,
        image: [0; 3],
        pixels: Pixels::Raw,
        classifier: Some(shape.clone()),
        dataset: manifest.origin.dataset.clone(),
        input: Some(manifest.origin.checkpoint.clone()),
        recipe: config.recipe(Stage::Finetune),
    };
    let head = head(context, header, &shape, &train, validation.as_ref(), reporter)?;
    let test = Features::load(&files.test(), &manifest.origin, classes)?;
    let trained = Trained {
        what: match config.finetune.head {
            HeadKind::Conv => "frozen encoder, convolutions on its map",
            HeadKind::Linear | HeadKind::Mlp => "frozen encoder, dense classifier on its features",
            HeadKind::Ridge => "frozen encoder, ridge regression of one-hot labels on its features",
        },
        how: head.how,
        seconds: head.seconds,
        dataset: manifest.origin.dataset,
        classes: manifest.classes,
        labels: train.len(),
        history: head.history,
        test_labels: test.labels().to_vec(),
    };
    Ok((trained, training::predict(&head.network, &test, &context.device)))
}

/// A classifier on features, and how it came about.
struct Head {
    network: Classifier,
    history: Vec<EpochMetrics>,
    how: String,
    seconds: f64,
}

/// Trains or solves the classifier; leaves its checkpoint.
fn head(
    context: &Context,
    header: Header,
    shape: &ClassifierShape,
    train: &Features,
    validation: Option<&Features>,
    reporter: &mut dyn Reporter,
) -> Result<Head> {
    let config = &context.config.finetune;
    if config.head == HeadKind::Ridge {
        let ridge::Solved { network, how, seconds } =
            ridge::solve(context, header, shape, train, validation)?;
        return Ok(Head { network, history: Vec::new(), how, seconds });
    }
    let device = context.device.clone().autodiff();
    let moments = config.standardise.then(|| train.moments());
    let network = Classifier::new(shape, moments, context.config.seed, &device);
    let material = material(train, validation.map(|samples| samples as _), config);
    let (network, history) =
        training_stage::run(context, header, network, config.into(), material, reporter)?;
    let seconds = training_stage::seconds(&history);
    Ok(Head { network, history, how: choice(config).into(), seconds })
}

/// The map that a head of convolutions stands on.
fn frozen_map(config: &FinetuneConfig, manifest: &Manifest) -> Result<Option<FeatureMap>> {
    match (config.head, &manifest.map) {
        (HeadKind::Conv, None) => {
            let problem = format!(
                "`conv` stands on the map of one block in one view, these features are {}; extract with \
                 --layer block2 --pool none --views 1, for example",
                manifest.origin.layer
            );
            Err(Error::config("finetune.head", problem))
        }
        (HeadKind::Conv, map) => Ok(map.clone()),
        (HeadKind::Linear | HeadKind::Mlp | HeadKind::Ridge, _) => Ok(None),
    }
}

/// The same in mode `full`: the one block that `extract.layers` names, or the last one.
pub(super) fn full_map(config: &Config, encoder: &Encoder) -> Result<Option<FeatureMap>> {
    if config.finetune.head != HeadKind::Conv {
        return Ok(None);
    }
    let layer = match &config.extract.layers[..] {
        [] => encoder.block_names().pop().unwrap_or_default(),
        [layer] => layer.clone(),
        layers => {
            let problem = format!("head `conv` stands on one block in mode `full`, got {}", layers.len());
            return Err(Error::config("extract.layers", problem));
        }
    };
    let Some(shape) = encoder.block_shape(&layer) else {
        let problem = format!("`{layer}` is none of {}", encoder.block_names().join(", "));
        return Err(Error::config("extract.layers", problem));
    };
    Ok(Some(FeatureMap { layer, shape }))
}

/// Features in the run directory must come from the checkpoint beside them.
fn check_origin(context: &Context, files: &FeatureFiles, digest: &str) -> Result<()> {
    let checkpoint = context.run.result(Stage::Pretrain);
    if checkpoint.exists() && sha256_file(&checkpoint)? != digest {
        return Err(Error::checkpoint(
            files.manifest(),
            format!("these features come from another checkpoint than {}", checkpoint.display()),
            "run `rotnet extract --force` again, or name features with --features",
        ));
    }
    Ok(())
}

fn full(context: &Context, sources: &Sources, reporter: &mut dyn Reporter) -> Result<(Trained, Tested)> {
    let config = &context.config;
    let pretrained = match config.finetune.from_scratch {
        true => None,
        false => {
            let place = sources.checkpoint.clone();
            let place = place.unwrap_or_else(|| context.run.stage(Stage::Pretrain));
            Some(load_encoder(&context.device, checkpoint_in(&place))?)
        }
    };
    let map = match &pretrained {
        Some((encoder, ..)) => full_map(config, encoder)?,
        None => None,
    };
    context.begin(Stage::Finetune)?;
    let dataset = data::open(&config.data, &context.data_home, reporter)?;
    let split = dataset.labeled_split(&config.data, config.seed)?;
    training_stage::announce(Stage::Finetune, &dataset.name, reporter);
    let (encoder, header) = match pretrained {
        Some((encoder, checkpoint, digest)) => {
            check_data(context, &checkpoint, &dataset, reporter)?;
            if !checkpoint.header.pixels.is_as(&config.data) {
                let text = "pixels are scaled as in the checkpoint, not as the config says";
                reporter.report(Event::Warning(text));
            }
            (encoder, Header { input: Some(digest), ..checkpoint.header })
        }
        None => fresh_encoder(context, &dataset, &split.train),
    };
    let map = match map {
        None => full_map(config, &encoder)?,
        map => map,
    };
    let plain = |indices| PlainImages::new(&dataset.train, indices, &header.pixels);
    let train = plain(split.train).augmented(config.finetune.augment.as_ref(), config.seed);
    let validation = split.validation.map(plain);
    let shape = ClassifierShape {
        features: map.as_ref().map_or(encoder.features(), |map| map.shape.iter().product()),
        hidden: config.finetune.hidden_widths(),
        batch_norm: config.finetune.batch_norm,
        classes: dataset.class_names.len(),
        map,
    };
    let device = context.device.clone().autodiff();
    let network = ImageClassifier::new(encoder, &shape, config.seed, &device);
    let stage_header = Header {
        stage: Stage::Finetune,
        classifier: Some(shape),
        epochs: 0,
        partial: None,
        steps: 0,
        dataset: label(&dataset),
        recipe: config.recipe(Stage::Finetune),
        ..header.clone()
    };
    let material = material(&train, validation.as_ref().map(|samples| samples as _), &config.finetune);
    let (network, history) =
        training_stage::run(context, stage_header, network, (&config.finetune).into(), material, reporter)?;
    let test_images = dataset.open_test()?;
    let test = PlainImages::all(&test_images, &header.pixels);
    let trained = Trained {
        what: match config.finetune.from_scratch {
            true => "encoder and classifier trained end to end from scratch (supervised baseline)",
            false => "encoder and classifier trained end to end from the pretrained encoder",
        },
        how: choice(&config.finetune).into(),
        seconds: training_stage::seconds(&history),
        dataset: label(&dataset),
        classes: dataset.class_names.clone(),
        labels: train.len(),
        history,
        test_labels: test_images.labels.clone(),
    };
    Ok((trained, training::predict(&network, &test, &context.device)))
}

/// An encoder as pretraining begins with, and what a checkpoint of it says; pixels are as the config says, with the
/// mean and deviation of the images of `indices`.
fn fresh_encoder(context: &Context, dataset: &Dataset, indices: &[u32]) -> (Encoder, Header) {
    let config = &context.config;
    let image = dataset.image_shape();
    let header = Header {
        stage: Stage::Finetune,
        rotnet: env!("CARGO_PKG_VERSION").into(),
        epochs: 0,
        partial: None,
        steps: 0,
        seed: config.seed,
        encoder: Some(config.encoder.clone()),
        image,
        pixels: Pixels::new(&config.data, &dataset.train, indices),
        classifier: None,
        dataset: label(dataset),
        input: None,
        recipe: Value::Null,
    };
    let mut encoder = RotationNetwork::new(&config.encoder, image, config.seed, &context.device).encoder;
    if config.encoder.is_fitted() {
        let images = PlainImages::new(&dataset.train, indices.to_vec(), &header.pixels);
        encoder = encoder.fit(&images, header.pixels.step(), config.seed);
    }
    (encoder, header)
}

fn material<'a, N>(
    samples: &'a dyn Samples,
    validation: Option<&'a dyn Samples>,
    config: &FinetuneConfig,
) -> Material<'a, N> {
    let steps = training::steps_an_epoch(samples, config.batch_size) * config.epochs as u64;
    Material { samples, steps, before: Vec::new(), validation, look: None }
}
