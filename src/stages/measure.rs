//! What a training step costs on this machine, measured on steps that are thrown away.

use std::time::{Duration, Instant};

use super::training_stage::LoopConfig;
use crate::model::{Network, Parameters, collect};
use crate::samples::{Batch, Samples};
use crate::training::{self, Replicas};

/// Steps that are not counted: they allocate memory and fill caches.
const WARM_UP: u32 = 2;
/// Minimum number of steps counted.
const LEAST: u32 = 3;

/// The cost of a kind of step.
pub(super) struct StepCost<N> {
    /// Mean wall time of a step.
    pub seconds: f64,
    /// Bytes of the network's parameters and the optimizer's state.
    pub checkpoint_bytes: u64,
    /// The network after these steps, without automatic differentiation.
    pub network: N,
}

/// Trains `network` for about `limit`, the way the training loop does.
pub(super) fn step_cost<N: Network>(
    mut network: N,
    loop_config: &LoopConfig<'_>,
    samples: &dyn Samples,
    seed: u64,
    replicas: &Replicas,
    limit: Duration,
) -> StepCost<N> {
    let mut optimizer = loop_config.optimizer(0);
    let order = training::epoch_order(samples, seed, 0);
    let mut steps = order.chunks((loop_config.batch_size * samples.group()).max(1)).cycle();
    let mut next = || Batch::new(samples, 0, steps.next().unwrap_or_default());
    let (mut batch, mut made, mut start) = (next(), 0, Instant::now());
    loop {
        let ((trained, tally), upcoming) = rayon::join(
            || replicas.step(network, &mut optimizer, batch, loop_config.common.label_smoothing as f32),
            &mut next,
        );
        (network, batch, made) = (trained, upcoming, made + 1);
        let enough = made >= WARM_UP + LEAST && start.elapsed() >= limit;
        if made == WARM_UP || enough {
            // Waits for devices that compute asynchronously.
            tally.loss.into_data();
        }
        if enough {
            break;
        }
        if made == WARM_UP {
            start = Instant::now();
        }
    }
    StepCost {
        seconds: start.elapsed().as_secs_f64() / f64::from(made - WARM_UP),
        checkpoint_bytes: bytes(&collect(&optimizer.evaluated(&network))) + bytes(&optimizer.state(&network)),
        network: optimizer.evaluated(&network),
    }
}

fn bytes(parameters: &Parameters) -> u64 {
    parameters.values().map(|data| data.as_bytes().len() as u64).sum()
}
