//! What a run would take, found without training and without writing anything.

mod finetune;

use std::time::{Duration, Instant};

use burn::module::Module;
use serde::Serialize;

use super::budget::{Pace, mean_until};
use super::finetune::ridge_bytes;
use super::pretext::Pretext;
use super::training_stage;
use super::{Context, label};
use crate::config::FinetuneMode;
use crate::data::{self, Dataset};
use crate::device::environment::{Environment, peak_memory};
use crate::error::Result;
use crate::kernels;
use crate::model::{HeadKind, Mode, Network, RotationNetwork};
use crate::progress::{Event, Forecast, Reporter, Stage};
use crate::samples::PlainImages;
use crate::samples::{Batch, Samples};
use crate::store::checkpoint::DatasetLabel;
use crate::store::features;

/// How long each kind of step is measured, and how long if a run waits for it.
const LIMIT: Duration = Duration::from_millis(500);
const SHORT_LIMIT: Duration = Duration::from_millis(100);
/// Passes of a training step, in forward passes: one forward, and backward one each for inputs and weights.
const PASSES: u64 = 3;
/// Bytes of a feature.
const FLOAT: u64 = 4;
/// A checkpoint and its predecessor.
const CHECKPOINTS: u64 = 2;

/// What `--dry-run` prints.
#[derive(Clone, Debug, Serialize)]
pub struct DryRun {
    /// Program, processor, kernels, threads, device.
    pub environment: Environment,
    /// The data set measured on.
    pub dataset: DatasetLabel,
    /// One entry per stage, in order.
    pub stages: Vec<Part>,
    /// Wall time of all stages, in seconds, as measured on a few steps.
    pub seconds: f64,
    /// Peak memory of the process, in bytes: as measured, plus what a stage holds beyond that; null if the system does
    /// not report it.
    pub memory_bytes: Option<u64>,
    /// Disk space that the stages use, in bytes.
    pub disk_bytes: u64,
}

/// Cost of a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// The stage.
    pub stage: Stage,
    /// Parameters, running statistics included; 0 for extraction.
    pub parameters: usize,
    /// Training steps; 0 for extraction.
    pub steps: u64,
    /// Epochs; the last may be partial.
    pub epochs: f64,
    /// Floating-point operations of convolutions and dense layers, forward, on one sample; the mean over all steps, if their
    /// images differ in size.
    pub flop_a_sample: u64,
    /// Operations of the whole stage; a training step counts as three forward passes.
    pub flop: u64,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// Disk space that it uses, in bytes.
    pub disk_bytes: u64,
}

/// Measures the given stages, extraction and fine-tuning together, on a few steps; writes nothing.
///
/// The data set must exist, except for the generated scenes, which noise replaces.
///
/// # Errors
/// Those of reading the data and building the networks.
pub fn dry_run(context: &Context, stages: &[Stage], reporter: &mut dyn Reporter) -> Result<DryRun> {
    let dataset = data::open_or_stand_in(&context.config.data, &context.data_home, reporter)?;
    reporter.report(Event::Note("measuring; nothing is kept"));
    if stages.contains(&Stage::Finetune) && context.config.evaluate.after_run {
        reporter.report(Event::Note("the comparison at the end (evaluate.after_run) is not counted"));
    }
    let Measured { stages, held, .. } = measure(context, &dataset, stages, LIMIT)?;
    Ok(DryRun {
        environment: context.environment(),
        dataset: label(&dataset),
        seconds: stages.iter().map(|part| part.seconds).sum(),
        memory_bytes: peak_memory().map(|measured| held.peak(measured)),
        disk_bytes: stages.iter().map(|part| part.disk_bytes).sum(),
        stages,
    })
}

/// Reports how long each stage of a run is expected to take, from shorter measurements than those of [`dry_run`], if the
/// time is shown at all. What cannot be measured is for the stages to refuse.
pub fn forecast(context: &Context, stages: &[Stage], reporter: &mut dyn Reporter) {
    if reporter.shows_time()
        && let Ok(forecast) = forecasts(context, stages, reporter)
    {
        reporter.report(Event::Forecast(&forecast));
    }
}

fn forecasts(context: &Context, stages: &[Stage], reporter: &mut dyn Reporter) -> Result<Vec<Forecast>> {
    let dataset = data::open_or_stand_in(&context.config.data, &context.data_home, reporter)?;
    let Measured { stages, pretraining, .. } = measure(context, &dataset, stages, SHORT_LIMIT)?;
    let forecast = |part: &Part| Forecast {
        stage: part.stage,
        epochs: match part.stage {
            Stage::Pretrain => pretraining.clone(),
            Stage::Extract => vec![part.seconds],
            Stage::Finetune => vec![part.seconds / part.epochs.max(1.0); part.epochs as usize],
        },
    };
    Ok(stages.iter().map(forecast).collect())
}

/// What it takes to encode an image.
struct Encoding {
    /// Features.
    width: usize,
    /// Floating-point operations.
    flop: u64,
    seconds: f64,
}

/// The measurements of a run.
struct Measured {
    stages: Vec<Part>,
    /// Seconds of each epoch of pretraining.
    pretraining: Vec<f64>,
    held: Held,
}

