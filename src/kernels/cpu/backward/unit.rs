//! The walk over the non-zeros of the gradient of a unit of images.

use std::ops::Range;

use pulp::Simd;
use rayon::prelude::*;

use super::super::pack::{SLACK, SPREAD, copy_padded, copy_spread, copy_unframed};
use super::super::scratch::Scratch;
use super::super::shape::ConvShape;
use super::super::sparse::{BLOCK, Routes};
use super::super::tree::Piece;
use super::super::weight_gradient::{Gradient, spreads, sums_len};
use crate::math::units::FEWEST;

/// What the forward pass left, and the gradient of its output; of the whole batch or of some images.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    pub y: &'a [f32],
    pub argmax: &'a [u8],
    pub dy: &'a [f32],
}

impl<'a> Saved<'a> {
    /// That of the first images, with so many outputs, and that of the others. What is empty stays empty.
    pub fn split_at(self, outputs: usize) -> [Self; 2] {
        let Self { y, argmax, dy } = self;
        let (y, other_y) = y.split_at(outputs.min(y.len()));
        let (argmax, other_argmax) = argmax.split_at(outputs.min(argmax.len()));
        let (dy, other_dy) = dy.split_at(outputs.min(dy.len()));
        let other = Self { y: other_y, argmax: other_argmax, dy: other_dy };
        [Self { y, argmax, dy }, other]
    }

    /// That of so many outputs each; of the last, fewer.
    pub fn par_chunks(self, outputs: usize) -> impl IndexedParallelIterator<Item = Self> {
        let count = self.dy.len().div_ceil(outputs);
        (0..count).into_par_iter().map(move |index| {
            let [_, others] = self.split_at(index * outputs);
            others.split_at(outputs)[0]
        })
    }

    /// The same, one after the other.
    pub fn chunks(mut self, outputs: usize) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let [first, others] = (!self.dy.is_empty()).then(|| self.split_at(outputs))?;
            self = others;
            Some(first)
        })
    }
}

/// What all units of a call share.
pub struct Plan<'a> {
    shape: &'a ConvShape,
    /// Floats of a unit's weight and bias sums; 0 without a weight gradient.
    pub unit_sums: usize,
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
    pub fn new(shape: &'a ConvShape, with_weight: bool, packed: Option<&'a [f32]>, lanes: usize) -> Self {
        let group = (BLOCK / shape.positions()).clamp(1, FEWEST);
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

/// Some images of the batch. `x` and `dx` are empty where their gradient is not asked for, and so are the sums.
pub struct Images<'a> {
    pub plan: &'a Plan<'a>,
    pub x: &'a [f32],
    pub saved: Saved<'a>,
    pub dx: &'a mut [f32],
}

impl Piece for Images<'_> {
    fn cut(self, images: usize) -> [Self; 2] {
        let Self { plan, x, saved, dx } = self;
        let (inputs, outputs) = (images * plan.shape.input_len(), images * plan.shape.output_len());
        // An empty slice stays empty.
        let (x, other_x) = x.split_at(inputs.min(x.len()));
        let [saved, other] = saved.split_at(outputs);
        let (dx, other_dx) = dx.split_at_mut(inputs.min(dx.len()));
        [Self { plan, x, saved, dx }, Self { plan, x: other_x, saved: other, dx: other_dx }]
    }

    #[inline(always)]
    fn sum<S: Simd>(self, simd: S, sums: &mut [f32]) {
        let Self { plan, x, saved, dx } = self;
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
