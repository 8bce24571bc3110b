//! The outputs of an image, register tile by register tile.

use pulp::Simd;

use super::super::ahead::Ahead;
use super::super::outputs::{Outputs, rectified};
use super::super::pack::{Operand, PackedWeights, operands};
use super::super::shape::{ConvShape, pieces};
use super::super::simd::load;

/// Register tile of an instruction set: with pooling, windows x channel vectors; without, pixels x vectors.
///
/// 32 registers: 24 sums and 2 weights. 16 registers (AVX2): one window x 2 vectors = 8 sums, just what hides
/// the latency of 4 cycles at two multiply-adds a cycle, or 6 pixels x 2 vectors = 12.
pub struct Tile {
    pub windows: usize,
    pub pool_vectors: usize,
    pub pixels: usize,
    pub vectors: usize,
}

pub const fn tile<S: Simd>() -> Tile {
    if S::REGISTER_COUNT >= 32 {
        Tile { windows: 3, pool_vectors: 2, pixels: 6, vectors: 4 }
    } else {
        Tile { windows: 1, pool_vectors: 2, pixels: 6, vectors: 2 }
    }
}

/// An image, or a strip of pixels, and its outputs.
pub struct Image<'a, S, O> {
    pub simd: S,
    pub shape: &'a ConvShape,
    pub x: &'a [O],
    /// What is read after this image.
    pub next: &'a [f32],
    pub outputs: Outputs<'a>,
}

/// Where a tile reads and writes.
#[derive(Clone, Copy)]
struct At<'a, O> {
    weights: &'a [O],
    bias: &'a [f32],
    /// First output row, column (of the pooled output, if pooled) and channel.
    row: usize,
    column: usize,
    channel: usize,
}

