//! The operations of the `flex` device against burn's own: outputs and every gradient, on random shapes.

use burn::tensor::{Device, Int, Tensor, TensorData};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};

use super::*;

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

type Three = (FloatTensor<Dispatch>, FloatTensor<Dispatch>, FloatTensor<Dispatch>);
type Conv = fn(
    FloatTensor<Dispatch>,
    FloatTensor<Dispatch>,
    FloatTensor<Dispatch>,
    ConvOptions,
) -> FloatTensor<Dispatch>;
type Dense = fn(
    FloatTensor<Dispatch>,
    FloatTensor<Dispatch>,
    FloatTensor<Dispatch>,
    DenseOptions,
) -> FloatTensor<Dispatch>;

/// Output and the gradients of input, weight and bias, under a random gradient of the output.
fn run_conv(operation: Conv, input: [usize; 4], weight: [usize; 4], options: ConvOptions) -> [Vec<f32>; 4] {
    let (x, w, b) = (tensor(input, 1), tensor(weight, 2), tensor([weight[3]], 3));
    let output = Tensor::<4>::from_dispatch(operation(
        x.clone().into_dispatch(),
        w.clone().into_dispatch(),
        b.clone().into_dispatch(),
        options,
    ));
    let gradients = (output.clone() * tensor(output.dims(), 4)).sum().backward();
    [
        values(output),
        x.grad(&gradients).map(values).unwrap(),
        w.grad(&gradients).map(values).unwrap(),
        b.grad(&gradients).map(values).unwrap(),
    ]
}

fn run_dense(operation: Dense, [batch, inputs, outputs]: [usize; 3], options: DenseOptions) -> [Vec<f32>; 4] {
    let (x, w, b) = (tensor([batch, inputs], 1), tensor([inputs, outputs], 2), tensor([outputs], 3));
    let output = Tensor::<2>::from_dispatch(operation(
        x.clone().into_dispatch(),
        w.clone().into_dispatch(),
        b.clone().into_dispatch(),
        options,
    ));
    let gradients = (output.clone() * tensor(output.dims(), 4)).sum().backward();
    [
        values(output),
        x.grad(&gradients).map(values).unwrap(),
        w.grad(&gradients).map(values).unwrap(),
        b.grad(&gradients).map(values).unwrap(),
    ]
}

