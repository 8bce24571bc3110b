//! How many steps of pretraining fit into a time.

use std::time::{Duration, Instant};

use super::Context;
use super::measure::step_cost;
use super::pretext::Pretext;
use super::probe::Probe;
use super::training_stage::LoopConfig;
use crate::config::PretrainConfig;
use crate::data::{self, Dataset};
use crate::error::{Error, Result};
use crate::model::RotationNetwork;
use crate::progress::{Event, Reporter};
use crate::ranks::Alone;
use crate::training::{self, Replicas};

/// A budget divided by this is the time to measure a step of one size, within these limits.
const SHARE: u32 = 50;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

/// Wall times of pretraining, in seconds.
pub(super) struct Pace {
    /// A step, averaged over all image sizes by their shares.
    pub step: f64,
    /// For each image size, in the order of training: the share of all steps at which it ends, and its step.
    sizes: Vec<(f64, f64)>,
    /// The work after every epoch.
    pub epoch: f64,
    /// Bytes of a checkpoint.
    pub checkpoint_bytes: u64,
    /// Steps per epoch.
    pub steps_an_epoch: u64,
}

impl Pace {
    /// Measures on the images of the run, each size for about `limit`; keeps nothing.
    ///
    /// # Errors
    /// [`Error::Config`] for a probe that does not fit the encoder.
    pub(super) fn measure(
        context: &Context,
        dataset: &Dataset,
        pretext: &Pretext<'_>,
        limit: Duration,
    ) -> Result<Self> {
        let image = dataset.image_shape();
        let config = &context.config;
        let loop_config = LoopConfig::from(&config.pretrain);
        let device = context.device.clone().autodiff();
        let replicas = Replicas::new(&context.devices)?;
        let cost = |samples| {
            let network = RotationNetwork::new(&config.encoder, image, config.seed, &device);
            step_cost(network, &loop_config, samples, config.seed, &replicas, limit)
        };
        let full = cost(&pretext.samples);
        let smaller = pretext.smaller.iter().map(|(until, samples)| (*until, cost(samples).seconds));
        let sizes: Vec<(f64, f64)> = smaller.chain([(1.0, full.seconds)]).collect();
        let split = &pretext.split;
        let encoder = &full.network.encoder;
        let probe = Probe::new(config, dataset, split, &pretext.pixels, encoder)?;
        let start = Instant::now();
        if let Some(probe) = probe {
            probe.accuracies(encoder, &Alone);
        }
        let every = config.pretrain.probe.as_ref().map_or(1, |probe| probe.every);
        let look = start.elapsed().as_secs_f64() / every as f64;
        let start = Instant::now();
        if let Some(validation) = &pretext.validation {
            training::evaluate(&full.network, validation, &context.device, &Alone);
        }
        Ok(Self {
            step: mean_until(&sizes, 1.0),
            sizes,
            epoch: look + start.elapsed().as_secs_f64(),
            checkpoint_bytes: full.checkpoint_bytes,
            steps_an_epoch: training::steps_an_epoch(&pretext.samples, config.pretrain.batch_size),
        })
    }

    /// The number of steps that fit into `seconds`, including the work after their epochs.
    fn steps_within(&self, seconds: f64) -> u64 {
        let whole = self.steps_an_epoch.max(1) as f64 * self.step + self.epoch;
        let epochs = (seconds.max(0.0) / whole).floor();
        // The rest is less than an epoch.
        let more = ((seconds - epochs * whole - self.epoch) / self.step).max(0.0);
        epochs as u64 * self.steps_an_epoch + more as u64
    }

    /// Wall time of each epoch of a training of `steps` steps.
    pub(super) fn by_epoch(&self, steps: u64) -> Vec<f64> {
        let all = steps.max(1) as f64;
        let ends = (0..steps.div_ceil(self.steps_an_epoch.max(1))).map(|epoch| {
            let from = epoch * self.steps_an_epoch;
            [from, (from + self.steps_an_epoch).min(steps)]
                .map(|step| mean_until(&self.sizes, step as f64 / all))
        });
        ends.map(|[from, to]| (to - from) * all + self.epoch).collect()
    }

    /// Wall time of `steps` steps.
    pub(super) fn seconds(&self, steps: u64) -> f64 {
        let epochs = steps.div_ceil(self.steps_an_epoch.max(1));
        steps as f64 * self.step + epochs as f64 * self.epoch
    }
}

/// What the steps up to a share of all steps cost, divided by the number of all steps, where a step costs as much as `sizes`
/// say up to their shares.
pub(super) fn mean_until(sizes: &[(f64, f64)], share: f64) -> f64 {
    let mut from = 0.0;
    let parts = sizes.iter().map(|&(until, cost)| {
        let part = (until.min(share) - from).max(0.0);
        from = until;
        part * cost
    });
    parts.sum()
}

/// Section `pretrain` with as many steps as fit into `budget`, including the time for reading the data and measuring.
///
/// # Errors
/// [`Error::Usage`] if not even one step fits; those of reading the data.
pub fn within_budget(
    context: &Context,
    budget: Duration,
    reporter: &mut dyn Reporter,
) -> Result<PretrainConfig> {
    let start = Instant::now();
    let config = &context.config;
    let dataset = data::open(&config.data, &context.data_home, reporter)?;
    let pretext = Pretext::new(config, &dataset)?;
    let opening = start.elapsed();
    let limit = (budget / SHARE).clamp(SHORTEST, LONGEST);
    let pace = Pace::measure(context, &dataset, &pretext, limit)?;
    // The run opens the data again.
    let left = budget.as_secs_f64() - (start.elapsed() + opening).as_secs_f64();
    let steps = pace.steps_within(left);
    if steps == 0 {
        return Err(Error::Usage {
            problem: format!(
                "--budget: a step takes {:.3} s, and {left:.3} s are left after reading the data and measuring",
                pace.step
            ),
            hint: "give it more time, or make batches or network smaller".into(),
        });
    }
    let epochs = steps.div_ceil(pace.steps_an_epoch.max(1)) as usize;
    reporter.report(Event::Note(&format!(
        "a step takes {:.2} ms; {steps} steps ({:.2} epochs) fill the {:.0} s",
        1e3 * pace.step,
        steps as f64 / pace.steps_an_epoch as f64,
        budget.as_secs_f64()
    )));
    Ok(PretrainConfig { steps: Some(steps), epochs, ..config.pretrain.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_fill_the_time_with_what_follows_their_epochs() {
        for (step, epoch, steps_an_epoch) in [(0.1, 0.0, 10), (0.1, 3.0, 10), (0.01, 0.5, 391), (0.3, 9.0, 7)]
        {
            let pace = Pace { step, sizes: vec![(1.0, step)], epoch, checkpoint_bytes: 0, steps_an_epoch };
            for tenths in 0..600 {
                let seconds = f64::from(tenths) / 10.0;
                let steps = pace.steps_within(seconds);
                assert!(steps == 0 || pace.seconds(steps) <= seconds + 1e-9, "{steps} in {seconds}");
                assert!(pace.seconds(steps + 1) > seconds - 1e-9, "{} in {seconds}", steps + 1);
            }
        }
    }
}
