//! The verdict: did pretraining help, by how much, and up to how many labels?

mod baselines;
mod compare;
mod sentence;

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::Context;
use super::super::extract::{ExtractSummary, describe};
use super::super::finetune::{Sources, test_classifier, train_classifier};
use super::super::pretrain::pretrain;
use super::{extract, sub_context};
use crate::config::{self, Baseline, Config, FinetuneMode, Overrides};
use crate::data::Dataset;
use crate::error::Result;
use crate::files::read_json;
use crate::judge::statistics::{Difference, Interval};
use crate::progress::{Event, Reporter, Stage};
use crate::store::features::Origin;
use crate::store::networks::load_encoder;
use crate::store::predictions::Predictions;
use crate::store::run_directory::RunDirectory;
use crate::store::run_record::Opening;
use baselines::{Pass, epochs};

pub(super) use compare::Comparison;

/// Whether pretraining helped, by how much, and up to how many labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer in a sentence.
    pub sentence: String,
    /// How the numbers were obtained.
    pub protocol: String,
    /// The comparisons, fewest labels first.
    pub counts: Vec<LabelCount>,
}

/// Classifiers trained on the same labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelCount {
    /// Labels per class; 0: all there are.
    pub labels_per_class: usize,
    /// Total number of labels.
    pub labels: usize,
    /// The pretrained encoder first, then the baselines.
    pub arms: Vec<Arm>,
}

/// A classifier of the comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arm {
    /// `pretrained`, or the name of the baseline.
    pub name: String,
    /// Accuracy on the test set.
    pub test_accuracy: f64,
    /// Its bootstrap interval, 95 %.
    pub test_interval: Interval,
    /// Accuracy on the validation split; absent if nothing is held out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation_accuracy: Option<f64>,
    /// Wall time of everything it took, in seconds: pretraining, extraction, training of the classifier.
    pub seconds: f64,
    /// Gain of pretraining over it, paired by image; absent for the pretrained encoder itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain: Option<Difference>,
    /// The p-value of the gain, adjusted for all gains of the verdict (Holm); absent for the pretrained encoder itself.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub adjusted_p_value: Option<f64>,
    /// SHA-256 of the checkpoint of the classifier.
    pub checkpoint: String,
}

/// A baseline that was asked for but cannot be compared with the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// Name of the arm to compare with.
const PRETRAINED: &str = "pretrained";

/// An encoder to put classifiers on, and what it has cost so far.
struct Start {
    name: &'static str,
    sources: Sources,
    /// The run's config with the settings of the baseline.
    config: Config,
    seconds: f64,
}

/// The trained classifiers of a verdict; the test set is still closed.
pub(super) struct Candidates {
    counts: Vec<(usize, Vec<Candidate>)>,
    protocol: String,
}

/// A trained classifier.
struct Candidate {
    name: &'static str,
    context: Context,
    sources: Sources,
    /// Number of labels it was trained on.
    labels: usize,
    /// Wall time of its encoder and itself.
    seconds: f64,
}

/// Trains the classifiers of all arms at every label count.
pub(super) fn train(
    context: &Context,
    directory: &RunDirectory,
    dataset: &Dataset,
    comparison: &Comparison,
    reporter: &mut dyn Reporter,
) -> Result<Candidates> {
    let root = directory.root().join("verdict");
    let mut starts = vec![pretrained(context, &root, comparison.pretrain_seconds, reporter)?];
    for (baseline, config) in &comparison.baselines {
        starts.push(start(context, &root, *baseline, config, comparison.seed, reporter)?);
    }
    let mut counts = Vec::new();
    for &labels_per_class in &comparison.labels_per_class {
        reporter.report(Event::Note(&format!("evaluate: verdict with {}", in_words(labels_per_class))));
        let arm = |start| arm(context, &root, dataset, (start, comparison.seen), labels_per_class, reporter);
        let arms = starts.iter().map(arm);
        counts.push((labels_per_class, arms.collect::<Result<_>>()?));
    }
    Ok(Candidates { counts, protocol: comparison.protocol.clone() })
}

fn in_words(labels_per_class: usize) -> String {
    match labels_per_class {
        0 => "all labels".to_owned(),
        labels => format!("{labels} labels a class"),
    }
}

impl Candidates {
    /// Opens the test set for every classifier.
    pub(super) fn test(
        &self,
        context: &Context,
        dataset: &Dataset,
        reporter: &mut dyn Reporter,
    ) -> Result<Verdict> {
        let mut counts = Vec::new();
        for (labels_per_class, candidates) in &self.counts {
            let mut arms: Vec<Arm> = Vec::new();
            let mut first: Option<Predictions> = None;
            for candidate in candidates {
                let (mut arm, predictions) =
                    candidate.test(context, dataset, &in_words(*labels_per_class), reporter)?;
                match &first {
                    None => first = Some(predictions),
                    Some(first) => {
                        let (own, labels) = (first.predicted(), &first.labels);
                        arm.gain = Some(Difference::new(&predictions.predicted(), &own, labels));
                    }
                }
                arms.push(arm);
            }
            let labels = candidates.first().map_or(0, |candidate| candidate.labels);
            counts.push(LabelCount { labels_per_class: *labels_per_class, labels, arms });
        }
        compare::adjust(&mut counts);
        Ok(Verdict { sentence: sentence::sentence(&counts), protocol: self.protocol.clone(), counts })
    }
}

