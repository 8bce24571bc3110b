use burn::module::Module;
use burn::tensor::TensorData;

use super::*;
use crate::data::{DataConfig, Pixels};
use crate::model::{
    Classifier, ClassifierShape, EncoderConfig, EncoderKind, FeatureMoments, JointNetwork, Mixture,
    Parameters, Readout, RotationNetwork, collect,
};
use crate::samples::{Inputs, Samples};
use crate::samples::{RotatedImages, Rotations};
use crate::tools::bench::{IMAGE, made_up_images};
use crate::training::{Momentum, OptimizerConfig, Rule};

const SMOOTHING: f32 = 0.1;

fn seed_encoder() -> EncoderConfig {
    EncoderConfig::default()
}

/// Two blocks with batch normalisation.
fn norm_encoder() -> EncoderConfig {
    let kind = EncoderKind::Compact;
    EncoderConfig {
        kind,
        widths: Some(vec![8, 16]),
        pools: Some(vec![true, true]),
        ..EncoderConfig::default()
    }
}

fn optimizer() -> Optimizer {
    let momentum = Momentum { decay: 0.9, nesterov: true };
    Optimizer::new(&OptimizerConfig { learning_rate: 0.05, rule: Rule::Sgd { momentum, weight_decay: 0.0 } })
}

fn network(encoder: &EncoderConfig) -> RotationNetwork {
    RotationNetwork::new(encoder, IMAGE, 3, &Device::flex().autodiff())
}

/// All rotations of the images `first` to `first + images`.
fn batch(first: u32, images: u32) -> Batch {
    let all = made_up_images(IMAGE[0]);
    let indices: Vec<u32> = (first..first + images).collect();
    let pixels = Pixels::new(&DataConfig { scale_pixels: true, ..DataConfig::default() }, &all, &indices);
    let samples = RotatedImages::new(&all, indices, Rotations::All, &pixels, 0);
    let indices: Vec<u32> = (0..samples.len() as u32).collect();
    Batch::new(&samples, 0, &indices)
}

fn number(tensor: Tensor<1>) -> f32 {
    tensor.into_scalar::<f32>()
}

/// Loss, right answers and parameters after three steps on `count` replicas.
fn three_steps(encoder: &EncoderConfig, count: usize, images: u32) -> (Vec<f32>, Vec<f32>, Parameters) {
    let replicas = Replicas::new(&vec![Device::flex(); count]).unwrap();
    let (mut network, mut optimizer) = (network(encoder), optimizer());
    let (mut losses, mut right) = (Vec::new(), Vec::new());
    for step in 0..3 {
        let outcome = replicas.step(network, &mut optimizer, batch(step * images, images), SMOOTHING);
        network = outcome.0;
        losses.push(number(outcome.1.loss));
        right.push(number(outcome.1.correct));
    }
    (losses, right, collect(&network.valid()))
}

