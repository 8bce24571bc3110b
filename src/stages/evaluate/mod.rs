//! How good a run's features are: rotation accuracy, every block with every head, and the verdict against baselines.
//!
//! Every choice is made on held-out training images; the test set is opened afterwards, for all numbers at once.
//! Extraction and baselines are runs of the same stages in sub-directories of `OUT/evaluate`, so that they are resumed
//! and checked like any other.

mod convolution;
mod heads;
mod prepare;
mod probes;
mod rotation;
mod verdict;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::extract::extract;
use super::{Context, label};
use crate::config::{Config, ExtractConfig, ProbeHead};
use crate::data::{DataConfig, Split};
use crate::error::Result;
use crate::files::{read_json, sha256, write_json};
use crate::progress::{Event, Reporter, Stage};
use crate::store::checkpoint::DatasetLabel;
use crate::store::features::{Features, Manifest};
use crate::store::replacement::Work;
use crate::store::run_directory::{Existing, RunDirectory};
use crate::store::run_record::{Execution, Opening, RunRecord};
use crate::store::stage_directory::StageDirectory;
use prepare::{Prepared, prepare};

pub use probes::ProbeResult;
pub use rotation::{RotationAccuracy, RotationReport};
pub use verdict::{Arm, LabelCount, LeftOut, Verdict};

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
    /// Accuracy of the pretext task; absent if the checkpoint holds no rotation head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationReport>,
    /// What the probes were fitted to and chosen on, and how the test set was used; empty without probes.
    pub protocol: String,
    /// Digest of the indices of the images that probes are fitted to and chosen on; empty without, and in older files.
    #[serde(default)]
    pub split: String,
    /// Every block, and all blocks concatenated, with every head.
    pub probes: Vec<ProbeResult>,
    /// The probe with the highest validation accuracy; absent without probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<ProbeResult>,
    /// Whether pretraining helped; absent without baselines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Baselines that were asked for but cannot be compared with this run.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub left_out: Vec<LeftOut>,
    /// How often the run has been measured on the test set so far, including these numbers.
    pub test_evaluations: u32,
}

/// Evaluates the run's encoder; leaves `evaluate/` in the run directory.
///
/// # Errors
/// Whatever [`crate::Error`] names: no pretrained checkpoint, data, disk, results in the way.
pub fn evaluate(context: &Context, reporter: &mut dyn Reporter) -> Result<EvaluateSummary> {
    let place = context.run.evaluation();
    if place.is_finished() {
        context.check(&place)?;
    }
    let prepared = prepare(context, reporter)?;
    let work = begin(context, place)?;
    let own = sub_context(context, context.run.clone(), prepared.config.clone())?;
    let probed = probed_config(&own.config, prepared.layers.clone(), prepared.dataset.train.len());
    let sub = sub_context(&own, RunDirectory::new(work.directory().path()), probed)?;

    let chosen = choose(&own, &sub, &prepared, reporter)?;
    // Every choice is made: from here on the test set is open.
    let Tested { rotation, probes, verdict } = chosen.test(context, &own, &sub, &prepared, reporter)?;

    let record: RunRecord = read_json(&context.run.record())?;
    let summary = EvaluateSummary {
        dataset: label(&prepared.dataset),
        classes: prepared.dataset.class_names,
        rotation,
        protocol: prepared.split.as_ref().map(protocol).unwrap_or_default(),
        split: prepared.split.as_ref().map(Split::digest).unwrap_or_default(),
        best: probes::best(&probes).cloned(),
        probes,
        verdict,
        left_out: prepared.left_out,
        test_evaluations: record.test_evaluations,
        checkpoint: prepared.digest,
    };
    write_json(&work.directory().summary(), &summary)?;
    let execution = Execution::ending_now("evaluate", work.started(), context.environment());
    context.run.record_finished(execution, None)?;
    work.finish()?;
    Ok(summary)
}

/// Everything that was fitted and chosen; the test set is still closed.
struct Chosen<'a> {
    matrix: Option<Matrix<'a>>,
    candidates: Option<verdict::Candidates>,
}

/// The probes.
struct Matrix<'a> {
    split: &'a Split,
    manifest: Manifest,
    probes: probes::Chosen,
    convolutions: Vec<convolution::Trained>,
}

/// What decides a probe's number beside its choice: another basis is another look at the test set.
fn basis(own: &Config, sub: &Config, split: &Split, head: &str) -> Value {
    let evaluate = &own.evaluate;
    let trained = [ProbeHead::Linear, ProbeHead::Mlp].iter().any(|trained| trained.name() == head);
    let training = trained.then(|| {
        let Config { finetune, .. } = own;
        json!([evaluate.epochs, evaluate.batch_size, evaluate.hidden, finetune.optimizer, finetune.schedule])
    });
    json!([split.digest(), sub.seed, evaluate.pool, evaluate.views, training])
}