/// See the tests that use it.
const BF16_TOLERANCE: f32 = 1.2e-2;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn convolution_blocks_agree_with_burn(
        batch in 1usize..4,
        height in 5usize..12,
        width in 5usize..12,
        inputs in 1usize..20,
        outputs in 1usize..40,
        kernel in prop::sample::select(vec![1usize, 3, 5, 6]),
        same in any::<bool>(),
        relu in any::<bool>(),
        pool in any::<bool>(),
    ) {
        let same = same && kernel % 2 == 1;
        let options = ConvOptions { padding: if same { kernel / 2 } else { 0 }, relu, pool, arithmetic: Arithmetic::default() };
        prop_assume!(height.min(width) >= kernel || same);
        prop_assume!(!pool || same || (height.min(width) > kernel));
        let shapes = ([batch, height, width, inputs], [kernel, kernel, inputs, outputs]);
        let own = run_conv(<Dispatch as Kernels>::conv_block, shapes.0, shapes.1, options);
        let burn = run_conv(reference::conv_block::<Dispatch>, shapes.0, shapes.1, options);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= 1e-4, "{}", difference(own, burn));
        }
    }

    /// What is written at once has the bytes of the two operations, and those of burn within their error.
    #[test]
    fn a_convolution_normalised_on_the_way_is_convolution_and_normalisation(
        batch in 1usize..4,
        side in 5usize..12,
        inputs in 1usize..20,
        outputs in 1usize..70,
        kernel in prop::sample::select(vec![1usize, 3, 5]),
        pool in any::<bool>(),
        relu in any::<bool>(),
        bf16 in any::<bool>(),
    ) {
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        let arithmetic = Arithmetic { precision, ..Arithmetic::default() };
        let conv = ConvOptions { padding: kernel / 2, relu: false, pool, arithmetic };
        let options = ConvNormOptions { conv, norm: NormOptions { epsilon: 1e-5, relu, share: None } };
        let plain = |shape: &[usize], seed| {
            let numbers = numbers(shape.iter().product(), seed);
            TensorData::new(numbers, shape.to_vec())
        };
        let x = plain(&[batch, side, side, inputs], 1);
        let weight = plain(&[kernel, kernel, inputs, outputs], 2);
        // Factors of both signs: the maximum of a window is that in front of the normalisation.
        let rows: [TensorData; 4] = [3, 4, 5, 6].map(|seed| match seed {
            4 => TensorData::new(numbers(outputs, seed).into_iter().map(|v| v * v + 0.1).collect(), [outputs]),
            _ => plain(&[outputs], seed),
        });
        let on = |device: &Device| {
            let [mean, variance, scale, shift] = rows.clone().map(|row| Tensor::<1>::from_data(row, device));
            let (x, weight) = (Tensor::<4>::from_data(x.clone(), device), Tensor::from_data(weight.clone(), device));
            let given = [&mean, &variance, &scale, &shift].map(|row| row.clone().into_dispatch());
            let (x_given, weight_given) = (x.clone().into_dispatch(), weight.clone().into_dispatch());
            let between = conv_block(x.clone(), weight.clone(), Tensor::zeros([outputs], device), conv);
            let at_once = conv_norm(
                x,
                weight,
                mean.clone(),
                variance.clone(),
                scale.clone(),
                shift.clone(),
                options.clone(),
            );
            let shape = between.dims();
            let flat = between.reshape([shape[0] * shape[1] * shape[2], outputs]);
            let in_two = normalise(flat, mean, variance, scale, shift, options.norm.clone()).reshape(shape);
            let [mean, variance, scale, shift] = given;
            let burn = Tensor::<4>::from_dispatch(reference::conv_norm::<Dispatch>(
                x_given,
                weight_given,
                mean,
                variance,
                scale,
                shift,
                options.clone(),
            ));
            [at_once, in_two, burn].map(values)
        };
        let [at_once, in_two, burn] = on(&Device::flex());
        prop_assert_eq!(&at_once, &in_two);
        if !bf16 {
            prop_assert!(difference(&at_once, &burn) <= 1e-4, "{}", difference(&at_once, &burn));
        }
        let [differentiated, ..] = on(&Device::flex().autodiff());
        prop_assert!(difference(&at_once, &differentiated) <= 1e-6);
    }

    #[test]
    fn overlapping_pooling_agrees_with_burn(
        batch in 1usize..4,
        height in 1usize..12,
        width in 1usize..12,
        channels in 1usize..40,
        kind in prop::sample::select(vec![OverlappingPool::Max, OverlappingPool::Average]),
    ) {
        let run = |operation: fn(_, _) -> FloatTensor<Dispatch>| {
            let x = tensor([batch, height, width, channels], 1);
            let output = Tensor::<4>::from_dispatch(operation(x.clone().into_dispatch(), kind));
            let gradients = (output.clone() * tensor(output.dims(), 4)).sum().backward();
            [values(output), x.grad(&gradients).map(values).unwrap()]
        };
        let own = run(<Dispatch as Kernels>::overlapping_pool);
        let burn = run(reference::overlapping_pool::<Dispatch>);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= 1e-5, "{}", difference(own, burn));
        }
    }

    #[test]
    fn dense_blocks_agree_with_burn(
        batch in 1usize..40,
        inputs in 1usize..70,
        outputs in 1usize..70,
        relu in any::<bool>(),
    ) {
        let options = DenseOptions { relu, arithmetic: Arithmetic::default() };
        let own = run_dense(<Dispatch as Kernels>::dense_block, [batch, inputs, outputs], options);
        let burn = run_dense(reference::dense_block::<Dispatch>, [batch, inputs, outputs], options);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= 1e-4, "{}", difference(own, burn));
        }
    }

    /// Rounded factors err by 2^-9 at most and products by 2^-8, at random, so that sums err by 0.23 % of their deviation, and
    /// the worst of thousands by some five times that. Without ReLU and pool, whose masks a rounded sum may flip.
    #[test]
    fn bf16_convolutions_agree_with_burn(
        batch in 1usize..20,
        height in 6usize..12,
        width in 6usize..12,
        inputs in 1usize..40,
        outputs in 1usize..70,
        kernel in prop::sample::select(vec![1usize, 3, 5, 6]),
        same in any::<bool>(),
    ) {
        let arithmetic = Arithmetic { convolution: Convolution::Direct, precision: Precision::Bf16 };
        let padding = if same && kernel % 2 == 1 { kernel / 2 } else { 0 };
        let options = ConvOptions { padding, relu: false, pool: false, arithmetic };
        let (input, weight) = ([batch, height, width, inputs], [kernel, kernel, inputs, outputs]);
        let own = run_conv(<Dispatch as Kernels>::conv_block, input, weight, options);
        let burn = run_conv(reference::conv_block::<Dispatch>, input, weight, options);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= BF16_TOLERANCE, "{}", difference(own, burn));
        }
        prop_assert!(difference(&own[0], &burn[0]) > 1e-5, "nothing was rounded");
    }

    #[test]
    fn bf16_dense_blocks_agree_with_burn(
        batch in 1usize..40,
        inputs in 1usize..70,
        outputs in 1usize..70,
    ) {
        let arithmetic = Arithmetic { precision: Precision::Bf16, ..Arithmetic::default() };
        let options = DenseOptions { relu: false, arithmetic };
        let own = run_dense(<Dispatch as Kernels>::dense_block, [batch, inputs, outputs], options);
        let burn = run_dense(reference::dense_block::<Dispatch>, [batch, inputs, outputs], options);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= BF16_TOLERANCE, "{}", difference(own, burn));
        }
        prop_assert!(difference(&own[0], &burn[0]) > 1e-6, "nothing was rounded");
    }

    #[test]
    fn batch_norm_agrees_with_burn(
        samples in 2usize..80,
        places in 1usize..10,
        channels in 1usize..70,
        relu in any::<bool>(),
    ) {
        let rows = samples * places;
        let run = |operation: fn(_, _, _, _, _) -> Three| {
            let (x, scale, shift) = (tensor([rows, channels], 1), tensor([channels], 2), tensor([channels], 3));
            let (output, mean, variance) = operation(
                x.clone().into_dispatch(),
                samples,
                scale.clone().into_dispatch(),
                shift.clone().into_dispatch(),
                NormOptions { epsilon: 1e-5, relu, share: None },
            );
            let output = Tensor::<2>::from_dispatch(output);
            let gradients = (output.clone() * tensor(output.dims(), 4)).sum().backward();
            [
                values(output),
                values(Tensor::<1>::from_dispatch(mean)),
                values(Tensor::<1>::from_dispatch(variance)),
                x.grad(&gradients).map(values).unwrap(),
                scale.grad(&gradients).map(values).unwrap(),
                shift.grad(&gradients).map(values).unwrap(),
            ]
        };
        let own = run(<Dispatch as Kernels>::batch_norm);
        let burn = run(reference::batch_norm::<Dispatch>);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= 1e-3, "{}", difference(own, burn));
        }
    }

    #[test]
    fn cross_entropy_agrees_with_burn(
        batch in 1usize..40,
        classes in 2usize..12,
        smoothing in prop::sample::select(vec![0.0f32, 0.1, 0.5]),
        seed in any::<u64>(),
    ) {
        let label = |index| if index % 5 == 4 { -1 } else { ((index * 7 + 3) % classes) as i32 };
        let labels: Vec<i32> = (0..batch).map(label).collect();
        let run = |operation: fn(_, _, _) -> (FloatTensor<Dispatch>, FloatTensor<Dispatch>)| {
            let logits = tensor([batch, classes], seed);
            let device = logits.device();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [batch]), &device);
            let (loss, correct) = operation(logits.clone().into_dispatch(), labels.into_dispatch(), smoothing);
            let (loss, correct) = (Tensor::<1>::from_dispatch(loss), Tensor::<1>::from_dispatch(correct));
            let gradients = (loss.clone() * 3.0).backward();
            [values(loss), values(correct), logits.grad(&gradients).map(values).unwrap()]
        };
        let own = run(<Dispatch as Kernels>::cross_entropy);
        let burn = run(reference::cross_entropy::<Dispatch>);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= 1e-5, "{}", difference(own, burn));
        }
    }

    #[test]
    fn adam_agrees_with_burn(length in 1usize..200, seed in 0u64..1000) {
        let step = AdamStep { step_size: 0.01, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, keep: 0.99 };
        let run = |operation: fn(_, _, _, _, _) -> Three| {
            let part = |seed| Tensor::<1>::from_data(TensorData::new(numbers(length, seed), [length]), &Device::flex());
            let second = part(seed + 3).abs();
            let (parameter, first, second) = operation(
                part(seed).into_dispatch(),
                part(seed + 1).into_dispatch(),
                part(seed + 2).into_dispatch(),
                second.into_dispatch(),
                step,
            );
            [parameter, first, second].map(|tensor| values(Tensor::<1>::from_dispatch(tensor)))
        };
        let own = run(<Dispatch as Kernels>::adam);
        let burn = run(reference::adam::<Dispatch>);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= 1e-5, "{}", difference(own, burn));
        }
    }

    #[test]
    fn sgd_agrees_with_burn(length in 1usize..200, seed in 0u64..1000, nesterov in any::<bool>()) {
        let step = SgdStep { learning_rate: 0.1, momentum: 0.9, nesterov, weight_decay: 0.01 };
        let run = |operation: fn(_, _, _, _) -> (FloatTensor<Dispatch>, FloatTensor<Dispatch>)| {
            let part = |seed| Tensor::<1>::from_data(TensorData::new(numbers(length, seed), [length]), &Device::flex());
            let (parameter, velocity) = operation(
                part(seed).into_dispatch(),
                part(seed + 1).into_dispatch(),
                part(seed + 2).into_dispatch(),
                step,
            );
            [parameter, velocity].map(|tensor| values(Tensor::<1>::from_dispatch(tensor)))
        };
        let own = run(<Dispatch as Kernels>::sgd);
        let burn = run(reference::sgd::<Dispatch>);
        for (own, burn) in own.iter().zip(&burn) {
            prop_assert!(difference(own, burn) <= 1e-5, "{}", difference(own, burn));
        }
    }
}