impl Candidate {
    fn test(
        &self,
        context: &Context,
        dataset: &Dataset,
        labels: &str,
        reporter: &mut dyn Reporter,
    ) -> Result<(Arm, Predictions)> {
        let purpose = format!("evaluate: verdict, {} with {labels}", self.name);
        let summary = test_classifier(&self.context, &self.sources, Some(dataset), &purpose, reporter)?;
        let opening = Opening { digest: summary.checkpoint.clone(), purpose };
        context.run.record_run(context.environment(), summary.dataset.clone(), Some(opening))?;
        let predictions = Predictions::load(&self.context.run.predictions())?;
        let statistics = predictions.statistics();
        let arm = Arm {
            name: self.name.into(),
            test_accuracy: statistics.accuracy,
            test_interval: statistics.accuracy_interval,
            validation_accuracy: summary.validation_accuracy,
            seconds: self.seconds,
            gain: None,
            adjusted_p_value: None,
            checkpoint: summary.checkpoint,
        };
        Ok((arm, predictions))
    }
}

/// The run's own encoder, and its features if they exist.
fn pretrained(context: &Context, root: &Path, seconds: f64, reporter: &mut dyn Reporter) -> Result<Start> {
    let place = context.run.stage(Stage::Pretrain);
    let mut sources = Sources { checkpoint: Some(place.clone()), ..Sources::default() };
    let config = context.config.clone();
    if config.finetune.mode != FinetuneMode::Frozen {
        return Ok(Start { name: PRETRAINED, sources, config, seconds });
    }
    let (encoder, _, digest) = load_encoder(&context.device, context.run.result(Stage::Pretrain))?;
    let layer = describe(&encoder, &config.extract.readout());
    // The run's own features may be outdated or of another read-out.
    let images = |path: &Path| config::load(path, &Overrides::default()).map(|made| made.data.images());
    let same_images =
        images(&context.run.config(Stage::Extract)).is_ok_and(|made| made == config.data.images());
    let fits = |origin: &Origin| origin.checkpoint == digest && origin.layer == layer && same_images;
    let own = context.run.features().read_manifest().ok().filter(|manifest| fits(&manifest.origin));
    let own = own.and_then(|_| read_json::<ExtractSummary>(&context.run.summary(Stage::Extract)).ok());
    let (run, extracted) = match own {
        Some(summary) => (context.run.clone(), summary),
        None => {
            let run = RunDirectory::new(root.join(PRETRAINED));
            let sub = sub_context(context, run.clone(), config.clone())?;
            (run, extract(&sub, Some(place), reporter)?)
        }
    };
    sources.features = Some(run.stage(Stage::Extract));
    Ok(Start { name: PRETRAINED, sources, config, seconds: seconds + extracted.seconds })
}

/// The encoder of a baseline, initialised with `seed`, and its features.
fn start(
    context: &Context,
    root: &Path,
    baseline: Baseline,
    config: &Config,
    seed: u64,
    reporter: &mut dyn Reporter,
) -> Result<Start> {
    let run = RunDirectory::new(root.join(baseline.name()));
    let mut start =
        Start { name: baseline.name(), sources: Sources::default(), config: config.clone(), seconds: 0.0 };
    if baseline == Baseline::Scratch {
        return Ok(start);
    }
    let sub = sub_context(context, run.clone(), Config { seed, ..config.clone() })?;
    pretrain(&sub, reporter)?;
    start.sources.checkpoint = Some(run.stage(Stage::Pretrain));
    if config.finetune.mode == FinetuneMode::Frozen {
        start.seconds = extract(&sub, None, reporter)?.seconds;
        start.sources.features = Some(run.stage(Stage::Extract));
    }
    Ok(start)
}

/// A classifier on an encoder, trained on `labels_per_class` labels of each class.
fn arm(
    context: &Context,
    root: &Path,
    dataset: &Dataset,
    (start, seen): (&Start, usize),
    labels_per_class: usize,
    reporter: &mut dyn Reporter,
) -> Result<Candidate> {
    let name = match labels_per_class {
        0 => "labels-all".to_owned(),
        labels => format!("labels-{labels}"),
    };
    let mut overrides = Overrides::default();
    if labels_per_class > 0 {
        overrides.set("data.labels_per_class", labels_per_class);
    }
    let config = start.config.with(&overrides)?;
    let pass = match start.name == Baseline::Scratch.name() {
        true => Pass::Scratch { seen },
        false => {
            Pass::Classifier { images: dataset.labeled_split(&context.config.data, config.seed)?.train.len() }
        }
    };
    let shown = dataset.labeled_split(&config.data, config.seed)?.train.len();
    overrides.set("finetune.epochs", epochs(&context.config, pass, shown));
    let config = start.config.with(&overrides)?;
    let sub = sub_context(context, RunDirectory::new(root.join(start.name).join(name)), config)?;
    let summary = train_classifier(&sub, &start.sources, reporter)?;
    Ok(Candidate {
        name: start.name,
        context: sub,
        sources: start.sources.clone(),
        labels: summary.labels,
        seconds: start.seconds + summary.seconds,
    })
}
