//! Copies into the layouts that the kernels read, and what a factor is there ([`Operand`]).

use std::marker::PhantomData;

use pulp::Simd;
use pulp::bytemuck::{Pod, cast_slice, cast_slice_mut};
use rayon::prelude::*;

use super::scratch::Scratch;
use super::shape::ConvShape;
use super::simd;

/// Floats that a kernel may read beyond a row piece: one vector of the widest instruction set.
pub const SLACK: usize = 16;

/// A factor of the products of a register tile, as packing writes it and the tile reads it. Only packing and this trait
/// know what it is; sums are `f32` always. It fills a lane of 32 bits: with one `f32`, or with narrower factors of
/// successive products, which [`multiply_add`](Self::multiply_add) adds to the lane's sum one after the other.
pub trait Operand: Pod + Send + Sync {
    /// `S::F32_LANES` of them.
    type Vector<S: Simd>: Copy;

    fn pack(number: f32) -> Self;

    /// The numbers themselves, where they are operands without packing.
    fn as_they_are(numbers: &[f32]) -> Option<&[Self]>;

    fn splat<S: Simd>(simd: S, operand: Self) -> Self::Vector<S>;

    /// # Safety
    /// `from` must be valid for reads of a vector; no alignment is needed.
    unsafe fn load<S: Simd>(from: *const Self) -> Self::Vector<S>;

    fn multiply_add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, sum: S::f32s) -> S::f32s;
}

impl Operand for f32 {
    type Vector<S: Simd> = S::f32s;

    #[inline(always)]
    fn pack(number: f32) -> Self {
        number
    }

    #[inline(always)]
    fn as_they_are(numbers: &[f32]) -> Option<&[Self]> {
        Some(numbers)
    }

    #[inline(always)]
    fn splat<S: Simd>(simd: S, operand: Self) -> S::f32s {
        simd.splat_f32s(operand)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(from: *const Self) -> S::f32s {
        // SAFETY: by the contract.
        unsafe { simd::load::<S>(from) }
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, sum)
    }
}

/// Weights for the forward pass: groups of `vectors * lanes` output channels, each `[depth, group width]`,
/// the last group only as many vectors wide as it needs and padded with zeros. A register tile then reads
/// its weights as one stream.
pub struct PackedWeights<O> {
    data: Scratch,
    bias: Scratch,
    depth: usize,
    out_channels: usize,
    lanes: usize,
    pub vectors: usize,
    operand: PhantomData<O>,
}

impl<O: Operand> PackedWeights<O> {
    pub fn new(
        shape: &ConvShape,
        weight: &[f32],
        bias: Option<&[f32]>,
        lanes: usize,
        vectors: usize,
    ) -> Self {
        let (depth, out_channels) = (shape.depth(), shape.out_channels);
        assert_eq!(weight.len(), depth * out_channels);
        let padded = out_channels.next_multiple_of(lanes);
        let mut packed = Self {
            data: Scratch::take(depth * padded),
            bias: Scratch::take_zeroed(padded),
            depth,
            out_channels,
            lanes,
            vectors,
            operand: PhantomData,
        };
        if let Some(bias) = bias {
            packed.bias[..out_channels].copy_from_slice(bias);
        }
        for group in 0..packed.groups() {
            let first = group * lanes * vectors;
            let width = packed.group_vectors(group) * lanes;
            let real = width.min(out_channels - first);
            let target = &mut packed.data[first * depth..(first + width) * depth];
            let target: &mut [O] = cast_slice_mut(target);
            for (row, source) in target.chunks_exact_mut(width).zip(weight.chunks_exact(out_channels)) {
                pack(&source[first..first + real], &mut row[..real]);
                row[real..].fill(O::zeroed());
            }
        }
        packed
    }

    pub fn groups(&self) -> usize {
        self.out_channels.div_ceil(self.lanes * self.vectors)
    }

    /// Vectors in `group`: `vectors`, or fewer in the last one.
    pub fn group_vectors(&self, group: usize) -> usize {
        (self.out_channels.div_ceil(self.lanes) - group * self.vectors).min(self.vectors)
    }

    /// Operands and bias of a group.
    pub fn group(&self, group: usize) -> (&[O], &[f32]) {
        let first = group * self.lanes * self.vectors;
        let width = self.group_vectors(group) * self.lanes;
        let operands = &self.data[first * self.depth..(first + width) * self.depth];
        (cast_slice(operands), &self.bias[first..first + width])
    }
}

#[inline(always)]
fn pack<O: Operand>(numbers: &[f32], operands: &mut [O]) {
    for (operand, &number) in operands.iter_mut().zip(numbers) {
        *operand = O::pack(number);
    }
}

/// Rows of `columns` floats, each padded with zeros to `width`.
pub fn pad_rows(rows: &[f32], columns: usize, width: usize) -> Scratch {
    let mut padded = Scratch::take_zeroed(rows.len() / columns * width);
    for (target, source) in padded.chunks_exact_mut(width).zip(rows.chunks_exact(columns)) {
        target[..columns].copy_from_slice(source);
    }
    padded
}

