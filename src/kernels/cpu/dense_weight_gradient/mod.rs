//! Weight gradient where the gradient of the output is dense: behind neither ReLU nor pooling, or unfolded to what it is
//! there ([`unfold`]), which pays for products of bfloat16 (`method.rs`).
//!
//! For one kernel row the gradient is a matrix product over output positions: row pieces of the input, transposed,
//! times gradients. A register tile is a few numbers of the row piece x a few vectors of output channels; it stays
//! in registers over a strip of positions. Each unit of images has its own sums (see `tree`).
//! The sparse walk takes about twice as long on dense gradients: it loads a vector for every multiply-add,
//! while here six broadcasts and four loads serve 24.
//!
//! Operands of several factors hold the same number of successive images: a unit with an odd image takes zeros for the
//! missing one.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};

use super::ahead::Ahead;
use super::backward::Saved;
use super::norm::{Inputs, Normalisation};
use super::pack::{Operand, SLACK, copy_together};
use super::scratch::Scratch;
use super::shape::{ConvShape, pieces};
use super::simd::{Arch, MOST_LANES, load, store};
use super::tree::{Piece, sum_units};
use super::unfold::{is_dense, unfold};

/// Output channels must fill whole vectors of every instruction set, where gradients are read as they are.
const CHANNEL_MULTIPLE: usize = MOST_LANES;

/// Positions that a tile's sums stay in registers for: their gradients (256 bytes each) and pieces of input stay in L1
/// while the tiles of a kernel row pass by. 1x1 32x32x192 -> 160 with pairs of bfloat16, one Zen 4 core: 160 GFLOP/s where
/// whole images are packed and walked, 176 by strips.
const STRIP: usize = 64;

/// Whether [`dense_weight_gradient`] takes the gradients of `shape` as they are.
pub fn takes(shape: &ConvShape) -> bool {
    is_dense(shape) && shape.out_channels.is_multiple_of(CHANNEL_MULTIPLE)
}

/// `x` is the input, `saved` the gradient of the output with what masks it; writes `dweight` `[kernel, kernel, in, out]` and
/// `dbias` `[out]`.
pub fn dense_weight_gradient<O: Operand>(
    arch: Arch,
    shape: &ConvShape,
    x: Inputs,
    saved: Saved,
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    let weights = shape.weight_len();
    assert_eq!(
        (x.numbers.len(), saved.dy.len()),
        (shape.batch * shape.input_len(), shape.batch * shape.output_len())
    );
    assert!(dweight.len() == weights && dbias.as_ref().is_none_or(|dbias| dbias.len() == shape.out_channels));
    let width = shape.out_channels.next_multiple_of(CHANNEL_MULTIPLE);
    let mut sums = Scratch::take((shape.depth() + usize::from(dbias.is_some())) * width);
    let all = Part { shape, x: x.numbers, norm: x.norm, saved, operand: PhantomData::<O> };
    sum_units(arch, shape.batch, all, &mut sums);
    let (weight_sums, bias_sums) = sums.split_at(shape.depth() * width);
    for (row, sums) in dweight.chunks_exact_mut(shape.out_channels).zip(weight_sums.chunks_exact(width)) {
        row.copy_from_slice(&sums[..shape.out_channels]);
    }
    dbias.into_iter().for_each(|dbias| dbias.copy_from_slice(&bias_sums[..shape.out_channels]));
}

/// Some images of the batch.
struct Part<'a, O> {
    shape: &'a ConvShape,
    x: &'a [f32],
    norm: Option<&'a Normalisation>,
    saved: Saved<'a>,
    operand: PhantomData<O>,
}