fn values(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// Length of the difference of two parameter sets, as a share of the length of the first.
fn difference(a: &Parameters, b: &Parameters) -> f64 {
    assert!(a.keys().eq(b.keys()));
    let all = |parameters: &Parameters| parameters.values().flat_map(values).collect::<Vec<f32>>();
    let (a, b) = (all(a), all(b));
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = a.iter().zip(&b).map(|(a, b)| square(a - b)).sum();
    (off / a.iter().map(|&a| square(a)).sum::<f64>()).sqrt()
}

fn numbers(batch: &Batch) -> Vec<f32> {
    match &batch.inputs {
        Inputs::Values(numbers) => numbers.clone(),
        Inputs::Places(..) => panic!("made on the host"),
    }
}

#[test]
fn a_batch_is_split_into_whole_groups_in_order() {
    for (images, count, expected) in [
        (5, 2, vec![12, 8]),
        (5, 4, vec![12, 8]),
        (16, 3, vec![16, 16, 32]),
        (16, 4, vec![16; 4]),
        (1, 2, vec![4]),
    ] {
        let whole = batch(0, images);
        let (inputs, labels) = (numbers(&whole), whole.labels.clone());
        let shares = shares(labels.len(), count);
        let (first, others) = split(whole, &shares);
        let shards: Vec<Batch> = std::iter::once(first).chain(others).collect();
        assert_eq!(shards.iter().map(|shard| shard.labels.len()).collect::<Vec<_>>(), expected);
        assert_eq!(shards.iter().flat_map(|shard| shard.labels.clone()).collect::<Vec<_>>(), labels);
        assert_eq!(shards.iter().flat_map(numbers).collect::<Vec<_>>(), inputs);
    }
}

#[test]
fn any_number_of_replicas_gives_the_bytes_of_one() {
    // 68 samples are 7 units, 20 are 2: some replicas stay idle.
    for (encoder, images) in
        [(seed_encoder(), 17), (seed_encoder(), 5), (norm_encoder(), 17), (norm_encoder(), 5)]
    {
        let (losses, right, parameters) = three_steps(&encoder, 1, images);
        let untrained = collect(&network(&encoder).valid());
        assert!(difference(&untrained, &parameters) > 1e-3, "the steps must change something");
        for count in [2, 3, 4] {
            let others = three_steps(&encoder, count, images);
            assert_eq!((&losses, &right), (&others.0, &others.1), "{count} replicas");
            assert!(parameters == others.2, "{:?}, {count} replicas", encoder.kind);
        }
    }
}

fn with_rule(rule: Rule) -> Optimizer {
    Optimizer::new(&OptimizerConfig { learning_rate: 0.01, rule }).with_clipping(Some(0.1))
}

/// What each of so many ranks ends with after three steps of 17 images and one of 5, which are fewer units than some have
/// ranks.
fn on_ranks(encoder: &EncoderConfig, rule: &Rule, size: usize) -> Vec<(Vec<f32>, Parameters)> {
    let steps = |ranks: Arc<dyn Ranks>| {
        let (mut network, mut optimizer) = (network(encoder), with_rule(rule.clone()));
        let replicas = Replicas::new(&[Device::flex()])?.with_ranks(ranks, &network)?;
        let mut numbers = Vec::new();
        for (step, images) in [17, 17, 17, 5].into_iter().enumerate() {
            let mut whole = batch(17 * step as u32, images);
            let share = replicas.share(whole.labels.len());
            if let Some(share) = &share {
                drop(whole.split_off(share.samples().end));
                whole = whole.split_off(share.samples().start);
            }
            let outcome = replicas.step(network, &mut optimizer, Batch { share, ..whole }, SMOOTHING);
            network = outcome.0;
            numbers.extend([number(outcome.1.loss), number(outcome.1.correct)]);
        }
        Ok((numbers, collect(&network.valid())))
    };
    let alone = |ranks: Arc<dyn Ranks>| {
        // A thread that waits for another rank must not be needed by it.
        let pool = ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| steps(ranks))
    };
    ranks::run(size, alone).unwrap()
}

