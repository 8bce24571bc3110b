//! What pretraining and fine-tuning have in common: start or resume, train, save after every epoch.

use burn::module::Module;

use super::Context;
use crate::checkpoint::{Checkpoint, Header};
use crate::config::{FinetuneConfig, PretrainConfig};
use crate::error::Result;
use crate::model::{self, Network};
use crate::progress::{EpochMetrics, Event, Reporter, Stage};
use crate::run_directory::Existing;
use crate::samples::Samples;
use crate::training::{self, JsonLines, Optimizer, OptimizerConfig, Plan, ScheduleConfig, Tee};

/// The part of a stage's config that the loop needs.
pub(super) struct Schedule<'a> {
    pub epochs: usize,
    pub batch_size: usize,
    pub optimizer: &'a OptimizerConfig,
    pub schedule: ScheduleConfig,
}

impl<'a> From<&'a PretrainConfig> for Schedule<'a> {
    fn from(config: &'a PretrainConfig) -> Self {
        Self {
            epochs: config.epochs,
            batch_size: config.batch_size,
            optimizer: &config.optimizer,
            schedule: config.schedule,
        }
    }
}

impl<'a> From<&'a FinetuneConfig> for Schedule<'a> {
    fn from(config: &'a FinetuneConfig) -> Self {
        Self {
            epochs: config.epochs,
            batch_size: config.batch_size,
            optimizer: &config.optimizer,
            schedule: config.schedule,
        }
    }
}

/// Trains `network` (on the device with automatic differentiation) as `schedule` says.
///
/// The checkpoint in the run directory is replaced after every epoch; `header` describes it, its counts of
/// epochs and steps aside. Gives the trained network on the plain device, and all epochs' metrics.
pub(super) fn run<N: Network>(
    context: &Context,
    header: Header,
    network: N,
    schedule: Schedule<'_>,
    samples: &dyn Samples,
    validation: Option<&dyn Samples>,
    reporter: &mut dyn Reporter,
) -> Result<(N, Vec<EpochMetrics>)> {
    let stage = header.stage;
    let total = training::steps_an_epoch(samples, schedule.batch_size) * schedule.epochs as u64;
    let mut optimizer = Optimizer::with_schedule(schedule.optimizer, schedule.schedule, total);
    let (network, history) = resume(context, &header, network, &mut optimizer, reporter)?;
    let plan = Plan {
        stage,
        epochs: schedule.epochs,
        done: history.len(),
        batch_size: schedule.batch_size,
        seed: context.config.seed,
        device: context.device.clone(),
    };
    let save = |network: &N, optimizer: &Optimizer, epochs: usize| {
        let checkpoint = Checkpoint {
            header: Header { epochs, steps: optimizer.steps(), ..header.clone() },
            parameters: model::collect(&network.valid()),
            optimizer: optimizer.state(),
        };
        checkpoint.save(&context.run.checkpoint(stage))
    };
    if history.is_empty() {
        save(&network, &optimizer, 0)?;
    }
    let mut lines = JsonLines::new(context.run.metrics(stage), history);
    let mut tee = Tee(&mut lines, reporter);
    let network = training::train(
        network,
        &mut optimizer,
        samples,
        validation,
        &plan,
        &mut tee,
        &mut |network, optimizer, epochs| save(network, optimizer, epochs),
    )?;
    Ok((network.valid(), lines.finish()?))
}

/// Puts network and optimizer where the run's checkpoint left them, if this run is to be resumed and has one.
fn resume<N: Network>(
    context: &Context,
    header: &Header,
    network: N,
    optimizer: &mut Optimizer,
    reporter: &mut dyn Reporter,
) -> Result<(N, Vec<EpochMetrics>)> {
    let path = context.run.checkpoint(header.stage);
    if context.existing != Existing::Resume || !path.exists() {
        return Ok((network, Vec::new()));
    }
    let checkpoint = Checkpoint::load(&path)?;
    let found = checkpoint.header;
    let expected = Header { epochs: found.epochs, steps: found.steps, ..header.clone() };
    if found != expected {
        return Err(Checkpoint::refuse(&path, "was written with another config, data set or version"));
    }
    let refuse = |problem: String| Checkpoint::refuse(&path, problem);
    let network = model::load(network, checkpoint.parameters).map_err(refuse)?;
    optimizer.restore(found.steps, checkpoint.optimizer, &context.device).map_err(refuse)?;
    let history = match found.epochs {
        0 => Vec::new(),
        epochs => context.run.read_metrics(header.stage, epochs)?,
    };
    reporter.report(Event::Note(&format!("resuming after epoch {}", found.epochs)));
    Ok((network, history))
}

/// Number of parameters of a network.
pub(super) fn size(network: &impl Module) -> usize {
    network.num_params()
}

/// Wall time of all epochs, in seconds.
pub(super) fn seconds(history: &[EpochMetrics]) -> f64 {
    history.iter().fold(0.0, |sum, epoch| sum + epoch.seconds)
}

/// The name that messages give to the work of a stage.
pub(super) fn announce(stage: Stage, what: &str, reporter: &mut dyn Reporter) {
    reporter.report(Event::StageStarted(stage, what));
}
