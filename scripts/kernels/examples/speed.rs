//! GFLOP/s of layers in each precision, one thread: `cargo run --release --example speed [part of a layer's name]`.
//!
//! Rounds interleave the precisions, and the fastest of each counts, so that other work on the machine matters little.
//! Products are counted as a dense pass makes them, also where a walk over non-zeros makes fewer.

use std::time::Instant;

use rotnet_kernels::kernels::cpu::{
    ConvShape, InputGradient, LinearGradients, LinearShape, Saved, WeightGradient, conv_backward, conv_forward,
    linear_backward, linear_forward,
};
use rotnet_kernels::kernels::{Arithmetic, Convolution, Precision};

const ROUNDS: usize = 12;

/// Name, `[batch, side, in, out, kernel]`, pool, ReLU.
const LAYERS: [(&str, [usize; 5], bool, bool); 17] = [
    ("1x1 32x32x192 -> 160", [8, 32, 192, 160, 1], false, false),
    ("1x1 32x32x160 -> 96", [8, 32, 160, 96, 1], false, false),
    ("1x1 16x16x192 -> 192", [16, 16, 192, 192, 1], false, false),
    ("1x1 8x8x192 -> 192", [64, 8, 192, 192, 1], false, false),
    ("5x5 16x16x96 -> 192", [8, 16, 96, 192, 5], false, false),
    ("5x5 32x32x3 -> 192", [8, 32, 3, 192, 5], false, false),
    ("3x3 8x8x192 -> 192", [16, 8, 192, 192, 3], false, false),
    ("3x3 8x8x128 -> 128", [32, 8, 128, 128, 3], false, false),
    ("3x3 8x8x128 -> 128 relu", [32, 8, 128, 128, 3], false, true),
    ("3x3 8x8x128 -> 128 relu pool", [32, 8, 128, 128, 3], true, true),
    ("3x3 16x16x32 -> 64", [32, 16, 32, 64, 3], false, false),
    ("3x3 16x16x32 -> 64 relu pool", [32, 16, 32, 64, 3], true, true),
    ("3x3 15x15x32 -> 64 relu pool", [32, 15, 32, 64, 3], true, true),
    ("3x3 6x6x64 -> 64 relu", [32, 6, 64, 64, 3], false, true),
    ("3x3 32x32x3 -> 32 relu pool", [32, 32, 3, 32, 3], true, true),
    ("3x3 32x32x3 -> 64", [32, 32, 3, 64, 3], false, false),
    ("1x1 16x16x64 -> 64 relu", [32, 16, 64, 64, 1], false, true),
];

/// Inputs, outputs, batch.
const DENSE: [[usize; 3]; 3] = [[1024, 64, 128], [1024, 10, 256], [2048, 512, 128]];

/// Near -1 to 1.
fn numbers(len: usize) -> Vec<f32> {
    (0..len as u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
        .collect()
}

fn arithmetic(precision: Precision) -> Arithmetic {
    Arithmetic { convolution: Convolution::Direct, precision }
}

/// The fastest of both precisions in interleaved rounds, as GFLOP/s.
fn measure(flops: f64, mut work: impl FnMut(Precision)) -> [f64; 2] {
    let mut best = [f64::MAX; 2];
    for _ in 0..ROUNDS {
        for (best, precision) in best.iter_mut().zip([Precision::F32, Precision::Bf16]) {
            let start = Instant::now();
            work(precision);
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best.map(|seconds| flops / seconds / 1e9)
}

fn report(name: &str, directions: [[f64; 2]; 3]) {
    let cells = directions.map(|[f32, bf16]| format!("{f32:6.0} {bf16:6.0} {:5.2}", bf16 / f32));
    println!("{name:30} | {}", cells.join(" | "));
}

fn convolution(name: &str, [batch, side, in_channels, out_channels, kernel]: [usize; 5], pool: bool, relu: bool) {
    let padding = if side == 15 || side == 6 { 0 } else { kernel / 2 };
    let shape =
        ConvShape { batch, height: side, width: side, in_channels, out_channels, kernel, padding, pool, relu };
    let flops = 2.0 * (batch * shape.conv_height() * shape.conv_width() * shape.weight_len()) as f64;
    let (x, weight, bias) = (numbers(batch * shape.input_len()), numbers(shape.weight_len()), numbers(out_channels));
    let (mut y, dy) = (vec![0.0; batch * shape.output_len()], numbers(batch * shape.output_len()));
    let mut argmax = vec![0; if pool { y.len() } else { 0 }];
    let forward = measure(flops, |precision| {
        let places = pool.then_some(&mut argmax[..]);
        conv_forward(&shape, arithmetic(precision), &x, &weight, Some(&bias), &mut y, places);
    });
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; out_channels]);
    let saved = Saved { y: &y, argmax: &argmax, dy: &dy };
    let input = measure(flops, |precision| {
        let wanted = InputGradient { weight: &weight, dx: &mut dx };
        conv_backward(&shape, arithmetic(precision), saved, None, Some(wanted));
    });
    let weights = measure(flops, |precision| {
        let wanted = WeightGradient { x: x[..].into(), dweight: &mut dweight, dbias: Some(&mut dbias) };
        conv_backward(&shape, arithmetic(precision), saved, Some(wanted), None);
    });
    report(name, [forward, input, weights]);
}

fn dense([inputs, outputs, batch]: [usize; 3]) {
    let shape = LinearShape { batch, inputs, outputs, relu: true };
    let flops = 2.0 * (batch * inputs * outputs) as f64;
    let (x, weight, bias) = (numbers(batch * inputs), numbers(inputs * outputs), numbers(outputs));
    let (mut y, dy) = (vec![0.0; batch * outputs], numbers(batch * outputs));
    let forward =
        measure(flops, |precision| linear_forward(&shape, precision, &x, &weight, Some(&bias), &mut y));
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; outputs]);
    let both = measure(2.0 * flops, |precision| {
        let wanted = LinearGradients { dweight: &mut dweight, dbias: Some(&mut dbias), dx: Some(&mut dx) };
        linear_backward(&shape, precision, &x, &weight, &y, &dy, wanted);
    });
    report(&format!("dense {inputs} -> {outputs}, batch {batch}"), [forward, both, [f64::NAN; 2]]);
}

fn main() {
    let part = std::env::args().nth(1).unwrap_or_default();
    println!("GFLOP/s: f32, bf16, ratio      | forward              | input gradient       | weight gradient");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    pool.install(|| {
        for (name, shape, pool, relu) in LAYERS.into_iter().filter(|(name, ..)| name.contains(&part)) {
            convolution(name, shape, pool, relu);
        }
        DENSE.into_iter().filter(|_| "dense".contains(&part)).for_each(dense);
    });
}
