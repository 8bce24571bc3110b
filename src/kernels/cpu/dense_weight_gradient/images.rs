//! The products of some images, or strips of them, register tile by register tile.

use std::ops::Range;

use pulp::Simd;

use super::super::ahead::Ahead;
use super::super::pack::Operand;
use super::super::shape::{ConvShape, pieces};
use super::super::simd::{load, store};
use super::STRIP;

/// Numbers of a row piece, and vectors of channels, of a register tile.
const fn tile<S: Simd>() -> [usize; 2] {
    if S::REGISTER_COUNT >= 32 { [6, 4] } else { [5, 2] }
}

/// As many images as an operand has factors.
pub struct Images<'a, S, O> {
    pub simd: S,
    pub shape: &'a ConvShape,
    /// `[padded height, padded width, in channels]`
    pub x: &'a [O],
    /// `[conv height, conv width, width]`
    pub dy: &'a [O],
    /// Output channels, in whole vectors.
    pub width: usize,
    /// Inputs and gradients that are read after these.
    pub next: [&'a [f32]; 2],
}

/// What of the sums a tile adds to: numbers of a row piece x vectors of channels, over rows of positions.
#[derive(Clone)]
struct At {
    positions: Range<usize>,
    row: usize,
    number: usize,
    first: usize,
}

impl<S: Simd, O: Operand> Images<'_, S, O> {
    /// Adds their weight gradient to `[kernel, kernel, in channels, width]`.
    #[inline(always)]
    pub fn add(&self, sums: &mut [f32]) {
        let vectors = self.width / S::F32_LANES;
        let [numbers, most] = tile::<S>();
        let tiles = vectors.div_ceil(most) * self.shape.row_piece().div_ceil(numbers);
        let mut ahead = self.next.map(|next| Ahead::new(next, tiles));
        let rows = (STRIP / self.shape.conv_width()).max(1);
        for positions in pieces(self.shape.conv_height(), rows) {
            for row in 0..self.shape.kernel {
                for range in pieces(vectors, most) {
                    let first = range.start * S::F32_LANES;
                    let at = At { positions: positions.clone(), row, number: 0, first };
                    if S::REGISTER_COUNT >= 32 {
                        match range.len() {
                            1 => self.add_row::<1>(at, &mut ahead, sums),
                            2 => self.add_row::<2>(at, &mut ahead, sums),
                            3 => self.add_row::<3>(at, &mut ahead, sums),
                            _ => self.add_row::<4>(at, &mut ahead, sums),
                        }
                    } else {
                        match range.len() {
                            1 => self.add_row::<1>(at, &mut ahead, sums),
                            _ => self.add_row::<2>(at, &mut ahead, sums),
                        }
                    }
                }
            }
        }
    }

    /// All numbers of the row piece, against `VECTORS` vectors of channels.
    #[inline(always)]
    fn add_row<const VECTORS: usize>(&self, mut at: At, ahead: &mut [Ahead; 2], sums: &mut [f32]) {
        for numbers in pieces(self.shape.row_piece(), tile::<S>()[0]) {
            ahead.iter_mut().for_each(Ahead::step);
            at.number = numbers.start;
            match numbers.len() {
                1 => self.add_tile::<1, VECTORS>(&at, sums),
                2 => self.add_tile::<2, VECTORS>(&at, sums),
                3 => self.add_tile::<3, VECTORS>(&at, sums),
                4 => self.add_tile::<4, VECTORS>(&at, sums),
                5 => self.add_tile::<5, VECTORS>(&at, sums),
                _ => self.add_tile::<6, VECTORS>(&at, sums),
            }
        }
    }

    #[inline(always)]
    fn add_tile<const ROWS: usize, const VECTORS: usize>(&self, at: &At, sums: &mut [f32]) {
        let At { ref positions, row, number, first } = *at;
        let (shape, width) = (self.shape, self.width);
        let columns = shape.conv_width();
        let line = shape.padded_width() * shape.in_channels;
        let start = (row * shape.row_piece() + number) * width + first;
        assert!(start + (ROWS - 1) * width + VECTORS * S::F32_LANES <= sums.len());
        assert!(positions.end > positions.start && columns > 0);
        assert!(self.dy.len() >= positions.end * columns * width);
        assert!(first + VECTORS * S::F32_LANES <= width);
        let last = (positions.end - 1 + row) * line + (columns - 1) * shape.in_channels + number + ROWS;
        assert!(last <= self.x.len());
        // SAFETY: the largest offsets of each pointer are asserted above to lie within its slice: the last tile row
        // of `sums`, the last position of `dy`, and the last position's row piece in `x`.
        unsafe {
            let sums = sums.as_mut_ptr().add(start);
            let mut totals = [[self.simd.splat_f32s(0.0); VECTORS]; ROWS];
            for (index, totals) in totals.iter_mut().enumerate() {
                for (vector, total) in totals.iter_mut().enumerate() {
                    *total = load::<S>(sums.add(index * width + vector * S::F32_LANES));
                }
            }
            let mut dy = self.dy.as_ptr().add(positions.start * columns * width + first);
            for y in positions.clone() {
                let mut x = self.x.as_ptr().add((y + row) * line + number);
                for _ in 0..columns {
                    let mut gradients = [O::splat(self.simd, O::zeroed()); VECTORS];
                    for (vector, gradient) in gradients.iter_mut().enumerate() {
                        *gradient = O::load(self.simd, dy.add(vector * S::F32_LANES));
                    }
                    for (index, totals) in totals.iter_mut().enumerate() {
                        let input = O::splat(self.simd, *x.add(index));
                        for (total, gradient) in totals.iter_mut().zip(gradients) {
                            *total = O::multiply_add(self.simd, input, gradient, *total);
                        }
                    }
                    dy = dy.wrapping_add(width);
                    x = x.wrapping_add(shape.in_channels);
                }
            }
            for (index, totals) in totals.iter().enumerate() {
                for (vector, &total) in totals.iter().enumerate() {
                    store::<S>(sums.add(index * width + vector * S::F32_LANES), total);
                }
            }
        }
    }
}
