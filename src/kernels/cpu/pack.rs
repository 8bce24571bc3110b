//! Copies into the layouts that the kernels read, and what a factor is there ([`Operand`]).

use std::marker::PhantomData;

use pulp::bytemuck::{Pod, cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::scratch::Scratch;
use super::shape::ConvShape;
use super::simd::{self, Arch, MOST_LANES};

/// Floats that a kernel may read beyond a row piece: one vector of the widest instruction set.
pub const SLACK: usize = MOST_LANES;

/// A lane of factors of the products of a register tile, as packing writes it and the tile reads it. Only packing and
/// this trait know what it is; sums are `f32` always. It has 32 bits: one `f32`, or narrower factors of successive products,
/// which [`multiply_add`](Self::multiply_add) adds to the lane's sum.
pub trait Operand: Pod + Send + Sync {
    /// `S::F32_LANES` of them.
    type Vector<S: Simd>: Copy;

    /// Factors in one operand: 1 or 2.
    const FACTORS: usize;

    /// Runs `operation` compiled for the instructions of `arch` that work on these operands.
    #[inline(always)]
    fn dispatch<Operation: WithSimd>(arch: Arch, operation: Operation) -> Operation::Output {
        arch.dispatch(operation)
    }

    /// Packs numbers that are factors of successive products; the last operand is filled up with zeros.
    fn pack(numbers: &[f32], operands: &mut [Self]);

    /// Packs rows whose numbers at the same place are factors of successive products: at most as many rows as an operand has
    /// factors, a missing one counts as zeros.
    fn pack_rows(first: &[f32], second: Option<&[f32]>, operands: &mut [Self]);

    /// The numbers themselves, where they are operands without packing.
    fn as_they_are(numbers: &[f32]) -> Option<&[Self]>;

    fn splat<S: Simd>(simd: S, operand: Self) -> Self::Vector<S>;

    /// # Safety
    /// `from` must be valid for reads of a vector; no alignment is needed.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> Self::Vector<S>;

    fn multiply_add<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, sum: S::f32s) -> S::f32s;

    /// What a sum begins with.
    #[inline(always)]
    fn bias(number: f32) -> f32 {
        number
    }
}

/// Operands that so many factors fill.
#[inline(always)]
pub const fn operands<O: Operand>(factors: usize) -> usize {
    factors.div_ceil(O::FACTORS)
}

impl Operand for f32 {
    type Vector<S: Simd> = S::f32s;

    const FACTORS: usize = 1;

    #[inline(always)]
    fn pack(numbers: &[f32], operands: &mut [Self]) {
        operands.copy_from_slice(numbers);
    }

