//! Sparse weight gradient of a group of images.
//!
//! For one output channel the sums over all taps and inputs (`kernel` row pieces; 288 floats = 18 AVX-512
//! registers for 3x3x32) stay in registers while the positions with a gradient pass by: each costs one
//! broadcast and a multiply-add per vector with a contiguous piece of the input. Longer pieces take several
//! walks; with 16 registers a walk covers one kernel row (12 sums).
//!
//! What it took, one Zen 5 core, AVX-512:
//! - Bits instead of index lists (`sparse.rs`): no list is built at all.
//! - The image is copied to aligned memory: 18 loads that straddle cache lines take 20 cycles, aligned 12.4.
//!   Short pieces (first layer: 9 floats) are spread to a line each: 10.3 -> 8.5 us an image.
//! - Two sets of sums where one set has only 3 registers (first layer): 14.2 -> 10.3 us.
//! - Small images are walked in groups that fill 64 positions: sums are loaded and stored once a group, for
//!   6x6x64 -> 64 7.9 -> 5.1 us.
//! - The bias gradient rides along as one addition per entry; a loop of its own took 8 % of the time.
//! - `collect` over vectors and squares of 16x16: as plain loops it took 20 %.
//! - Methods instead of closures: a closure that is not inlined loses the instruction set.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::pack::SPREAD;
use super::shape::{ConvShape, pieces};
use super::simd::{Arch, load, store};
use super::sparse::{BLOCK, Routes};

/// Short row pieces are spread: the copy of the image holds each pixel's row piece on a line of its own, for
/// piece by piece in place nearly every vector would straddle two lines.
pub fn spreads(shape: &ConvShape) -> bool {
    shape.row_piece() <= SPREAD
}

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
    /// Floats from one pixel row to the next.
    pub row_stride: usize,
}

