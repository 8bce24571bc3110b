//! Sparse weight gradient of one image.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::shape::{ConvShape, pieces};
use super::simd::{load, store};
use super::sparse::{BLOCK, Routes};

/// Floats of one kernel row in the accumulator, a multiple of every vector width.
pub fn padded_piece(shape: &ConvShape) -> usize {
    shape.row_piece().next_multiple_of(16)
}

/// Length of the accumulator `[out_channels, kernel, padded piece]`.
pub fn sums_len(shape: &ConvShape) -> usize {
    shape.out_channels * shape.kernel * padded_piece(shape)
}

/// What the gradient of one image is computed from.
pub struct Gradient<'a, S> {
    pub simd: S,
    pub shape: &'a ConvShape,
    pub routes: &'a Routes,
    /// `[position, channel]`: the place in the window (255: none).
    pub places: &'a [u8],
    /// `[position, channel]`
    pub dy: &'a [f32],
    /// Offset in the (padded) input of each position's first pixel, and of each place in its window.
    pub bases: &'a [u32],
    pub steps: [usize; 4],
}

impl<S: Simd> Gradient<'_, S> {
    /// Adds this image's weight gradient to `sums` (`[out_channels, kernel, padded piece]`) and its bias
    /// gradient to `bias`. `x` is the padded image plus slack.
    #[inline(always)]
    pub fn add_weight_gradient(&self, x: &[f32], sums: &mut [f32], bias: &mut [f32]) {
        let shape = self.shape;
        let vectors = shape.row_piece().div_ceil(S::F32_LANES);
        let wide = S::REGISTER_COUNT >= 32;
        for (block, bases) in self.bases.chunks(BLOCK).enumerate() {
            let mut all = Pass {
                block,
                bases,
                row: 0,
                first: 0,
                x,
                sums,
                bias,
            };
            if shape.kernel == 3 && shape.row_piece() <= 16 {
                match vectors {
                    1 => self.add_rows::<3, 1, true>(&mut all),
                    2 => self.add_rows::<3, 2, true>(&mut all),
                    _ => self.add_by_rows(&mut all, vectors),
                }
            } else if shape.kernel == 3 && wide {
                for range in pieces(vectors, 6) {
                    all.first = range.start * S::F32_LANES;
                    match range.len() {
                        1 => self.add_rows::<3, 1, false>(&mut all),
                        2 => self.add_rows::<3, 2, false>(&mut all),
                        3 => self.add_rows::<3, 3, false>(&mut all),
                        4 => self.add_rows::<3, 4, false>(&mut all),
                        5 => self.add_rows::<3, 5, false>(&mut all),
                        _ => self.add_rows::<3, 6, false>(&mut all),
                    }
                }
            } else {
                self.add_by_rows(&mut all, vectors);
            }
        }
    }

    #[inline(always)]
    fn add_by_rows(&self, all: &mut Pass, vectors: usize) {
        for row in 0..self.shape.kernel {
            for range in pieces(vectors, 12) {
                (all.row, all.first) = (row, range.start * S::F32_LANES);
                match range.len() {
                    1 => self.add_rows::<1, 1, false>(all),
                    2 => self.add_rows::<1, 2, false>(all),
                    3 => self.add_rows::<1, 3, false>(all),
                    4 => self.add_rows::<1, 4, false>(all),
                    5 => self.add_rows::<1, 5, false>(all),
                    6 => self.add_rows::<1, 6, false>(all),
                    7 => self.add_rows::<1, 7, false>(all),
                    8 => self.add_rows::<1, 8, false>(all),
                    9 => self.add_rows::<1, 9, false>(all),
                    10 => self.add_rows::<1, 10, false>(all),
                    11 => self.add_rows::<1, 11, false>(all),
                    _ => self.add_rows::<1, 12, false>(all),
                }
            }
        }
    }

    /// `ROWS` kernel rows, `VECTORS` vectors of the row piece, for every channel: the sums stay in registers
    /// while the channel's non-zero gradients pass by. With `PAIRS`, every other gradient goes to a second
    /// set of sums: for when one set is too few to hide the latency of a multiply-add.
    #[inline(always)]
    fn add_rows<const ROWS: usize, const VECTORS: usize, const PAIRS: bool>(
        &self,
        pass: &mut Pass,
    ) {
        let (simd, shape) = (self.simd, self.shape);
        let (channels, piece) = (shape.out_channels, padded_piece(shape));
        let row_stride = shape.padded_width() * shape.in_channels;
        let Pass {
            block,
            bases,
            row,
            first,
            ..
        } = *pass;
        let (x, start) = (
            &pass.x[row * row_stride + first..],
            block * BLOCK * channels,
        );
        let (dy, places) = (&self.dy[start..], &self.places[start..]);
        assert!(pass.sums.len() == sums_len(shape) && pass.bias.len() >= channels);
        assert!(row + ROWS <= shape.kernel && first + VECTORS * S::F32_LANES <= piece);
        assert!(dy.len() >= bases.len() * channels && places.len() >= bases.len() * channels);
        debug_assert!(bases.iter().all(|&base| {
            base as usize + self.steps[3] + (ROWS - 1) * row_stride + VECTORS * S::F32_LANES
                <= x.len()
        }));
        let zero = simd.splat_f32s(0.0);
        for channel in 0..channels {
            let mut bits = self.routes.positions(block, channel);
            if bits == 0 {
                continue;
            }
            // SAFETY: set bits are below `bases.len()`, so the reads of `bases`, `dy` and `places` are
            // within the asserted lengths; a place is masked to 0..=3. `x` and `sums` are read and written
            // within the bounds asserted above (for `x` in debug builds: `bases` and `steps` come from the
            // same shape as the padded image).
            unsafe {
                let sums = pass
                    .sums
                    .as_mut_ptr()
                    .add((channel * shape.kernel + row) * piece + first);
                let mut totals = [[zero; VECTORS]; ROWS];
                let mut seconds = [[zero; VECTORS]; ROWS];
                let mut bias = zero;
                for (row, totals) in totals.iter_mut().enumerate() {
                    for (vector, total) in totals.iter_mut().enumerate() {
                        *total = load::<S>(sums.add(row * piece + vector * S::F32_LANES));
                    }
                }
                let mut add = |totals: &mut [[S::f32s; VECTORS]; ROWS], position: usize| {
                    let entry = position * channels + channel;
                    let place = *places.get_unchecked(entry) as usize & 3;
                    let gradient = simd.splat_f32s(*dy.get_unchecked(entry));
                    let x = x
                        .as_ptr()
                        .add(*bases.get_unchecked(position) as usize + self.steps[place]);
                    for (row, totals) in totals.iter_mut().enumerate() {
                        for (vector, total) in totals.iter_mut().enumerate() {
                            let input = load::<S>(x.add(row * row_stride + vector * S::F32_LANES));
                            *total = simd.mul_add_e_f32s(gradient, input, *total);
                        }
                    }
                    bias = simd.add_f32s(bias, gradient);
                };
                while bits != 0 {
                    add(&mut totals, bits.trailing_zeros() as usize);
                    bits &= bits - 1;
                    if PAIRS && bits != 0 {
                        add(&mut seconds, bits.trailing_zeros() as usize);
                        bits &= bits - 1;
                    }
                }
                for (row, (totals, seconds)) in totals.iter().zip(&seconds).enumerate() {
                    for (vector, (&total, &second)) in totals.iter().zip(seconds).enumerate() {
                        let total = if PAIRS {
                            simd.add_f32s(total, second)
                        } else {
                            total
                        };
                        store::<S>(sums.add(row * piece + vector * S::F32_LANES), total);
                    }
                }
                if row == 0 && first == 0 {
                    pass.bias[channel] += first_lane::<S>(bias);
                }
            }
        }
    }
}

