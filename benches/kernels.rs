//! Each operation with the kernels and with burn's own, forward and backward: `cargo bench --bench kernels`.
#![allow(clippy::disallowed_methods, reason = "sums stand for a loss")]

use std::time::Duration;

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rotnet::kernels::{self, AdamStep, Arithmetic, ConvOptions, DenseOptions, NormOptions};

/// Images of a step.
const BATCH: usize = 32;

/// Side, channels in, channels out, padding, ReLU, pooling: the layers of `keras` and of `compact`.
const LAYERS: [(usize, usize, usize, usize, bool, bool); 6] = [
    (32, 3, 32, 0, true, true),
    (15, 32, 64, 0, true, true),
    (6, 64, 64, 0, true, false),
    (16, 32, 64, 1, false, true),
    (8, 64, 128, 1, false, false),
    (8, 128, 128, 1, false, true),
];

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product::<usize>() as u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff()).require_grad()
}

/// Runs `work` once with the kernels and once with burn's operations.
fn both(criterion: &mut Criterion, name: &str, mut work: impl FnMut()) {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for (who, burn) in [("rotnet", false), ("burn", true)] {
        kernels::use_burn_operations(burn);
        group.bench_function(BenchmarkId::from_parameter(who), |bencher| bencher.iter(&mut work));
    }
    kernels::use_burn_operations(false);
    group.finish();
}

fn convolutions(criterion: &mut Criterion) {
    for (side, inputs, outputs, padding, relu, pool) in LAYERS {
        let options = ConvOptions { padding, relu, pool, arithmetic: Arithmetic::default() };
        let input = random([BATCH, side, side, inputs]);
        let (weight, bias) = (random([3, 3, inputs, outputs]), random([outputs]));
        let forward = || kernels::conv_block(input.clone(), weight.clone(), bias.clone(), options);
        let name = format!("conv 3x3 {side}x{side}x{inputs} to {outputs}");
        both(criterion, &format!("{name} forward"), || drop(forward()));
        both(criterion, &format!("{name} forward and backward"), || drop(forward().sum().backward()));
    }
}

fn the_rest(criterion: &mut Criterion) {
    let (rows, scale, shift) = (random([BATCH * 256, 64]), random([64]), random([64]));
    let options = NormOptions { epsilon: 1e-5, relu: true, share: None };
    both(criterion, "batch norm 8192 x 64 forward and backward", || {
        let (output, ..) =
            kernels::batch_norm(rows.clone(), BATCH, scale.clone(), shift.clone(), options.clone());
        drop(output.sum().backward());
    });

    let (input, weight, bias) = (random([BATCH, 1024]), random([1024, 64]), random([64]));
    let options = DenseOptions { relu: true, arithmetic: Arithmetic::default() };
    both(criterion, "dense 1024 to 64 forward and backward", || {
        drop(kernels::dense_block(input.clone(), weight.clone(), bias.clone(), options).sum().backward());
    });

    let logits = random([BATCH, 4]);
    let labels: Vec<i32> = (0..BATCH as i32).map(|index| index % 4).collect();
    let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [BATCH]), &logits.device());
    both(criterion, "cross-entropy forward and backward", || {
        drop(kernels::cross_entropy(logits.clone(), labels.clone(), 0.0).0.backward());
    });

    let step = AdamStep { step_size: 1e-3, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, keep: 1.0 };
    let parts = [(); 4].map(|()| random([130_000]).inner().abs());
    both(criterion, "adam 130000 parameters", || {
        let [parameter, gradient, first, second] = parts.clone();
        drop(kernels::adam(parameter, gradient, first, second, step));
    });
}

criterion_group!(benches, convolutions, the_rest);
criterion_main!(benches);
