//! The one training loop: pretraining, frozen and full fine-tuning all go through [`train`].

mod evaluation;
mod metrics;
mod optimizer;
mod schedule;

use std::time::Instant;

use burn::tensor::{Device, Tensor};

use crate::error::Result;
use crate::kernels;
use crate::model::Network;
use crate::progress::{Event, Reporter, Stage};
use crate::random::{Purpose, generator};
use crate::samples::{Batch, Samples};

pub use evaluation::{Evaluation, evaluate};
pub use metrics::{JsonLines, Tee};
pub use optimizer::{Optimizer, OptimizerConfig, OptimizerKind};
pub use schedule::{ScheduleConfig, ScheduleKind};

use metrics::Meter;

/// How long to train, in which order, and from where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For messages.
    pub stage: Stage,
    /// Epochs in all, those before `first_epoch` included.
    pub epochs: usize,
    /// Epochs that are already done.
    pub done: usize,
    /// Groups of samples a step (see [`Samples::group`]).
    pub batch_size: usize,
    /// Decides the order of the samples.
    pub seed: u64,
    /// The device without automatic differentiation.
    pub device: Device,
}

/// What is called at the end of an epoch, with the network, the optimizer and the number of epochs done.
pub type AfterEpoch<'a, N> = dyn FnMut(&N, &Optimizer, usize) -> Result<()> + 'a;

/// Trains `network` on `samples`, in a new order every epoch.
///
/// The next batch is made while the current step computes. Losses are read from the device only when they
/// are shown. The network comes back on the device with automatic differentiation.
///
/// # Errors
/// [`Diverged`](crate::Error::Diverged) when the loss is no longer finite; whatever `after_epoch` returns.
pub fn train<N: Network>(
    mut network: N,
    optimizer: &mut Optimizer,
    samples: &dyn Samples,
    validation: Option<&dyn Samples>,
    plan: &Plan,
    reporter: &mut dyn Reporter,
    after_epoch: &mut AfterEpoch<'_, N>,
) -> Result<N> {
    for epoch in plan.done..plan.epochs {
        reporter.report(Event::EpochStarted {
            epoch: epoch + 1,
            epochs: plan.epochs,
            samples: samples.len(),
        });
        let start = Instant::now();
        let mut meter = Meter::new(plan.stage, epoch + 1, optimizer.learning_rate());
        network = train_epoch(network, optimizer, samples, plan, epoch, &mut meter, reporter)?;
        let mut metrics = meter.finish(start.elapsed())?;
        if let Some(validation) = validation {
            let result = evaluate(&network.valid(), validation, &plan.device);
            metrics.validation_loss = Some(result.loss);
            metrics.validation_accuracy = Some(result.accuracy);
        }
        reporter.report(Event::EpochFinished(&metrics));
        after_epoch(&network, optimizer, epoch + 1)?;
    }
    Ok(network)
}

fn train_epoch<N: Network>(
    mut network: N,
    optimizer: &mut Optimizer,
    samples: &dyn Samples,
    plan: &Plan,
    epoch: usize,
    meter: &mut Meter,
    reporter: &mut dyn Reporter,
) -> Result<N> {
    let order = epoch_order(samples, plan.seed, epoch);
    let mut steps = order.chunks(plan.batch_size * samples.group());
    let device = plan.device.clone().autodiff();
    let mut batch = steps.next().map(|indices| Batch::new(samples, epoch as u64, indices));
    while let Some(current) = batch {
        let count = current.labels.len();
        let upcoming = steps.next();
        let (outcome, next) = rayon::join(
            || step(network, optimizer, current, &device),
            || upcoming.map(|indices| Batch::new(samples, epoch as u64, indices)),
        );
        let (trained, loss, correct) = outcome;
        network = trained;
        batch = next;
        let shown = meter.add(loss, correct, count)?;
        reporter.report(Event::StepFinished {
            samples: count,
            loss: shown.map(|(loss, _)| loss),
            accuracy: shown.map(|(_, accuracy)| accuracy),
        });
    }
    Ok(network)
}

/// One training step: forward, loss, backward, update.
pub fn step<N: Network>(
    network: N,
    optimizer: &mut Optimizer,
    batch: Batch,
    device: &Device,
) -> (N, Tensor<1>, Tensor<1>) {
    let (inputs, labels) = batch.into_tensors(device);
    let (loss, correct) = kernels::cross_entropy(network.logits(inputs), labels);
    let mut gradients = loss.backward();
    let network = optimizer.step(network, &mut gradients);
    (network, loss.inner(), correct.inner())
}

/// Steps of an epoch, the last one with fewer samples where they do not divide.
pub fn steps_an_epoch(samples: &dyn Samples, batch_size: usize) -> u64 {
    (samples.len() / samples.group()).div_ceil(batch_size) as u64
}

/// The samples of an epoch in the order in which they are trained on; groups stay together.
fn epoch_order(samples: &dyn Samples, seed: u64, epoch: usize) -> Vec<u32> {
    use rand::seq::SliceRandom;
    let group = samples.group();
    let mut groups: Vec<u32> = (0..(samples.len() / group) as u32).collect();
    groups.shuffle(&mut generator(seed, Purpose::Shuffle, epoch as u64, 0));
    if group == 1 {
        return groups;
    }
    let group = group as u32;
    groups.into_iter().flat_map(|first| first * group..(first + 1) * group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counted(usize, usize);

    impl Samples for Counted {
        fn len(&self) -> usize {
            self.0
        }
        fn values(&self) -> usize {
            1
        }
        fn group(&self) -> usize {
            self.1
        }
        fn fill(&self, _: u64, _: &[u32], _: &mut [f32], _: &mut [u8]) {}
    }

    #[test]
    fn an_epoch_visits_every_sample_once_and_keeps_groups_together() {
        let order = epoch_order(&Counted(40, 4), 7, 0);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..40).collect::<Vec<_>>());
        assert!(order.chunks(4).all(|group| group[0] % 4 == 0 && group[3] == group[0] + 3));
        assert_ne!(order, epoch_order(&Counted(40, 4), 7, 1));
    }
}
