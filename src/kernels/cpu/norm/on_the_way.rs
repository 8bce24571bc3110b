//! Normalisation on the way to or from a convolution, of numbers that are in the caches or in registers.

use pulp::Simd;

use super::Affine;
use crate::kernels::cpu::outputs::rectified;
use crate::kernels::cpu::simd::{MOST_LANES, load};

/// Normalisation by given statistics on the way from or to a convolution, whose inputs or outputs it is of.
#[derive(Clone, Debug)]
pub struct Normalisation {
    /// By channel, with room behind the last for a whole vector of any instruction set.
    mean: Vec<f32>,
    factor: Vec<f32>,
    shift: Vec<f32>,
    channels: usize,
    relu: bool,
}

impl Normalisation {
    /// What [`normalise`](super::normalise) does with these arguments.
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
        self.normalised(simd, value, [mean, factor, shift])
    }

    #[inline(always)]
    fn normalised<S: Simd>(&self, simd: S, value: S::f32s, [mean, factor, shift]: [S::f32s; 3]) -> S::f32s {
        let apart = simd.sub_f32s(value, mean);
        let value = simd.add_f32s(simd.mul_f32s(apart, factor), shift);
        if self.relu { rectified(simd, value) } else { value }
    }

    /// Of `rows` of channels that fill whole vectors of any instruction set.
    #[inline(always)]
    pub fn write<S: Simd>(&self, simd: S, rows: &[f32], target: &mut [f32]) {
        assert!(self.channels.is_multiple_of(MOST_LANES));
        let [mean, factor, shift] =
            [&self.mean, &self.factor, &self.shift].map(|row| S::as_simd_f32s(&row[..self.channels]).0);
        for (row, target) in rows.chunks_exact(self.channels).zip(target.chunks_exact_mut(self.channels)) {
            let (row, target) = (S::as_simd_f32s(row).0, S::as_mut_simd_f32s(target).0);
            let channels = mean.iter().zip(factor).zip(shift);
            for ((target, &value), ((&mean, &factor), &shift)) in target.iter_mut().zip(row).zip(channels) {
                *target = self.normalised(simd, value, [mean, factor, shift]);
            }
        }
    }

    /// [`write`](Self::write) of the same strip of two images, if there are two.
    #[inline(always)]
    pub fn write_both<'a, S: Simd>(
        &self,
        simd: S,
        first: &[f32],
        second: Option<&[f32]>,
        target: &'a mut [f32],
    ) -> (&'a [f32], Option<&'a [f32]>) {
        let (target, other) = target.split_at_mut(first.len());
        self.write(simd, first, target);
        let Some(second) = second else { return (target, None) };
        let other = &mut other[..second.len()];
        self.write(simd, second, other);
        (target, Some(other))
    }
}

/// The inputs of a convolution, in front of their normalisation if it has one.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// In memory.
    pub numbers: &'a [f32],
    /// How each strip is normalised when it is read; only where [`normalises_inputs`](crate::kernels::cpu::normalises_inputs).
    pub norm: Option<&'a Normalisation>,
}

impl<'a> From<&'a [f32]> for Inputs<'a> {
    fn from(numbers: &'a [f32]) -> Self {
        Self { numbers, norm: None }
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
