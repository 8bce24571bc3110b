//! What a run's features are worth: rotation accuracy, every block by every head, and the verdict against baselines.
//!
//! Everything that is chosen is chosen on held-out training images; the test set is opened afterwards, for all numbers
//! at once. Extraction and baselines are runs of the same stages in sub-directories of `OUT/evaluate`, so that they
//! are resumed and checked like any other.

mod convolution;
mod heads;
mod probes;
mod rotation;
mod verdict;

use serde::{Deserialize, Serialize};

use super::extract::{check_data, extract, load_encoder};
use super::{Context, label};
use crate::checkpoint::DatasetLabel;
use crate::config::{Config, ExtractConfig, ProbeHead};
use crate::data::{self, DataConfig, Dataset, Split};
use crate::error::Result;
use crate::features::Features;
use crate::files::{sha256, write_json};
use crate::progress::{Event, Reporter, Stage};
use crate::run_directory::{Existing, RunDirectory, RunRecord};
use crate::stage_directory::{StageDirectory, Work, checkpoint_in};

pub use probes::Probe;
pub use rotation::{RotationAccuracy, RotationReport};
pub use verdict::{Arm, LabelCount, Verdict};

/// Name of the directory in the run, and of the config section.
const NAME: &str = "evaluate";

/// The file `evaluate/summary.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EvaluateSummary {
    /// The data set.
    pub dataset: DatasetLabel,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// SHA-256 of the checkpoint of the encoder.
    pub checkpoint: String,
    /// The pretext task; absent where the checkpoint holds no rotation head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationReport>,
    /// What the probes were fitted to and chosen on, and how the test set was used.
    pub protocol: String,
    /// Every block, and all of them side by side, by every head.
    pub probes: Vec<Probe>,
    /// The probe with the highest validation accuracy; absent without probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<Probe>,
    /// Whether pretraining helped; absent without baselines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// How many classifiers of the run have been evaluated on the test set so far, these included.
    pub test_evaluations: u32,
}

/// Evaluates the run's encoder; leaves `evaluate/` in the run directory.
///
/// # Errors
/// Whatever [`crate::Error`] names: no pretrained checkpoint, data, disk, results in the way.
pub fn evaluate(context: &Context, reporter: &mut dyn Reporter) -> Result<EvaluateSummary> {
    let config = &context.config;
    let (encoder, checkpoint, digest) =
        load_encoder(&context.device, checkpoint_in(&context.run.stage(Stage::Pretrain)))?;
    let layers = match config.evaluate.layers.is_empty() {
        true => encoder.block_names(),
        false => config.evaluate.layers.clone(),
    };
    let place = context.run.evaluation();
    if place.is_finished() {
        context.check(&place)?;
    }
    let dataset = data::open(&config.data, &context.data_home, reporter)?;
    check_data(context, &checkpoint, &dataset, reporter)?;
    let work = begin(context, place)?;
    let directory = RunDirectory::new(work.directory().path());

    let probed = probed_config(config, layers.clone(), dataset.train.len());
    let sub = sub_context(context, directory.clone(), probed)?;
    reporter.report(Event::Note("evaluate: features of every block"));
    extract(&sub, Some(context.run.stage(Stage::Pretrain)), reporter)?;
    let manifest = directory.features().read_manifest()?;
    let classes = manifest.classes.len();
    let all = Features::load(&directory.features().train(), &manifest.origin, classes)?;
    let split = probe_split(&dataset, config, all.labels().len())?;
    let chosen = probes::choose(&sub, &all, &split, &layers, &encoder, classes, reporter)?;
    drop(all);
    let convolutions = match config.evaluate.heads.contains(&ProbeHead::Conv) {
        true => convolution::train(context, &sub, &layers, split.validation.as_deref(), reporter)?,
        false => Vec::new(),
    };
    let verdict = verdict::train(context, &directory, &dataset, reporter)?;

    // Every choice is made: from here on the test set is open.
    let test_images = dataset.open_test()?;
    let rotation = rotation::report(&sub, &checkpoint, encoder, &dataset, &test_images, reporter)?;
    drop(test_images);
    let test = Features::load(&directory.features().test(), &manifest.origin, classes)?;
    let train = Features::load(&directory.features().train(), &manifest.origin, classes)?;
    let mut probes = chosen.test(&sub, &train, &split, &test)?;
    probes.extend(convolutions);
    let opened = |digest: &str| context.run.record_run(context.environment(), label(&dataset), Some(digest));
    for probe in &probes {
        opened(&probe.digest(&digest))?;
    }
    for digest in verdict.iter().flat_map(Verdict::checkpoints) {
        opened(digest)?;
    }
    let record: RunRecord = crate::files::read_json(&context.run.record())?;
    let summary = EvaluateSummary {
        dataset: label(&dataset),
        classes: manifest.classes,
        checkpoint: digest,
        rotation,
        protocol: protocol(&split),
        best: probes::best(&probes).cloned(),
        probes,
        verdict,
        test_evaluations: record.test_evaluations,
    };
    write_json(&work.directory().summary(), &summary)?;
    work.finish()?;
    Ok(summary)
}

