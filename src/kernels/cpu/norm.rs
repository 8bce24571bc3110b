//! Batch normalisation over the last dimension, with ReLU on request, in one pass over memory for the statistics
//! and one for the result, each way.
//!
//! Rows (batch x height x width of them) are taken in chunks that stay in a core's cache. A chunk's mean and sum
//! of squared deviations are computed there and merged in the order of the chunks (Chan, Golub, LeVeque 1983), so
//! no sum depends on the number of threads, and nothing cancels as in mean of squares minus square of mean: a chunk's
//! sums are of distances from its first row.

use rayon::prelude::*;

use super::simd::arch;

/// Numbers a chunk: 64 KB, which two passes find in the second-level cache.
const CHUNK: usize = 16_384;

/// Statistics of a batch, by channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchStatistics {
    /// Mean.
    pub mean: Vec<f32>,
    /// Mean squared deviation (divided by the number of rows, not by one less).
    pub variance: Vec<f32>,
}

/// Scale and shift of a normalisation, by channel.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Factor (gamma).
    pub scale: &'a [f32],
    /// Summand (beta).
    pub shift: &'a [f32],
}

fn chunk_length(channels: usize) -> usize {
    (CHUNK / channels).max(1) * channels
}

/// Mean and variance of `rows` by channel.
pub fn batch_statistics(rows: &[f32], channels: usize) -> BatchStatistics {
    let parts: Vec<(f64, Vec<f32>, Vec<f32>)> = rows
        .par_chunks(chunk_length(channels))
        .map(|rows| {
            let count = (rows.len() / channels) as f32;
            let mut mean = vec![0.0; channels];
            let mut squares = vec![0.0; channels];
            arch().dispatch(
                #[inline(always)]
                || {
                    let first = &rows[..channels];
                    for row in rows.chunks_exact(channels) {
                        for ((sum, value), first) in mean.iter_mut().zip(row).zip(first) {
                            *sum += value - first;
                        }
                    }
                    for (mean, first) in mean.iter_mut().zip(first) {
                        *mean = first + *mean / count;
                    }
                    for row in rows.chunks_exact(channels) {
                        for ((sum, value), mean) in squares.iter_mut().zip(row).zip(&mean) {
                            *sum += (value - mean) * (value - mean);
                        }
                    }
                },
            );
            (f64::from(count), mean, squares)
        })
        .collect();
    merge(&parts, channels)
}

