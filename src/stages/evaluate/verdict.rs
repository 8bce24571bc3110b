//! The verdict: did pretraining help, by how much, and up to how many labels?

mod baselines;
mod sentence;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Context;
use super::super::finetune::{Sources, finetune};
use super::super::pretrain::pretrain;
use super::{extract, sub_context};
use crate::config::{Baseline, Config, FinetuneMode, Overrides};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::{read_json, sha256_file};
use crate::judge::statistics::{Difference, Interval};
use crate::predictions::Predictions;
use crate::progress::{Event, Reporter, Stage};
use crate::run_directory::RunDirectory;
use baselines::{epochs, settings};
use sentence::sentence;

/// Whether pretraining helped, by how much, and up to how many labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The answer in a sentence.
    pub sentence: String,
    /// How the numbers came about.
    pub protocol: String,
    /// The comparisons, by falling scarcity of labels.
    pub counts: Vec<LabelCount>,
}

/// Classifiers that were shown the same labels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelCount {
    /// Labels of each class; 0: all there are.
    pub labels_per_class: usize,
    /// Labels in all.
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
    /// Wall time of everything it took: pretraining, extraction, training of the classifier.
    pub seconds: f64,
    /// What pretraining gained over it, image by image; absent for the pretrained encoder itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain: Option<Difference>,
    /// SHA-256 of the checkpoint of the classifier.
    pub checkpoint: String,
}

/// Name of the arm that everything is compared with.
const PRETRAINED: &str = "pretrained";

/// An encoder to put classifiers on, and what it has cost so far.
struct Start {
    name: &'static str,
    sources: Sources,
    /// As the run's, but for what makes the baseline.
    config: Config,
    /// The layer that the features are of; absent where the encoder is trained on, or is another one.
    layer: Option<String>,
    seconds: f64,
}

/// Trains and tests the classifiers of all arms at every label count.
pub(super) fn train(
    context: &Context,
    directory: &RunDirectory,
    dataset: &Dataset,
    reporter: &mut dyn Reporter,
) -> Result<Option<Verdict>> {
    let evaluate = &context.config.evaluate;
    if evaluate.baselines.is_empty() || evaluate.labels_per_class.is_empty() {
        return Ok(None);
    }
    let root = directory.root().join("verdict");
    let mut starts = vec![pretrained(context, &root, reporter)?];
    let frozen = context.config.finetune.mode == FinetuneMode::Frozen;
    for &baseline in evaluate.baselines.iter().filter(|&&baseline| frozen || baseline != Baseline::Patches) {
        starts.push(start(context, &root, baseline, reporter)?);
    }
    let compared = |start: &&Start| start.layer.is_some() && start.layer != starts[0].layer;
    if let Some(other) = starts.iter().find(compared) {
        return Err(Error::checkpoint(
            context.run.features().manifest(),
            format!(
                "the features are of {:?}, those of `{}` of {:?}",
                starts[0].layer, other.name, other.layer
            ),
            "run `rotnet extract --force` with the same section `extract` first",
        ));
    }
    let mut counts = Vec::new();
    for labels_per_class in possible(context, dataset, reporter)? {
        reporter.report(Event::Note(&match labels_per_class {
            0 => "evaluate: verdict with all labels".to_owned(),
            labels => format!("evaluate: verdict with {labels} labels a class"),
        }));
        let mut arms: Vec<(Arm, Predictions)> = Vec::new();
        let mut labels = 0;
        for start in &starts {
            let (arm, predictions, shown) = arm(context, &root, dataset, start, labels_per_class, reporter)?;
            let gain = arms.first().map(|(_, first)| {
                Difference::new(&predictions.predicted(), &first.predicted(), &first.labels)
            });
            labels = shown;
            arms.push((Arm { gain, ..arm }, predictions));
        }
        let arms = arms.into_iter().map(|(arm, _)| arm).collect();
        counts.push(LabelCount { labels_per_class, labels, arms });
    }
    Ok(Some(Verdict { sentence: sentence(&counts), protocol: protocol(&context.config), counts }))
}

/// The label counts that there are labels for, the fewest first, all at the end.
fn possible(context: &Context, dataset: &Dataset, reporter: &mut dyn Reporter) -> Result<Vec<usize>> {
    let config = &context.config;
    let split = dataset.labeled_split(&config.data, config.seed)?;
    let mut members = vec![0; dataset.class_names.len()];
    split.train.iter().for_each(|&index| members[usize::from(dataset.train.labels[index as usize])] += 1);
    let least = members.iter().copied().filter(|&count| count > 0).min().unwrap_or(0);
    let (mut counts, left_out): (Vec<usize>, Vec<usize>) =
        config.evaluate.labels_per_class.iter().partition(|&&count| count < least || count == 0);
    if !left_out.is_empty() {
        let text = format!("the smallest class has {least} labels: left out {left_out:?} labels a class");
        reporter.report(Event::Note(&text));
    }
    counts.sort_by_key(|&count| if count == 0 { usize::MAX } else { count });
    counts.dedup();
    Ok(counts)
}

