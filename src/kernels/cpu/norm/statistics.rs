//! Mean and variance of a batch, from the moments of its chunks.

use std::ops::Range;

use super::blocks::{NARROW, WIDE, at, blocks};
use super::sum_of_chunks;
use crate::kernels::cpu::simd::arch;

/// Statistics of a batch, by channel.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchStatistics {
    /// Mean.
    pub mean: Vec<f32>,
    /// Mean squared deviation (divided by the number of rows, not by one less).
    pub variance: Vec<f32>,
}

/// The moments of the `rows` of so many samples: of a batch, or of a share of one.
pub fn batch_moments(rows: &[f32], samples: usize, channels: usize) -> Moments {
    let arch = arch();
    let part = |chunk: Range<usize>| {
        arch.run(
            #[inline(always)]
            || Moments::of_chunk(&rows[chunk.clone()], channels),
        )
    };
    let merge = |total: &mut Moments, part: Moments| {
        arch.run(
            #[inline(always)]
            || total.merge(&part),
        )
    };
    sum_of_chunks([rows.len(), samples, channels], part, merge).unwrap_or_default()
}

/// Of some rows: their number, and by channel their mean and the sum of squared deviations from it.
#[derive(Debug, Default)]
pub struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    #[inline(always)]
    fn of_chunk(rows: &[f32], channels: usize) -> Self {
        let count = (rows.len() / channels) as f64;
        let mut moments = Self { count, mean: vec![0.0; channels], squares: vec![0.0; channels] };
        for (block, width) in blocks(channels) {
            match width {
                WIDE => moments.write_block::<WIDE>(rows, block),
                NARROW => moments.write_block::<NARROW>(rows, block),
                _ => moments.write_block::<1>(rows, block),
            }
        }
        moments
    }

    /// Of `N` channels: in 32 bits the sum of distances from the first row, which gives the mean, and the sum of squared
    /// deviations from that. Then without the rounding of the mean: far from zero it would be too coarse to tell how far chunks
    /// are apart.
    #[inline(always)]
    fn write_block<const N: usize>(&mut self, rows: &[f32], block: usize) {
        let channels = self.mean.len();
        let first: [f32; N] = at(rows, block);
        let mut sums = [0.0; N];
        for row in rows.chunks_exact(channels) {
            let row: [f32; N] = at(row, block);
            for channel in 0..N {
                sums[channel] += row[channel] - first[channel];
            }
        }
        let mut rounded = [0.0; N];
        for channel in 0..N {
            rounded[channel] = first[channel] + sums[channel] / self.count as f32;
        }
        let mut squares = [0.0; N];
        for row in rows.chunks_exact(channels) {
            let row: [f32; N] = at(row, block);
            for channel in 0..N {
                squares[channel] += (row[channel] - rounded[channel]) * (row[channel] - rounded[channel]);
            }
        }
        let (mean, target) = (&mut self.mean[block..][..N], &mut self.squares[block..][..N]);
        for channel in 0..N {
            mean[channel] = f64::from(first[channel]) + f64::from(sums[channel]) / self.count;
            let shift = mean[channel] - f64::from(rounded[channel]);
            let left = f64::from(squares[channel]) - self.count * shift * shift;
            target[channel] = if left < 0.0 { 0.0 } else { left };
        }
    }

    /// Number, means, squares: what [`Moments::from_numbers`] reads.
    pub fn numbers(&self) -> Vec<f64> {
        [self.count].iter().chain(&self.mean).chain(&self.squares).copied().collect()
    }

    /// Of what [`Moments::numbers`] gives.
    pub fn from_numbers(numbers: &[f64]) -> Self {
        let (mean, squares) = numbers[1..].split_at(numbers.len() / 2);
        Self { count: numbers[0], mean: mean.to_vec(), squares: squares.to_vec() }
    }

    /// Mean and variance.
    pub fn statistics(&self) -> BatchStatistics {
        BatchStatistics {
            mean: self.mean.iter().map(|&mean| mean as f32).collect(),
            variance: self.squares.iter().map(|sum| (sum / self.count) as f32).collect(),
        }
    }

    /// Adds those of the rows behind them.
    #[inline(always)]
    pub fn merge(&mut self, other: &Self) {
        let share = other.count / (self.count + other.count);
        let weight = |apart: f64| apart * apart * self.count * share;
        let mine = self.mean.iter_mut().zip(&mut self.squares);
        for ((mean, squares), (other, others)) in mine.zip(other.mean.iter().zip(&other.squares)) {
            let apart = other - *mean;
            *mean += apart * share;
            *squares += others + weight(apart);
        }
        self.count += other.count;
    }
}

/// `1 / sqrt(variance + epsilon)`.
pub fn inverse_deviation(variance: &[f32], epsilon: f32) -> Vec<f32> {
    variance.iter().map(|variance| 1.0 / (variance + epsilon).sqrt()).collect()
}
