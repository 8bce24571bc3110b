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

use std::ops::Range;

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
    mut for_weight: Option<WeightGradient>,
    mut for_input: Option<InputGradient>,
) {
    shape.check();
    let outputs = shape.batch * shape.output_len();
    assert_eq!(dy.len(), outputs);
    assert!(!shape.pool || argmax.len() == outputs);
    assert!(shape.pool || !shape.relu || y.len() == outputs);
    if let Some(gradient) = &for_weight {
        assert_eq!(gradient.x.len(), shape.batch * shape.input_len());
        assert_eq!(gradient.dweight.len(), shape.weight_len());
        assert!(gradient.dbias.as_ref().is_none_or(|dbias| dbias.len() == shape.out_channels));
    }
    if let Some(gradient) = &for_input {
        assert_eq!(gradient.dx.len(), shape.batch * shape.input_len());
        assert_eq!(gradient.weight.len(), shape.weight_len());
    }
    if outputs == 0 {
        fill_with_zeros(for_weight, for_input);
        return;
    }
    if let Some(InputGradient { weight, dx }) = for_input.take_if(|_| !shape.pool && !shape.relu) {
        dense_input_gradient(shape, weight, dy, dx);
    }
    if let Some(WeightGradient { x, dweight, dbias }) =
        for_weight.take_if(|_| dense_weight_gradient::takes(shape))
    {
        dense_weight_gradient(shape, x, dy, dweight, dbias);
    }
    if for_weight.is_some() || for_input.is_some() {
        sparse_backward(shape, Saved { y, argmax, dy }, for_weight, for_input);
    }
}

/// The gradients of an empty output.
fn fill_with_zeros(for_weight: Option<WeightGradient>, for_input: Option<InputGradient>) {
    if let Some(WeightGradient { dweight, dbias, .. }) = for_weight {
        dweight.fill(0.0);
        dbias.into_iter().for_each(|dbias| dbias.fill(0.0));
    }
    for_input.into_iter().for_each(|gradient| gradient.dx.fill(0.0));
}

/// What the forward pass left, and the gradient of its output; of the whole batch or of some images.
#[derive(Clone, Copy)]
struct Saved<'a> {
    y: &'a [f32],
    argmax: &'a [u8],
    dy: &'a [f32],
}

/// The walk over the non-zeros of the gradient, in units of images.
fn sparse_backward(
    shape: &ConvShape,
    saved: Saved,
    for_weight: Option<WeightGradient>,
    for_input: Option<InputGradient>,
) {
    let arch = arch();
    let lanes = lanes(arch);
    let packed = for_input.as_ref().map(|gradient| pack_for_input_gradient(shape, gradient.weight, lanes));
    let plan = Plan::new(shape, for_weight.is_some(), packed.as_deref(), lanes);
    let mut sums = Scratch::take(shape.batch.div_ceil(plan.images) * plan.unit_sums);
    let x = for_weight.as_ref().map_or(&[][..], |gradient| gradient.x);
    let dx = for_input.map_or(&mut [][..], |gradient| gradient.dx);
    units(&plan, x, saved, &mut sums, dx).into_par_iter().for_each(|unit| arch.dispatch(unit));
    if let Some(WeightGradient { dweight, dbias, .. }) = for_weight {
        let parts: Vec<&[f32]> =
            sums.chunks_exact(plan.unit_sums).map(|sums| &sums[..sums_len(shape)]).collect();
        collect(arch, shape, &parts, dweight);
        if let Some(dbias) = dbias {
            dbias.fill(0.0);
            for sums in sums.chunks_exact(plan.unit_sums) {
                for (total, sum) in dbias.iter_mut().zip(&sums[sums_len(shape)..]) {
                    *total += sum;
                }
            }
        }
    }
}

/// The images and sums of each unit. `x` and `dx` are empty where their gradient is not asked for, and so are the sums.
fn units<'a>(
    plan: &'a Plan<'a>,
    x: &'a [f32],
    Saved { y, argmax, dy }: Saved<'a>,
    mut sums: &'a mut [f32],
    mut dx: &'a mut [f32],
) -> Vec<Unit<'a>> {
    let shape = plan.shape;
    let mut units = Vec::with_capacity(shape.batch.div_ceil(plan.images));
    for first in (0..shape.batch).step_by(plan.images) {
        let last = (first + plan.images).min(shape.batch);
        let cut = |slice: usize| first * slice..last * slice;
        let (unit_sums, sums_left) = sums.split_at_mut(plan.unit_sums);
        let (unit_dx, dx_left) = dx.split_at_mut(((last - first) * shape.input_len()).min(dx.len()));
        (sums, dx) = (sums_left, dx_left);
        units.push(Unit {
            plan,
            x: x.get(cut(shape.input_len())).unwrap_or_default(),
            saved: Saved {
                y: y.get(cut(shape.output_len())).unwrap_or_default(),
                argmax: argmax.get(cut(shape.output_len())).unwrap_or_default(),
                dy: &dy[cut(shape.output_len())],
            },
            sums: unit_sums,
            dx: unit_dx,
        });
    }
    units
}