#[test]
fn any_number_of_ranks_gives_the_bytes_of_one() {
    let muon: OptimizerConfig = serde_json::from_str(r#"{"kind": "muon"}"#).unwrap();
    let (muon, adam) = (muon.rule, OptimizerConfig::default().rule);
    for (encoder, rule) in
        [(seed_encoder(), &adam), (norm_encoder(), &adam), (seed_encoder(), &muon), (norm_encoder(), &muon)]
    {
        let one = on_ranks(&encoder, rule, 1).remove(0);
        for size in [2, 3, 4, 8] {
            for (rank, other) in on_ranks(&encoder, rule, size).into_iter().enumerate() {
                assert_eq!(one.0, other.0, "{:?} {rule:?}, rank {rank} of {size}", encoder.kind);
                assert!(one.1 == other.1, "{:?} {rule:?}, rank {rank} of {size}", encoder.kind);
            }
        }
    }
}

/// Sums of a step of classes and rotations at once, and what it leaves: 68 or 20 images in groups of four.
fn joint_step(ranks: Arc<dyn Ranks>, replicas: usize, images: u32) -> Result<(Vec<f32>, Parameters)> {
    let device = Device::flex().autodiff();
    let rotation = RotationNetwork::new(&norm_encoder(), IMAGE, 3, &device);
    let features = rotation.encoder.features();
    let shape = ClassifierShape { features, hidden: vec![5], batch_norm: true, classes: 2, map: None };
    let mixture = Mixture { classified: 1, turned: 3, weight: 0.3 };
    let network = JointNetwork::new(rotation, Readout::default(), &shape, mixture, 3, &device);
    let replicas = Replicas::new(&vec![Device::flex(); replicas])?.with_ranks(ranks, &network)?;
    let mut whole = batch(0, images);
    let labels = whole.labels.iter().enumerate();
    let labels = labels.map(|(row, turns)| if row % 4 == 0 { (row / 4 % 2) as u16 } else { 2 + turns });
    whole.labels = labels.collect();
    let share = replicas.share(whole.labels.len());
    if let Some(share) = &share {
        drop(whole.split_off(share.samples().end));
        whole = whole.split_off(share.samples().start);
    }
    let (network, tally) = replicas.step(network, &mut optimizer(), Batch { share, ..whole }, SMOOTHING);
    let [loss, correct] = tally.second.unwrap();
    let numbers = [tally.loss, tally.correct, loss, correct].map(number);
    Ok((numbers.to_vec(), collect(&network.valid())))
}

#[test]
fn classes_and_rotations_at_once_give_the_bytes_of_one_on_any_number_of_replicas_and_ranks() {
    let alone = |ranks: Arc<dyn Ranks>, replicas, images| {
        let pool = ThreadPoolBuilder::new().num_threads(replicas).build().unwrap();
        pool.install(|| joint_step(ranks, replicas, images))
    };
    for images in [17, 5] {
        let one = alone(Arc::new(Alone), 1, images).unwrap();
        // A quarter of the images are of the first task: its right answers count four times.
        assert_eq!(one.0[1] % 4.0, 0.0);
        assert!(one.0.iter().all(|number| *number > 0.0), "{:?}", one.0);
        for count in [2, 3] {
            assert!(one == alone(Arc::new(Alone), count, images).unwrap(), "{count} replicas");
            let ranks = ranks::run(count, |ranks| alone(ranks, 1, images)).unwrap();
            assert!(ranks.iter().all(|other| one == *other), "{count} ranks");
        }
    }
}

#[test]
fn ranks_are_refused_another_device_or_several() {
    let several = Replicas::new(&vec![Device::flex(); 2]).unwrap();
    let ranks = ranks::group(2).remove(0);
    assert!(matches!(several.with_ranks(ranks, &network(&seed_encoder())), Err(Error::Usage { .. })));
}

#[test]
fn what_is_never_trained_stays_as_it_is() {
    let shape = ClassifierShape { features: 3072, hidden: vec![8], batch_norm: false, classes: 4, map: None };
    let moments = || {
        let mean = (0..3072).map(|index| 0.1 + index as f32 / 7.0).collect::<Vec<_>>();
        Some(FeatureMoments { deviation: mean.clone(), mean })
    };
    let classifier = || Classifier::new(&shape, moments(), 1, &Device::flex().autodiff());
    let replicas = Replicas::new(&vec![Device::flex(); 3]).unwrap();
    let (trained, ..) = replicas.step(classifier(), &mut optimizer(), batch(0, 16), SMOOTHING);
    let (before, after) = (collect(&classifier().valid()), collect(&trained.valid()));
    let fixed = before.keys().filter(|name| name.starts_with("standardise"));
    assert_eq!(fixed.clone().count(), 2);
    fixed.for_each(|name| assert_eq!(values(&before[name]), values(&after[name]), "{name}"));
    assert!(difference(&before, &after) > 0.0);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let on_threads = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| three_steps(&norm_encoder(), 2, 5))
    };
    let ((losses, _, parameters), (other_losses, _, others)) = (on_threads(1), on_threads(5));
    assert_eq!(losses, other_losses);
    assert_eq!(difference(&parameters, &others), 0.0);
}
