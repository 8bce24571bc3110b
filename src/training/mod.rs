//! The one training loop: pretraining, frozen and full fine-tuning all go through [`train`].

mod averaged;
mod evaluation;
mod metrics;
mod optimizer;
pub(crate) mod replicas;
mod saving;
mod schedule;
mod selection;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::error::{Error, Result};
use crate::kernels;
use crate::math::random::{Purpose, generator};
use crate::model::{Mode, Network, Sums};
use crate::progress::{EpochMetrics, Event, PartialEpoch, Reporter, Stage, Stop};
use crate::ranks::any_stop;
use crate::samples::Resident;
use crate::samples::{Batch, Samples};

pub use evaluation::{Evaluation, evaluate, predict};
pub use metrics::JsonLines;
pub use optimizer::{Moments, Momentum, Optimizer, OptimizerConfig, Rule};
pub use replicas::Replicas;
pub use saving::SaveConfig;
pub use schedule::{Course, ScheduleConfig};
pub use selection::{Keep, KeepBy, Selection};
pub use tally::Tally;
#[cfg(test)]
pub(crate) use tally::total;

use metrics::{Meter, StepResult};
use saving::SaveClock;

/// How far training has come, exact to the step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Position {
    /// Epochs completed.
    pub epochs: usize,
    /// How far the next epoch has come, if it has begun.
    pub partial: Option<PartialEpoch>,
}

/// How long to train, in which order, and from where.
pub struct Plan<'a> {
    /// Named in messages.
    pub stage: Stage,
    /// Total number of steps, including those already done; the last epoch is cut short if they end within it.
    pub steps: u64,
    /// Smaller copies of the samples to train on at first, each with the step (counted from 0) before which it is used, in
    /// ascending order.
    pub before: Vec<(u64, &'a dyn Samples)>,
    /// Where to start.
    pub from: Position,
    /// Groups of samples per step (see [`Samples::group`]).
    pub batch_size: usize,
    /// Random seed for the order of the samples.
    pub seed: u64,
    /// Share of the target that is spread evenly over all classes (label smoothing).
    pub label_smoothing: f32,
    /// When to save within an epoch.
    pub save: SaveConfig,
    /// The devices to train on.
    pub replicas: Replicas,
    /// The images, if they are on all of these devices and batches are to be made there.
    pub resident: Option<Arc<Resident>>,
}

impl<'a> Plan<'a> {
    /// The samples to train on at a step.
    fn samples_at(&self, step: u64, samples: &'a dyn Samples) -> &'a dyn Samples {
        self.before.iter().find(|(end, _)| step < *end).map_or(samples, |(_, smaller)| *smaller)
    }

    /// Whether any rank is asked to stop, so that all do after the same step.
    fn stop(&self, reporter: &dyn Reporter) -> Option<Stop> {
        any_stop(&**self.replicas.ranks(), reporter.stop())
    }

    /// The batch of a step, or this rank's share of it.
    fn batch(&self, step: u64, samples: &'a dyn Samples, epoch: u64, indices: &[u32]) -> Batch {
        let smaller = self.before.iter().any(|(end, _)| step < *end);
        let share = self.replicas.share(indices.len());
        let indices = share.as_ref().map_or(indices, |share| &indices[share.samples()]);
        let batch = match self.resident.as_ref().filter(|_| !smaller) {
            Some(resident) => Batch::on(resident, samples, epoch, indices),
            None => Batch::new(self.samples_at(step, samples), epoch, indices),
        };
        Batch { share, ..batch }
    }
}

/// Looks at the network to keep after an epoch, and adds what it finds to the epoch's metrics.
pub type Examine<'a, N> = dyn FnMut(&N, &mut EpochMetrics) + 'a;

/// Saves the network that is trained, the one to keep (see [`Optimizer::evaluated`]) and the optimizer as they are at a
/// position, with the epoch's metrics if an epoch ends there; returns whether to go on training. At the end of an epoch
/// the network to keep has the running statistics of its own weights, within an epoch those of the trained network.
pub type Save<'a, N> = dyn FnMut(&N, &N, &Optimizer, Position, Option<&EpochMetrics>) -> Result<bool> + 'a;

/// Trains `network` on `samples`, in a new order every epoch.
///
/// The next batch is made while the current step computes. Losses are read from the device only when they
/// are shown or saved. The network comes back on the device with automatic differentiation.
///
/// # Errors
/// [`Diverged`](crate::Error::Diverged) when the loss is no longer finite; [`Stopped`](crate::Error::Stopped),
/// after a save, when the reporter asks for it; whatever `save` returns.
pub fn train<'a, N: Network>(
    mut network: N,
    optimizer: &mut Optimizer,
    samples: &'a dyn Samples,
    plan: &Plan<'a>,
    examine: &mut Examine<'_, N>,
    reporter: &mut dyn Reporter,
    save: &mut Save<'_, N>,
) -> Result<N> {
    let mut partial = plan.from.partial.clone();
    let an_epoch = steps_an_epoch(samples, plan.batch_size).max(1);
    let epochs = plan.steps.div_ceil(an_epoch) as usize;
    for epoch in plan.from.epochs..epochs {
        let done = partial.take().unwrap_or_default();
        let left = plan.steps - epoch as u64 * an_epoch;
        let in_all = samples.len().min((left as usize).saturating_mul(plan.batch_size * samples.group()));
        reporter.report(Event::EpochStarted {
            epoch: epoch + 1,
            epochs,
            samples: in_all,
            done: done.samples.min(in_all),
        });
        let meter = Meter::new(plan.stage, epoch, done);
        let (trained, mut metrics) = train_epoch(network, optimizer, samples, plan, meter, reporter, save)?;
        network = trained;
        let kept = averaged::kept(optimizer, &network, samples, plan, epoch);
        examine(&kept, &mut metrics);
        // Those that `examine` looks at may lie in the same file.
        refuse_unreadable(samples)?;
        reporter.report(Event::EpochFinished(&metrics));
        let position = Position { epochs: epoch + 1, partial: None };
        if !save(&network, &kept, optimizer, position, Some(&metrics))? {
            break;
        }
        if epoch + 1 < epochs {
            let stop = plan.stop(reporter);
            stop_if_asked(stop, plan.stage, || format!("after epoch {}", epoch + 1))?;
        }
    }
    Ok(network)
}

