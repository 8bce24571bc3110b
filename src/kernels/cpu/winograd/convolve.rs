//! The forward pass, and with turned weights the input gradient.
//!
//! A task takes some rows of tiles, of several images if these are small. It transforms their inputs, a vector of channels
//! at a time, into as many planes as there are products, each `[tiles, channels]`; multiplies each plane with the
//! transformed weights on register tiles; and transforms the products back, with bias, ReLU and pooling on the way. Which
//! tiles a task takes changes no sum.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::outputs::{Outputs, rectified};
use super::super::pack::pad_rows;
use super::super::scratch::Scratch;
use super::super::shape::{ConvShape, pieces};
use super::super::simd::{Arch, load, store};
use super::filter::{Filter, Grid};
use super::strip::{Maps, Strip, Tiling};

/// Tiles that a task takes: what its planes hold should stay in L2. F(4x4, 3x3), 16x16x128 -> 128, one Zen 4 core (1 MB of
/// L2), prototype in C: 228 us an image with 32 tiles, 216 with 48, 214 with 64, 219 with 96.
const TILES: usize = 56;
/// Rows of a register tile of products, as in `forward`.
const ROWS: usize = 6;
/// Channels whose weights lie together.
const BLOCK: usize = 16;
/// Floats between planes, so that they do not lie a power of two apart. Without them the transforms of F(4x4, 3x3) took four
/// times as long (prototype in C, Zen 5).
pub const APART: usize = 48;

/// Vectors of output channels in a register tile.
pub const fn vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

struct Width;

impl WithSimd for Width {
    type Output = [usize; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [usize; 2] {
        [S::F32_LANES, vectors::<S>()]
    }
}

/// Transformed weights: for each group of output channels and each block of input channels `[products, BLOCK, width]`.
struct Weights<F> {
    numbers: Scratch,
    bias: Scratch,
    channels: usize,
    outputs: usize,
    /// Of a group.
    width: usize,
    lanes: usize,
    filter: PhantomData<F>,
}

impl<F: Filter> Weights<F> {
    /// From `[taps, taps, channels, outputs]`.
    fn new(arch: Arch, shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
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

    /// Floats of a block of a group.
    const fn block(width: usize) -> usize {
        F::PRODUCTS * BLOCK * width + APART
    }

    fn groups(&self) -> usize {
        self.outputs.div_ceil(self.width)
    }

    /// The vectors of a group that hold real channels.
    fn group_vectors(&self, group: usize) -> usize {
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

/// Convolves `maps` with a weight `[taps, taps, channels, outputs]`. Outputs are as in `forward::conv_forward`.
pub fn convolve<F: Filter>(
    arch: Arch,
    shape: &ConvShape,
    maps: Maps,
    weight: &[f32],
    bias: Option<&[f32]>,
    mut outputs: Outputs,
) {
    assert_eq!(maps.shape(), [shape.height, shape.width, shape.in_channels]);
    outputs.check(shape, shape.batch);
    if outputs.y.is_empty() {
        return;
    }
    let weights = Weights::<F>::new(arch, shape, weight, bias);
    let windows = if shape.pool { 2 } else { 1 };
    let tiling = Tiling::new(F::OUTPUTS, windows * shape.out_height(), windows * shape.out_width());
    let rows = shape.batch * tiling.rows;
    let count = (rows * tiling.columns).div_ceil(TILES).next_multiple_of(rayon::current_num_threads());
    let tasks: Vec<_> = pieces(rows, rows.div_ceil(count))
        .map(|rows| {
            let start = first_output(shape, &tiling, rows.start);
            let outputs = outputs.take(first_output(shape, &tiling, rows.end) - start);
            Task { shape, maps, weights: &weights, tiling, rows, start, outputs }
        })
        .collect();
    tasks.into_par_iter().for_each(|task| arch.dispatch(task));
}

/// Place in the output of the first pixel of a row of tiles.
fn first_output(shape: &ConvShape, tiling: &Tiling, row: usize) -> usize {
    let [image, first] = tiling.place(row);
    let first = if shape.pool { first / 2 } else { first };
    image * shape.output_len() + first * shape.out_width() * shape.out_channels
}

struct Task<'a, F> {
    shape: &'a ConvShape,
    maps: Maps<'a>,
    weights: &'a Weights<F>,
    tiling: Tiling,
    /// Its rows of tiles.
    rows: Range<usize>,
    /// Place of its first output among all.
    start: usize,
    outputs: Outputs<'a>,
}

impl<F: Filter> WithSimd for Task<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let (weights, tiles) = (self.weights, self.rows.len() * self.tiling.columns);
        let stride = weights.channels.next_multiple_of(S::F32_LANES);
        let (inputs, products) = (tiles * stride + APART, tiles * weights.width + APART);
        let mut transformed = Scratch::take(F::PRODUCTS * inputs);
        self.transform_inputs(simd, stride, inputs, &mut transformed);
        let mut multiplied = Scratch::take(F::PRODUCTS * products);
        for group in 0..weights.groups() {
            for product in 0..F::PRODUCTS {
                simd.vectorize(Product {
                    inputs: &transformed[product * inputs..][..tiles * stride],
                    stride,
                    weights: self.group(group, product),
                    block: Weights::<F>::block(weights.width),
                    products: &mut multiplied[product * products..][..tiles * weights.width],
                    width: weights.width,
                    vectors: weights.group_vectors(group),
                    channels: weights.channels,
                });
            }
            self.transform_products(simd, group, products, &multiplied);
        }
    }
}

impl<F: Filter> Task<'_, F> {
    /// The weights of a group for one of the products, from its first block on.
    #[inline(always)]
    fn group(&self, group: usize, product: usize) -> &[f32] {
        let blocks = self.weights.channels.div_ceil(BLOCK);
        let length = Weights::<F>::block(self.weights.width);
        &self.weights.numbers[group * blocks * length..(group + 1) * blocks * length]
            [product * BLOCK * self.weights.width..]
    }

