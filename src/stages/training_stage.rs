//! What pretraining and fine-tuning share: start or resume, train, save after every epoch.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;

use super::Context;
use super::record::{Files, Record};
use super::resume::{Resumed, resume};
use crate::config::{Common, FinetuneConfig, PretrainConfig};
use crate::device::computes_here;
use crate::error::{Error, Result};
use crate::model::{self, Network, Parameters};
use crate::progress::{EpochMetrics, Event, Reporter, Stage};
use crate::ranks::agree;
use crate::samples::Resident;
use crate::samples::Samples;
use crate::store::checkpoint::{self, Checkpoint, Header};
use crate::store::replacement::Work;
use crate::training::{self, KeepBy, Optimizer, Plan, Position, Replicas};

/// The part of a stage's config that the loop needs.
pub(super) struct LoopConfig<'a> {
    pub batch_size: usize,
    pub common: Common<'a>,
    pub keep_by: KeepBy,
    /// Factor on the learning rate of the encoder.
    pub encoder_rate: f64,
}

/// Examines the network to keep after an epoch, and adds its findings to the epoch's metrics.
pub(super) type Look<'a, N> = &'a dyn Fn(&N, &mut EpochMetrics);

/// What to train on and how long.
pub(super) struct Material<'a, N> {
    pub samples: &'a dyn Samples,
    /// Total number of steps.
    pub steps: u64,
    /// Samples that replace `samples` up to a step (see [`Plan`]).
    pub before: Vec<(u64, &'a dyn Samples)>,
    pub validation: Option<&'a dyn Samples>,
    /// What else to examine after an epoch.
    pub look: Option<Look<'a, N>>,
}

impl<N: Network> Material<'_, N> {
    /// Adds to an epoch's metrics what the network to keep achieves on held-out images.
    fn examine(&self, network: &N, metrics: &mut EpochMetrics, context: &Context) {
        if let Some(validation) = self.validation {
            let result = training::evaluate(network, validation, &context.device, &*context.ranks);
            metrics.validation_loss = Some(result.loss);
            metrics.validation_accuracy = Some(result.accuracy);
        }
        if let Some(look) = self.look {
            look(network, metrics);
        }
    }
}

impl<'a> From<&'a PretrainConfig> for LoopConfig<'a> {
    fn from(config: &'a PretrainConfig) -> Self {
        Self {
            batch_size: config.batch_size,
            common: config.common(),
            keep_by: config.keep_by,
            encoder_rate: 1.0,
        }
    }
}

impl<'a> From<&'a FinetuneConfig> for LoopConfig<'a> {
    fn from(config: &'a FinetuneConfig) -> Self {
        Self {
            batch_size: config.batch_size,
            common: config.common(),
            keep_by: KeepBy::Task,
            encoder_rate: config.encoder_rate,
        }
    }
}

impl LoopConfig<'_> {
    /// The optimizer before the first of `steps` steps.
    pub(super) fn optimizer(&self, steps: u64) -> Optimizer {
        let Common { optimizer, schedule, clip_norm, weight_average, .. } = &self.common;
        Optimizer::new(optimizer)
            .with_schedule(schedule, steps)
            .with_clipping(*clip_norm)
            .with_average(*weight_average)
            .with_rate_of("encoder.", self.encoder_rate)
    }
}

/// The epochs of a finished training, and the directory with its checkpoint, still without the stage's summary; only the
/// first rank has one.
pub(super) struct Trained {
    pub history: Vec<EpochMetrics>,
    pub work: Option<Work>,
}

/// Trains `network` (on the device with automatic differentiation) as `loop_config` says.
///
/// The run directory is changed only once everything is checked. The checkpoint is then replaced after every epoch, and
/// within one as section `save` says; `header` describes it, except for how far it is trained.
pub(super) fn run<N: Network>(
    context: &Context,
    header: Header,
    network: N,
    loop_config: LoopConfig<'_>,
    material: Material<'_, N>,
    reporter: &mut dyn Reporter,
) -> Result<Trained> {
    let (samples, steps) = (material.samples, material.steps);
    let mut optimizer = loop_config.optimizer(steps);
    let replicas = Replicas::new(&context.devices)?.with_ranks(Arc::clone(&context.ranks), &network)?;
    if context.ranks.size() > 1 && !network.meets_samples_once() {
        reporter.report(Event::Note(
            "every rank makes all steps: shares of several views would be summed in another order",
        ));
    }
    let an_epoch = training::steps_an_epoch(samples, loop_config.batch_size);
    let Resumed { network, from, history, damaged } =
        resume(context, &header, network, &mut optimizer, (steps, an_epoch), reporter)?;
    agree_on_the_start(context, &header, &network, &optimizer, (&from, steps))?;
    let files = match context.leads() {
        true => {
            let work = context.begin(header.stage)?;
            let latest = work.directory().checkpoint();
            if damaged {
                checkpoint::restore_previous(&latest)?;
            }
            if from == Position::default() {
                let kept = optimizer.evaluated(&network);
                checkpoint(&header, &network, &kept, &optimizer, Position::default())?.save(&latest)?;
            }
            Some(Files::open(work, context, &loop_config, &history)?)
        }
        false => None,
    };
    let mut record = Record::new(files, &loop_config, history);
    let plan = Plan {
        stage: header.stage,
        steps: match record.selection.goes_on(from.epochs) {
            true => steps,
            false => steps.min(from.epochs as u64 * an_epoch),
        },
        before: material.before.clone(),
        from,
        batch_size: loop_config.batch_size,
        seed: context.config.seed,
        label_smoothing: loop_config.common.label_smoothing as f32,
        save: context.config.save.clone(),
        replicas,
        resident: resident(samples, &context.devices).map(Arc::new),
    };
    training::train(
        network,
        &mut optimizer,
        samples,
        &plan,
        &mut |network, metrics| material.examine(network, metrics, context),
        reporter,
        &mut |network, kept, optimizer, position, metrics| {
            record.save(metrics, || checkpoint(&header, network, kept, optimizer, position))
        },
    )?;
    Ok(Trained { history: record.history, work: record.files.map(|files| files.work) })
}