/// Takes the run, and makes room for the results. An evaluation that was cut short goes on by itself.
fn begin(context: &Context, place: StageDirectory) -> Result<Work> {
    context.take()?;
    let existing = match context.existing {
        Existing::Refuse if !place.is_finished() => Existing::Resume,
        existing => existing,
    };
    let work = Work::begin(place, existing)?;
    context.config.write(&work.directory().config())?;
    Ok(work)
}

/// A run of stages inside this one: results of a run that was cut short are gone on with.
fn sub_context(context: &Context, run: RunDirectory, config: Config) -> Result<Context> {
    let mut sub = Context::new(run, config, context.data_home.clone(), Existing::Resume)?;
    sub.allow_data_mismatch = context.allow_data_mismatch;
    Ok(sub)
}

/// The config of the extraction that all probes read from.
fn probed_config(config: &Config, layers: Vec<String>, available: usize) -> Config {
    let evaluate = &config.evaluate;
    let limit = evaluate.train_images.map_or(available, |images| images.min(available));
    Config {
        data: DataConfig { train_images: Some(limit), ..config.data.clone() },
        extract: ExtractConfig {
            layers,
            pool: evaluate.pool,
            views: evaluate.views,
            ..config.extract.clone()
        },
        ..config.clone()
    }
}

/// Of the first `limit` training images those to fit to and those to choose on: what the run held out, or where that is
/// nothing, what the section `evaluate` says.
fn probe_split(dataset: &Dataset, config: &Config, limit: usize) -> Result<Split> {
    let among = |indices: Vec<u32>| -> Vec<u32> {
        indices.into_iter().filter(|&index| (index as usize) < limit).collect()
    };
    if config.data.validation_images > 0 {
        let split = dataset.split(&config.data, config.seed)?;
        return Ok(Split { train: among(split.train), validation: split.validation.map(among) });
    }
    // A quarter at most, where there are few images.
    let held_out = config.evaluate.validation_images.min(limit / 4);
    let data = DataConfig { validation_images: held_out, labels_per_class: None, ..config.data.clone() };
    data::split(&dataset.train.labels[..limit], dataset.class_names.len(), &data, config.seed)
}

fn protocol(split: &Split) -> String {
    format!(
        "frozen encoder; each head fitted to the features of {} labeled training images, its choices (and the best \
         probe) made on {} others; then the test set opened for all of them, nothing selected on it",
        split.train.len(),
        split.validation.as_ref().map_or(0, Vec::len)
    )
}

impl Probe {
    /// What decides this probe, for the count of test evaluations.
    fn digest(&self, checkpoint: &str) -> String {
        sha256(format!("{checkpoint} {} {} {}", self.layer, self.head, self.chosen).as_bytes())
    }
}
