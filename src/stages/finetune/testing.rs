//! A trained classifier on the test set: the last thing that is done with it.

use std::path::Path;

use burn::tensor::Device;

use super::{FinetuneSummary, Sources, frozen};
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::files::{read_json, sha256_file, write_json};
use crate::judge::statistics::softmax;
use crate::model::{self, Classifier, ClassifierShape, FeatureMoments, ImageClassifier, Parameters};
use crate::progress::{Reporter, Stage};
use crate::samples::PlainImages;
use crate::samples::Samples;
use crate::stages::extract::load_encoder;
use crate::stages::{Context, warnings};
use crate::store::checkpoint::Checkpoint;
use crate::store::predictions::{Predictions, Source};
use crate::store::replacement::Work;
use crate::store::run_directory::{Existing, Opening};
use crate::store::stage_directory::StageDirectory;
use crate::training::{self, Evaluation};

/// What the summary of a classifier says of the test set before it is opened, and afterwards.
pub(super) const CLOSED: &str = "test set not opened";
const OPENED: &str = "test set evaluated once afterwards, nothing selected on it";

/// What a classifier answered on the test set, and its summary.
pub(super) struct Tested {
    predictions: Predictions,
    summary: FinetuneSummary,
}

impl Tested {
    /// Writes both beside the classifier.
    pub(super) fn write(self, files: &StageDirectory) -> Result<FinetuneSummary> {
        self.predictions.save(&files.predictions())?;
        write_json(&files.summary(), &self.summary)?;
        Ok(self.summary)
    }
}

/// Evaluates the classifier that a run has trained on the test set, which is counted in `run.json` with `purpose`;
/// `dataset` is the run's, where it is open already.
///
/// # Errors
/// Whatever [`crate::Error`] names: a classifier that is not there or whose training did not end, features or a data set
/// that do not fit, disk.
pub fn test_classifier(
    context: &Context,
    sources: &Sources,
    dataset: Option<&Dataset>,
    purpose: &str,
    reporter: &mut dyn Reporter,
) -> Result<FinetuneSummary> {
    context.take()?;
    let place = context.run.files(Stage::Finetune);
    let classifier = Trained { files: &place, summary: read_json(&place.summary())?, sources };
    let tested = classifier.test(context, dataset, purpose, reporter)?;
    let work = Work::begin(place, Existing::Resume)?;
    let summary = tested.write(work.directory())?;
    context.finish(Stage::Finetune, work)?;
    Ok(summary)
}

/// A classifier that is trained, before the test set is opened.
pub(super) struct Trained<'a> {
    pub files: &'a StageDirectory,
    pub summary: FinetuneSummary,
    pub sources: &'a Sources,
}

impl Trained<'_> {
    /// Evaluates it on the test set, and writes nothing beside it.
    pub(super) fn test(
        self,
        context: &Context,
        dataset: Option<&Dataset>,
        purpose: &str,
        reporter: &mut dyn Reporter,
    ) -> Result<Tested> {
        let Self { files, summary: trained, sources } = self;
        let path = files.result();
        if sha256_file(&path)? != trained.checkpoint {
            let problem = "is not the one that summary.json beside it tells of; its training did not end";
            return Err(Checkpoint::refuse(&path, problem));
        }
        let checkpoint = Checkpoint::load(&path)?;
        let (evaluation, mut probabilities, labels) = match checkpoint.header.encoder {
            None => on_features(context, sources, &path, &checkpoint)?,
            Some(_) => on_images(context, dataset, &path, &checkpoint, reporter)?,
        };
        softmax(&mut probabilities, trained.classes.len());
        let source = Source {
            dataset: trained.dataset.clone(),
            classes: trained.classes.clone(),
            checkpoint: trained.checkpoint.clone(),
        };
        let predictions = Predictions { source, probabilities, labels };
        let opening = Opening { digest: trained.checkpoint.clone(), purpose: purpose.to_owned() };
        context.run.record_run(context.environment(), trained.dataset.clone(), Some(opening))?;
        let summary = FinetuneSummary {
            protocol: trained.protocol.replace(CLOSED, OPENED),
            test_accuracy: Some(evaluation.accuracy),
            warnings: warnings::of_classifier(&evaluation, &trained.classes),
            test: Some(evaluation),
            statistics: Some(predictions.statistics()),
            ..trained
        };
        Ok(Tested { predictions, summary })
    }
}

