//! Backward pass of a convolution: both gradients in one walk over the images.
//!
//! **Saved by the forward pass:** behind a pool one byte per output (where the maximum was, 255 where ReLU made
//! it zero), else the output itself (its non-zeros are the ReLU mask). Nothing of full resolution.
//!
//! **Sums.** The batch is cut into units whose size depends on the batch alone; a unit adds its images, in
//! order, into its own `[out_channels, kernel, row piece]` sums, and `collect` adds the units in order and
//! transposes. So the result has the same bits for any number of threads, and, as vectors run along input
//! channels, for AVX2, AVX-512 and NEON (kernel 1 and 3; scalar code multiplies and adds in two roundings).
//!
//! **NaN and infinity.** Which products are made depends on the masks only, never on the gradient's value, so
//! a NaN in `dy` reaches everything that it reaches in dense math. Left out are products with a gradient that
//! is zero *because of pool or ReLU*: there dense math makes `0 * infinity = NaN` of an infinite input or
//! weight, this code nothing.
//!
//! One Zen 5 core, AVX-512, us an image (both gradients, batch 128; "as dense" counts the products of a dense
//! backward pass): 15x15x32 -> 64 with pool, 64 % of the maxima positive: 12.4 (850 GFLOP/s as dense);
//! 6x6x64 -> 64 with ReLU, 46 % positive: 7.5 (315); first layer 32x32x3 -> 32, weight gradient only: 7.8.
//! Sums in the walk over non-zeros run near 18 cycles for 18 multiply-adds with a 64-byte load each; a loop of
//! nothing else, all in L1, needs 12.4.
//!
//! Behind neither pool nor ReLU the gradient is dense. The input gradient is then the forward kernel with
//! flipped weights, the weight gradient `dense_weight_gradient` (for channels in multiples of 16; else the walk over
//! "non-zeros" with all bits set).

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::dense_weight_gradient::{self, dense_weight_gradient};
use super::forward::conv_forward;
use super::pack::{
    SLACK, SPREAD, copy_padded, copy_spread, copy_unframed, flip_weights, pack_for_input_gradient,
};
use super::scratch::Scratch;
use super::shape::ConvShape;
use super::simd::{arch, lanes};
use super::sparse::{BLOCK, Routes};
use super::weight_gradient::{Gradient, collect, spreads, sums_len};

/// Fewest images and most units of the fixed split. A unit costs writing and reading its sums once: with 4
/// images (batch 32) the weight gradient of 6x6x64 -> 64 takes 5.2 us an image, with 8 4.6, with 16 4.6; 8
/// leaves 4 units for threads.
const FEWEST_IMAGES: usize = 8;
const MOST_UNITS: usize = 16;

fn images_per_unit(batch: usize) -> usize {
    batch.div_ceil(MOST_UNITS).max(FEWEST_IMAGES)
}

/// Weight and bias gradients asked for.
pub struct WeightGradient<'a> {
    pub x: &'a [f32],
    pub dweight: &'a mut [f32],
    pub dbias: Option<&'a mut [f32]>,
}

/// Input gradient asked for.
pub struct InputGradient<'a> {
    pub weight: &'a [f32],
    pub dx: &'a mut [f32],
}

#[cfg(test)]
pub fn conv_weight_gradient(
    shape: &ConvShape,
    x: &[f32],
    y: &[f32],
    argmax: &[u8],
    dy: &[f32],
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    conv_backward(shape, y, argmax, dy, Some(WeightGradient { x, dweight, dbias }), None);
}

#[cfg(test)]
pub fn conv_input_gradient(
    shape: &ConvShape,
    weight: &[f32],
    y: &[f32],
    argmax: &[u8],
    dy: &[f32],
    dx: &mut [f32],
) {
    conv_backward(shape, y, argmax, dy, None, Some(InputGradient { weight, dx }));
}

