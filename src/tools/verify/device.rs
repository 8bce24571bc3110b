//! Whether a device computes rightly: one training step there and on `flex`, compared.

use std::collections::BTreeMap;
use std::time::Instant;

use burn::tensor::Device;
use serde::Serialize;

use crate::config::Config;
use crate::data::Pixels;
use crate::device::{self, DeviceName};
use crate::error::Result;
use crate::kernels::{self, Precision};
use crate::model::{Mode, Network, RotationNetwork};
use crate::samples::RotatedImages;
use crate::samples::{Batch, Samples};
use crate::tools::bench::{IMAGE, made_up_images};
use crate::training::replicas::gradients_by_name;

/// Largest relative difference that is taken for rounding. Graphics cards may multiply with 10 bits of fraction (TF32,
/// 2^-11 = 5e-4 an operand), and errors of independent operands cancel in sums; but a value that rounding takes across
/// the kink of its ReLU lets through all of its gradient or none, which on batches this small is up to 1.4 % of a
/// parameter's (seen between flex with its kernels and without, in 12 steps of 8 and 64 samples). A wrong index or a missing term is
/// off by tens of percent.
pub const TOLERANCE: f64 = 5e-2;
/// The same for gradients where factors are rounded to bfloat16. That moves a sum by 0.23 % of its deviation (RMS), and so
/// some 0.2 % of the places of a layer across the kink of their ReLU or to another maximum of their window; each of these has
/// all of its gradient or none of it, which is 4 % of the length of a layer's, and more where gradients of noise nearly
/// cancel. Seen, batches of 4 to 64 samples: the last layers 1 %, the first ones of `keras` 10 to 19 %, of `compact` 23 to
/// 31, of `rotnet-nin` 33 to 39; the losses differ by 0.05 % at most. Gradients that have nothing to do with each other
/// differ by 1.4 of their length, a missing one by all of it; the kernels themselves are compared bit by bit in their tests.
pub const ROUNDED_TOLERANCE: f64 = 0.6;
/// Most samples of the step.
const SAMPLES: usize = 64;
/// Gradients smaller than this share of the largest one are compared at that size: what is left of sums that cancel
/// has no digits of its own.
const FLOOR: f64 = 1e-3;

/// What `rotnet verify device` prints.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceCheck {
    /// The device.
    pub device: String,
    /// Samples of the step.
    pub samples: usize,
    /// Mean loss on `flex` and there.
    pub loss: [f64; 2],
    /// Difference of the losses, as a share of that on `flex`.
    pub loss_difference: f64,
    /// The gradients, by name of the parameter.
    pub gradients: BTreeMap<String, f64>,
    /// Length of the difference between the gradients, as a share of their length on `flex`: the worst one.
    pub gradient_difference: f64,
    /// What the losses may differ by at most.
    pub tolerance: f64,
    /// What the gradients may.
    pub gradient_tolerance: f64,
    /// Whether they are.
    pub agrees: bool,
    /// Seconds of the second of two steps, on `flex` and there.
    pub seconds: [f64; 2],
}

/// Makes a step of the pretraining of `config`, on made-up pixels, on both devices: on `flex` in 32 bits, so that with
/// [`Precision::Bf16`] and device `flex` rounded factors are compared with whole ones.
///
/// # Errors
/// [`Device`](crate::Error::Device) if the device cannot be used. That it computes something else is no error, see
/// [`DeviceCheck::agrees`].
pub fn check(config: &Config, name: &DeviceName) -> Result<DeviceCheck> {
    let there = device::open(name)?;
    let mut exact = config.clone();
    exact.encoder.arithmetic.precision = Precision::F32;
    let expected = Step::make(&exact, &device::open(&DeviceName::Flex)?);
    let found = Step::make(config, &there);
    let loss_difference = relative((found.loss - expected.loss).abs(), expected.loss.abs());
    let gradients = differences(&expected.gradients, &found.gradients);
    let gradient_difference = gradients.values().copied().fold(0.0, worse);
    let rounded = *name == DeviceName::Flex && config.encoder.arithmetic.precision == Precision::Bf16;
    let gradient_tolerance = if rounded { ROUNDED_TOLERANCE } else { TOLERANCE };
    Ok(DeviceCheck {
        device: name.to_string(),
        samples: expected.samples,
        loss: [expected.loss, found.loss],
        agrees: loss_difference <= TOLERANCE && gradient_difference <= gradient_tolerance,
        loss_difference,
        gradients,
        gradient_difference,
        tolerance: TOLERANCE,
        gradient_tolerance,
        seconds: [expected.seconds, found.seconds],
    })
}

type Gradients = BTreeMap<String, Vec<f32>>;

