//! What the verdict compares: decided before any work, and judged in view of all comparisons.

use super::super::super::pretrain::PretrainSummary;
use super::baselines::{obstacle, seen, settings};
use super::{LabelCount, LeftOut};
use crate::config::{Baseline, Config, FinetuneMode};
use crate::data::Dataset;
use crate::error::Result;
use crate::files::read_json_if_there;
use crate::judge::statistics::holm;
use crate::model::HeadKind;
use crate::progress::{Event, Reporter, Stage};
use crate::store::run_directory::RunDirectory;

/// What the verdict compares.
pub(in super::super) struct Comparison {
    /// The baselines, each with its config.
    pub baselines: Vec<(Baseline, Config)>,
    /// Label counts, fewest first, all labels last.
    pub labels_per_class: Vec<usize>,
    /// Seed of the untrained encoder's parameters, the one pretraining started from.
    pub seed: u64,
    /// Wall time of pretraining in seconds; 0 if unknown.
    pub pretrain_seconds: f64,
    /// Images that it saw, counting each rotation.
    pub seen: usize,
    /// How the numbers are obtained.
    pub protocol: String,
}

impl Comparison {
    /// The comparison that section `evaluate` asks for, `None` if nothing is left of it; and the baselines left out.
    pub(in super::super) fn prepare(
        config: &Config,
        run: &RunDirectory,
        seed: u64,
        dataset: &Dataset,
        reporter: &mut dyn Reporter,
    ) -> Result<(Option<Self>, Vec<LeftOut>)> {
        let evaluate = &config.evaluate;
        let (mut baselines, mut left_out) = (Vec::new(), Vec::new());
        if evaluate.labels_per_class.is_empty() {
            return Ok((None, left_out));
        }
        for &baseline in &evaluate.baselines {
            match obstacle(baseline, config) {
                None => baselines.push((baseline, config.with(&settings(baseline, config))?)),
                Some(reason) => {
                    left_out.push(LeftOut { name: baseline.name().into(), reason: reason.into() });
                }
            }
        }
        if baselines.is_empty() {
            return Ok((None, left_out));
        }
        let pretraining: Option<PretrainSummary> = read_json_if_there(&run.summary(Stage::Pretrain))?;
        let seen = seen(config, pretraining.as_ref().map(|summary| summary.images));
        let pretrain_seconds = pretraining.map_or(0.0, |summary| summary.seconds);
        let labels_per_class = possible(config, dataset, reporter)?;
        let looks = baselines.len() * labels_per_class.len();
        let protocol = protocol(config, looks, &left_out);
        Ok((Some(Self { baselines, labels_per_class, seed, pretrain_seconds, seen, protocol }), left_out))
    }
}

/// The label counts for which there are enough labels, fewest first, all labels last.
fn possible(config: &Config, dataset: &Dataset, reporter: &mut dyn Reporter) -> Result<Vec<usize>> {
    let split = dataset.labeled_split(&config.data, config.seed)?;
    let mut members = vec![0; dataset.class_names.len()];
    split.train.iter().for_each(|&index| members[usize::from(dataset.train.labels[index as usize])] += 1);
    let [least, most] = [members.iter().min(), members.iter().max()].map(|count| count.copied().unwrap_or(0));
    let asked = &config.evaluate.labels_per_class;
    // As many as every class has are all, once.
    let are_all = |count| count == least && least == most && asked.contains(&0);
    let (mut counts, left_out): (Vec<usize>, Vec<usize>) =
        asked.iter().partition(|&&count| count == 0 || count <= least && !are_all(count));
    if !left_out.is_empty() {
        let text = format!("the smallest class has {least} labels: left out {left_out:?} labels a class");
        reporter.report(Event::Note(&text));
    }
    counts.sort_by_key(|&count| if count == 0 { usize::MAX } else { count });
    counts.dedup();
    Ok(counts)
}

fn protocol(config: &Config, looks: usize, left_out: &[LeftOut]) -> String {
    let what = match config.finetune.mode {
        FinetuneMode::Frozen => "the same read-out and classifier on each frozen encoder",
        FinetuneMode::Full => "each encoder fine-tuned together with the same classifier",
        FinetuneMode::Joint => {
            "each encoder fine-tuned together with the same classifier and the rotations of images without labels, \
             `scratch` without those"
        }
    };
    let head = match config.finetune.head {
        HeadKind::Ridge => " and a linear classifier, for ridge regression is not trained",
        _ => "",
    };
    let left_out: String =
        left_out.iter().map(|LeftOut { name, reason }| format!("; without `{name}`: {reason}")).collect();
    format!(
        "{what}, `patches` with its own read-out; with fewer labels more passes, for the same number of steps, but at \
         most {}; `scratch` trained end to end at the full rate{head}, on as many images as pretraining saw, within \
         that; the same labels drawn by seed {}, section `finetune` as in the run; each classifier tested once, after \
         all training; 95 % intervals by paired bootstrap over the test images, each for itself; ahead is what an \
         exact McNemar test says at 5 %, its p-values adjusted for {looks} comparisons (Holm); one seed{left_out}",
        config.evaluate.most_epochs, config.seed
    )
}

/// Adjusts the p-values of all gains for their number.
pub(super) fn adjust(counts: &mut [LabelCount]) {
    let mut arms: Vec<_> =
        counts.iter_mut().flat_map(|count| &mut count.arms).filter(|arm| arm.gain.is_some()).collect();
    let values: Vec<f64> = arms.iter().filter_map(|arm| Some(arm.gain.as_ref()?.p_value)).collect();
    for (arm, adjusted) in arms.iter_mut().zip(holm(&values)) {
        arm.adjusted_p_value = Some(adjusted);
    }
}