/// Evaluation, logits and labels.
type Answers = (Evaluation, Vec<f32>, Vec<u8>);

fn on_features(context: &Context, sources: &Sources, path: &Path, found: &Checkpoint) -> Result<Answers> {
    let test = frozen::test_features(context, sources, &found.header)?;
    let shape = shape(path, found)?;
    if shape.features != test.values() {
        let problem = format!("takes {} features, there are {}", shape.features, test.values());
        return Err(Checkpoint::refuse(path, problem));
    }
    let network = load_classifier(shape, found.parameters.clone(), &context.device)
        .map_err(|problem| Checkpoint::refuse(path, problem))?;
    let (evaluation, logits) = training::predict(&network, &test, &context.device);
    test.failure().map_or(Ok(()), Err)?;
    Ok((evaluation, logits, test.labels().to_vec()))
}

fn on_images(
    context: &Context,
    dataset: Option<&Dataset>,
    path: &Path,
    found: &Checkpoint,
    reporter: &mut dyn Reporter,
) -> Result<Answers> {
    let opened;
    let dataset = match dataset {
        Some(dataset) => dataset,
        None => {
            opened = data::open(&context.config.data, &context.data_home, reporter)?;
            &opened
        }
    };
    if dataset.fingerprint != found.header.dataset.fingerprint {
        let problem =
            format!("is another data set than the one trained with ({})", found.header.dataset.name);
        return Err(Error::data(&dataset.directory, problem, "name that one with --data"));
    }
    let network = load_image_classifier(&context.device, path, found)?;
    let images = dataset.open_test()?;
    let test = PlainImages::all(&images, &found.header.pixels);
    let (evaluation, logits) = training::predict(&network, &test, &context.device);
    Ok((evaluation, logits, images.labels.clone()))
}

fn shape<'a>(path: &Path, checkpoint: &'a Checkpoint) -> Result<&'a ClassifierShape> {
    let shape = checkpoint.header.classifier.as_ref();
    shape.ok_or_else(|| Checkpoint::refuse(path, "holds no classifier"))
}

/// The encoder and classifier of a checkpoint that holds both, on the plain device.
pub(crate) fn load_image_classifier(
    device: &Device,
    path: &Path,
    checkpoint: &Checkpoint,
) -> Result<ImageClassifier> {
    let (encoder, _, _) = load_encoder(device, path.to_path_buf())?;
    let refuse = |problem: String| Checkpoint::refuse(path, problem);
    let shape = shape(path, checkpoint)?;
    let Some(readout) = checkpoint.header.readout.clone() else {
        return Err(refuse("does not say what its classifier sees of the encoder".into()));
    };
    let width = encoder.read_width(&readout).map_err(|error| refuse(error.to_string()))?;
    if width != shape.features {
        return Err(refuse(format!(
            "its classifier takes {} features, its encoder gives {width}",
            shape.features
        )));
    }
    let classifier = load_classifier(shape, checkpoint.part("classifier"), device).map_err(refuse)?;
    Ok(ImageClassifier::of(encoder, readout, classifier))
}

/// A classifier with the parameters of a checkpoint, standardising or not as they say.
///
/// # Errors
/// What does not fit.
pub(crate) fn load_classifier(
    shape: &ClassifierShape,
    parameters: Parameters,
    device: &Device,
) -> Result<Classifier, String> {
    let stored: usize = parameters.values().map(|data| data.num_elements()).sum();
    if shape.weights() > stored {
        return Err("holds fewer numbers than its classifier has weights".into());
    }
    let places = shape.map.as_ref().map(|map| map.shape.iter().copied().fold(1, usize::saturating_mul));
    if places.is_some_and(|places| places != shape.features) {
        return Err(format!("its classifier takes {} features, which are no map of blocks", shape.features));
    }
    let standardised = parameters.keys().any(|name| name.starts_with("standardise."));
    let neutral = FeatureMoments { mean: vec![0.0; shape.features], deviation: vec![1.0; shape.features] };
    let classifier = Classifier::new(shape, standardised.then_some(neutral), 0, device);
    model::load(classifier, parameters)
}