impl<O: Operand> Piece for Part<'_, O> {
    fn cut(self, images: usize) -> [Self; 2] {
        let (x, other_x) = self.x.split_at(images * self.shape.input_len());
        let [saved, other] = self.saved.split_at(images * self.shape.output_len());
        [Self { x, saved, ..self }, Self { x: other_x, saved: other, ..self }]
    }

    #[inline(always)]
    fn dispatch<Operation: WithSimd>(arch: Arch, operation: Operation) -> Operation::Output {
        O::dispatch(arch, operation)
    }

    #[inline(always)]
    fn sum<S: Simd>(self, simd: S, sums: &mut [f32]) {
        let shape = self.shape;
        sums.fill(0.0);
        let width = shape.out_channels.next_multiple_of(CHANNEL_MULTIPLE);
        let (weight_sums, bias_sums) = sums.split_at_mut(shape.depth() * width);
        let (inputs, outputs) = (O::FACTORS * shape.input_len(), O::FACTORS * shape.output_len());
        let positions = shape.conv_height() * shape.conv_width();
        // Each pixel is by itself: strips of them, packed, stay in the caches.
        let by_itself = shape.kernel == 1 && shape.padding == 0;
        let at_a_time = if by_itself { STRIP.min(positions) } else { positions };
        let pixels = if by_itself { at_a_time } else { shape.padded_height() * shape.padded_width() };
        let room = if is_dense(shape) { 0 } else { O::FACTORS * positions * shape.out_channels };
        let mut unfolded = Scratch::take(room);
        let at_once = if self.norm.is_some() { O::FACTORS * pixels * shape.in_channels } else { 0 };
        let mut normalised = Scratch::take(at_once);
        let mut packed_x = Scratch::take_zeroed(pixels * shape.in_channels + SLACK);
        let mut packed_dy = Scratch::take_zeroed(if O::FACTORS == 1 { 0 } else { at_a_time * width });
        for (index, (x, saved)) in self.x.chunks(inputs).zip(self.saved.chunks(outputs)).enumerate() {
            let from_here = [&self.x[index * inputs..], &self.saved.dy[index * outputs..]];
            let dy = unfold(shape, saved, &mut unfolded);
            if !bias_sums.is_empty() {
                for gradient in dy.chunks_exact(shape.out_channels) {
                    for (sum, value) in bias_sums.iter_mut().zip(gradient) {
                        *sum += value;
                    }
                }
            }
            for strip in pieces(positions, at_a_time) {
                let (part, inputs) = match by_itself {
                    true => {
                        let part = ConvShape { height: 1, width: strip.len(), ..*shape };
                        (part, strip.start * shape.in_channels..strip.end * shape.in_channels)
                    }
                    false => (*shape, 0..shape.input_len()),
                };
                let outputs = strip.start * shape.out_channels..strip.end * shape.out_channels;
                // What is packed is read straight on.
                let next = match by_itself && is_dense(shape) && O::FACTORS == 1 {
                    true => [behind(from_here[0], &inputs), behind(from_here[1], &outputs)],
                    false => [&[][..]; 2],
                };
                let (first, second) = of_both(x, shape.input_len(), inputs);
                let (first, second) = match self.norm {
                    Some(norm) => norm.write_both(simd, first, second, &mut normalised),
                    None => (first, second),
                };
                let x = match O::as_they_are(first) {
                    Some(x) if shape.padding == 0 => x,
                    _ => {
                        copy_together::<O>(&part, first, second, cast_slice_mut(&mut packed_x));
                        cast_slice(&packed_x)
                    }
                };
                let (first, second) = of_both(dy, positions * shape.out_channels, outputs);
                let dy = match O::as_they_are(first) {
                    Some(dy) => dy,
                    None => {
                        let target = &mut cast_slice_mut(&mut packed_dy)[..strip.len() * width];
                        pack_gradients::<O>(shape.out_channels, first, second, target);
                        cast_slice(&packed_dy)
                    }
                };
                Images { simd, shape: &part, x, dy, width, next }.add(weight_sums);
            }
        }
    }
}

/// The same range of an image's numbers, and of those of one more image behind it if there is one.
#[inline(always)]
fn of_both(numbers: &[f32], image: usize, range: Range<usize>) -> (&[f32], Option<&[f32]>) {
    (&numbers[range.clone()], numbers.get(image + range.start..image + range.end))
}

/// As many numbers as a range has, or those that there are, behind it.
#[inline(always)]
fn behind<'a>(numbers: &'a [f32], range: &Range<usize>) -> &'a [f32] {
    &numbers[range.end..][..range.len().min(numbers.len() - range.end)]
}

/// Packs the gradients of some images to rows of whole vectors, beyond the channels zero already.
#[inline(always)]
fn pack_gradients<O: Operand>(channels: usize, first: &[f32], second: Option<&[f32]>, target: &mut [O]) {
    let width = channels.next_multiple_of(CHANNEL_MULTIPLE);
    for (index, (source, target)) in
        first.chunks_exact(channels).zip(target.chunks_exact_mut(width)).enumerate()
    {
        let second = second.map(|second| &second[index * channels..][..channels]);
        O::pack_rows(source, second, &mut target[..channels]);
    }
}

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
