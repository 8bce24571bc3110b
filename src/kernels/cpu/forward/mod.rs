//! Convolution + bias + ReLU + 2x2 max-pool in one pass.
//!
//! A register tile is some pixels x some vectors of output channels. Behind a pool the pixels are whole
//! pooling windows (2 rows x 2, 4 or 6 columns), so that maximum, its place and the ReLU are taken in
//! registers: the full-size activation never exists, and outputs that pooling drops are never computed.
//! For each input number under the kernel the tile loads its weight vectors (one stream, packed once a call)
//! and broadcasts one number per pixel: 2 + 12 loads for 24 multiply-adds with 3 windows x 2 vectors.
//! In NHWC a kernel row is one contiguous piece, so 3 input channels need no special case.
//!
//! "Same" padding copies each image into a zero frame first: one copy against `9 * out_channels` products a
//! number.
//!
//! Each output is one sum in a fixed order (bias, then kernel rows, columns, channels), so its bits depend
//! neither on threads nor on AVX2 or AVX-512.
//!
//! One Zen 5 core (peak measured: 284 GFLOP/s AVX-512, 142 AVX2), us an image, batch 32:
//!
//! | layer | AVX-512 | AVX2 |
//! |---|---|---|
//! | 32x32x3 -> 32, pool | 7.7 (202 GFLOP/s) | 13.9 (112) |
//! | 15x15x32 -> 64, pool | 19.2 (276) | 41.2 (129) |
//! | 6x6x64 -> 64 | 4.3 (273) | 9.4 (126) |
//!
//! The direct method is at its limit for the second and third layer, which `method` gives to `winograd`. What is left: the
//! first layer's epilogue (27 products a sum only; about 130 of 450 cycles a tile go to maximum, place and ReLU).

mod image;
#[cfg(test)]
mod tests;

use std::marker::PhantomData;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::norm::{Inputs, Normalisation};
use super::outputs::Outputs;
use super::pack::{Operand, PackedWeights, SLACK, copy_padded, operands};
use super::scratch::Scratch;
use super::shape::ConvShape;
use super::simd::Arch;
use image::{Image, tile};

/// Images a parallel work unit takes: small enough to share batch 32 evenly among several threads; a unit is
/// some 10 us of work or more, against well under 1 us to hand it out.
pub const UNIT: usize = 2;

/// Pixels that a convolution of 1x1 takes up at a time, eight register tiles: packed (32x32x192: 18 KB of pairs) they stay in
/// L1 for all groups of channels, where a whole image is read from L2 once a group. One Zen 4 core, 32x32x192 -> 160 forward:
/// see `README.md` beside the kernels.
const STRIP: usize = 48;

/// Outputs are `[batch, out_height, out_width, out_channels]`. With pooling, their `argmax` (one byte an output, if
/// kept) says which of the window's positions 0..=3 (row * 2 + column) holds the maximum, or 255 where ReLU made it zero.
pub fn conv_forward<O: Operand>(
    arch: Arch,
    shape: &ConvShape,
    x: Inputs,
    weight: &[f32],
    bias: Option<&[f32]>,
    mut outputs: Outputs,
) {
    assert_eq!(x.numbers.len(), shape.batch * shape.input_len());
    outputs.check(shape, shape.batch);
    if outputs.y.is_empty() {
        return;
    }
    let layer = Layer::<O> { norm: x.norm, ..Layer::new(arch, shape, weight, bias) };
    let units = x.numbers.chunks(UNIT * shape.input_len());
    let tasks: Vec<_> = units.map(|x| (x, outputs.take(UNIT * shape.output_len()))).collect();
    tasks.into_par_iter().for_each(|(x, outputs)| layer.run(x, outputs));
}

/// A convolution with its weights packed.
pub struct Layer<'a, O> {
    arch: Arch,
    shape: ConvShape,
    packed: PackedWeights<O>,
    /// Of the inputs.
    norm: Option<&'a Normalisation>,
}

impl<O: Operand> Layer<'_, O> {
    pub fn new(arch: Arch, shape: &ConvShape, weight: &[f32], bias: Option<&[f32]>) -> Self {
        shape.check();
        let packed = O::dispatch(arch, Pack { shape, weight, bias, operand: PhantomData });
        let shape = match *shape {
            // Each pixel is by itself: strips of them are images of one row.
            ConvShape { kernel: 1, padding: 0, pool: false, .. } => {
                ConvShape { height: 1, width: STRIP, ..*shape }
            }
            shape => shape,
        };
        Self { arch, shape, packed, norm: None }
    }

    /// Computes some images.
    pub fn run(&self, x: &[f32], outputs: Outputs) {
        let Self { shape, packed, norm, .. } = self;
        O::dispatch(self.arch, Images { shape, packed, norm: *norm, x, outputs });
    }

    /// [`run`](Self::run) of so many pixels of a 1x1 convolution as there are, within a function compiled for `simd`.
    #[inline(always)]
    pub fn run_strip<S: Simd>(&self, simd: S, x: &[f32], y: &mut [f32]) {
        let Self { shape, packed, norm, .. } = self;
        let outputs = Outputs::new(shape.out_channels, y, None);
        Images { shape, packed, norm: *norm, x, outputs }.with_simd(simd);
    }
}

struct Pack<'a, O> {
    shape: &'a ConvShape,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    operand: PhantomData<O>,
}

impl<O: Operand> WithSimd for Pack<'_, O> {
    type Output = PackedWeights<O>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> PackedWeights<O> {
        let vectors = if self.shape.pool { tile::<S>().pool_vectors } else { tile::<S>().vectors };
        PackedWeights::new(self.shape, self.weight, self.bias, S::F32_LANES, vectors)
    }
}

struct Images<'a, O> {
    shape: &'a ConvShape,
    packed: &'a PackedWeights<O>,
    norm: Option<&'a Normalisation>,
    x: &'a [f32],
    outputs: Outputs<'a>,
}

impl<O: Operand> WithSimd for Images<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, packed, norm, x, mut outputs } = self;
        let mut normalised = Scratch::take(if norm.is_some() { shape.input_len() } else { 0 });
        let mut padded = None;
        let mut following = x.chunks(shape.input_len()).skip(1);
        for x in x.chunks(shape.input_len()) {
            // One that is copied into a frame is read straight on.
            let next = following.next().filter(|_| shape.padding == 0).unwrap_or_default();
            // The last strip may be shorter.
            let shape = match x.len() < shape.input_len() {
                true => &ConvShape { width: x.len() / shape.in_channels, ..*shape },
                false => shape,
            };
            let outputs = outputs.take(shape.output_len());
            let x = match norm {
                Some(norm) => {
                    norm.write(simd, x, &mut normalised);
                    &normalised[..x.len()]
                }
                None => x,
            };
            let padded_len = shape.padded_height() * shape.padded_width() * operands::<O>(shape.in_channels);
            let unpadded = if shape.padding == 0 { O::as_they_are(x) } else { None };
            let x: &[O] = match unpadded {
                Some(x) => x,
                None => {
                    let padded = padded.get_or_insert_with(|| Scratch::take_zeroed(padded_len + SLACK));
                    copy_padded::<O>(shape, x, cast_slice_mut(padded));
                    cast_slice(padded)
                }
            };
            // With these lengths every tile lies within its slices; `accumulate` asserts each in debug builds.
            assert!(x.len() >= padded_len);
            outputs.check(shape, 1);
            let mut image = Image { simd, shape, x, next, outputs };
            if shape.pool {
                image.pooled(packed);
            } else {
                image.plain(packed);
            }
        }
    }
}
