use burn::module::Module;
use burn::tensor::TensorData;

use super::*;
use crate::data::{DataConfig, Pixels};
use crate::model::{
    Classifier, ClassifierShape, EncoderConfig, EncoderKind, FeatureMoments, Parameters, RotationNetwork,
    collect, is_running,
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
    let all = made_up_images();
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
        losses.push(number(outcome.1));
        right.push(number(outcome.2));
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
fn any_number_of_replicas_gives_the_bytes_of_one_without_batch_normalisation() {
    // 68 samples are 7 units, 20 are 2: some replicas stay idle.
    for images in [17, 5] {
        let (losses, right, parameters) = three_steps(&seed_encoder(), 1, images);
        let untrained = collect(&network(&seed_encoder()).valid());
        assert!(difference(&untrained, &parameters) > 1e-3, "the steps must change something");
        for count in [2, 3, 4] {
            let others = three_steps(&seed_encoder(), count, images);
            assert_eq!((&losses, &right), (&others.0, &others.1), "{count} replicas");
            assert!(parameters == others.2, "{count} replicas");
        }
    }
}

#[test]
fn batch_normalisation_takes_the_statistics_of_each_shard_and_keeps_their_weighted_mean() {
    let encoder = norm_encoder();
    let replicas = Replicas::new(&[Device::flex(), Device::flex()]).unwrap();
    let (both, loss, _) = replicas.step(network(&encoder), &mut optimizer(), batch(0, 5), SMOOTHING);
    let both = collect(&both.valid());

    // Shards of 3 and 2 images, each by itself on one device.
    let alone = |first, images| {
        let one = Replicas::new(&[Device::flex()]).unwrap();
        let (network, loss, _) =
            one.step(network(&encoder), &mut optimizer(), batch(first, images), SMOOTHING);
        (collect(&network.valid()), number(loss))
    };
    let ((first, first_loss), (second, second_loss)) = (alone(0, 3), alone(3, 2));
    assert!((number(loss) - (3.0 * first_loss + 2.0 * second_loss) / 5.0).abs() < 1e-5);
    let mean = |name: &String| {
        let (a, b) = (values(&first[name]), values(&second[name]));
        let mean: Vec<f32> = a.iter().zip(&b).map(|(a, b)| (3.0 * a + 2.0 * b) / 5.0).collect();
        TensorData::new(mean, first[name].shape().clone())
    };
    // Running statistics are means by definition; parameters are, as one step of SGD is linear in the gradient.
    let expected: Parameters = both.keys().map(|name| (name.clone(), mean(name))).collect();
    assert!(both.keys().any(|name| name.ends_with("running_mean")));
    let off = difference(&expected, &both);
    assert!(off < 1e-5, "{off}");

    let (_, _, one) = three_steps(&encoder, 1, 4);
    let (_, _, two) = three_steps(&encoder, 2, 4);
    let off = difference(&one, &two);
    assert!(off > 1e-5, "with batch normalisation two replicas are not one: {off}");
}

/// As if another process had computed the same part of the batch.
#[derive(Debug)]
struct Twin;

impl GradientSum for Twin {
    fn processes(&self) -> usize {
        2
    }

    fn sum(&self, mut parts: Vec<(Tensor<1>, usize)>) -> Tensor<1> {
        assert_eq!(parts.len(), 1);
        parts.pop().unwrap().0.mul_scalar(2.0)
    }
}

#[test]
fn gradients_loss_and_right_answers_go_through_the_sum_with_one_device_too() {
    let one = Replicas::new(&[Device::flex()]).unwrap();
    let twins = Replicas { sum: Arc::new(Twin), ..one.clone() };
    let fresh = collect(&network(&norm_encoder()).valid());
    let step = |replicas: &Replicas| {
        let (network, loss, correct) =
            replicas.step(network(&norm_encoder()), &mut optimizer(), batch(0, 3), SMOOTHING);
        (collect(&network.valid()), number(loss), number(correct))
    };
    let (alone, twice) = (step(&one), step(&twins));
    assert_eq!((2.0 * alone.1, 2.0 * alone.2), (twice.1, twice.2));
    // One step of SGD moves parameters by a multiple of the gradient; running statistics are no sums.
    for (name, fresh) in &fresh {
        let factor = if is_running(name) { 1.0 } else { 2.0 };
        let moved = values(fresh).into_iter().zip(values(&alone.0[name])).map(|(a, b)| factor * (b - a) + a);
        for (expected, found) in moved.zip(values(&twice.0[name])) {
            assert!((expected - found).abs() < 1e-6, "{name}: {expected} {found}");
        }
    }
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