/// Behind neither pool nor ReLU the gradient is dense: a forward convolution with flipped weights.
fn dense_input_gradient(shape: &ConvShape, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
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

/// What all units of a call share.
struct Plan<'a> {
    shape: &'a ConvShape,
    /// Images of a unit, the last one aside.
    images: usize,
    /// Floats of a unit's weight and bias sums; 0 without a weight gradient.
    unit_sums: usize,
    /// Images whose positions are walked together, so that small images too fill a block of 64.
    group: usize,
    /// How the copy of the input is walked; no positions without a weight gradient.
    x: Grid,
    /// How the framed input gradient is walked; no positions without one.
    dx: Grid,
    /// Weights for the input gradient; empty without one.
    packed: &'a [f32],
    /// Floats a pixel of the input gradient: the channels rounded up to whole vectors.
    stride: usize,
}

/// Where a group's positions lie in padded images.
struct Grid {
    /// Floats an image.
    pitch: usize,
    /// Floats a row.
    row: usize,
    /// Offset of each place in a pooling window.
    steps: [usize; 4],
    /// Offset of each output position's first pixel.
    bases: Vec<u32>,
}

impl<'a> Plan<'a> {
    fn new(shape: &'a ConvShape, with_weight: bool, packed: Option<&'a [f32]>, lanes: usize) -> Self {
        let images = images_per_unit(shape.batch);
        let group = (BLOCK / shape.positions()).clamp(1, images);
        let unit_sums =
            if with_weight { (sums_len(shape) + shape.out_channels).next_multiple_of(16) } else { 0 };
        let (x_stride, x_row) = if spreads(shape) {
            (SPREAD, shape.conv_width() * SPREAD)
        } else {
            (shape.in_channels, shape.padded_width() * shape.in_channels)
        };
        let x_pitch = (shape.padded_height() * x_row).next_multiple_of(16);
        let stride = shape.in_channels.next_multiple_of(lanes);
        let dx_row = shape.padded_width() * stride;
        let dx_pitch = shape.padded_height() * dx_row;
        let positions = |wanted: bool| if wanted { group * shape.positions() } else { 0 };
        Self {
            shape,
            images,
            unit_sums,
            group,
            x: Grid::new(shape, positions(with_weight), [x_stride, x_row, x_pitch]),
            dx: Grid::new(shape, positions(packed.is_some()), [stride, dx_row, dx_pitch]),
            packed: packed.unwrap_or_default(),
            stride,
        }
    }
}

impl Grid {
    /// Of so many positions in images of `stride` floats a pixel, `row` a row and `pitch` an image.
    fn new(shape: &ConvShape, positions: usize, [stride, row, pitch]: [usize; 3]) -> Self {
        let step = if shape.pool { 2 } else { 1 };
        assert!(u32::try_from(positions.div_ceil(shape.positions()) * pitch).is_ok(), "image too large");
        let base = |index: usize| {
            let (image, position) = (index / shape.positions(), index % shape.positions());
            let (y, x) = (position / shape.out_width() * step, position % shape.out_width() * step);
            (image * pitch + y * row + x * stride) as u32
        };
        let steps = if shape.pool { [0, stride, row, row + stride] } else { [0; 4] };
        Self { pitch, row, steps, bases: (0..positions).map(base).collect() }
    }
}

struct Unit<'a> {
    plan: &'a Plan<'a>,
    x: &'a [f32],
    saved: Saved<'a>,
    sums: &'a mut [f32],
    dx: &'a mut [f32],
}