/// Both gradients at once. `y` and `argmax` are as the forward pass left them: `y` is read only with ReLU and
/// without pooling, `argmax` only with pooling. The masks are built once and each image's data is touched once.
pub fn conv_backward(
    shape: &ConvShape,
    y: &[f32],
    argmax: &[u8],
    dy: &[f32],
    for_weight: Option<WeightGradient>,
    for_input: Option<InputGradient>,
) {
    shape.check();
    let outputs = shape.batch * shape.output_len();
    assert_eq!(dy.len(), outputs);
    assert!(!shape.pool || argmax.len() == outputs);
    assert!(shape.pool || !shape.relu || y.len() == outputs);
    let arch = arch();
    let lanes = lanes(arch);

    let mut for_input = for_input;
    if let Some(InputGradient { weight, dx }) = for_input.take_if(|_| !shape.pool && !shape.relu) {
        dense_input_gradient(shape, weight, dy, dx);
    }
    let mut for_weight = for_weight;
    let dense = outputs > 0 && dense_weight_gradient::takes(shape);
    if let Some(WeightGradient { x, dweight, dbias }) = for_weight.take_if(|_| dense) {
        dense_weight_gradient(shape, x, dy, dweight, dbias);
    }
    let (mut x, mut dweight, mut dbias) = (&[][..], None, None);
    if let Some(gradient) = for_weight {
        assert_eq!(gradient.x.len(), shape.batch * shape.input_len());
        assert_eq!(gradient.dweight.len(), shape.weight_len());
        assert!(gradient.dbias.as_ref().is_none_or(|dbias| dbias.len() == shape.out_channels));
        (x, dweight, dbias) = (gradient.x, Some(gradient.dweight), gradient.dbias);
    }
    let (mut packed, mut dx) = (None, None);
    if let Some(gradient) = for_input {
        assert_eq!(gradient.dx.len(), shape.batch * shape.input_len());
        assert_eq!(gradient.weight.len(), shape.weight_len());
        packed = Some(pack_for_input_gradient(shape, gradient.weight, lanes));
        dx = Some(gradient.dx);
    }
    if dweight.is_none() && dx.is_none() {
        return;
    }
    if outputs == 0 {
        dweight.into_iter().for_each(|dweight| dweight.fill(0.0));
        dbias.into_iter().for_each(|dbias| dbias.fill(0.0));
        dx.into_iter().for_each(|dx| dx.fill(0.0));
        return;
    }

    let images = images_per_unit(shape.batch);
    let units = shape.batch.div_ceil(images);
    let unit_sums =
        if dweight.is_some() { (sums_len(shape) + shape.out_channels).next_multiple_of(16) } else { 0 };
    let mut sums = Scratch::take(units * unit_sums);
    let stride = shape.in_channels.next_multiple_of(lanes);
    let group = (BLOCK / shape.positions()).clamp(1, images);
    let (x_stride, x_row) = if spreads(shape) {
        (SPREAD, shape.conv_width() * SPREAD)
    } else {
        (shape.in_channels, shape.padded_width() * shape.in_channels)
    };
    let x_pitch = (shape.padded_height() * x_row).next_multiple_of(16);
    let dx_row = shape.padded_width() * stride;
    let dx_pitch = shape.padded_height() * dx_row;
    let plan = Plan {
        shape,
        packed: packed.as_deref().unwrap_or_default(),
        stride,
        group,
        x_row,
        x_steps: steps(shape, x_stride, x_row),
        dx_row,
        dx_steps: steps(shape, stride, dx_row),
        x_pitch,
        dx_pitch,
        x_bases: if dweight.is_some() { bases(shape, group, x_stride, x_row, x_pitch) } else { Vec::new() },
        dx_bases: if dx.is_some() { bases(shape, group, stride, dx_row, dx_pitch) } else { Vec::new() },
    };
    let mut work: Vec<Unit> = Vec::with_capacity(units);
    let mut sums_left = &mut sums[..];
    let mut dx_left = dx.unwrap_or_default();
    for unit in 0..units {
        let (first, last) = (unit * images, ((unit + 1) * images).min(shape.batch));
        let cut = |slice: usize| first * slice..last * slice;
        let (sums, rest) = sums_left.split_at_mut(unit_sums);
        sums_left = rest;
        let (dx, rest) = dx_left.split_at_mut(((last - first) * shape.input_len()).min(dx_left.len()));
        dx_left = rest;
        work.push(Unit {
            plan: &plan,
            x: x.get(cut(shape.input_len())).unwrap_or_default(),
            y: y.get(cut(shape.output_len())).unwrap_or_default(),
            argmax: argmax.get(cut(shape.output_len())).unwrap_or_default(),
            dy: &dy[cut(shape.output_len())],
            sums,
            dx,
        });
    }
    work.into_par_iter().for_each(|unit| arch.dispatch(unit));

    if let Some(dweight) = dweight {
        let parts: Vec<&[f32]> = sums.chunks_exact(unit_sums).map(|sums| &sums[..sums_len(shape)]).collect();
        collect(arch, shape, &parts, dweight);
        if let Some(dbias) = dbias {
            dbias.fill(0.0);
            for sums in sums.chunks_exact(unit_sums) {
                for (total, sum) in dbias.iter_mut().zip(&sums[sums_len(shape)..]) {
                    *total += sum;
                }
            }
        }
    }
}

/// Offset of each output position's first pixel in a group of padded images, of `stride` floats a pixel,
/// `row_stride` a row and `pitch` an image.
fn bases(shape: &ConvShape, group: usize, stride: usize, row_stride: usize, pitch: usize) -> Vec<u32> {
    let step = if shape.pool { 2 } else { 1 };
    assert!(u32::try_from(group * pitch).is_ok(), "image too large");
    (0..group * shape.positions())
        .map(|index| {
            let (image, position) = (index / shape.positions(), index % shape.positions());
            let (row, column) = (position / shape.out_width() * step, position % shape.out_width() * step);
            (image * pitch + row * row_stride + column * stride) as u32
        })
        .collect()
}

