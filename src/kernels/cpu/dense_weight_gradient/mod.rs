//! Weight gradient where the gradient of the output is dense: behind neither ReLU nor pooling, or unfolded to what it is
//! there ([`unfold`]), which pays for products of bfloat16 (`method`).
//!
//! For one kernel row the gradient is a matrix product over output positions: row pieces of the input, transposed,
//! times gradients. A register tile is a few numbers of the row piece x a few vectors of output channels; it stays
//! in registers over a strip of positions. Each unit of images has its own sums (see `tree`).
//! The sparse walk takes about twice as long on dense gradients: it loads a vector for every multiply-add,
//! while here six broadcasts and four loads serve 24.
//!
//! Operands of several factors hold the same number of successive images: a unit with an odd image takes zeros for the
//! missing one.

mod images;

use std::marker::PhantomData;
use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};

use super::backward::Saved;
use super::norm::{Inputs, Normalisation};
use super::pack::{Operand, SLACK, copy_together};
use super::scratch::Scratch;
use super::shape::{ConvShape, pieces};
use super::simd::{Arch, MOST_LANES};
use super::tree::{Piece, sum_units};
use super::unfold::{add_pixels, is_dense, unfold};
pub use images::Images;

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
        let mut room = Room::new::<O>(shape, self.norm.is_some());
        for (index, (x, saved)) in self.x.chunks(inputs).zip(self.saved.chunks(outputs)).enumerate() {
            let from_here = [&self.x[index * inputs..], &self.saved.dy[index * outputs..]];
            let dy = unfold(shape, saved, &mut room.unfolded);
            add_pixels(dy, shape.out_channels, bias_sums);
            for strip in pieces(positions, at_a_time(shape)) {
                let (part, inputs) = inputs_under(shape, &strip);
                let outputs = strip.start * shape.out_channels..strip.end * shape.out_channels;
                // What is packed is read straight on.
                let next = match by_itself(shape) && is_dense(shape) && O::FACTORS == 1 {
                    true => [behind(from_here[0], &inputs), behind(from_here[1], &outputs)],
                    false => [&[][..]; 2],
                };
                let (first, second) = of_both(x, shape.input_len(), inputs);
                let (first, second) = match self.norm {
                    Some(norm) => norm.write_both(simd, first, second, &mut room.normalised),
                    None => (first, second),
                };
                let x = match O::as_they_are(first) {
                    Some(x) if shape.padding == 0 => x,
                    _ => {
                        copy_together::<O>(&part, first, second, cast_slice_mut(&mut room.packed_x));
                        cast_slice(&room.packed_x)
                    }
                };
                let (first, second) = of_both(dy, positions * shape.out_channels, outputs);
                let dy = match O::as_they_are(first) {
                    Some(dy) => dy,
                    None => {
                        let target = &mut cast_slice_mut(&mut room.packed_dy)[..strip.len() * width];
                        pack_gradients::<O>(shape.out_channels, first, second, target);
                        cast_slice(&room.packed_dy)
                    }
                };
                Images { simd, shape: &part, x, dy, width, next }.add(weight_sums);
            }
        }
    }
}

/// Whether each pixel is by itself, so that strips of them can be packed and stay in the caches.
fn by_itself(shape: &ConvShape) -> bool {
    shape.kernel == 1 && shape.padding == 0
}

/// Positions that are worked off together: those of a strip, or of an image.
fn at_a_time(shape: &ConvShape) -> usize {
    let positions = shape.conv_height() * shape.conv_width();
    if by_itself(shape) { STRIP.min(positions) } else { positions }
}

/// The convolution that these positions are of, and the inputs that it reads.
#[inline(always)]
fn inputs_under(shape: &ConvShape, positions: &Range<usize>) -> (ConvShape, Range<usize>) {
    if !by_itself(shape) {
        return (*shape, 0..shape.input_len());
    }
    let strip = ConvShape { height: 1, width: positions.len(), ..*shape };
    (strip, positions.start * shape.in_channels..positions.end * shape.in_channels)
}

/// Where operands are made, as far as they cannot be read as they are.
struct Room {
    unfolded: Scratch,
    normalised: Scratch,
    packed_x: Scratch,
    packed_dy: Scratch,
}

impl Room {
    fn new<O: Operand>(shape: &ConvShape, normalises: bool) -> Self {
        let positions = shape.conv_height() * shape.conv_width();
        let pixels = match by_itself(shape) {
            true => at_a_time(shape),
            false => shape.padded_height() * shape.padded_width(),
        };
        let floats = |wanted, count| if wanted { O::FACTORS * count } else { 0 };
        let width = shape.out_channels.next_multiple_of(CHANNEL_MULTIPLE);
        Self {
            unfolded: Scratch::take(floats(!is_dense(shape), positions * shape.out_channels)),
            normalised: Scratch::take(floats(normalises, pixels * shape.in_channels)),
            packed_x: Scratch::take_zeroed(pixels * shape.in_channels + SLACK),
            packed_dy: Scratch::take_zeroed(if O::FACTORS == 1 { 0 } else { at_a_time(shape) * width }),
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