struct Step {
    samples: usize,
    loss: f64,
    gradients: Gradients,
    seconds: f64,
}

impl Step {
    fn make(config: &Config, device: &Device) -> Self {
        let images = made_up_images(32);
        let indices: Vec<u32> = (0..SAMPLES as u32).collect();
        let pixels = Pixels::new(&config.data, &images, &indices);
        let samples = RotatedImages::new(&images, indices, config.pretrain.rotations, &pixels, config.seed);
        let count = (config.pretrain.batch_size * samples.group()).min(SAMPLES);
        let indices: Vec<u32> = (0..count as u32).collect();
        let device = device.clone().autodiff();
        let network = RotationNetwork::new(&config.encoder, IMAGE, config.seed, &device);
        let step = || {
            let start = Instant::now();
            let (inputs, labels) = Batch::new(&samples, 0, &indices).into_tensors(&device);
            let (losses, _) = kernels::cross_entropy(network.logits(inputs, Mode::Train), labels, 0.0);
            let loss = losses.div_scalar(count as f32);
            let mut gradients = loss.backward();
            let gradients = gradients_by_name(&network, &mut gradients);
            let numbers = |(name, gradient): (_, burn::tensor::Tensor<1>)| {
                (name, gradient.into_data().iter::<f32>().collect())
            };
            let gradients = gradients.into_iter().map(numbers).collect();
            let loss = f64::from(loss.inner().into_scalar::<f32>());
            Self { samples: count, loss, gradients, seconds: start.elapsed().as_secs_f64() }
        };
        // The first one on a graphics card compiles its kernels.
        step();
        step()
    }
}

/// By parameter, the length of the difference as a share of the expected length.
fn differences(expected: &Gradients, found: &Gradients) -> BTreeMap<String, f64> {
    let length =
        |values: &[f32]| values.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    let largest = expected.values().map(|values| length(values)).fold(0.0, f64::max);
    let difference = |(name, expected): (&String, &Vec<f32>)| {
        let difference = match found.get(name) {
            Some(found) if found.len() == expected.len() => {
                let difference: Vec<f32> = expected.iter().zip(found).map(|(a, b)| a - b).collect();
                relative(length(&difference), length(expected).max(FLOOR * largest))
            }
            _ => f64::INFINITY,
        };
        (name.clone(), difference)
    };
    expected.iter().map(difference).collect()
}

fn relative(difference: f64, size: f64) -> f64 {
    if difference == 0.0 { 0.0 } else { difference / size }
}

/// The larger one; not a number is the worst of all.
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{KERAS, Overrides, resolve};

    #[test]
    fn flex_agrees_with_itself_to_the_bit() {
        for kind in ["keras", "compact"] {
            let mut overrides = Overrides::default();
            overrides.set("encoder.kind", kind);
            let config = resolve(KERAS, "keras-scaled", &overrides).unwrap();
            let check = check(&config, &DeviceName::Flex).unwrap();
            assert!(check.agrees && check.gradient_difference == 0.0, "{check:?}");
            assert!(check.gradients.len() >= 4 && check.loss[0] > 0.5, "{check:?}");
        }
    }

    #[test]
    fn rounded_factors_agree_with_whole_ones() {
        for kind in ["keras", "compact", "rotnet-nin"] {
            let mut overrides = Overrides::default();
            overrides.set("encoder.kind", kind);
            overrides.set("precision", "bf16");
            overrides.set("pretrain.batch_size", 4);
            let config = resolve(KERAS, "keras-scaled", &overrides).unwrap();
            let check = check(&config, &DeviceName::Flex).unwrap();
            assert!(check.agrees && check.gradient_difference > 1e-2, "{kind}: {check:?}");
            let last = check.gradients.iter().filter(|(name, _)| name.starts_with("head"));
            assert!(
                last.clone().count() == 2 && last.clone().all(|(_, &share)| share < TOLERANCE),
                "{check:?}"
            );
        }
    }

    #[test]
    fn one_wrong_missing_or_infinite_gradient_is_noticed() {
        let gradients = |values: [f32; 3]| Gradients::from([("weight".into(), values.to_vec())]);
        let expected = gradients([3.0, 4.0, 0.0]);
        let worst = |found: &Gradients| differences(&expected, found).into_values().fold(0.0, worse);
        assert_eq!(worst(&expected), 0.0);
        assert!((worst(&gradients([3.0, 4.0, 0.5])) - 0.1).abs() < 1e-9);
        for bad in [f32::NAN, f32::INFINITY] {
            let difference = worst(&gradients([3.0, bad, 0.0]));
            assert!(difference.is_nan() || difference > ROUNDED_TOLERANCE, "{difference}");
        }
        assert!(worst(&Gradients::new()).is_infinite());
    }
}