fn measure(context: &Context, dataset: &Dataset, asked: &[Stage], limit: Duration) -> Result<Measured> {
    let config = &context.config;
    let image = dataset.image_shape();
    let device = context.device.clone().autodiff();
    let network = RotationNetwork::new(&config.encoder, image, config.seed, &device);
    let (mut stages, mut pretraining, mut held) = (Vec::new(), Vec::new(), Held::default());
    if asked.contains(&Stage::Pretrain) {
        let (part, by_epoch) = pretrain(context, dataset, &network, limit)?;
        stages.push(part);
        pretraining = by_epoch;
    }
    if asked.contains(&Stage::Finetune) {
        dataset.refuse_no_labels()?;
        let (part, width) = extract(context, dataset, &network, limit)?;
        held = Held::new(context, dataset, width)?;
        let images = dataset.train.len() + dataset.test_count();
        let encoding = Encoding { width, flop: part.flop_a_sample, seconds: part.seconds / images as f64 };
        stages.push(part);
        stages.push(match config.finetune.mode {
            FinetuneMode::Frozen => finetune::frozen(context, dataset, &network.encoder, width, limit)?,
            FinetuneMode::Full | FinetuneMode::Joint => {
                finetune::full(context, dataset, network, &encoding, limit)?
            }
        });
    }
    Ok(Measured { stages, pretraining, held })
}

/// Bytes that stages hold at their peaks and that a few measured steps do not show.
#[derive(Default)]
struct Held {
    /// Images, which the measurement includes but which not every stage holds; 0 if they are in a mapped file.
    images: u64,
    /// Test images, which `extract` holds in addition.
    test_images: u64,
    /// Features, and the working memory of a solver that needs all of them.
    features: u64,
}

impl Held {
    fn new(context: &Context, dataset: &Dataset, width: usize) -> Result<Self> {
        let config = &context.config;
        let bytes = match dataset.mapped {
            true => 0,
            false => dataset.image_shape().iter().product::<usize>() as u64,
        };
        let [train, test] = [dataset.train.len(), dataset.test_count()];
        let mut features = features::held([train, width]).max(features::held([test, width]));
        if config.finetune.head == HeadKind::Ridge {
            let classes = dataset.class_names.len();
            let labels = dataset.labeled_split(&config.data, config.seed)?;
            let validation = labels.validation.as_ref().map(Vec::len);
            let solving = ridge_bytes(labels.train.len(), validation, width, classes);
            features = features.max(features::held([train, width]) + solving);
        }
        if config.finetune.mode != FinetuneMode::Frozen {
            features = match config.finetune.self_training {
                Some(_) => (dataset.train.len() + dataset.unlabeled()) as u64 * width as u64 * FLOAT,
                None => 0,
            };
        }
        Ok(Self { images: bytes * train as u64, test_images: bytes * test as u64, features })
    }

    /// Peak of the most demanding stage, given the peak `measured` with the images in memory.
    fn peak(&self, measured: u64) -> u64 {
        let with_images = measured + self.test_images;
        with_images.max(measured.saturating_sub(self.images) + self.features)
    }
}

/// The cost, and the seconds of each epoch.
fn pretrain(
    context: &Context,
    dataset: &Dataset,
    network: &RotationNetwork,
    limit: Duration,
) -> Result<(Part, Vec<f64>)> {
    let config = &context.config;
    let pretext = Pretext::new(config, dataset)?;
    let pace = Pace::measure(context, dataset, &pretext, limit)?;
    let steps = config.pretrain.total_steps(pace.steps_an_epoch);
    let epochs = steps as f64 / pace.steps_an_epoch.max(1) as f64;
    let flop_of = |samples: &dyn Samples| flop(network, samples, context) as f64;
    let smaller = pretext.smaller.iter().map(|(until, samples)| (*until, flop_of(samples)));
    let sizes: Vec<_> = smaller.chain([(1.0, flop_of(&pretext.samples))]).collect();
    let flop = mean_until(&sizes, 1.0).round() as u64;
    let part = Part {
        stage: Stage::Pretrain,
        parameters: training_stage::size(network),
        steps,
        epochs,
        flop_a_sample: flop,
        flop: PASSES * flop * (epochs * pretext.samples.len() as f64) as u64,
        seconds: pace.seconds(steps),
        disk_bytes: CHECKPOINTS * pace.checkpoint_bytes,
    };
    Ok((part, pace.by_epoch(steps)))
}

/// The cost, and the width of the features.
fn extract(
    context: &Context,
    dataset: &Dataset,
    network: &RotationNetwork,
    limit: Duration,
) -> Result<(Part, usize)> {
    let config = &context.config;
    let encoder = network.encoder.valid();
    let readout = config.extract.readout();
    let width = encoder.read_width(&readout)?;
    let images = dataset.train.len() + dataset.test_count();
    let pixels = data::Pixels::new(&config.data, &dataset.train, &[0]);
    let plain = PlainImages::all(&dataset.train, &pixels);
    let indices: Vec<u32> = (0..config.extract.batch_size.min(plain.len()) as u32).collect();
    let read = || {
        let (inputs, _) = Batch::new(&plain, 0, &indices).into_tensors(&context.device);
        encoder.read(inputs, &readout).into_data();
    };
    let flop = kernels::operations(read) / indices.len() as u64;
    let (start, mut made) = (Instant::now(), 0);
    while made == 0 || start.elapsed() < limit {
        read();
        made += indices.len();
    }
    let part = Part {
        stage: Stage::Extract,
        parameters: 0,
        steps: 0,
        epochs: 0.0,
        flop_a_sample: flop,
        flop: flop * images as u64,
        seconds: start.elapsed().as_secs_f64() / made as f64 * images as f64,
        disk_bytes: images as u64 * (width as u64 * FLOAT + 1),
    };
    Ok((part, width))
}

/// Floating-point operations of a forward pass on one sample.
fn flop<N: Network>(network: &N, samples: &dyn Samples, context: &Context) -> u64 {
    let (inputs, _) = Batch::new(samples, 0, &[0]).into_tensors(&context.device);
    let network = network.valid();
    kernels::operations(|| {
        network.logits(inputs, Mode::Evaluate);
    })
}