#[test]
fn orthogonalised_matrices_agree_with_burn_and_are_near_orthonormal() {
    for [rows, columns] in [[288, 32], [32, 288], [27, 64], [64, 10], [3, 3]] {
        let matrix = || {
            let values = numbers(rows * columns, 1).into_iter().map(|value| value / 100.0).collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &Device::flex()).into_dispatch()
        };
        let own = Tensor::<2>::from_dispatch(<Dispatch as Kernels>::orthogonalise(matrix()));
        let burn = Tensor::<2>::from_dispatch(reference::orthogonalise::<Dispatch>(matrix()));
        assert_eq!(own.dims(), burn.dims());
        assert!(difference(&values(own.clone()), &values(burn)) <= 1e-4);
        let gram = match rows > columns {
            true => own.clone().transpose().matmul(own),
            false => own.clone().matmul(own.transpose()),
        };
        let side = rows.min(columns);
        for (index, value) in values(gram).into_iter().enumerate() {
            // Singular values in 0.68..1.13 (the band of the coefficients), squared.
            match index / side == index % side {
                true => assert!(side == 3 || (0.46..1.3).contains(&value), "{value}"),
                false => assert!(value.abs() < 0.3, "{value}"),
            }
        }
    }
    let zeros = orthogonalise(Tensor::zeros([4, 3], &Device::flex()));
    assert!(values(zeros).iter().all(|value| *value == 0.0));
}

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
        for direction in ["forward", "backward"] {
            let name = format!("{layer} {direction}");
            assert!(taken.contains(&name), "{name} is not among {taken:?}");
        }
    }
}

#[test]
fn nan_and_ties_come_through_as_in_burn() {
    let options = ConvOptions { padding: 1, relu: true, pool: true, arithmetic: Arithmetic::default() };
    let run = |operation: Conv| {
        let mut input = vec![0.5f32; 6 * 6 * 3];
        input[40] = f32::NAN;
        let input = Tensor::<4>::from_data(TensorData::new(input, [1, 6, 6, 3]), &Device::flex());
        let weight = Tensor::<4>::ones([3, 3, 3, 8], &Device::flex());
        let bias = Tensor::<1>::zeros([8], &Device::flex());
        values(Tensor::<4>::from_dispatch(operation(
            input.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            options,
        )))
    };
    let (own, burn) = (run(<Dispatch as Kernels>::conv_block), run(reference::conv_block::<Dispatch>));
    assert!(burn.iter().any(|value| value.is_nan()));
    for (own, burn) in own.iter().zip(&burn) {
        assert!(own == burn || (own.is_nan() && burn.is_nan()), "{own} {burn}");
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
