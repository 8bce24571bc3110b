//! Weights of a convolution, transformed: what each product of a tile is multiplied with.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::pack::pad_rows;
use super::super::scratch::Scratch;
use super::super::shape::ConvShape;
use super::super::simd::Arch;
use super::filter::{Filter, Grid};
use super::products::{APART, BLOCK, vectors};

struct Width;

impl WithSimd for Width {
    type Output = [usize; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [usize; 2] {
        [S::F32_LANES, vectors::<S>()]
    }
}

/// Transformed weights: for each group of output channels and each block of input channels `[products, BLOCK, width]`.
pub struct Weights<F> {
    numbers: Scratch,
    /// Zeros if there is none; in whole vectors.
    pub bias: Scratch,
    pub channels: usize,
    outputs: usize,
    /// Output channels of a group.
    pub width: usize,
    lanes: usize,
    filter: PhantomData<F>,
}

impl<F: Filter> Weights<F> {
    /// From `[taps, taps, channels, outputs]`.
    pub fn new(arch: Arch, shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        let (channels, outputs) = (shape.in_channels, shape.out_channels);
        assert_eq!((shape.kernel, weight.len()), (F::TAPS, shape.weight_len()));
        let [lanes, vectors] = arch.dispatch(Width);
        let (width, padded) = (lanes * vectors, outputs.next_multiple_of(lanes));
        let rows = (padded != outputs).then(|| pad_rows(weight, outputs, padded));
        let weight = rows.as_deref().unwrap_or(weight);
        let blocks = channels.div_ceil(BLOCK);
        let length = Self::block(width);
        let mut bias_row = Scratch::take_zeroed(padded);
        if let Some(bias) = bias {
            bias_row[..outputs].copy_from_slice(bias);
        }
        let mut numbers = Scratch::take(outputs.div_ceil(width) * blocks * length);
        numbers.par_chunks_exact_mut(length).enumerate().for_each(|(index, target)| {
            let (group, block) = (index / blocks, index % blocks);
            let inputs = block * BLOCK..((block + 1) * BLOCK).min(channels);
            let outputs = group * width..((group + 1) * width).min(padded);
            let filter = PhantomData::<F>;
            arch.dispatch(Transformed { weight, channels, padded, inputs, outputs, width, target, filter });
        });
        Self { numbers, bias: bias_row, channels, outputs, width, lanes, filter: PhantomData }
    }

    /// Floats of a block of input channels of a group.
    pub const fn block(width: usize) -> usize {
        F::PRODUCTS * BLOCK * width + APART
    }

    /// The weights of a group for one of the products, from its first block of input channels on.
    #[inline(always)]
    pub fn of(&self, group: usize, product: usize) -> &[f32] {
        let length = self.channels.div_ceil(BLOCK) * Self::block(self.width);
        &self.numbers[group * length..(group + 1) * length][product * BLOCK * self.width..]
    }

    pub fn groups(&self) -> usize {
        self.outputs.div_ceil(self.width)
    }

    /// The vectors of a group that hold real channels.
    pub fn group_vectors(&self, group: usize) -> usize {
        (self.outputs - group * self.width).min(self.width).div_ceil(self.lanes)
    }
}

/// The transformation of a block of a group.
struct Transformed<'a, F> {
    /// `[taps, taps, channels, padded]`.
    weight: &'a [f32],
    channels: usize,
    padded: usize,
    inputs: Range<usize>,
    outputs: Range<usize>,
    width: usize,
    target: &'a mut [f32],
    filter: PhantomData<F>,
}

impl<F: Filter> WithSimd for Transformed<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weight, channels, padded, inputs, outputs, width, target, .. } = self;
        let tap = channels * padded;
        assert!(weight.len() == F::TAPS * F::TAPS * tap && inputs.end <= channels && outputs.end <= padded);
        assert!(
            target.len() == Weights::<F>::block(width) && outputs.len() <= width && inputs.len() <= BLOCK
        );
        assert!(outputs.len().is_multiple_of(S::F32_LANES));
        for (row, input) in inputs.enumerate() {
            for output in outputs.clone().step_by(S::F32_LANES) {
                // SAFETY: by the assertions the vectors of all taps, and those of all products, lie within the slices.
                unsafe {
                    let from = Grid {
                        at: weight.as_ptr().add(input * padded + output),
                        row: F::TAPS * tap,
                        column: tap,
                    };
                    let to = Grid {
                        at: target.as_mut_ptr().add(row * width + output - outputs.start),
                        row: F::SIDE * BLOCK * width,
                        column: BLOCK * width,
                    };
                    from.transform::<F::Weight, S>(simd, to);
                }
            }
        }
    }
}
