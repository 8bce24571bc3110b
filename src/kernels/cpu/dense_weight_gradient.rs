//! Weight gradient where the gradient of the output is dense: behind neither ReLU nor pooling.
//!
//! For one kernel row the gradient is a matrix product over output positions: row pieces of the input, transposed,
//! times gradients. A register tile is a few numbers of the row piece x a few vectors of output channels; it stays
//! in registers over the positions of an image. Each unit of images has its own sums (see `tree`).
//! The sparse walk takes about twice as long on dense gradients: it loads a vector for every multiply-add,
//! while here four broadcasts and four loads serve sixteen.

use pulp::Simd;

use super::pack::{SLACK, copy_padded};
use super::scratch::Scratch;
use super::shape::{ConvShape, pieces};
use super::simd::{arch, load, store};
use super::tree::{Piece, sum_units};

/// Output channels must fill whole vectors of every instruction set.
const CHANNEL_MULTIPLE: usize = 16;

/// Whether [`dense_weight_gradient`] takes `shape`.
pub fn takes(shape: &ConvShape) -> bool {
    !shape.pool && !shape.relu && shape.out_channels.is_multiple_of(CHANNEL_MULTIPLE)
}

/// `x` is the input, `dy` the gradient of the output; writes `dweight` `[kernel, kernel, in, out]` and `dbias` `[out]`.
pub fn dense_weight_gradient(
    shape: &ConvShape,
    x: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    let weights = shape.weight_len();
    assert_eq!((x.len(), dy.len()), (shape.batch * shape.input_len(), shape.batch * shape.output_len()));
    assert!(dweight.len() == weights && dbias.as_ref().is_none_or(|dbias| dbias.len() == shape.out_channels));
    let mut sums = Scratch::take(weights + shape.out_channels);
    sum_units(arch(), shape.batch, Images { shape, x, dy }, &mut sums);
    let (weight_sums, bias_sums) = sums.split_at(weights);
    dweight.copy_from_slice(weight_sums);
    dbias.into_iter().for_each(|dbias| dbias.copy_from_slice(bias_sums));
}

/// Some images of the batch.
struct Images<'a> {
    shape: &'a ConvShape,
    x: &'a [f32],
    dy: &'a [f32],
}

impl Piece for Images<'_> {
    fn cut(self, images: usize) -> [Self; 2] {
        let (x, other_x) = self.x.split_at(images * self.shape.input_len());
        let (dy, other_dy) = self.dy.split_at(images * self.shape.output_len());
        [Self { x, dy, ..self }, Self { x: other_x, dy: other_dy, ..self }]
    }

    #[inline(always)]
    fn sum<S: Simd>(self, simd: S, sums: &mut [f32]) {
        let shape = self.shape;
        sums.fill(0.0);
        let (weight_sums, bias_sums) = sums.split_at_mut(shape.weight_len());
        let pixels = shape.padded_height() * shape.padded_width();
        let mut padded = Scratch::take_zeroed(pixels * shape.in_channels + SLACK);
        let images = self.x.chunks_exact(shape.input_len());
        for (x, dy) in images.zip(self.dy.chunks_exact(shape.output_len())) {
            copy_padded::<f32>(shape, x, &mut padded);
            for gradient in dy.chunks_exact(shape.out_channels) {
                for (sum, value) in bias_sums.iter_mut().zip(gradient) {
                    *sum += value;
                }
            }
            Image { simd, shape, x: &padded, dy }.add(weight_sums);
        }
    }
}

struct Image<'a, S> {
    simd: S,
    shape: &'a ConvShape,
    x: &'a [f32],
    dy: &'a [f32],
}

impl<S: Simd> Image<'_, S> {
    #[inline(always)]
    fn add(&self, sums: &mut [f32]) {
        let vectors = self.shape.out_channels / S::F32_LANES;
        let wide = S::REGISTER_COUNT >= 32;
        for row in 0..self.shape.kernel {
            for range in pieces(vectors, if wide { 4 } else { 2 }) {
                let first = range.start * S::F32_LANES;
                match (range.len(), wide) {
                    (4, _) => self.add_rows::<4, 4>(row, first, sums),
                    (3, _) => self.add_rows::<6, 3>(row, first, sums),
                    (2, true) => self.add_rows::<8, 2>(row, first, sums),
                    (2, false) => self.add_rows::<5, 2>(row, first, sums),
                    (_, true) => self.add_rows::<16, 1>(row, first, sums),
                    (_, false) => self.add_rows::<8, 1>(row, first, sums),
                }
            }
        }
    }

    /// All numbers of the row piece of kernel row `row`, against `VECTORS` vectors of channels from `first` on.
    #[inline(always)]
    fn add_rows<const ROWS: usize, const VECTORS: usize>(&self, row: usize, first: usize, sums: &mut [f32]) {
        let piece = self.shape.row_piece();
        let mut at = 0;
        while at + ROWS <= piece {
            self.add_tile::<ROWS, VECTORS>(row, at, first, sums);
            at += ROWS;
        }
        while at < piece {
            self.add_tile::<1, VECTORS>(row, at, first, sums);
            at += 1;
        }
    }

    #[inline(always)]
    fn add_tile<const ROWS: usize, const VECTORS: usize>(
        &self,
        row: usize,
        at: usize,
        first: usize,
        sums: &mut [f32],
    ) {
        let shape = self.shape;
        let channels = shape.out_channels;
        let (height, width) = (shape.conv_height(), shape.conv_width());
        let line = shape.padded_width() * shape.in_channels;
        let start = (row * shape.row_piece() + at) * channels + first;
        assert!(start + (ROWS - 1) * channels + VECTORS * S::F32_LANES <= sums.len());
        assert!(height > 0 && width > 0 && self.dy.len() >= height * width * channels);
        assert!(first + VECTORS * S::F32_LANES <= channels);
        let last = (height - 1 + row) * line + (width - 1) * shape.in_channels + at + ROWS;
        assert!(last <= self.x.len());
        // SAFETY: the largest offsets of each pointer are asserted above to lie within its slice: the last tile row
        // of `sums`, the last position of `dy`, and the last position's row piece in `x`.
        unsafe {
            let sums = sums.as_mut_ptr().add(start);
            let mut totals = [[self.simd.splat_f32s(0.0); VECTORS]; ROWS];
            for (index, totals) in totals.iter_mut().enumerate() {
                for (vector, total) in totals.iter_mut().enumerate() {
                    *total = load::<S>(sums.add(index * channels + vector * S::F32_LANES));
                }
            }
            let mut dy = self.dy.as_ptr().add(first);
            for y in 0..height {
                let mut x = self.x.as_ptr().add((y + row) * line + at);
                for _ in 0..width {
                    let mut gradients = [self.simd.splat_f32s(0.0); VECTORS];
                    for (vector, gradient) in gradients.iter_mut().enumerate() {
                        *gradient = load::<S>(dy.add(vector * S::F32_LANES));
                    }
                    for (index, totals) in totals.iter_mut().enumerate() {
                        let input = self.simd.splat_f32s(*x.add(index));
                        for (total, gradient) in totals.iter_mut().zip(gradients) {
                            *total = self.simd.mul_add_e_f32s(input, gradient, *total);
                        }
                    }
                    dy = dy.wrapping_add(channels);
                    x = x.wrapping_add(shape.in_channels);
                }
            }
            for (index, totals) in totals.iter().enumerate() {
                for (vector, &total) in totals.iter().enumerate() {
                    store::<S>(sums.add(index * channels + vector * S::F32_LANES), total);
                }
            }
        }
    }
}
