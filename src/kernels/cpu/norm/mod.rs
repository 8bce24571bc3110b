//! Batch normalisation over the last dimension, with ReLU on request, in one pass over memory for the statistics
//! and one for the result, each way.
//!
//! Rows (batch x height x width of them) are taken in chunks that stay in a core's cache, none of which crosses the border
//! of a unit of the batch. A chunk's mean and sum of squared deviations are computed there and merged, within a unit in
//! order and then along the tree of the units (Chan, Golub, LeVeque 1983). So no sum depends on the number of threads, and
//! nothing cancels as in mean of squares minus square of mean: a chunk's sums are of distances from its first row.

pub mod statistics;
#[cfg(test)]
mod tests;

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::outputs::rectified;
use super::simd::{MOST_LANES, arch, load};
use crate::math::units::{Unit, add_up, units};

pub use statistics::{Moments, batch_moments, inverse_deviation};

/// Numbers a chunk: 64 KB, which two passes find in the second-level cache.
const CHUNK: usize = 16_384;

/// Scale and shift of a normalisation, by channel.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Factor (gamma).
    pub scale: &'a [f32],
    /// Summand (beta).
    pub shift: &'a [f32],
}

impl Affine<'_> {
    /// By channel, what a distance from the mean is multiplied with.
    fn factors(&self, inverse_deviation: &[f32]) -> Vec<f32> {
        self.scale.iter().zip(inverse_deviation).map(|(scale, inverse)| scale * inverse).collect()
    }
}

fn chunk_length(channels: usize) -> usize {
    (CHUNK / channels).max(1) * channels
}

/// The chunks of so many numbers of a batch, with their merges (see [`add_up`]).
fn chunks(numbers: usize, samples: usize, channels: usize) -> Vec<(Range<usize>, usize)> {
    assert!(numbers.is_multiple_of(samples.max(1) * channels), "{numbers} numbers of {samples} samples");
    let sample = numbers / samples.max(1);
    let length = chunk_length(channels);
    let of_unit = |Unit { samples, merges }: Unit| {
        let (start, end) = (samples.start * sample, samples.end * sample);
        (start..end).step_by(length).map(move |first| {
            let last = (first + length).min(end);
            (first..last, usize::from(first > start) + if last == end { merges } else { 0 })
        })
    };
    units(samples).into_iter().flat_map(of_unit).collect()
}

/// What a normalisation needs by channel.
#[derive(Clone, Copy)]
struct Channels<'a> {
    mean: &'a [f32],
    factor: &'a [f32],
    shift: &'a [f32],
    relu: bool,
}

impl Channels<'_> {
    /// The same, cut to one length, so that the compiler sees that every index fits and vectorises: without that
    /// the backward pass of 16384 x 128 took 15 ms in place of 0.7 (two Zen 5 cores, AVX-512).
    #[inline(always)]
    fn cut(&self) -> (usize, Self) {
        let count = self.mean.len();
        let cut = Self {
            mean: &self.mean[..count],
            factor: &self.factor[..count],
            shift: &self.shift[..count],
            relu: self.relu,
        };
        (count, cut)
    }

    #[inline(always)]
    fn normalise(&self, rows: &[f32], output: &mut [f32]) {
        let (count, channels) = self.cut();
        for (output, row) in output.chunks_exact_mut(count).zip(rows.chunks_exact(count)) {
            for channel in 0..count {
                let apart = row[channel] - channels.mean[channel];
                let value = apart * channels.factor[channel] + channels.shift[channel];
                output[channel] = if self.relu & (value <= 0.0) { 0.0 } else { value };
            }
        }
    }

    /// Distance of `value` from the mean, and the gradient in front of the ReLU.
    #[inline(always)]
    fn masked(&self, channel: usize, value: f32, gradient: f32) -> (f32, f32) {
        let apart = value - self.mean[channel];
        let zeroed = self.relu & (apart * self.factor[channel] + self.shift[channel] <= 0.0);
        (apart, if zeroed { 0.0 } else { gradient })
    }
}