impl WithSimd for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { plan, x, saved, sums, dx } = self;
        let Plan { shape, group, .. } = *plan;
        let (inputs, outputs) = (shape.input_len(), shape.output_len());
        let (weight_sums, bias_sums) = sums.split_at_mut(if sums.is_empty() { 0 } else { sums_len(shape) });
        weight_sums.fill(0.0);
        bias_sums.fill(0.0);
        let of_group = |needed: bool, pitch: usize| if needed { group * pitch + SLACK } else { 0 };
        let mut padded = Scratch::take_zeroed(of_group(!weight_sums.is_empty(), plan.x.pitch));
        let mut framed = Scratch::take(of_group(!dx.is_empty() && !plan.is_frameless(), plan.dx.pitch));
        let window = match (dx.is_empty(), shape.pool) {
            (true, _) => 0,
            (false, true) => 4,
            (false, false) => 1,
        };
        let mut routes = Routes::new(group * shape.positions(), shape.out_channels, window);
        let mut made = vec![0u8; if shape.pool { 0 } else { group * outputs }];
        for (index, dy) in saved.dy.chunks(group * outputs).enumerate() {
            let first = index * group;
            let images = dy.len() / outputs;
            let places = plan.places(saved, first * outputs..first * outputs + dy.len(), &mut made);
            routes.fill(places);
            let routes = &routes;
            let gradient =
                Gradient { simd, shape, routes, places, dy, bases: &[], steps: [0; 4], row_stride: 0 };
            let of_images = first * inputs..(first + images) * inputs;
            if !weight_sums.is_empty() {
                plan.add_weight_gradient(
                    &gradient,
                    &x[of_images.clone()],
                    &mut padded,
                    weight_sums,
                    bias_sums,
                );
            }
            if !dx.is_empty() {
                plan.write_input_gradient(&gradient, &mut framed, &mut dx[of_images]);
            }
        }
    }
}

impl<'a, S: Simd> Gradient<'a, S> {
    /// The same gradient, on the positions of another grid: as many as it has images for.
    #[inline(always)]
    fn on(&self, grid: &'a Grid) -> Self {
        let positions = self.dy.len() / self.shape.out_channels;
        Gradient { bases: &grid.bases[..positions], steps: grid.steps, row_stride: grid.row, ..*self }
    }
}

impl Plan<'_> {
    /// Whether the input gradient needs no frame: it is added where it belongs.
    fn is_frameless(&self) -> bool {
        self.shape.padding == 0 && self.stride == self.shape.in_channels
    }

    /// For each output of a group of images, where in its pooling window its gradient goes, or 255 if nowhere; `made` has
    /// room for it where the forward pass left no such places.
    #[inline(always)]
    fn places<'a>(&self, saved: Saved<'a>, outputs: Range<usize>, made: &'a mut [u8]) -> &'a [u8] {
        if self.shape.pool {
            return &saved.argmax[outputs];
        }
        let made = &mut made[..outputs.len()];
        if self.shape.relu {
            for (place, &y) in made.iter_mut().zip(&saved.y[outputs]) {
                *place = if y != 0.0 { 0 } else { 255 };
            }
        }
        made
    }

    /// Copies a group of images `x` to `padded`, whose frame is zero, and adds their weight and bias gradient.
    #[inline(always)]
    fn add_weight_gradient<S: Simd>(
        &self,
        gradient: &Gradient<S>,
        x: &[f32],
        padded: &mut [f32],
        weight_sums: &mut [f32],
        bias_sums: &mut [f32],
    ) {
        let shape = self.shape;
        for (x, padded) in x.chunks_exact(shape.input_len()).zip(padded.chunks_mut(self.x.pitch)) {
            if spreads(shape) {
                copy_spread(shape, x, padded);
            } else {
                copy_padded::<f32>(shape, x, padded);
            }
        }
        gradient.on(&self.x).add_weight_gradient(padded, weight_sums, bias_sums);
    }

    /// The input gradient of a group of images, through frames of zeros where there is padding.
    #[inline(always)]
    fn write_input_gradient<S: Simd>(&self, gradient: &Gradient<S>, framed: &mut [f32], dx: &mut [f32]) {
        let gradient = gradient.on(&self.dx);
        if self.is_frameless() {
            dx.fill(0.0);
            gradient.add_input_gradient(self.packed, self.stride, dx);
            return;
        }
        framed.fill(0.0);
        gradient.add_input_gradient(self.packed, self.stride, framed);
        let images = dx.chunks_exact_mut(self.shape.input_len());
        for (dx, framed) in images.zip(framed.chunks(self.dx.pitch)) {
            copy_unframed(self.shape, framed, self.stride, dx);
        }
    }
}

#[cfg(test)]
mod tests;