/// The run's own encoder, and its features where they are there.
fn pretrained(context: &Context, root: &Path, reporter: &mut dyn Reporter) -> Result<Start> {
    let place = context.run.stage(Stage::Pretrain);
    let mut seconds = seconds_of(&context.run.summary(Stage::Pretrain));
    let mut sources = Sources { checkpoint: Some(place.clone()), features: None };
    if context.config.finetune.mode == FinetuneMode::Full {
        let config = context.config.clone();
        return Ok(Start { name: PRETRAINED, sources, config, layer: None, seconds });
    }
    let digest = sha256_file(&context.run.result(Stage::Pretrain))?;
    let own = context.run.features().read_manifest().ok();
    let run = match own.filter(|manifest| manifest.origin.checkpoint == digest) {
        Some(_) => context.run.clone(),
        None => {
            let run = RunDirectory::new(root.join(PRETRAINED));
            let sub = sub_context(context, run.clone(), context.config.clone())?;
            extract(&sub, Some(place), reporter)?;
            run
        }
    };
    seconds += seconds_of(&run.summary(Stage::Extract));
    sources.features = Some(run.stage(Stage::Extract));
    let layer = Some(run.features().read_manifest()?.origin.layer);
    Ok(Start { name: PRETRAINED, sources, config: context.config.clone(), layer, seconds })
}

/// The encoder of a baseline, and its features.
fn start(context: &Context, root: &Path, baseline: Baseline, reporter: &mut dyn Reporter) -> Result<Start> {
    let config = context.config.with(&settings(baseline, &context.config))?;
    let run = RunDirectory::new(root.join(baseline.name()));
    let mut start =
        Start { name: baseline.name(), sources: Sources::default(), config, layer: None, seconds: 0.0 };
    if baseline == Baseline::Scratch {
        return Ok(start);
    }
    let sub = sub_context(context, run.clone(), start.config.clone())?;
    pretrain(&sub, reporter)?;
    start.sources.checkpoint = Some(run.stage(Stage::Pretrain));
    if start.config.finetune.mode == FinetuneMode::Frozen {
        start.seconds = extract(&sub, None, reporter)?.seconds;
        start.sources.features = Some(run.stage(Stage::Extract));
        let layer = run.features().read_manifest()?.origin.layer;
        start.layer = (baseline == Baseline::Random).then_some(layer);
    }
    Ok(start)
}

/// A classifier on an encoder, trained on so many labels of each class and tested.
fn arm(
    context: &Context,
    root: &Path,
    dataset: &Dataset,
    start: &Start,
    labels_per_class: usize,
    reporter: &mut dyn Reporter,
) -> Result<(Arm, Predictions, usize)> {
    let name = match labels_per_class {
        0 => "labels-all".to_owned(),
        labels => format!("labels-{labels}"),
    };
    let mut overrides = Overrides::default();
    if labels_per_class > 0 {
        overrides.set("data.labels_per_class", labels_per_class);
    }
    let config = start.config.with(&overrides)?;
    let from_scratch = start.name == Baseline::Scratch.name();
    // Of the images that are trained on; from scratch that is pretraining's, otherwise the classifier's.
    let images = match from_scratch {
        true => dataset.split(&config.data, config.seed)?.train.len(),
        false => dataset.labeled_split(&context.config.data, config.seed)?.train.len(),
    };
    let shown = dataset.labeled_split(&config.data, config.seed)?.train.len();
    overrides.set("finetune.epochs", epochs(&context.config, from_scratch, images, shown));
    let config = start.config.with(&overrides)?;
    let run = RunDirectory::new(root.join(start.name).join(name));
    let sub = sub_context(context, run.clone(), config)?;
    let summary = finetune(&sub, &start.sources, reporter)?;
    let predictions = Predictions::load(&run.predictions())?;
    let arm = Arm {
        name: start.name.into(),
        test_accuracy: summary.test_accuracy,
        test_interval: summary.statistics.accuracy_interval,
        seconds: start.seconds + summary.seconds,
        gain: None,
        checkpoint: summary.checkpoint,
    };
    Ok((arm, predictions, summary.labels))
}

/// The wall time that a summary tells; 0 where there is none.
fn seconds_of(summary: &Path) -> f64 {
    let document: Option<Value> = read_json(summary).ok();
    document.and_then(|document| document.get("seconds")?.as_f64()).unwrap_or(0.0)
}

fn protocol(config: &Config) -> String {
    let what = match config.finetune.mode {
        FinetuneMode::Frozen => "the same read-out and classifier on each frozen encoder",
        FinetuneMode::Full => "each encoder fine-tuned together with the same classifier",
    };
    format!(
        "{what}, `patches` with its own read-out; with fewer labels more passes, for the same number of steps, but at \
         most {}; `scratch` trained end to end on as many images as pretraining saw, within that; the same labels drawn by seed {}, section `finetune` as in the run; each classifier tested \
         once, after its training; intervals by paired bootstrap over the test images, one seed",
        config.evaluate.most_epochs, config.seed
    )
}

impl Verdict {
    /// The digests of all classifiers that were tested.
    pub(super) fn checkpoints(&self) -> impl Iterator<Item = &str> {
        self.counts.iter().flat_map(|count| &count.arms).map(|arm| arm.checkpoint.as_str())
    }
}
