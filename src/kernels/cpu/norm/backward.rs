//! The backward pass: the gradients of scale and shift are sums over the batch, that of the input is made of them.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::{NARROW, WIDE, at, blocks};
use super::{Affine, Channels, Normalisation, chunk_length, sum_of_chunks};
use crate::kernels::cpu::simd::arch;

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

    /// Writes those of `N` channels over some rows, whose sums stay in registers; those of the scale are still to be multiplied
    /// with the inverse deviation.
    #[inline(always)]
    fn write_block<const N: usize>(
        &mut self,
        channels: &Channels,
        first: usize,
        rows: &[f32],
        gradient: &[f32],
    ) {
        let count = channels.mean.len();
        let [mean, factor, offset] =
            [channels.mean, channels.factor, channels.shift].map(|row| at::<N>(row, first));
        let block = Channels { mean: &mean, factor: &factor, shift: &offset, relu: channels.relu };
        let [mut scale, mut shift] = [[0.0; N]; 2];
        for (gradient, row) in gradient.chunks_exact(count).zip(rows.chunks_exact(count)) {
            let [gradient, row] = [gradient, row].map(|row| at::<N>(row, first));
            for channel in 0..N {
                let (apart, masked) = block.masked(channel, row[channel], gradient[channel]);
                shift[channel] += masked;
                scale[channel] += masked * apart;
            }
        }
        self.scale[first..][..N].copy_from_slice(&scale);
        self.shift[first..][..N].copy_from_slice(&shift);
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

    /// The forward pass.
    pub fn normalisation(&self) -> Normalisation {
        Normalisation::new(self.mean, self.inverse_deviation, self.affine, self.relu)
    }
}

/// Gradients of scale and shift, from the gradient of the output.
pub fn affine_gradient(forward: Normalised<'_>, gradient: &[f32]) -> AffineGradient {
    let (sums, arch) = (AffineSums::new(forward), arch());
    let part = |chunk: Range<usize>| {
        arch.run(
            #[inline(always)]
            || sums.of_chunk(&forward.rows[chunk.clone()], &gradient[chunk.clone()]),
        )
    };
    let sizes = [gradient.len(), forward.samples, forward.mean.len()];
    sum_of_chunks(sizes, part, AffineGradient::add).unwrap_or_else(|| sums.of_chunk(&[], &[]))
}

/// Makes the gradients of scale and shift chunk by chunk; within a unit of the batch, those of the chunks are added in order.
pub struct AffineSums<'a> {
    forward: Normalised<'a>,
    factors: Vec<f32>,
}

impl<'a> AffineSums<'a> {
    pub fn new(forward: Normalised<'a>) -> Self {
        Self { forward, factors: forward.factors() }
    }

    /// Rows of a chunk; of the last of a unit, fewer.
    pub fn rows(&self) -> usize {
        let count = self.forward.mean.len();
        chunk_length(count) / count
    }

    /// Those of a chunk.
    #[inline(always)]
    pub fn of_chunk(&self, rows: &[f32], gradient: &[f32]) -> AffineGradient {
        let (count, channels) = self.forward.channels(&self.factors);
        let mut sums = AffineGradient { scale: vec![0.0; count], shift: vec![0.0; count] };
        for (block, width) in blocks(count) {
            match width {
                WIDE => sums.write_block::<WIDE>(&channels, block, rows, gradient),
                NARROW => sums.write_block::<NARROW>(&channels, block, rows, gradient),
                _ => sums.write_block::<1>(&channels, block, rows, gradient),
            }
        }
        // Here, so that the gradients of shares of a batch add up to that of the whole.
        sums.scale.iter_mut().zip(self.forward.inverse_deviation).for_each(|(sum, inverse)| *sum *= inverse);
        sums
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
        arch.run(
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