/// Normalisation by given statistics of numbers that are still in registers.
pub struct Normalisation {
    /// By channel, with room behind the last for a whole vector of any instruction set.
    mean: Vec<f32>,
    factor: Vec<f32>,
    shift: Vec<f32>,
    channels: usize,
    relu: bool,
}

impl Normalisation {
    /// What [`normalise`] does with these arguments.
    pub fn new(mean: &[f32], inverse_deviation: &[f32], affine: Affine<'_>, relu: bool) -> Self {
        let channels = mean.len();
        let mut vectors = [mean.to_vec(), affine.factors(inverse_deviation), affine.shift.to_vec()];
        for numbers in &mut vectors {
            assert_eq!(numbers.len(), channels);
            numbers.resize(channels.next_multiple_of(MOST_LANES), 0.0);
        }
        let [mean, factor, shift] = vectors;
        Self { mean, factor, shift, channels, relu }
    }

    /// How many channels it is for.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Of a vector of channels from `channel` on. The steps are those of `Channels::normalise`, so the bits are its bits.
    #[inline(always)]
    pub fn apply<S: Simd>(&self, simd: S, channel: usize, value: S::f32s) -> S::f32s {
        let [mean, factor, shift] = [
            vector::<S>(&self.mean, channel),
            vector::<S>(&self.factor, channel),
            vector::<S>(&self.shift, channel),
        ];
        let apart = simd.sub_f32s(value, mean);
        let value = simd.add_f32s(simd.mul_f32s(apart, factor), shift);
        if self.relu { rectified(simd, value) } else { value }
    }
}