fn train_epoch<'a, N: Network>(
    mut network: N,
    optimizer: &mut Optimizer,
    samples: &'a dyn Samples,
    plan: &Plan<'a>,
    mut meter: Meter,
    reporter: &mut dyn Reporter,
    save: &mut Save<'_, N>,
) -> Result<(N, EpochMetrics)> {
    let epochs = meter.epochs_done();
    let order = epoch_order(samples, plan.seed, epochs);
    let first = steps_an_epoch(samples, plan.batch_size) * epochs as u64;
    let made =
        |(step, indices): (u64, &[u32])| (indices.len(), plan.batch(step, samples, epochs as u64, indices));
    let mut steps =
        (first..plan.steps).zip(order.chunks(plan.batch_size * samples.group())).skip(meter.steps());
    let mut clock = SaveClock::new(&plan.save);
    let mut batch = steps.next().map(made);
    while let Some((count, current)) = batch {
        let upcoming = steps.next();
        let learning_rate = optimizer.learning_rate();
        let (outcome, next) = rayon::join(
            || plan.replicas.step(network, optimizer, current, plan.label_smoothing),
            || upcoming.map(made),
        );
        // Before anything of it is saved.
        refuse_unreadable(samples)?;
        let (trained, tally) = outcome;
        network = trained;
        batch = next;
        let shown = meter.add(StepResult { tally, samples: count, learning_rate })?;
        reporter.report(Event::StepFinished {
            samples: count,
            loss: shown.map(|(loss, _)| loss),
            accuracy: shown.map(|(_, accuracy)| accuracy),
        });
        // The end of an epoch is saved by the caller, with the epoch's metrics.
        let stop = batch.as_ref().and_then(|_| plan.stop(reporter));
        if batch.is_some() && (clock.due(meter.steps()) || stop.is_some()) {
            let position = Position { epochs, partial: Some(meter.sums()?) };
            save(&network, &optimizer.evaluated(&network), optimizer, position, None)?;
            stop_if_asked(stop, plan.stage, || {
                format!("after step {} of epoch {}", meter.steps(), epochs + 1)
            })?;
        }
    }
    kernels::release_memory();
    Ok((network, meter.finish()?))
}

fn refuse_unreadable(samples: &dyn Samples) -> Result<()> {
    samples.failure().map_or(Ok(()), Err)
}

fn stop_if_asked(stop: Option<Stop>, stage: Stage, place: impl FnOnce() -> String) -> Result<()> {
    match stop {
        None => Ok(()),
        Some(stop) => Err(Error::Stopped {
            stage: stage.name(),
            stop,
            state: format!("{}; all of it is saved", place()),
        }),
    }
}

/// One training step on one device (with automatic differentiation): forward, loss (see [`Network::judge`] for
/// `label_smoothing`), backward, update.
pub fn step<N: Network>(
    network: N,
    optimizer: &mut Optimizer,
    batch: Batch,
    label_smoothing: f32,
    device: &Device,
) -> (N, Tally) {
    let samples = batch.labels.len();
    let (inputs, labels) = batch.into_tensors(device);
    let tasks = network.tasks();
    let sums = network.judge(inputs, labels, label_smoothing, Mode::Train);
    let (losses, sums) = apart(sums);
    let mut gradients = tally::total(&tasks, &losses).div_scalar(samples as f32).backward();
    let network = optimizer.step(network, &mut gradients);
    (network, Tally::new(&tasks, sums, samples))
}

/// The losses of each task, to be differentiated, and all sums, which are not.
fn apart(sums: Vec<Sums>) -> (Vec<Tensor<1>>, Vec<Sums>) {
    let losses = sums.iter().map(|sums| sums.losses.clone()).collect();
    let inner = |sums: Sums| Sums { losses: sums.losses.inner(), correct: sums.correct.inner() };
    (losses, sums.into_iter().map(inner).collect())
}

/// Steps per epoch; the last one has fewer samples if they do not divide evenly.
pub fn steps_an_epoch(samples: &dyn Samples, batch_size: usize) -> u64 {
    (samples.len() / samples.group()).div_ceil(batch_size) as u64
}

/// The order in which an epoch trains on its samples; groups stay together.
pub(crate) fn epoch_order(samples: &dyn Samples, seed: u64, epoch: usize) -> Vec<u32> {
    use rand::seq::SliceRandom;
    if samples.in_order() {
        return (0..samples.len() as u32).collect();
    }
    let group = samples.group();
    let mut groups: Vec<u32> = (0..(samples.len() / group) as u32).collect();
    groups.shuffle(&mut generator(seed, Purpose::Shuffle, epoch as u64, 0));
    if group == 1 {
        return groups;
    }
    let group = group as u32;
    groups.into_iter().flat_map(|first| first * group..(first + 1) * group).collect()
}