    #[inline(always)]
    fn pack_rows(first: &[f32], second: Option<&[f32]>, operands: &mut [Self]) {
        debug_assert!(second.is_none());
        operands.copy_from_slice(first);
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
    unsafe fn load<S: Simd>(_: S, from: *const Self) -> S::f32s {
        // SAFETY: by the contract.
        unsafe { simd::load::<S>(from) }
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, sum: S::f32s) -> S::f32s {
        simd.mul_add_e_f32s(a, b, sum)
    }
}

/// Weights for the forward pass: groups of `vectors * lanes` output channels, each `[depth, group width]` (of operands),
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
    #[inline(always)]
    pub fn new(
        shape: &ConvShape,
        weight: &[f32],
        bias: Option<&[f32]>,
        lanes: usize,
        vectors: usize,
    ) -> Self {
        let (in_channels, out_channels) = (shape.in_channels, shape.out_channels);
        assert_eq!(weight.len(), shape.weight_len());
        let depth = shape.kernel * shape.kernel * operands::<O>(in_channels);
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
            let sums = packed.bias.iter_mut().zip(bias);
            sums.for_each(|(sum, &bias)| *sum = O::bias(bias));
        }
        for group in 0..packed.groups() {
            let first = group * lanes * vectors;
            let width = packed.group_vectors(group) * lanes;
            let real = width.min(out_channels - first);
            let target = &mut packed.data[first * depth..(first + width) * depth];
            let target: &mut [O] = cast_slice_mut(target);
            let mut rows = target.chunks_exact_mut(width);
            for tap in weight.chunks_exact(in_channels * out_channels) {
                for (sources, row) in tap.chunks(O::FACTORS * out_channels).zip(&mut rows) {
                    let (source, next) = sources.split_at(out_channels);
                    let next = next.get(first..first + real);
                    O::pack_rows(&source[first..first + real], next, &mut row[..real]);
                    row[real..].fill(O::zeroed());
                }
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
    taps.zip(weight.par_chunks_exact(inputs * outputs))
        .for_each(|(target, source)| transpose(source, outputs, target, inputs));
    flipped
}

/// Edge of the squares that are transposed at a time: a cache line. Number by number, with targets a row apart, 192 x 192
/// took a tenth of the time of the convolution that needs it.
const EDGE: usize = 16;

/// Transposes `source`, whose rows have `columns` numbers, into rows of `stride`, at least as many as `source` has rows.
#[inline(always)]
pub fn transpose(source: &[f32], columns: usize, target: &mut [f32], stride: usize) {
    for (block, rows) in source.chunks(EDGE * columns).enumerate() {
        for column in (0..columns).step_by(EDGE) {
            let width = EDGE.min(columns - column);
            let mut square = [[0f32; EDGE]; EDGE];
            for (line, row) in square.iter_mut().zip(rows.chunks_exact(columns)) {
                line[..width].copy_from_slice(&row[column..][..width]);
            }
            let height = rows.len() / columns;
            for index in 0..width {
                let target = &mut target[(column + index) * stride + block * EDGE..][..height];
                for (target, line) in target.iter_mut().zip(&square) {
                    *target = line[index];
                }
            }
        }
    }
}

/// Packs one image between its zero frame, the channels of each pixel by themselves: `target` is `[padded height, padded
/// width, operands of the channels]`, its frame already zero, plus slack.
#[inline(always)]
pub fn copy_padded<O: Operand>(shape: &ConvShape, image: &[f32], target: &mut [O]) {
    let in_channels = shape.in_channels;
    let channels = operands::<O>(in_channels);
    let row = shape.width * in_channels;
    let target_row = shape.padded_width() * channels;
    let first = (shape.padding * shape.padded_width() + shape.padding) * channels;
    if in_channels.is_multiple_of(O::FACTORS) {
        for (index, source) in image.chunks_exact(row).enumerate() {
            O::pack(source, &mut target[first + index * target_row..][..shape.width * channels]);
        }
        return;
    }
    // Each pixel's channels with a zero behind them: packed pixel by pixel, a first layer (32x32x3 -> 64) took a third longer.
    let even = channels * O::FACTORS;
    let mut filled = Scratch::take_zeroed(shape.width * even);
    for (index, source) in image.chunks_exact(row).enumerate() {
        for (pixel, source) in filled.chunks_exact_mut(even).zip(source.chunks_exact(in_channels)) {
            pixel[..in_channels].copy_from_slice(source);
        }
        O::pack(&filled, &mut target[first + index * target_row..][..shape.width * channels]);
    }
}

/// Packs an image, and one more where an operand has two factors, between their zero frame: `target` is `[padded height,
/// padded width, channels]`, its frame already zero.
#[inline(always)]
pub fn copy_together<O: Operand>(shape: &ConvShape, first: &[f32], second: Option<&[f32]>, target: &mut [O]) {
    let row = shape.width * shape.in_channels;
    let target_row = shape.padded_width() * shape.in_channels;
    let start = (shape.padding * shape.padded_width() + shape.padding) * shape.in_channels;
    for (index, source) in first.chunks_exact(row).enumerate() {
        let second = second.map(|second| &second[index * row..][..row]);
        O::pack_rows(source, second, &mut target[start + index * target_row..][..row]);
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
