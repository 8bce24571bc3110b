//! What training a classifier would take.

use std::time::{Duration, Instant};

use burn::module::Module;

use super::{CHECKPOINTS, Encoding, PASSES, Part, flop};
use crate::config::SelfTrainingConfig;
use crate::data::{self, Dataset};
use crate::error::Result;
use crate::judge::knn;
use crate::model::{Classifier, Encoder, ImageClassifier, JointNetwork, Network, RotationNetwork};
use crate::progress::Stage;
use crate::samples::Samples;
use crate::stages::Context;
use crate::stages::extract::feature_map;
use crate::stages::finetune::{Pseudo, Unlabeled, batches, configured_shape, full_readout, mixture};
use crate::stages::measure::{StepCost, step_cost};
use crate::stages::training_stage::{self, LoopConfig};
use crate::store::features::Features;
use crate::training::Replicas;

/// Images compared with each other to find what comparing all of them takes: 13 GFLOP at 6,144 features.
const COMPARED: usize = 1024;

/// A classifier on frozen features.
pub(super) fn frozen(
    context: &Context,
    dataset: &Dataset,
    encoder: &Encoder,
    width: usize,
    limit: Duration,
) -> Result<Part> {
    let config = &context.config;
    let labels = dataset.labeled_split(&config.data, config.seed)?;
    // Made-up features of two batches stand for all of them.
    let count = labels.train.len().min(2 * config.finetune.batch_size);
    let features = Features::new(made_up(count * width), dataset.train.labels[..count].to_vec(), width);
    let moments = config.finetune.standardise.then(|| features.moments()).transpose()?;
    let device = context.device.clone().autodiff();
    let map = feature_map(encoder, &config.extract);
    let shape = configured_shape(&config.finetune, width, dataset.class_names.len(), map);
    let network = Classifier::new(&shape, moments, config.seed, &device);
    finetune(context, network, &features, labels.train.len(), limit)
}

/// A classifier and its encoder together, and the students and teachers of self-training.
pub(super) fn full(
    context: &Context,
    dataset: &Dataset,
    network: RotationNetwork,
    encoding: &Encoding,
    limit: Duration,
) -> Result<Part> {
    let config = &context.config;
    let split = dataset.labeled_split(&config.data, config.seed)?;
    let pixels = data::Pixels::new(&config.data, &dataset.train, &split.train);
    let unlabeled = Unlabeled::new(config, dataset)?;
    let unlabeled = unlabeled.as_ref();
    let first = batches(config, dataset, &split.train, unlabeled, None, &pixels);
    let mut part = network_on(context, dataset, &network, (&*first, false), limit)?;
    if let (Some(training), Some(unlabeled)) = (&config.finetune.self_training, unlabeled) {
        // Any images with any labels stand for those that students are given.
        let indices: Vec<u32> = unlabeled.indices.iter().copied().take(config.finetune.batch_size).collect();
        let pseudo = Pseudo { labels: vec![0; indices.len()], indices };
        let samples = batches(config, dataset, &split.train, Some(unlabeled), Some(&pseudo), &pixels);
        let student = network_on(context, dataset, &network, (&*samples, true), limit)?;
        let steps = training.steps.unwrap_or(part.steps) * training.rounds.len() as u64;
        let times = |number: f64| number / student.steps.max(1) as f64 * steps as f64;
        part.steps += steps;
        part.flop += times(student.flop as f64) as u64;
        part.seconds += times(student.seconds);
        part.disk_bytes += student.disk_bytes * training.rounds.len() as u64;
        let (flop, seconds) =
            teachers(training, config.finetune.from_scratch, unlabeled.indices.len(), encoding);
        part.flop += flop;
        part.seconds += seconds;
    }
    Ok(part)
}

/// Operations and seconds of giving labels in all rounds of self-training: each teacher reads all images; and all of them
/// are compared with each other by frozen features once, by those of a network from scratch in every round.
fn teachers(
    training: &SelfTrainingConfig,
    from_scratch: bool,
    images: usize,
    encoding: &Encoding,
) -> (u64, f64) {
    let rounds = training.rounds.len();
    let comparisons = match (training.neighbours, from_scratch) {
        (0, _) => 0,
        (_, true) => rounds,
        (_, false) => 1,
    };
    // Ridge regression needs frozen features, also if they are not compared.
    let encoded = (if from_scratch { comparisons } else { 1 } + rounds) * images;
    let (mut flop, mut seconds) = (encoded as u64 * encoding.flop, encoded as f64 * encoding.seconds);
    if comparisons > 0 {
        let compared = images.min(COMPARED);
        let values = made_up(compared * encoding.width);
        let start = Instant::now();
        knn::nearest(&values, &values, encoding.width, training.neighbours + 1);
        let all = (images * images) as f64 / (compared * compared) as f64;
        seconds += comparisons as f64 * start.elapsed().as_secs_f64() * all;
        flop += 2 * comparisons as u64 * (images as u64).pow(2) * encoding.width as u64;
    }
    (flop, seconds)
}

/// Numbers of made-up features.
fn made_up(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index % 251) as f32 / 251.0).collect()
}

/// The cost of training one network, on samples among which are images that were given labels or not.
fn network_on(
    context: &Context,
    dataset: &Dataset,
    network: &RotationNetwork,
    (samples, pseudo): (&dyn Samples, bool),
    limit: Duration,
) -> Result<Part> {
    let config = &context.config;
    let encoder = network.encoder.valid();
    let (readout, map) = full_readout(config, &encoder)?;
    let width = encoder.read_width(&readout)?;
    let shape = configured_shape(&config.finetune, width, dataset.class_names.len(), map);
    let device = context.device.clone().autodiff();
    match mixture(config, pseudo) {
        None => {
            let network = ImageClassifier::new(encoder, readout, &shape, config.seed, &device);
            finetune(context, network, samples, samples.len(), limit)
        }
        Some(mixture) => {
            let network = RotationNetwork { encoder, head: network.head.valid() };
            let network = JointNetwork::new(network, readout, &shape, mixture, config.seed, &device);
            finetune(context, network, samples, samples.len(), limit)
        }
    }
}

/// The cost of epochs of so many samples, of which `samples` may be only a few.
fn finetune<N: Network>(
    context: &Context,
    network: N,
    samples: &dyn Samples,
    an_epoch: usize,
    limit: Duration,
) -> Result<Part> {
    let config = &context.config.finetune;
    let parameters = training_stage::size(&network);
    let flop = flop(&network, samples, context);
    let loop_config = LoopConfig::from(config);
    let replicas = Replicas::new(&context.devices)?;
    let StepCost { seconds, checkpoint_bytes, .. } =
        step_cost(network, &loop_config, samples, context.config.seed, &replicas, limit);
    let steps = ((an_epoch / samples.group()).div_ceil(config.batch_size) * config.epochs) as u64;
    Ok(Part {
        stage: Stage::Finetune,
        parameters,
        steps,
        epochs: config.epochs as f64,
        flop_a_sample: flop,
        flop: PASSES * flop * (an_epoch * config.epochs) as u64,
        seconds: steps as f64 * seconds,
        disk_bytes: CHECKPOINTS * checkpoint_bytes,
    })
}