/// Weights for the sparse input gradient: `[channel vector, out_channels, kernel * kernel, lanes]`, where a
/// channel vector is `lanes` consecutive input channels (the last one padded with zeros): what one
/// non-zero of the gradient multiplies is one contiguous piece.
pub fn pack_for_input_gradient(shape: &ConvShape, weight: &[f32], lanes: usize) -> Scratch {
    let taps = shape.kernel * shape.kernel;
    let vectors = shape.in_channels.div_ceil(lanes);
    let mut packed = Scratch::take(vectors * shape.out_channels * taps * lanes);
    for vector in 0..vectors {
        let first = vector * lanes;
        let real = lanes.min(shape.in_channels - first);
        let block =
            &mut packed[vector * shape.out_channels * taps * lanes..][..shape.out_channels * taps * lanes];
        if real < lanes {
            block.fill(0.0);
        }
        for tap in 0..taps {
            for lane in 0..real {
                let source = &weight[(tap * shape.in_channels + first + lane) * shape.out_channels..];
                for channel in 0..shape.out_channels {
                    block[(channel * taps + tap) * lanes + lane] = source[channel];
                }
            }
        }
    }
    packed
}

/// Weights of the convolution that computes the dense input gradient: both kernel axes flipped, in and out
/// channels swapped.
pub fn flip_weights(shape: &ConvShape, weight: &[f32]) -> Scratch {
    let (inputs, outputs) = (shape.in_channels, shape.out_channels);
    let mut flipped = Scratch::take(weight.len());
    let taps = flipped.par_chunks_exact_mut(inputs * outputs).rev();
    taps.zip(weight.par_chunks_exact(inputs * outputs)).for_each(|(target, source)| {
        for first_input in (0..inputs).step_by(SQUARE) {
            for first_output in (0..outputs).step_by(SQUARE) {
                let columns = SQUARE.min(outputs - first_output);
                for input in first_input..(first_input + SQUARE).min(inputs) {
                    let row = &source[input * outputs + first_output..][..columns];
                    for (output, &value) in row.iter().enumerate() {
                        target[(first_output + output) * inputs + input] = value;
                    }
                }
            }
        }
    });
    flipped
}

/// Edge of the squares in which weights are transposed: their lines stay in L1.
const SQUARE: usize = 16;

/// Packs one image between its zero frame: `target` is `[padded height, padded width, channels]`, its frame
/// already zero, plus slack.
#[inline(always)]
pub fn copy_padded<O: Operand>(shape: &ConvShape, image: &[f32], target: &mut [O]) {
    let row = shape.width * shape.in_channels;
    let target_row = shape.padded_width() * shape.in_channels;
    let first = (shape.padding * shape.padded_width() + shape.padding) * shape.in_channels;
    for (index, source) in image.chunks_exact(row).enumerate() {
        pack(source, &mut target[first + index * target_row..][..row]);
    }
}

/// Copies one image out of its frame: `framed` is `[padded height, padded width, stride]`.
pub fn copy_unframed(shape: &ConvShape, framed: &[f32], stride: usize, image: &mut [f32]) {
    for (index, pixel) in image.chunks_exact_mut(shape.in_channels).enumerate() {
        let (row, column) = (index / shape.width + shape.padding, index % shape.width + shape.padding);
        pixel.copy_from_slice(&framed[(row * shape.padded_width() + column) * stride..][..shape.in_channels]);
    }
}

/// Floats that a spread row piece takes: one line.
pub const SPREAD: usize = 16;

/// Copies one image so that every convolution column of every padded row has its row piece (at most `SPREAD`
/// floats) on a line of its own: `target` is `[padded height, conv width, SPREAD]`. What lies beyond a piece
/// is unspecified.
#[inline(always)]
pub fn copy_spread(shape: &ConvShape, image: &[f32], target: &mut [f32]) {
    debug_assert!(shape.row_piece() <= SPREAD);
    let mut row = Scratch::take_zeroed(shape.padded_width() * shape.in_channels + SPREAD);
    let source_row = shape.width * shape.in_channels;
    let (lines, _) = target.as_chunks_mut::<SPREAD>();
    for (index, lines) in lines.chunks_exact_mut(shape.conv_width()).take(shape.padded_height()).enumerate() {
        let inside = index.wrapping_sub(shape.padding);
        let real = &mut row[shape.padding * shape.in_channels..][..source_row];
        if inside < shape.height {
            real.copy_from_slice(&image[inside * source_row..][..source_row]);
        } else {
            real.fill(0.0);
        }
        for (column, line) in lines.iter_mut().enumerate() {
            *line = *row[column * shape.in_channels..].first_chunk().expect("the row has slack");
        }
    }
}
