//! Tests a trained classifier on the test set: the last step.

use std::path::Path;

use super::{FinetuneSummary, Sources, frozen};
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::files::{read_json, write_json};
use crate::math::logits::softmax;
use crate::progress::{Reporter, Stage};
use crate::samples::PlainImages;
use crate::samples::Samples;
use crate::stages::{Context, warnings};
use crate::store::checkpoint::Checkpoint;
use crate::store::networks::{classifier_shape, load_classifier, load_image_classifier};
use crate::store::predictions::{Predictions, Source};
use crate::store::replacement::Work;
use crate::store::run_directory::Existing;
use crate::store::run_record::Opening;
use crate::store::stage_directory::StageDirectory;
use crate::training::{self, Evaluation};

/// What the summary of a classifier says about the test set before and after it is opened.
pub(super) const CLOSED: &str = "test set not opened";
const OPENED: &str = "test set evaluated once afterwards, nothing selected on it";

/// A classifier's predictions on the test set, and its summary.
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

/// Evaluates the run's trained classifier on the test set, which `run.json` counts with `purpose`; `dataset` is the
/// run's data set, if it is already open.
///
/// # Errors
/// Whatever [`crate::Error`] names: a classifier that is missing or whose training did not finish, features or a data
/// set that do not fit, disk.
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

/// A trained classifier, before the test set is opened.
pub(super) struct Trained<'a> {
    pub files: &'a StageDirectory,
    pub summary: FinetuneSummary,
    pub sources: &'a Sources,
}

impl Trained<'_> {
    /// Evaluates it on the test set; writes only `run.json`.
    pub(super) fn test(
        self,
        context: &Context,
        dataset: Option<&Dataset>,
        purpose: &str,
        reporter: &mut dyn Reporter,
    ) -> Result<Tested> {
        let Self { files, summary: trained, sources } = self;
        let path = files.result();
        trained.refuse_other(&path)?;
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
type Answers = (Evaluation, Vec<f32>, Vec<u16>);

fn on_features(context: &Context, sources: &Sources, path: &Path, found: &Checkpoint) -> Result<Answers> {
    let test = frozen::test_features(context, sources, &found.header)?;
    let shape = classifier_shape(path, found)?;
    if shape.features != test.values() {
        let problem = format!("takes {} features, there are {}", shape.features, test.values());
        return Err(Checkpoint::refuse(path, problem));
    }
    let network = load_classifier(path, shape, found.parameters.clone(), &context.device)?;
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
