use super::super::check::{Random, bits, in_pools};
use super::super::simd::{arches, with_arch};
use super::statistics::BatchStatistics;
use super::*;
use crate::math::units::shares;

/// Mean and variance in double precision.
fn expected(rows: &[f32], channels: usize) -> Vec<(f64, f64)> {
    let column = |channel: usize| rows.iter().skip(channel).step_by(channels).map(|&x| f64::from(x));
    let count = (rows.len() / channels) as f64;
    (0..channels)
        .map(|channel| {
            let mean = column(channel).sum::<f64>() / count;
            (mean, column(channel).map(|x| (x - mean) * (x - mean)).sum::<f64>() / count)
        })
        .collect()
}

/// Numbers of spread 1 around a mean that differs by channel and drifts from sample to sample.
fn shifted([samples, places, channels]: [usize; 3], mean: f32, drift: f32) -> Vec<f32> {
    let mut random = Random::new(20);
    let mut rows = random.floats(samples * places * channels);
    for (index, value) in rows.iter_mut().enumerate() {
        *value += mean * (1 + index % channels) as f32 + drift * (index / (places * channels)) as f32;
    }
    rows
}

#[test]
fn statistics_do_not_cancel_far_from_zero() {
    for (shape, mean, drift) in [
        ([37, 100, 3], 0.0, 0.0),
        ([64, 400, 3], 1e4, 0.0),
        ([20, 1, 5], 1e5, 0.0),
        ([77, 30, 40], 1e3, 0.5),
        ([3, 5000, 6], -1e4, 10.0),
    ] {
        let [samples, _, channels] = shape;
        let rows = shifted(shape, mean, drift);
        let found = batch_moments(&rows, samples, channels).statistics();
        for (channel, (mean, variance)) in expected(&rows, channels).into_iter().enumerate() {
            let off = (f64::from(found.mean[channel]) - mean).abs();
            assert!(off <= 1e-6 * mean.abs().max(1.0), "mean off by {off}, {shape:?}");
            let off = (f64::from(found.variance[channel]) - variance).abs();
            assert!(off <= 1e-5 * variance, "variance {variance} off by {off}, {shape:?}");
        }
    }
}

/// All sums of both passes: mean, variance, gradients of scale and shift, of the input.
fn run(rows: &[f32], samples: usize, channels: usize) -> [Vec<f32>; 5] {
    let BatchStatistics { mean, variance } = batch_moments(rows, samples, channels).statistics();
    let inverse_deviation = inverse_deviation(&variance, 1e-5);
    let [scale, shift] = [vec![1.5; channels], vec![0.1; channels]];
    let affine = Affine { scale: &scale, shift: &shift };
    let forward =
        Normalised { rows, samples, mean: &mean, inverse_deviation: &inverse_deviation, affine, relu: true };
    let mut gradient = Random::new(21).floats(rows.len());
    let total = affine_gradient(forward, &gradient);
    input_gradient(forward, &total, samples, &mut gradient);
    [mean, variance, total.scale, total.shift, gradient]
}

#[test]
fn threads_and_vector_width_leave_every_bit() {
    for shape in [[37, 100, 24], [64, 64, 64], [5, 1, 7]] {
        let rows = shifted(shape, 2.0, 0.1);
        let mut results = Vec::new();
        for (_, arch) in arches() {
            let work = || with_arch(arch, || run(&rows, shape[0], shape[2]).map(|values| bits(&values)));
            results.extend(in_pools(work));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{shape:?}");
    }
}

/// Each share of a batch arrives by itself at its part of the sums.
#[test]
fn shares_add_up_to_the_whole() {
    let [samples, places, channels] = [77, 200, 24];
    let rows = shifted([samples, places, channels], 2.0, 0.1);
    let ends = |samples: usize, before: usize| {
        let chunks = move |unit: Unit| {
            let [first, last] =
                [unit.samples.start, unit.samples.end].map(|at| (before + at) * places * channels);
            chunks(first..last, channels)
        };
        units(samples).into_iter().flat_map(chunks).map(|chunk| chunk.end)
    };
    let gradient = Random::new(22).floats(rows.len());
    let [mean, inverse, scale, shift] = [0.3, 0.7, 1.5, 0.1].map(|number| vec![number; channels]);
    let sums = |range: Range<usize>, samples| {
        let affine = Affine { scale: &scale, shift: &shift };
        let rows = &rows[range.clone()];
        let forward =
            Normalised { rows, samples, mean: &mean, inverse_deviation: &inverse, affine, relu: true };
        affine_gradient(forward, &gradient[range])
    };
    for count in 2..=8 {
        let shares = shares(samples, count);
        let range =
            |unit: &Unit| unit.samples.start * places * channels..unit.samples.end * places * channels;
        // The same chunks, and so the same statistics.
        let of_shares = shares.iter().flat_map(|unit| ends(unit.samples.len(), unit.samples.start));
        assert!(of_shares.eq(ends(samples, 0)), "{count}");
        let parts = shares.iter().map(|unit| (sums(range(unit), unit.samples.len()), unit.merges));
        let total = add_up(parts, AffineGradient::add);
        assert!(total[0].0 == sums(0..rows.len(), samples), "{count}");
    }
}