/// One walk over the channels: which positions, which part of the sums.
struct Pass<'a> {
    block: usize,
    bases: &'a [u32],
    /// First kernel row and first float of the row piece.
    row: usize,
    first: usize,
    x: &'a [f32],
    sums: &'a mut [f32],
    bias: &'a mut [f32],
}

#[inline(always)]
fn first_lane<S: Simd>(value: S::f32s) -> f32 {
    pulp::bytemuck::cast_slice(&[value])[0]
}

/// Adds the units' sums in order and writes `dweight` (`[kernel, kernel, in, out]`).
pub fn collect(arch: Arch, shape: &ConvShape, units: &[&[f32]], dweight: &mut [f32]) {
    let mut tasks = Vec::new();
    let mut left = dweight;
    for row in 0..shape.kernel {
        for first in (0..shape.row_piece()).step_by(COLLECT) {
            let width = COLLECT.min(shape.row_piece() - first);
            let (target, rest) = left.split_at_mut(width * shape.out_channels);
            left = rest;
            tasks.push(Collect {
                shape,
                units,
                offset: row * padded_piece(shape) + first,
                target,
            });
        }
    }
    tasks.into_par_iter().for_each(|task| arch.dispatch(task));
}

/// Rows of `dweight` that one task collects.
const COLLECT: usize = 48;
/// Edge of the square that is summed and transposed at a time.
const EDGE: usize = 16;

struct Collect<'a> {
    shape: &'a ConvShape,
    units: &'a [&'a [f32]],
    offset: usize,
    target: &'a mut [f32],
}

impl WithSimd for Collect<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.shape.out_channels;
        let stride = self.shape.kernel * padded_piece(self.shape);
        for (block, rows) in self.target.chunks_mut(EDGE * channels).enumerate() {
            for start in (0..channels).step_by(EDGE) {
                let width = EDGE.min(channels - start);
                let mut square = [[0f32; EDGE]; EDGE];
                for (index, totals) in square[..width].iter_mut().enumerate() {
                    let from = (start + index) * stride + self.offset + block * EDGE;
                    for unit in self.units {
                        for (total, sum) in totals.iter_mut().zip(&unit[from..from + EDGE]) {
                            *total += sum;
                        }
                    }
                }
                for (column, row) in rows.chunks_exact_mut(channels).enumerate() {
                    for (target, totals) in row[start..start + width].iter_mut().zip(&square) {
                        *target = totals[column];
                    }
                }
            }
        }
    }
}