impl<S: Simd, O: Operand> Image<'_, S, O> {
    #[inline(always)]
    pub fn pooled(&mut self, packed: &PackedWeights<O>) {
        for group in 0..packed.groups() {
            let (weights, bias) = packed.group(group);
            for row in 0..self.shape.out_height() {
                for columns in pieces(self.shape.out_width(), tile::<S>().windows) {
                    let channel = group * packed.vectors * S::F32_LANES;
                    let at = At { weights, bias, row, column: columns.start, channel };
                    match (columns.len(), packed.group_vectors(group)) {
                        (1, 1) => self.pooled_tile::<1, 2, 1>(at),
                        (2, 1) => self.pooled_tile::<2, 4, 1>(at),
                        (3, 1) => self.pooled_tile::<3, 6, 1>(at),
                        (1, 2) => self.pooled_tile::<1, 2, 2>(at),
                        (2, 2) => self.pooled_tile::<2, 4, 2>(at),
                        (3, 2) => self.pooled_tile::<3, 6, 2>(at),
                        _ => unreachable!("no such tile"),
                    }
                }
            }
        }
    }

    #[inline(always)]
    pub fn plain(&mut self, packed: &PackedWeights<O>) {
        let pixels = tile::<S>().pixels;
        let tiles = packed.groups() * self.shape.out_height() * self.shape.out_width().div_ceil(pixels);
        let mut ahead = Ahead::new(self.next, tiles);
        for group in 0..packed.groups() {
            let (weights, bias) = packed.group(group);
            for row in 0..self.shape.out_height() {
                for columns in pieces(self.shape.out_width(), pixels) {
                    ahead.step();
                    let channel = group * packed.vectors * S::F32_LANES;
                    let at = At { weights, bias, row, column: columns.start, channel };
                    if S::REGISTER_COUNT >= 32 {
                        match packed.group_vectors(group) {
                            1 => self.plain_tiles::<1>(at, columns.len()),
                            2 => self.plain_tiles::<2>(at, columns.len()),
                            3 => self.plain_tiles::<3>(at, columns.len()),
                            _ => self.plain_tiles::<4>(at, columns.len()),
                        }
                    } else {
                        match packed.group_vectors(group) {
                            1 => self.plain_tiles::<1>(at, columns.len()),
                            _ => self.plain_tiles::<2>(at, columns.len()),
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn plain_tiles<const VECTORS: usize>(&mut self, at: At<O>, columns: usize) {
        match columns {
            1 => self.plain_tile::<1, VECTORS>(at),
            2 => self.plain_tile::<2, VECTORS>(at),
            3 => self.plain_tile::<3, VECTORS>(at),
            4 => self.plain_tile::<4, VECTORS>(at),
            5 => self.plain_tile::<5, VECTORS>(at),
            6 => self.plain_tile::<6, VECTORS>(at),
            _ => unreachable!("no such tile"),
        }
    }

    /// `ROWS` x `COLUMNS` pixels x `VECTORS` channel vectors of the convolution plus bias.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "indices address memory and the sums alike")]
    fn accumulate<const ROWS: usize, const COLUMNS: usize, const VECTORS: usize>(
        &self,
        at: At<O>,
        row: usize,
        column: usize,
    ) -> [[[S::f32s; VECTORS]; COLUMNS]; ROWS] {
        let shape = self.shape;
        let (simd, channels) = (self.simd, operands::<O>(shape.in_channels));
        let piece = shape.kernel * channels;
        let row_stride = shape.padded_width() * channels;
        let first = (row * shape.padded_width() + column) * channels;
        debug_assert!(
            first + (ROWS - 1 + shape.kernel - 1) * row_stride + (COLUMNS - 1) * channels + piece
                <= self.x.len()
        );
        debug_assert!(at.weights.len() == shape.kernel * piece * VECTORS * S::F32_LANES);
        debug_assert!(at.bias.len() == VECTORS * S::F32_LANES);
        // SAFETY: the asserted bounds cover every read: inputs of `ROWS` x `COLUMNS` pixels under the
        // kernel, `depth` rows of `VECTORS` weight vectors, and as many of the bias.
        unsafe {
            let mut sums = [[[simd.splat_f32s(0.0); VECTORS]; COLUMNS]; ROWS];
            for vector in 0..VECTORS {
                let bias = load::<S>(at.bias.as_ptr().add(vector * S::F32_LANES));
                for pixels in &mut sums {
                    for pixel in pixels {
                        pixel[vector] = bias;
                    }
                }
            }
            let mut weights = at.weights.as_ptr();
            for kernel_row in 0..shape.kernel {
                let x = self.x.as_ptr().add(first + kernel_row * row_stride);
                for index in 0..piece {
                    let mut taps = [O::splat(simd, O::zeroed()); VECTORS];
                    for (vector, tap) in taps.iter_mut().enumerate() {
                        *tap = O::load(simd, weights.add(vector * S::F32_LANES));
                    }
                    weights = weights.add(VECTORS * S::F32_LANES);
                    for row in 0..ROWS {
                        for column in 0..COLUMNS {
                            let input = O::splat(simd, *x.add(row * row_stride + column * channels + index));
                            for vector in 0..VECTORS {
                                let sum = &mut sums[row][column][vector];
                                *sum = O::multiply_add(simd, input, taps[vector], *sum);
                            }
                        }
                    }
                }
            }
            sums
        }
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "indices address outputs and the sums alike")]
    fn pooled_tile<const WINDOWS: usize, const COLUMNS: usize, const VECTORS: usize>(&mut self, at: At<O>) {
        let simd = self.simd;
        let sums = self.accumulate::<2, COLUMNS, VECTORS>(at, 2 * at.row, 2 * at.column);
        for window in 0..WINDOWS {
            let pixel = at.row * self.shape.out_width() + at.column + window;
            for vector in 0..VECTORS {
                let column = 2 * window;
                let window = [
                    sums[0][column][vector],
                    sums[0][column + 1][vector],
                    sums[1][column][vector],
                    sums[1][column + 1][vector],
                ];
                let channel = at.channel + vector * S::F32_LANES;
                self.outputs.pool(simd, [pixel, channel], window, self.shape.relu);
            }
        }
    }

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "indices address outputs and the sums alike")]
    fn plain_tile<const COLUMNS: usize, const VECTORS: usize>(&mut self, at: At<O>) {
        let simd = self.simd;
        let sums = self.accumulate::<1, COLUMNS, VECTORS>(at, at.row, at.column);
        for column in 0..COLUMNS {
            let pixel = at.row * self.shape.out_width() + at.column + column;
            for vector in 0..VECTORS {
                let mut value = sums[0][column][vector];
                if self.shape.relu {
                    value = rectified(simd, value);
                }
                self.outputs.write(simd, [pixel, at.channel + vector * S::F32_LANES], value);
            }
        }
    }
}
