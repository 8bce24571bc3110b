//! The operations of the `flex` device against burn's own: outputs and every gradient, on random shapes.

use burn::backend::Dispatch;
use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};

use super::*;

mod layers;
mod updates;

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

fn tensor<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let values = numbers(shape.iter().product(), seed);
    Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff()).require_grad()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Largest difference relative to the largest number.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().fold(1e-6f32, |most, x| most.max(x.abs()));
    a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs())) / scale
}

/// Fails if an output or gradient differs by more than `most`.
fn agree(own: &[Vec<f32>], burn: &[Vec<f32>], most: f32) -> Result<(), TestCaseError> {
    for (own, burn) in own.iter().zip(burn) {
        prop_assert!(difference(own, burn) <= most, "{}", difference(own, burn));
    }
    Ok(())
}

type Three = (FloatTensor<Dispatch>, FloatTensor<Dispatch>, FloatTensor<Dispatch>);

#[test]
fn the_fast_path_is_taken_for_every_layer_of_the_networks() {
    use crate::model::{EncoderConfig, EncoderKind};
    let of_kind = |kind| EncoderConfig { kind, ..EncoderConfig::default() };
    let keras =
        ["conv 3x3 32x32x3 -> 32", "conv 3x3 15x15x32 -> 64", "conv 3x3 6x6x64 -> 64", "dense 1024 -> 64"];
    assert_taken(&of_kind(EncoderKind::Keras), &keras);
    let nin = [
        "conv 5x5 32x32x3 -> 192",
        "conv 1x1 32x32x192 -> 160",
        "conv 1x1 32x32x160 -> 96",
        "Max pool 3/2 32x32x96",
        "conv 5x5 16x16x96 -> 192",
        "conv 1x1 16x16x192 -> 192",
        "Average pool 3/2 16x16x192",
        "conv 3x3 8x8x192 -> 192",
    ];
    assert_taken(&of_kind(EncoderKind::RotnetNin), &nin);
    // The encoder of the results in README.md, as shipped.
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/cpu-10min.json");
    let shipped = crate::config::load(&path, &Default::default()).unwrap().encoder;
    let first = "conv 3x3 32x32x3 -> 32";
    let compact = [
        "conv 3x3 16x16x32 -> 64",
        "conv 3x3 8x8x64 -> 128",
        "conv 3x3 8x8x128 -> 128",
        "conv 3x3 4x4x128 -> 128",
    ];
    assert_taken(&shipped, &[&[first], &compact[..]].concat());
    let whitened = EncoderConfig { whiten: true, ..of_kind(EncoderKind::Compact) };
    assert_taken(&whitened, &[&["conv 3x3 16x16x54 -> 64"], &compact[1..]].concat());
}

/// Both directions of the layers, on images of 32x32.
fn assert_taken(config: &crate::model::EncoderConfig, layers: &[&str]) {
    use crate::model::{Mode, Network, RotationNetwork};
    let device = Device::flex().autodiff();
    let network = RotationNetwork::new(config, [32, 32, 3], 1, &device);
    let batch = Tensor::from_data(TensorData::new(numbers(2 * 3072, 5), [2, 3072]), &device);
    let labels = Tensor::<1, Int>::from_data(TensorData::new(vec![1i32, 2], [2]), &device);
    profile::start();
    let (loss, _) = cross_entropy(network.logits(batch, Mode::Train), labels, 0.0);
    loss.backward();
    let taken: Vec<String> = profile::stop().into_iter().map(|entry| entry.operation).collect();
    for layer in layers {
        let is_taken = |direction| taken.contains(&format!("{layer} {direction}"));
        // Nobody asks for the gradient of the images.
        let inputs = layer == &layers[0] || is_taken("gradient of inputs");
        let backward = is_taken("backward") || is_taken("gradient of weights") && inputs;
        assert!(is_taken("forward") && backward, "{layer} is not in both directions among {taken:?}");
    }
}
#[cfg(feature = "ndarray")]
#[test]
fn a_training_step_on_ndarray_equals_one_on_flex() {
    use crate::model::{EncoderConfig, RotationNetwork, collect};
    use crate::samples::{Batch, Inputs};
    use crate::training::{Optimizer, OptimizerConfig, step};
    let run = |device: Device| {
        let device = device.autodiff();
        let network = RotationNetwork::new(&EncoderConfig::default(), [32, 32, 3], 1, &device);
        let mut optimizer = Optimizer::new(&OptimizerConfig::default());
        let batch = Batch {
            inputs: Inputs::Values(numbers(8 * 3072, 9)),
            labels: vec![0, 1, 2, 3, 0, 1, 2, 3],
            share: None,
        };
        let (network, tally) = step(network, &mut optimizer, batch, 0.0, &device);
        (values(tally.loss), collect(&network))
    };
    let (flex_loss, flex) = run(Device::flex());
    let (ndarray_loss, ndarray) = run(Device::ndarray());
    assert!(difference(&flex_loss, &ndarray_loss) <= 1e-4);
    for (name, values) in &flex {
        let other: Vec<f32> = ndarray[name].iter::<f32>().collect();
        let values: Vec<f32> = values.iter::<f32>().collect();
        assert!(difference(&values, &other) <= 1e-4, "{name}");
    }
}