/// Fits all probes and trains the classifiers of the verdict; `own` is the run itself, `sub` the run in its directory
/// `evaluate`.
fn choose<'a>(
    own: &Context,
    sub: &Context,
    prepared: &'a Prepared,
    reporter: &mut dyn Reporter,
) -> Result<Chosen<'a>> {
    let Prepared { dataset, split, comparison, .. } = prepared;
    let matrix = match split {
        Some(split) => Some(probe(own, sub, prepared, split, reporter)?),
        None => None,
    };
    let candidates = match comparison {
        Some(comparison) => Some(verdict::train(own, &sub.run, dataset, comparison, reporter)?),
        None => None,
    };
    Ok(Chosen { matrix, candidates })
}

/// Extracts the features of every block and fits all probes.
fn probe<'a>(
    own: &Context,
    sub: &Context,
    Prepared { encoder, layers, .. }: &Prepared,
    split: &'a Split,
    reporter: &mut dyn Reporter,
) -> Result<Matrix<'a>> {
    reporter.report(Event::Note("evaluate: features of every block"));
    extract(sub, Some(own.run.stage(Stage::Pretrain)), reporter)?;
    let files = sub.run.features();
    let manifest = files.read_manifest()?;
    let classes = manifest.classes.len();
    let all = Features::load(&files.train(), &manifest.origin, classes)?;
    let probes = probes::choose(sub, &all, split, layers, encoder, classes, reporter)?;
    drop(all);
    let convolutions = match own.config.evaluate.heads.contains(&ProbeHead::Conv) {
        true => convolution::train(own, sub, layers, split, reporter)?,
        false => Vec::new(),
    };
    Ok(Matrix { split, manifest, probes, convolutions })
}

/// The results on the test set.
struct Tested {
    rotation: Option<RotationReport>,
    probes: Vec<ProbeResult>,
    verdict: Option<Verdict>,
}

impl Chosen<'_> {
    /// Opens the test set; every number taken on it is counted in `run.json` first.
    fn test(
        &self,
        context: &Context,
        own: &Context,
        sub: &Context,
        prepared: &Prepared,
        reporter: &mut dyn Reporter,
    ) -> Result<Tested> {
        let Prepared { checkpoint, digest, dataset, held_out, .. } = prepared;
        let record = |opening| context.run.record_run(context.environment(), label(dataset), Some(opening));
        let opened = |decided_by: String, purpose: String| {
            record(Opening { digest: sha256(format!("{digest} {decided_by}").as_bytes()), purpose })
        };
        let test_images = dataset.open_test()?;
        if rotation::told(checkpoint) {
            opened("rotation".into(), "evaluate: rotation accuracy".into())?;
        }
        let encoder = prepared.encoder.clone();
        let rotation =
            rotation::report(sub, checkpoint, encoder, dataset, held_out.clone(), &test_images, reporter)?;
        drop(test_images);
        let mut probes = Vec::new();
        if let Some(Matrix { split, manifest, probes: chosen, convolutions }) = &self.matrix {
            let (files, classes) = (sub.run.features(), manifest.classes.len());
            let test = Features::load(&files.test(), &manifest.origin, classes)?;
            let train = Features::load(&files.train(), &manifest.origin, classes)?;
            for (layer, head, chosen) in chosen.names() {
                let basis = basis(&own.config, &sub.config, split, head);
                opened(
                    format!("{layer} {head} {chosen} {basis}"),
                    format!("evaluate: probe {layer} {head}"),
                )?;
            }
            probes = chosen.test(sub, &train, split, &test)?;
            for trained in convolutions {
                let (probe, opening) = trained.test(reporter)?;
                record(opening)?;
                probes.push(probe);
            }
        }
        let candidates = self.candidates.as_ref();
        let verdict = candidates.map(|candidates| candidates.test(own, dataset, reporter)).transpose()?;
        Ok(Tested { rotation, probes, verdict })
    }
}

/// Locks the run and makes room for the results. An evaluation that was cut short is resumed without being asked.
fn begin(context: &Context, place: StageDirectory) -> Result<Work> {
    let existing = match context.existing {
        Existing::Refuse if !place.is_finished() => Existing::Resume,
        existing => existing,
    };
    context.begin_with(|| Work::begin(place, existing))
}

/// A run of stages inside this one, resumed if it was cut short.
fn sub_context(context: &Context, run: RunDirectory, config: Config) -> Result<Context> {
    let mut sub = Context::new(run, config, context.data_home.clone(), Existing::Resume)?;
    sub.allow_data_mismatch = context.allow_data_mismatch;
    sub.part_of_taken_over = context.encoder_is_taken_over();
    Ok(sub)
}

/// The config of the extraction for all probes.
fn probed_config(config: &Config, layers: Vec<String>, available: usize) -> Config {
    let evaluate = &config.evaluate;
    let limit = evaluate.train_images.map_or(available, |images| images.min(available));
    Config {
        data: DataConfig { train_images: Some(limit), validation_images: 0, ..config.data.clone() },
        extract: ExtractConfig {
            layers,
            pool: evaluate.pool,
            views: evaluate.views,
            ..config.extract.clone()
        },
        ..config.clone()
    }
}

fn protocol(split: &Split) -> String {
    format!(
        "frozen encoder; each head fitted to the features of {} labeled training images, its choices (and the best \
         probe) made on {} others; then the test set opened for all of them, nothing selected on it",
        split.train.len(),
        split.validation.as_ref().map_or(0, Vec::len)
    )
}