/// A function, since the closure of `map` on an array is not compiled for the instruction set: with it normalising took 2.8 ns
/// a number (1x1 32x32x192 -> 160, one Zen 3 core, AVX2), several times what a pass of its own takes.
#[inline(always)]
fn vector<S: Simd>(numbers: &[f32], channel: usize) -> S::f32s {
    let numbers = &numbers[channel..][..S::F32_LANES];
    // SAFETY: the slice is a vector long.
    unsafe { load::<S>(numbers.as_ptr()) }
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
    let count = mean.len();
    let factors = affine.factors(inverse_deviation);
    let (chunk, arch) = (chunk_length(count), arch());
    output.par_chunks_mut(chunk).zip(rows.par_chunks(chunk)).for_each(|(output, rows)| {
        let channels = Channels { mean, factor: &factors, shift: affine.shift, relu };
        arch.dispatch(
            #[inline(always)]
            || channels.normalise(rows, output),
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

impl AffineGradient {
    /// Of the scale, then of the shift: what [`AffineGradient::from_numbers`] reads.
    pub fn numbers(&self) -> Vec<f64> {
        self.scale.iter().chain(&self.shift).copied().map(f64::from).collect()
    }

    /// Of what [`AffineGradient::numbers`] gives.
    pub fn from_numbers(numbers: &[f64]) -> Self {
        let (scale, shift) = numbers.split_at(numbers.len() / 2);
        let [scale, shift] = [scale, shift].map(|half| half.iter().map(|&number| number as f32).collect());
        Self { scale, shift }
    }

    /// Adds those of the rows behind them.
    pub fn add(&mut self, other: Self) {
        self.scale.iter_mut().zip(other.scale).for_each(|(sum, other)| *sum += other);
        self.shift.iter_mut().zip(other.shift).for_each(|(sum, other)| *sum += other);
    }
}

/// What the backward pass needs of the forward pass. Which outputs ReLU zeroed is computed again from the input,
/// which costs less than reading the output.
#[derive(Clone, Copy, Debug)]
pub struct Normalised<'a> {
    /// The input.
    pub rows: &'a [f32],
    /// The samples whose rows these are.
    pub samples: usize,
    /// The batch's mean.
    pub mean: &'a [f32],
    /// Of the batch.
    pub inverse_deviation: &'a [f32],
    /// As in the forward pass.
    pub affine: Affine<'a>,
    /// As in the forward pass.
    pub relu: bool,
}

impl<'a> Normalised<'a> {
    #[inline(always)]
    fn channels(&self, factors: &'a [f32]) -> (usize, Channels<'a>) {
        let channels =
            Channels { mean: self.mean, factor: factors, shift: self.affine.shift, relu: self.relu };
        channels.cut()
    }

    fn factors(&self) -> Vec<f32> {
        self.affine.factors(self.inverse_deviation)
    }
}

/// Gradients of scale and shift, from the gradient of the output.
pub fn affine_gradient(forward: Normalised<'_>, gradient: &[f32]) -> AffineGradient {
    let count = forward.mean.len();
    let (factors, arch) = (forward.factors(), arch());
    let none = || AffineGradient { scale: vec![0.0; count], shift: vec![0.0; count] };
    let parts: Vec<(AffineGradient, usize)> = chunks(gradient.len(), forward.samples, count)
        .into_par_iter()
        .map(|(chunk, merges)| {
            let mut sums = none();
            arch.dispatch(
                #[inline(always)]
                || {
                    add_affine_gradient(
                        forward,
                        &factors,
                        &forward.rows[chunk.clone()],
                        &gradient[chunk],
                        &mut sums,
                    )
                },
            );
            // Here, so that the gradients of shares of a batch add up to that of the whole.
            sums.scale.iter_mut().zip(forward.inverse_deviation).for_each(|(sum, inverse)| *sum *= inverse);
            (sums, merges)
        })
        .collect();
    add_up(parts, AffineGradient::add).pop().map_or_else(none, |(total, _)| total)
}

#[inline(always)]
fn add_affine_gradient<'a>(
    forward: Normalised<'a>,
    factors: &'a [f32],
    rows: &[f32],
    gradient: &[f32],
    sums: &mut AffineGradient,
) {
    let (count, channels) = forward.channels(factors);
    let (scale, shift) = (&mut sums.scale[..count], &mut sums.shift[..count]);
    for (gradient, row) in gradient.chunks_exact(count).zip(rows.chunks_exact(count)) {
        for channel in 0..count {
            let (apart, masked) = channels.masked(channel, row[channel], gradient[channel]);
            shift[channel] += masked;
            scale[channel] += masked * apart;
        }
    }
}

/// Turns the gradient of the output into that of the input, in place; `total` is that of a whole batch of so many samples,
/// of which these rows may be a share.
pub fn input_gradient(forward: Normalised<'_>, total: &AffineGradient, samples: usize, gradient: &mut [f32]) {
    let count = forward.mean.len();
    let rows = (gradient.len() / count / forward.samples.max(1) * samples) as f32;
    let factors = forward.factors();
    let mean_gradient: Vec<f32> = total.shift.iter().map(|sum| sum / rows).collect();
    let pairs = total.scale.iter().zip(forward.inverse_deviation);
    let slopes: Vec<f32> = pairs.map(|(sum, inverse)| sum * inverse / rows).collect();
    let (chunk, arch) = (chunk_length(count), arch());
    gradient.par_chunks_mut(chunk).zip(forward.rows.par_chunks(chunk)).for_each(|(gradient, rows)| {
        arch.dispatch(
            #[inline(always)]
            || to_input_gradient(forward, &factors, &mean_gradient, &slopes, rows, gradient),
        );
    });
}

#[inline(always)]
fn to_input_gradient<'a>(
    forward: Normalised<'a>,
    factors: &'a [f32],
    mean_gradient: &[f32],
    slopes: &[f32],
    rows: &[f32],
    gradient: &mut [f32],
) {
    let (count, channels) = forward.channels(factors);
    let (mean_gradient, slopes) = (&mean_gradient[..count], &slopes[..count]);
    for (gradient, row) in gradient.chunks_exact_mut(count).zip(rows.chunks_exact(count)) {
        for channel in 0..count {
            let (apart, masked) = channels.masked(channel, row[channel], gradient[channel]);
            let rest = masked - mean_gradient[channel] - apart * slopes[channel];
            gradient[channel] = rest * channels.factor[channel];
        }
    }
}