/// Offset of each place in a pooling window.
fn steps(shape: &ConvShape, stride: usize, row: usize) -> [usize; 4] {
    if shape.pool { [0, stride, row, row + stride] } else { [0; 4] }
}

/// Behind neither pool nor ReLU the gradient is dense: a forward convolution with flipped weights.
fn dense_input_gradient(shape: &ConvShape, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
    if dy.is_empty() {
        dx.fill(0.0);
        return;
    }
    let flipped = flip_weights(shape, weight);
    let turned = ConvShape {
        height: shape.out_height(),
        width: shape.out_width(),
        in_channels: shape.out_channels,
        out_channels: shape.in_channels,
        padding: shape.kernel - 1 - shape.padding,
        ..*shape
    };
    conv_forward(&turned, dy, &flipped, None, dx, None);
}

struct Plan<'a> {
    shape: &'a ConvShape,
    packed: &'a [f32],
    /// Floats a pixel of the input gradient: the channels rounded up to whole vectors.
    stride: usize,
    /// Images whose positions are walked together, so that small images too fill a block of 64.
    group: usize,
    x_pitch: usize,
    x_row: usize,
    x_steps: [usize; 4],
    dx_pitch: usize,
    dx_row: usize,
    dx_steps: [usize; 4],
    x_bases: Vec<u32>,
    dx_bases: Vec<u32>,
}

struct Unit<'a> {
    plan: &'a Plan<'a>,
    x: &'a [f32],
    y: &'a [f32],
    argmax: &'a [u8],
    dy: &'a [f32],
    sums: &'a mut [f32],
    dx: &'a mut [f32],
}

impl WithSimd for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, x, y, argmax, dy, sums, dx } = self;
        let shape = plan.shape;
        let (inputs, outputs) = (shape.input_len(), shape.output_len());
        let (weight_sums, bias_sums) = sums.split_at_mut(if sums.is_empty() { 0 } else { sums_len(shape) });
        weight_sums.fill(0.0);
        bias_sums.fill(0.0);
        let of_group = |needed: bool, pitch: usize| {
            if needed { plan.group * pitch + SLACK } else { 0 }
        };
        let frameless = shape.padding == 0 && plan.stride == shape.in_channels;
        let mut padded = Scratch::take_zeroed(of_group(!weight_sums.is_empty(), plan.x_pitch));
        let mut framed = Scratch::take(of_group(!dx.is_empty() && !frameless, plan.dx_pitch));
        let window = if dx.is_empty() {
            0
        } else if shape.pool {
            4
        } else {
            1
        };
        let mut routes = Routes::new(plan.group * shape.positions(), shape.out_channels, window);
        let mut made = vec![0u8; if shape.pool { 0 } else { plan.group * outputs }];
        for (group, dy) in dy.chunks(plan.group * outputs).enumerate() {
            let first = group * plan.group;
            let images = dy.len() / outputs;
            let places = if shape.pool {
                &argmax[first * outputs..][..dy.len()]
            } else {
                if shape.relu {
                    for (place, &y) in made.iter_mut().zip(&y[first * outputs..][..dy.len()]) {
                        *place = if y != 0.0 { 0 } else { 255 };
                    }
                }
                &made[..dy.len()]
            };
            routes.fill(places);
            let positions = images * shape.positions();
            let gradient = Gradient {
                simd,
                shape,
                routes: &routes,
                places,
                dy,
                bases: &[],
                steps: [0; 4],
                row_stride: 0,
            };
            if !weight_sums.is_empty() {
                let x = x[first * inputs..][..images * inputs].chunks_exact(inputs);
                for (x, padded) in x.zip(padded.chunks_mut(plan.x_pitch)) {
                    if spreads(shape) {
                        copy_spread(shape, x, padded);
                    } else {
                        copy_padded(shape, x, padded);
                    }
                }
                let bases = &plan.x_bases[..positions];
                let gradient = Gradient { bases, steps: plan.x_steps, row_stride: plan.x_row, ..gradient };
                gradient.add_weight_gradient(&padded, weight_sums, bias_sums);
            }
            if !dx.is_empty() {
                let dx = &mut dx[first * inputs..][..images * inputs];
                let bases = &plan.dx_bases[..positions];
                let gradient = Gradient { bases, steps: plan.dx_steps, row_stride: plan.dx_row, ..gradient };
                if frameless {
                    dx.fill(0.0);
                    gradient.add_input_gradient(plan.packed, plan.stride, dx);
                } else {
                    framed.fill(0.0);
                    gradient.add_input_gradient(plan.packed, plan.stride, &mut framed);
                    for (dx, framed) in dx.chunks_exact_mut(inputs).zip(framed.chunks(plan.dx_pitch)) {
                        copy_unframed(shape, framed, plan.stride, dx);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
