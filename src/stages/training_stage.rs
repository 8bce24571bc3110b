//! What pretraining and fine-tuning have in common: start or resume, train, save after every epoch.

use burn::module::Module;

use super::Context;
use crate::checkpoint::{Checkpoint, Header};
use crate::config::{FinetuneConfig, PretrainConfig};
use crate::error::{Error, Result};
use crate::model::{self, Network};
use crate::progress::{EpochMetrics, Event, Reporter, Stage};
use crate::run_directory::Existing;
use crate::samples::Samples;
use crate::training::{self, JsonLines, Optimizer, OptimizerConfig, Plan, Position, ScheduleConfig};

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
/// The checkpoint in the run directory is replaced after every epoch, and within one as section `save` says;
/// `header` describes it, how far it is trained aside. Gives the trained network on the plain device, and all epochs'
/// metrics.
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
    let (network, from, history) = resume(context, &header, network, &mut optimizer, reporter)?;
    let save_checkpoint = |network: &N, optimizer: &Optimizer, position: Position| {
        let parameters = model::collect(&network.valid());
        if let Some(parameter) = model::not_finite(&parameters) {
            return Err(Error::NotFinite {
                stage: stage.name(),
                parameter: parameter.clone(),
                step: optimizer.steps(),
                learning_rate: optimizer.learning_rate(),
            });
        }
        let checkpoint = Checkpoint {
            header: Header {
                epochs: position.epochs,
                partial: position.partial,
                steps: optimizer.steps(),
                ..header.clone()
            },
            parameters,
            optimizer: optimizer.state(),
        };
        checkpoint.save(&context.run.checkpoint(stage))
    };
    if from == Position::default() {
        save_checkpoint(&network, &optimizer, Position::default())?;
    }
    let plan = Plan {
        stage,
        epochs: schedule.epochs,
        from,
        batch_size: schedule.batch_size,
        seed: context.config.seed,
        save: context.config.save.clone(),
        device: context.device.clone(),
    };
    let mut lines = JsonLines::new(context.run.metrics(stage), history);
    let network = training::train(
        network,
        &mut optimizer,
        samples,
        validation,
        &plan,
        reporter,
        &mut |network, optimizer, position, metrics| {
            metrics.map_or(Ok(()), |metrics| lines.push(metrics))?;
            save_checkpoint(network, optimizer, position)
        },
    )?;
    Ok((network.valid(), lines.into_lines()))
}

/// Puts network and optimizer where the run's checkpoint left them, if this run is to be resumed and has one.
fn resume<N: Network>(
    context: &Context,
    header: &Header,
    network: N,
    optimizer: &mut Optimizer,
    reporter: &mut dyn Reporter,
) -> Result<(N, Position, Vec<EpochMetrics>)> {
    let path = context.run.checkpoint(header.stage);
    if context.existing != Existing::Resume || !path.exists() {
        return Ok((network, Position::default(), Vec::new()));
    }
    let (checkpoint, damage) = Checkpoint::recover(&path)?;
    if let Some(damage) = damage {
        reporter.report(Event::Warning(&format!("{damage}; going on from the checkpoint before it")));
    }
    let found = checkpoint.header;
    if let Some(difference) = found.difference(header) {
        return Err(Error::checkpoint(
            &path,
            format!("was written with another config, data set or version: {difference}"),
            "go on with what it was begun with, or start anew with --force",
        ));
    }
    let refuse = |problem: String| Checkpoint::refuse(&path, problem);
    let network = model::load(network, checkpoint.parameters).map_err(refuse)?;
    optimizer.restore(found.steps, checkpoint.optimizer, &context.device).map_err(refuse)?;
    let history = match found.epochs {
        0 => Vec::new(),
        epochs => context.run.read_metrics(header.stage, epochs)?,
    };
    let steps = found.partial.as_ref().map_or(0, |partial| partial.steps);
    reporter.report(Event::Note(&match steps {
        0 => format!("resuming after epoch {}", found.epochs),
        steps => format!("resuming after step {steps} of epoch {}", found.epochs + 1),
    }));
    let position = Position { epochs: found.epochs, partial: found.partial };
    Ok((network, position, history))
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