#[inline(always)]
fn add_rows(rows: &[f32], sums: &mut [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

fn merge(parts: &[(f64, Vec<f32>, Vec<f32>)], channels: usize) -> BatchStatistics {
    let mut total = 0.0;
    let mut mean = vec![0f64; channels];
    let mut squares = vec![0f64; channels];
    for (count, part_mean, part_squares) in parts {
        let share = count / (total + count);
        for channel in 0..channels {
            let apart = f64::from(part_mean[channel]) - mean[channel];
            mean[channel] += apart * share;
            squares[channel] += f64::from(part_squares[channel]) + apart * apart * total * share;
        }
        total += count;
    }
    BatchStatistics {
        mean: mean.into_iter().map(|mean| mean as f32).collect(),
        variance: squares
            .into_iter()
            .map(|sum| (sum / total) as f32)
            .collect(),
    }
}

/// `1 / sqrt(variance + epsilon)`.
pub fn inverse_deviation(variance: &[f32], epsilon: f32) -> Vec<f32> {
    variance
        .iter()
        .map(|variance| 1.0 / (variance + epsilon).sqrt())
        .collect()
}

/// `output = (rows - mean) * inverse_deviation * scale + shift`, then ReLU on request.
pub fn normalise(
    rows: &[f32],
    mean: &[f32],
    inverse_deviation: &[f32],
    affine: Affine<'_>,
    relu: bool,
    output: &mut [f32],
) {
    let channels = mean.len();
    let factors: Vec<f32> = affine
        .scale
        .iter()
        .zip(inverse_deviation)
        .map(|(a, b)| a * b)
        .collect();
    let chunk = chunk_length(channels);
    output
        .par_chunks_mut(chunk)
        .zip(rows.par_chunks(chunk))
        .for_each(|(output, rows)| {
            arch().dispatch(
                #[inline(always)]
                || {
                    let pairs = output
                        .chunks_exact_mut(channels)
                        .zip(rows.chunks_exact(channels));
                    for (output, row) in pairs {
                        for channel in 0..channels {
                            let value = (row[channel] - mean[channel]) * factors[channel]
                                + affine.shift[channel];
                            output[channel] = if relu && value <= 0.0 { 0.0 } else { value };
                        }
                    }
                },
            );
        });
}

/// Gradients of scale and shift by channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AffineGradient {
    /// Of the factor.
    pub scale: Vec<f32>,
    /// Of the summand.
    pub shift: Vec<f32>,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Normalised<'a> {
    /// The input.
    pub rows: &'a [f32],
    /// The output, where ReLU masks the gradient.
    pub output: Option<&'a [f32]>,
    /// The batch's mean.
    pub mean: &'a [f32],
    /// Of the batch.
    pub inverse_deviation: &'a [f32],
}

/// Gradients of scale and shift; zeroes the masked part of `gradient` on the way.
pub fn affine_gradient(forward: Normalised<'_>, gradient: &mut [f32]) -> AffineGradient {
    let channels = forward.mean.len();
    let chunk = chunk_length(channels);
    let parts: Vec<AffineGradient> = gradient
        .par_chunks_mut(chunk)
        .zip(forward.rows.par_chunks(chunk))
        .enumerate()
        .map(|(index, (gradient, rows))| {
            let mut scale = vec![0.0; channels];
            let mut shift = vec![0.0; channels];
            let output = forward
                .output
                .map(|output| &output[index * chunk..][..gradient.len()]);
            arch().dispatch(
                #[inline(always)]
                || {
                    if let Some(output) = output {
                        for (gradient, output) in gradient.iter_mut().zip(output) {
                            *gradient = if *output <= 0.0 { 0.0 } else { *gradient };
                        }
                    }
                    let pairs = gradient
                        .chunks_exact(channels)
                        .zip(rows.chunks_exact(channels));
                    for (gradient, row) in pairs {
                        for channel in 0..channels {
                            shift[channel] += gradient[channel];
                            scale[channel] +=
                                gradient[channel] * (row[channel] - forward.mean[channel]);
                        }
                    }
                },
            );
            AffineGradient { scale, shift }
        })
        .collect();
    let mut total = AffineGradient {
        scale: vec![0.0; channels],
        shift: vec![0.0; channels],
    };
    for part in &parts {
        add_rows(&part.scale, &mut total.scale);
        add_rows(&part.shift, &mut total.shift);
    }
    for (sum, inverse) in total.scale.iter_mut().zip(forward.inverse_deviation) {
        *sum *= inverse;
    }
    total
}

/// Turns the masked gradient of the output into that of the input, in place.
pub fn input_gradient(
    forward: Normalised<'_>,
    affine: &AffineGradient,
    scale: &[f32],
    gradient: &mut [f32],
) {
    let channels = forward.mean.len();
    let count = (gradient.len() / channels) as f32;
    let factors: Vec<f32> = scale
        .iter()
        .zip(forward.inverse_deviation)
        .map(|(a, b)| a * b)
        .collect();
    let mean_gradient: Vec<f32> = affine.shift.iter().map(|sum| sum / count).collect();
    let slopes: Vec<f32> = affine
        .scale
        .iter()
        .zip(forward.inverse_deviation)
        .map(|(sum, inverse)| sum * inverse / count)
        .collect();
    let chunk = chunk_length(channels);
    gradient
        .par_chunks_mut(chunk)
        .zip(forward.rows.par_chunks(chunk))
        .for_each(|(gradient, rows)| {
            arch().dispatch(
                #[inline(always)]
                || {
                    let pairs = gradient
                        .chunks_exact_mut(channels)
                        .zip(rows.chunks_exact(channels));
                    for (gradient, row) in pairs {
                        for channel in 0..channels {
                            let along = (row[channel] - forward.mean[channel]) * slopes[channel];
                            gradient[channel] =
                                (gradient[channel] - mean_gradient[channel] - along)
                                    * factors[channel];
                        }
                    }
                },
            );
        });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_do_not_cancel_far_from_zero_and_span_chunks() {
        let channels = 3;
        let rows: Vec<f32> = (0..channels * 20_000)
            .map(|index| 10_000.0 + (index / channels % 2) as f32)
            .collect();
        let statistics = batch_statistics(&rows, channels);
        for channel in 0..channels {
            assert!((statistics.mean[channel] - 10_000.5).abs() < 0.1);
            assert!((statistics.variance[channel] - 0.25).abs() < 1e-2);
        }
    }

    #[test]
    fn threads_leave_every_bit() {
        let rows: Vec<f32> = (0..64 * 5_000u32)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 * 1e-6)
            .collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| batch_statistics(&rows, 64))
        };
        assert_eq!(run(1), run(3));
    }
}