impl<S: Simd> Gradient<'_, S> {
    /// The largest offset of a place in a window of `bases`. A pass over at most 64 of them takes a few cycles beside the
    /// products of one channel, so that bounds by it are asserted in every build.
    #[inline(always)]
    pub fn furthest(&self, bases: &[u32]) -> usize {
        let step = self.steps.iter().fold(0, |most, &step| most.max(step));
        bases.iter().fold(0, |most, &base| most.max(base)) as usize + step
    }

    /// Adds this image's weight gradient to `sums` (`[out_channels, kernel, padded piece]`) and its bias
    /// gradient to `bias`. `x` is the padded image plus slack.
    #[inline(always)]
    pub fn add_weight_gradient(&self, x: &[f32], sums: &mut [f32], bias: &mut [f32]) {
        let shape = self.shape;
        let vectors = shape.row_piece().div_ceil(S::F32_LANES);
        let wide = S::REGISTER_COUNT >= 32;
        for (block, bases) in self.bases.chunks(BLOCK).enumerate() {
            let mut all = Pass { block, bases, row: 0, first: 0, x, sums, bias };
            if shape.kernel == 3 && shape.row_piece() <= SPREAD {
                // All in pairs, for a sum in pairs is another one than a sum in one piece.
                match vectors {
                    1 => self.add_rows::<3, 1, true>(&mut all),
                    2 => self.add_rows::<3, 2, true>(&mut all),
                    3 => self.add_rows::<3, 3, true>(&mut all),
                    4 => self.add_rows::<3, 4, true>(&mut all),
                    _ => unreachable!("a short row piece is at most four vectors of four"),
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
    fn add_rows<const ROWS: usize, const VECTORS: usize, const PAIRS: bool>(&self, pass: &mut Pass) {
        let (simd, shape) = (self.simd, self.shape);
        let (channels, piece) = (shape.out_channels, padded_piece(shape));
        let row_stride = self.row_stride;
        let Pass { block, bases, row, first, .. } = *pass;
        let (x, start) = (&pass.x[row * row_stride + first..], block * BLOCK * channels);
        let (dy, places) = (&self.dy[start..], &self.places[start..]);
        assert!(pass.sums.len() == sums_len(shape) && pass.bias.len() >= channels);
        assert!(row + ROWS <= shape.kernel && first + VECTORS * S::F32_LANES <= piece);
        assert!(dy.len() >= bases.len() * channels && places.len() >= bases.len() * channels);
        assert!(bases.len() <= BLOCK && self.routes.fit_positions(block, bases.len(), channels));
        assert!(self.furthest(bases) + (ROWS - 1) * row_stride + VECTORS * S::F32_LANES <= x.len());
        let zero = simd.splat_f32s(0.0);
        for channel in 0..channels {
            let mut bits = self.routes.positions(block, channel);
            if bits == 0 {
                continue;
            }
            debug_assert!((64 - bits.leading_zeros()) as usize <= bases.len());
            // SAFETY: set bits are below `bases.len()`, so the reads of `bases`, `dy` and `places` are
            // within the asserted lengths; a place is masked to 0..=3. `x` and `sums` are read and written
            // within the bounds asserted above.
            unsafe {
                let sums = pass.sums.as_mut_ptr().add((channel * shape.kernel + row) * piece + first);
                let mut totals = [[zero; VECTORS]; ROWS];
                let mut seconds = [[zero; VECTORS]; ROWS];
                let (mut bias, mut second_bias) = (zero, zero);
                for (row, totals) in totals.iter_mut().enumerate() {
                    for (vector, total) in totals.iter_mut().enumerate() {
                        *total = load::<S>(sums.add(row * piece + vector * S::F32_LANES));
                    }
                }
                let walk = Walk { channels, channel, dy, places, bases, x };
                while bits != 0 {
                    let gradient = self.add_entry(&walk, bits.trailing_zeros() as usize, &mut totals);
                    bias = simd.add_f32s(bias, gradient);
                    bits &= bits - 1;
                    if PAIRS && bits != 0 {
                        let gradient = self.add_entry(&walk, bits.trailing_zeros() as usize, &mut seconds);
                        second_bias = simd.add_f32s(second_bias, gradient);
                        bits &= bits - 1;
                    }
                }
                for (row, (totals, seconds)) in totals.iter().zip(&seconds).enumerate() {
                    for (vector, (&total, &second)) in totals.iter().zip(seconds).enumerate() {
                        let total = if PAIRS { simd.add_f32s(total, second) } else { total };
                        store::<S>(sums.add(row * piece + vector * S::F32_LANES), total);
                    }
                }
                if row == 0 && first == 0 {
                    pass.bias[channel] += first_lane::<S>(simd.add_f32s(bias, second_bias));
                }
            }
        }
    }

    /// Adds one gradient's products to `totals` and returns it in all lanes.
    ///
    /// # Safety
    /// `position` is below the length of `bases`, and the walk's slices cover all positions.
    #[inline(always)]
    unsafe fn add_entry<const ROWS: usize, const VECTORS: usize>(
        &self,
        walk: &Walk,
        position: usize,
        totals: &mut [[S::f32s; VECTORS]; ROWS],
    ) -> S::f32s {
        let entry = position * walk.channels + walk.channel;
        debug_assert!(position < walk.bases.len() && entry < walk.dy.len() && entry < walk.places.len());
        // SAFETY: by the contract.
        unsafe {
            let place = *walk.places.get_unchecked(entry) as usize & 3;
            let gradient = self.simd.splat_f32s(*walk.dy.get_unchecked(entry));
            let x = walk.x.as_ptr().add(*walk.bases.get_unchecked(position) as usize + self.steps[place]);
            for (row, totals) in totals.iter_mut().enumerate() {
                for (vector, total) in totals.iter_mut().enumerate() {
                    let input = load::<S>(x.add(row * self.row_stride + vector * S::F32_LANES));
                    *total = self.simd.mul_add_e_f32s(gradient, input, *total);
                }
            }
            gradient
        }
    }
}

/// What the loop over one channel's gradients reads.
struct Walk<'a> {
    channels: usize,
    channel: usize,
    dy: &'a [f32],
    places: &'a [u8],
    bases: &'a [u32],
    x: &'a [f32],
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

/// Writes the sums transposed to `dweight` (`[kernel, kernel, in, out]`).
pub fn collect(arch: Arch, shape: &ConvShape, sums: &[f32], dweight: &mut [f32]) {
    let mut tasks = Vec::new();
    let mut left = dweight;
    for row in 0..shape.kernel {
        for first in (0..shape.row_piece()).step_by(COLLECT) {
            let width = COLLECT.min(shape.row_piece() - first);
            let (target, rest) = left.split_at_mut(width * shape.out_channels);
            left = rest;
            tasks.push(Collect { shape, sums, offset: row * padded_piece(shape) + first, target });
        }
    }
    tasks.into_par_iter().for_each(|task| arch.dispatch(task));
}

/// Rows of `dweight` that one task collects: few make many tasks for threads (3x3x32: 6).
const COLLECT: usize = 48;
/// Edge of the square that is transposed at a time.
const EDGE: usize = 16;

struct Collect<'a> {
    shape: &'a ConvShape,
    sums: &'a [f32],
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
            let offset = self.offset + block * EDGE;
            for start in (0..channels).step_by(EDGE) {
                let width = EDGE.min(channels - start);
                let mut square = [[0f32; EDGE]; EDGE];
                for (index, sums) in square[..width].iter_mut().enumerate() {
                    sums.copy_from_slice(&self.sums[(start + index) * stride + offset..][..EDGE]);
                }
                for (column, row) in rows.chunks_exact_mut(channels).enumerate() {
                    for (target, sums) in row[start..start + width].iter_mut().zip(&square) {
                        *target = sums[column];
                    }
                }
            }
        }
    }
}
