//! Mean and variance of a batch, from the moments of its chunks.

use rayon::prelude::*;

use super::chunks;
use crate::kernels::cpu::simd::arch;
use crate::math::units::add_up;

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
    let parts: Vec<(Moments, usize)> = chunks(rows.len(), samples, channels)
        .into_par_iter()
        .map(|(chunk, merges)| {
            let rows = &rows[chunk];
            let mut sums = [(); 3].map(|()| vec![0.0; channels]);
            arch.dispatch(
                #[inline(always)]
                || write_moments(rows, &mut sums),
            );
            (Moments::new(rows, &sums), merges)
        })
        .collect();
    add_up(parts, Moments::merge).pop().map(|(total, _)| total).unwrap_or_default()
}

/// By channel, the sum of distances from the first row, the mean, and the sum of squared deviations from that.
#[inline(always)]
fn write_moments(rows: &[f32], [sums, mean, squares]: &mut [Vec<f32>; 3]) {
    let channels = mean.len();
    let count = (rows.len() / channels) as f32;
    let first = &rows[..channels];
    for row in rows.chunks_exact(channels) {
        for ((sum, value), first) in sums.iter_mut().zip(row).zip(first) {
            *sum += value - first;
        }
    }
    for ((mean, sum), first) in mean.iter_mut().zip(&*sums).zip(first) {
        *mean = first + *sum / count;
    }
    for row in rows.chunks_exact(channels) {
        for ((sum, value), mean) in squares.iter_mut().zip(row).zip(&*mean) {
            *sum += (value - mean) * (value - mean);
        }
    }
}

/// Of some rows: their number, and by channel their mean and the sum of squared deviations from it.
#[derive(Debug, Default)]
pub struct Moments {
    count: f64,
    mean: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    /// Of what [`write_moments`] writes, without the rounding of its means: far from zero they would be too coarse to tell
    /// how far chunks are apart.
    fn new(rows: &[f32], [sums, rounded, squares]: &[Vec<f32>; 3]) -> Self {
        let count = (rows.len() / sums.len()) as f64;
        let mean: Vec<f64> =
            rows.iter().zip(sums).map(|(&first, &sum)| f64::from(first) + f64::from(sum) / count).collect();
        let about = squares.iter().zip(rounded).zip(&mean);
        let squares = about.map(|((&squares, &rounded), mean)| {
            let shift = mean - f64::from(rounded);
            let left = f64::from(squares) - count * shift * shift;
            if left < 0.0 { 0.0 } else { left }
        });
        Self { count, squares: squares.collect(), mean }
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
    pub fn merge(&mut self, other: Self) {
        let share = other.count / (self.count + other.count);
        for (channel, (mean, squares)) in other.mean.iter().zip(&other.squares).enumerate() {
            let apart = mean - self.mean[channel];
            self.mean[channel] += apart * share;
            self.squares[channel] += squares + apart * apart * self.count * share;
        }
        self.count += other.count;
    }
}

/// `1 / sqrt(variance + epsilon)`.
pub fn inverse_deviation(variance: &[f32], epsilon: f32) -> Vec<f32> {
    variance.iter().map(|variance| 1.0 / (variance + epsilon).sqrt()).collect()
}