    #[inline(always)]
    fn transform_inputs<S: Simd>(&self, simd: S, stride: usize, plane: usize, target: &mut [f32]) {
        let columns = self.tiling.columns;
        let width = columns * F::OUTPUTS + F::TAPS - 1;
        let mut strip = Strip::new(F::SIDE, width, stride, self.shape.padding);
        assert!(target.len() == F::PRODUCTS * plane && plane >= self.rows.len() * columns * stride);
        assert!(stride.is_multiple_of(S::F32_LANES) && strip.numbers.len() == F::SIDE * width * stride);
        for (index, row) in self.rows.clone().enumerate() {
            let [image, first] = self.tiling.place(row);
            strip.fill(self.maps, image, first);
            for column in 0..columns {
                for channel in (0..stride).step_by(S::F32_LANES) {
                    // SAFETY: a tile's `SIDE` rows and columns lie within the strip, its place in each plane within
                    // `target`, by the assertions.
                    unsafe {
                        let from = strip.tile(column * F::OUTPUTS, channel);
                        let to = Grid {
                            at: target.as_mut_ptr().add((index * columns + column) * stride + channel),
                            row: F::SIDE * plane,
                            column: plane,
                        };
                        from.transform::<F::Input, S>(simd, to);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn transform_products<S: Simd>(&mut self, simd: S, group: usize, plane: usize, products: &[f32]) {
        let Weights { width, .. } = *self.weights;
        let columns = self.tiling.columns;
        assert!(products.len() == F::PRODUCTS * plane && plane >= self.rows.len() * columns * width);
        for (index, row) in self.rows.clone().enumerate() {
            for column in 0..columns {
                for vector in 0..self.weights.group_vectors(group) {
                    let lane = vector * S::F32_LANES;
                    // SAFETY: the tile's vector of each plane lies within `products`, by the assertions.
                    let tile = unsafe {
                        let at = products.as_ptr().add((index * columns + column) * width + lane);
                        Grid { at, row: F::SIDE * plane, column: plane }.transformed::<F::Output, S>(simd)
                    };
                    self.write(simd, [row, column], group * width + lane, tile);
                }
            }
        }
    }

    /// Bias, ReLU and pooling of a tile's outputs for one vector of channels.
    #[inline(always)]
    fn write<S: Simd>(
        &mut self,
        simd: S,
        [row, column]: [usize; 2],
        channel: usize,
        mut tile: [[S::f32s; 6]; 6],
    ) {
        let shape = self.shape;
        let [image, first_row] = self.tiling.place(row);
        let first_column = column * F::OUTPUTS;
        // SAFETY: the bias is as long as all vectors of channels.
        let bias = unsafe { load::<S>(self.weights.bias[channel..][..S::F32_LANES].as_ptr()) };
        for row in tile.iter_mut().take(F::OUTPUTS) {
            for value in row.iter_mut().take(F::OUTPUTS) {
                *value = simd.add_f32s(*value, bias);
            }
        }
        let start = self.start / shape.out_channels;
        let pixel = |row: usize, column: usize| {
            (image * shape.out_height() + row) * shape.out_width() + column - start
        };
        if shape.pool {
            for row in 0..F::OUTPUTS / 2 {
                for column in 0..F::OUTPUTS / 2 {
                    let (y, x) = (first_row / 2 + row, first_column / 2 + column);
                    if y < shape.out_height() && x < shape.out_width() {
                        let window = [
                            tile[2 * row][2 * column],
                            tile[2 * row][2 * column + 1],
                            tile[2 * row + 1][2 * column],
                            tile[2 * row + 1][2 * column + 1],
                        ];
                        self.outputs.pool(simd, [pixel(y, x), channel], window, shape.relu);
                    }
                }
            }
            return;
        }
        for (row, values) in tile.iter().enumerate().take(F::OUTPUTS) {
            for (column, &value) in values.iter().enumerate().take(F::OUTPUTS) {
                let (y, x) = (first_row + row, first_column + column);
                if y < shape.out_height() && x < shape.out_width() {
                    let value = if shape.relu { rectified(simd, value) } else { value };
                    self.outputs.write(simd, [pixel(y, x), channel], value);
                }
            }
        }
    }
}

/// `products[tile, output] = sum over channels of inputs[tile, channel] * weights[channel, output]`, channels ascending.
/// A call of its own, so that it is compiled once for all filters.
struct Product<'a> {
    inputs: &'a [f32],
    /// Floats a tile of the inputs.
    stride: usize,
    /// Of a group, from the first block on.
    weights: &'a [f32],
    /// Floats from block to block.
    block: usize,
    products: &'a mut [f32],
    /// Floats a tile of the products, and a channel of the weights.
    width: usize,
    vectors: usize,
    channels: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.vectors {
            1 => self.multiply::<S, 1>(simd),
            2 => self.multiply::<S, 2>(simd),
            3 => self.multiply::<S, 3>(simd),
            4 => self.multiply::<S, 4>(simd),
            _ => unreachable!("no such group"),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const VECTORS: usize>(self, simd: S) {
        let tiles = self.products.len() / self.width;
        assert!(self.inputs.len() == tiles * self.stride && self.channels <= self.stride);
        assert!(VECTORS * S::F32_LANES <= self.width && self.channels > 0);
        assert!(self.weights.len() >= (self.channels - 1) / BLOCK * self.block + BLOCK * self.width);
        for range in pieces(tiles, ROWS) {
            // SAFETY: the tiles of `range` lie within inputs and products, and `channels` rows within the blocks of weights,
            // by the assertions.
            unsafe {
                let inputs = self.inputs.as_ptr().add(range.start * self.stride);
                let products = self.products.as_mut_ptr().add(range.start * self.width);
                match range.len() {
                    1 => self.tile::<S, 1, VECTORS>(simd, inputs, products),
                    2 => self.tile::<S, 2, VECTORS>(simd, inputs, products),
                    3 => self.tile::<S, 3, VECTORS>(simd, inputs, products),
                    4 => self.tile::<S, 4, VECTORS>(simd, inputs, products),
                    5 => self.tile::<S, 5, VECTORS>(simd, inputs, products),
                    _ => self.tile::<S, ROWS, VECTORS>(simd, inputs, products),
                }
            }
        }
    }

    /// # Safety
    /// `HEIGHT` tiles lie at `inputs` and `products`; the group holds `channels` rows of `VECTORS` vectors, in blocks.
    #[inline(always)]
    unsafe fn tile<S: Simd, const HEIGHT: usize, const VECTORS: usize>(
        &self,
        simd: S,
        inputs: *const f32,
        products: *mut f32,
    ) {
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; HEIGHT];
        // SAFETY: by the contract.
        unsafe {
            let mut weights = self.weights.as_ptr();
            for first in (0..self.channels).step_by(BLOCK) {
                let mut row = weights;
                for channel in first..(first + BLOCK).min(self.channels) {
                    let mut factors = [simd.splat_f32s(0.0); VECTORS];
                    for (vector, factor) in factors.iter_mut().enumerate() {
                        *factor = load::<S>(row.add(vector * S::F32_LANES));
                    }
                    row = row.add(self.width);
                    for (tile, sums) in sums.iter_mut().enumerate() {
                        let input = simd.splat_f32s(*inputs.add(tile * self.stride + channel));
                        for (sum, &factor) in sums.iter_mut().zip(&factors) {
                            *sum = simd.mul_add_e_f32s(input, factor, *sum);
                        }
                    }
                }
                weights = weights.wrapping_add(self.block);
            }
            for (tile, sums) in sums.iter().enumerate() {
                for (vector, &sum) in sums.iter().enumerate() {
                    store::<S>(products.add(tile * self.width + vector * S::F32_LANES), sum);
                }
            }
        }
    }
}
