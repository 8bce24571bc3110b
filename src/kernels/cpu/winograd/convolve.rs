//! The forward pass, and with turned weights the input gradient.
//!
//! A task takes some rows of tiles, of several images if these are small. It transforms their inputs, a vector of channels
//! at a time, into as many planes as there are products, each `[tiles, channels]`; multiplies each plane with the
//! transformed weights on register tiles; and transforms the products back, with bias, ReLU and pooling on the way. Which
//! tiles a task takes changes no sum.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::outputs::{Outputs, rectified};
use super::super::scratch::Scratch;
use super::super::shape::{ConvShape, pieces};
use super::super::simd::{Arch, load};
use super::filter::{Filter, Grid};
use super::matrices::MOST;
use super::products::{APART, WeightProduct};
use super::strip::{Maps, Strip, Tiling};
use super::weights::Weights;

/// Tiles that a task takes: what its planes hold should stay in L2. F(4x4, 3x3), 16x16x128 -> 128, one Zen 4 core (1 MB of
/// L2), prototype in C: 228 us an image with 32 tiles, 216 with 48, 214 with 64, 219 with 96. F(4x4, 5x5), 16x16x96 -> 192, one
/// Emerald Rapids core (2 MB), beside other guests, fastest of 25, twice: 837 and 752 us an image with 16 tiles, 751 with 32,
/// 651 and 736 with 48, 721 and 705 with 64, 925 and 959 with 96.
const fn tiles<F: Filter>() -> usize {
    if F::PRODUCTS > 36 { 32 } else { 56 }
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
    let count = (rows * tiling.columns).div_ceil(tiles::<F>()).next_multiple_of(rayon::current_num_threads());
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
                simd.vectorize(WeightProduct {
                    inputs: &transformed[product * inputs..][..tiles * stride],
                    stride,
                    weights: weights.of(group, product),
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
        mut tile: [[S::f32s; MOST]; MOST],
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