/// Refuses ranks that would not train the same from the same place.
fn agree_on_the_start<N: Network>(
    context: &Context,
    header: &Header,
    network: &N,
    optimizer: &Optimizer,
    (from, steps): (&Position, u64),
) -> Result<()> {
    if context.ranks.size() == 1 {
        return Ok(());
    }
    let here = || checkpoint(header, network, network, optimizer, from.clone());
    let numbers = |parameters: &Parameters| -> Vec<u8> {
        let named = parameters.iter().map(|(name, data)| [name.as_bytes(), data.as_bytes()].concat());
        named.collect::<Vec<_>>().concat()
    };
    let Checkpoint { header, parameters, optimizer } = here()?;
    let Header { dataset, recipe, seed, .. } = &header;
    agree(
        &*context.ranks,
        &[
            ("data set", dataset.fingerprint.clone().into_bytes()),
            ("config", format!("{recipe} {seed} {steps}").into_bytes()),
            ("checkpoint to start from", [numbers(&parameters), numbers(&optimizer)].concat()),
            ("state", serde_json::to_vec(&header).unwrap_or_default()),
        ],
    )
}

/// The images of `samples` on all devices, if any of these is not this process's processors: copying on a device is
/// cheaper than sending to it.
fn resident(samples: &dyn Samples, devices: &[Device]) -> Option<Resident> {
    let elsewhere = devices.iter().any(|device| !computes_here(device));
    let pictures = samples.pictures().filter(|_| elsewhere)?;
    Resident::new(&pictures, devices)
}

/// The network to keep and the optimizer's state at a position.
fn checkpoint<N: Network>(
    header: &Header,
    network: &N,
    kept: &N,
    optimizer: &Optimizer,
    position: Position,
) -> Result<Checkpoint> {
    let parameters = model::collect(kept);
    if let Some(parameter) = model::not_finite(&parameters) {
        return Err(Error::NotFinite {
            stage: header.stage.name(),
            parameter: parameter.clone(),
            step: optimizer.steps(),
            learning_rate: optimizer.learning_rate(),
        });
    }
    Ok(Checkpoint {
        header: Header {
            epochs: position.epochs,
            partial: position.partial,
            steps: optimizer.steps(),
            ..header.clone()
        },
        parameters,
        optimizer: optimizer.state(network),
    })
}

/// Number of parameters of a network.
pub(super) fn size(network: &impl Module) -> usize {
    network.num_params()
}

/// Wall time of all epochs, in seconds.
pub(super) fn seconds(history: &[EpochMetrics]) -> f64 {
    history.iter().fold(0.0, |sum, epoch| sum + epoch.seconds)
}

/// Reports the start of a stage.
pub(super) fn announce(stage: Stage, what: &str, reporter: &mut dyn Reporter) {
    reporter.report(Event::StageStarted(stage, what));
}

#[cfg(test)]
mod tests {
    use burn::module::Param;
    use burn::tensor::TensorData;

    use super::*;
    use crate::data::Pixels;
    use crate::model::{Dense, Initialiser, RotationNetwork, Scheme};
    use crate::store::checkpoint::DatasetLabel;
    use crate::training::OptimizerConfig;

    #[test]
    fn a_network_with_a_parameter_that_is_not_finite_is_not_saved() {
        let device = Device::flex().autodiff();
        let mut network = RotationNetwork::new(&Default::default(), [32, 32, 3], 1, &device);
        let dataset = DatasetLabel { name: "none".into(), fingerprint: String::new() };
        let header = Header::untrained(Stage::Pretrain, 1, Pixels::Raw, dataset, serde_json::Value::Null);
        let optimizer = Optimizer::new(&OptimizerConfig::default());
        let save = |network: &RotationNetwork| {
            let kept = optimizer.evaluated(network);
            checkpoint(&header, network, &kept, &optimizer, Position::default())
        };
        assert!(save(&network).is_ok());
        let mut initialiser = Initialiser::new(1, Scheme::Glorot, &device);
        let mut head = Dense::new(64, 4, false, &mut initialiser);
        let mut bias = vec![0_f32; 4];
        bias[2] = f32::NAN;
        head.bias = Param::from_data(TensorData::new(bias, [4]), &device);
        network.head = head;
        match save(&network).map(drop) {
            Err(Error::NotFinite { parameter, stage: "pretrain", step: 0, .. }) => {
                assert_eq!(parameter, "head.bias")
            }
            other => panic!("{other:?}"),
        }
    }
}
