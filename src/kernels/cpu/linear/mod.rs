//! Dense layer with bias and optional ReLU.
//!
//! `x` is `[batch, inputs]`, the weight `[inputs, outputs]`, `y` `[batch, outputs]`. The backward pass walks
//! over blocks of inputs: a block owns its rows of `dweight` and its columns of `dx`, so the units of the batch are added
//! in registers, one parallel region does both, and the result does not depend on threads.

#[cfg(test)]
mod tests;
mod wide;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::matmul::{Over, Product};
use super::pack::{Operand, operands, transpose};
use super::pair::with_operand;
use super::scratch::Scratch;
use super::simd::{Arch, Lanes, arch};
use crate::kernels::Precision;
use crate::math::units::{Unit, add_up, units};

/// Shape of a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    pub batch: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub relu: bool,
}

impl fmt::Display for LinearShape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "dense {} -> {}", self.inputs, self.outputs)
    }
}

/// Rows of the batch that a forward task takes: one register tile.
const FORWARD_ROWS: usize = 6;

/// Inputs that a backward task takes: 3 AVX-512 vectors, 8 register tiles of the weight gradient. What decides it is
/// that 1024 inputs make 22 tasks for threads: on one thread larger is a little faster. One Zen 5 core, AVX-512, other
/// work beside, lowest twentieth of 180 interleaved calls: 1024 -> 64, batch 128: 360 us with 16, 355 with 48, 348 with
/// 192; 1024 -> 10, batch 256: 205, 184, 175.
const BLOCK: usize = 48;

/// Rows `[rows, columns]` as a right factor: operands of successive rows in strips of columns,
/// `[strips, operands of the rows, strip]`, beyond the columns zero.
#[inline(always)]
fn pack_rows<O: Operand>(rows: &[f32], columns: usize, strip: usize) -> Scratch {
    let count = operands::<O>(rows.len() / columns);
    let mut packed = Scratch::take_zeroed(columns.div_ceil(strip) * count * strip);
    let target: &mut [O] = cast_slice_mut(&mut packed);
    for (index, target) in target.chunks_exact_mut((count * strip).max(1)).enumerate() {
        let taken = index * strip..columns.min((index + 1) * strip);
        pack_strip(rows, columns, taken, target.chunks_exact_mut(strip));
    }
    packed
}

/// Some columns of rows `[rows, columns]`, a row of `strip` for each operand.
#[inline(always)]
fn pack_strip<'a, O: Operand + 'a>(
    rows: &[f32],
    columns: usize,
    taken: Range<usize>,
    strip: impl Iterator<Item = &'a mut [O]>,
) {
    for (target, sources) in strip.zip(rows.chunks(O::FACTORS * columns)) {
        let (first, second) = sources.split_at(columns);
        O::pack_rows(&first[taken.clone()], second.get(taken.clone()), &mut target[..taken.len()]);
    }
}

/// Rows `[rows, columns]` as a left factor: operands of successive columns.
#[inline(always)]
fn pack_columns<O: Operand>(rows: &[f32], columns: usize) -> Scratch {
    let width = operands::<O>(columns);
    let mut packed = Scratch::take(rows.len() / columns.max(1) * width);
    let target: &mut [O] = cast_slice_mut(&mut packed);
    for (target, source) in target.chunks_exact_mut(width.max(1)).zip(rows.chunks_exact(columns.max(1))) {
        O::pack(source, target);
    }
    packed
}

/// [`pack_rows`], and with `both` [`pack_columns`], of the same rows.
struct Pack<'a, O> {
    rows: &'a [f32],
    columns: usize,
    strip: usize,
    both: bool,
    operand: PhantomData<O>,
}

impl<O: Operand> WithSimd for Pack<'_, O> {
    type Output = [Scratch; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [Scratch; 2] {
        let Self { rows, columns, strip, both, .. } = self;
        let as_columns = if both { pack_columns::<O>(rows, columns) } else { Scratch::take(0) };
        [pack_rows::<O>(rows, columns, strip), as_columns]
    }
}

pub fn linear_forward(
    shape: &LinearShape,
    precision: Precision,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let arch = arch();
    with_operand!(precision, arch, O => forward::<O>(arch, shape, x, weight, bias, y));
}

fn forward<O: Operand>(
    arch: Arch,
    shape: &LinearShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let LinearShape { batch, inputs, outputs, .. } = *shape;
    assert_eq!((x.len(), weight.len(), y.len()), (batch * inputs, inputs * outputs, batch * outputs));
    assert!(bias.is_none_or(|bias| bias.len() == outputs));
    if y.is_empty() {
        return;
    }
    let width = outputs.next_multiple_of(O::dispatch(arch, Lanes));
    let bias = bias.map(|bias| {
        let mut padded = Scratch::take_zeroed(width);
        padded.iter_mut().zip(bias).for_each(|(padded, &bias)| *padded = O::bias(bias));
        padded
    });
    if shape.is_wide() {
        return wide::forward::<O>(arch, shape, x, weight, bias.as_deref(), y);
    }
    let as_it_is = O::as_they_are(weight).filter(|_| width == outputs);
    let pack = Pack { rows: weight, columns: outputs, strip: width, both: false, operand: PhantomData::<O> };
    let packed = as_it_is.is_none().then(|| O::dispatch(arch, pack));
    let weight = match (as_it_is, &packed) {
        (Some(weight), _) => weight,
        (None, Some([packed, _])) => cast_slice(packed),
        (None, None) => unreachable!("packed where it is not operands as it is"),
    };
    let run = |(task, y): (usize, &mut [f32])| {
        let rows = y.len() / outputs;
        let x = if inputs == 0 { &[][..] } else { &x[task * FORWARD_ROWS * inputs..][..rows * inputs] };
        O::dispatch(arch, Forward::<O> { shape, width, x, weight, bias: bias.as_deref(), y });
    };
    let rows = FORWARD_ROWS * outputs;
    if batch * inputs * outputs < SERIAL {
        y.chunks_mut(rows).enumerate().for_each(run);
    } else {
        y.par_chunks_mut(rows).enumerate().for_each(run);
    }
}

/// Multiply-adds below which the calling thread does all: under 7 us of work (128x128x4: 6.2 us forward), which is
/// hardly worth waking another thread for. What that wake costs was not measured: where no other thread came (two Zen 5
/// cores, both busy with other work), a parallel region took 0.1 us more from 8,000 to 1,300,000 multiply-adds.
const SERIAL: usize = 100_000;

struct Forward<'a, O> {
    shape: &'a LinearShape,
    /// Operands a row of `weight`.
    width: usize,
    x: &'a [f32],
    weight: &'a [O],
    bias: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl<O: Operand> WithSimd for Forward<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, width, x, weight, bias, y } = self;
        let LinearShape { inputs, outputs, relu, .. } = *shape;
        let packed;
        let a = match O::as_they_are(x) {
            Some(x) => x,
            None => {
                packed = pack_columns::<O>(x, inputs);
                cast_slice(&packed)
            }
        };
        let depth = operands::<O>(inputs);
        let product = Product {
            a,
            a_row: depth,
            a_step: 1,
            b: weight,
            b_row: width,
            depth,
            rows: y.len() / outputs,
            columns: outputs,
            bias,
            relu,
            over: Over::Channels,
            onto: false,
        };
        assert_eq!(y.len(), product.rows * product.columns);
        // SAFETY: `y` holds `rows` x `columns` floats, checked above, and is borrowed mutably.
        unsafe { product.write(simd, y.as_mut_ptr(), outputs) }
    }
}

/// Gradients asked for.
pub struct LinearGradients<'a> {
    pub dweight: &'a mut [f32],
    pub dbias: Option<&'a mut [f32]>,
    pub dx: Option<&'a mut [f32]>,
}

/// `y` is read only with ReLU.
pub fn linear_backward(
    shape: &LinearShape,
    precision: Precision,
    x: &[f32],
    weight: &[f32],
    y: &[f32],
    dy: &[f32],
    gradients: LinearGradients<'_>,
) {
    let arch = arch();
    with_operand!(precision, arch, O => backward::<O>(arch, shape, x, weight, y, dy, gradients));
}

fn backward<O: Operand>(
    arch: Arch,
    shape: &LinearShape,
    x: &[f32],
    weight: &[f32],
    y: &[f32],
    dy: &[f32],
    gradients: LinearGradients<'_>,
) {
    let LinearGradients { dweight, dbias, dx } = gradients;
    let LinearShape { batch, inputs, outputs, relu } = *shape;
    assert_eq!((x.len(), dy.len()), (batch * inputs, batch * outputs));
    assert_eq!((weight.len(), dweight.len()), (inputs * outputs, inputs * outputs));
    assert!(!relu || y.len() == dy.len());
    assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()));
    let width = outputs.next_multiple_of(O::dispatch(arch, Lanes)).max(1);
    let mut gradient = Scratch::take_zeroed(batch * width);
    for (row, target) in gradient.chunks_exact_mut(width).enumerate() {
        let target = &mut target[..outputs];
        target.copy_from_slice(&dy[row * outputs..][..outputs]);
        if relu {
            for (target, &y) in target.iter_mut().zip(&y[row * outputs..][..outputs]) {
                *target = if y != 0.0 { *target } else { 0.0 };
            }
        }
    }
    if let Some(dbias) = dbias {
        let sums = units(batch).into_iter().map(|Unit { samples, merges }| {
            let mut sums = vec![0.0; width];
            gradient[samples.start * width..samples.end * width]
                .chunks_exact(width)
                .for_each(|row| add_row(&mut sums, row));
            (sums, merges)
        });
        for (sums, _) in add_up(sums, |earlier, later| add_row(earlier, &later)) {
            dbias.copy_from_slice(&sums[..outputs]);
        }
    }
    if dweight.is_empty() {
        dx.into_iter().for_each(|dx| dx.fill(0.0));
        return;
    }
    let strip = if shape.is_wide() { wide::strip::<O>(arch) } else { width };
    let as_they_are = O::as_they_are(&gradient);
    let both = as_they_are.is_none();
    let pack = Pack { rows: &gradient, columns: width, strip, both, operand: PhantomData::<O> };
    let packed = (both || shape.is_wide()).then(|| O::dispatch(arch, pack));
    let gradients = [0, 1].map(|side| match (as_they_are, &packed) {
        (_, Some(packed)) if both || side == 0 => cast_slice(&packed[side]),
        (Some(gradient), _) => gradient,
        (None, _) => unreachable!("packed where they are not operands as they are"),
    });
    let dx = dx.map(|dx| Columns(dx.as_mut_ptr()));
    let run = |(task, dweight): (usize, &mut [f32])| {
        let first = task * BLOCK;
        let dx = dx.as_ref();
        O::dispatch(arch, Backward::<O> { shape, width, strip, first, x, weight, gradients, dweight, dx });
    };
    if batch * inputs * outputs < SERIAL {
        dweight.chunks_mut(BLOCK * outputs).enumerate().for_each(run);
    } else {
        dweight.par_chunks_mut(BLOCK * outputs).enumerate().for_each(run);
    }
}

fn add_row(sums: &mut [f32], row: &[f32]) {
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
}

/// Start of rows of which each task writes its own columns.
struct Columns(*mut f32);
// SAFETY: tasks write disjoint columns of the slice, which stays mutably borrowed by who hands it to them.
unsafe impl Sync for Columns {}

struct Backward<'a, O> {
    shape: &'a LinearShape,
    /// Outputs with those that fill a vector up.
    width: usize,
    /// Outputs whose gradients lie together.
    strip: usize,
    /// First input of this task.
    first: usize,
    x: &'a [f32],
    weight: &'a [f32],
    /// Operands of successive samples, `[strips, operands of the batch, strip]`, and of outputs,
    /// `[batch, operands of the width]`.
    gradients: [&'a [O]; 2],
    /// The rows of this task.
    dweight: &'a mut [f32],
    dx: Option<&'a Columns>,
}

impl<O: Operand> WithSimd for Backward<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, width, strip, first, x, weight, gradients, dweight, dx } = self;
        let LinearShape { batch, inputs, outputs, .. } = *shape;
        let real = dweight.len() / outputs;
        assert!(first + real <= inputs && real <= BLOCK);

        // A copy of the block's columns: in `x` itself they are a power of two apart and share cache sets.
        let mut columns = Scratch::take(operands::<O>(batch) * BLOCK);
        let columns: &mut [O] = cast_slice_mut(&mut columns);
        for (target, sources) in columns.chunks_exact_mut(BLOCK).zip(x.chunks(O::FACTORS * inputs)) {
            let second = sources.get(inputs + first..inputs + first + real);
            O::pack_rows(&sources[first..first + real], second, &mut target[..real]);
        }
        let depth = operands::<O>(batch);
        for from in (0..outputs).step_by(strip) {
            let product = Product {
                a: columns,
                a_row: 1,
                a_step: BLOCK,
                b: &gradients[0][from * depth..],
                b_row: strip,
                depth,
                rows: real,
                columns: strip.min(outputs - from),
                bias: None,
                relu: false,
                over: Over::Samples(batch),
                onto: false,
            };
            // SAFETY: `dweight` holds `real` rows of `outputs` floats and is borrowed mutably.
            unsafe { product.write(simd, dweight.as_mut_ptr().add(from), outputs) };
        }

        let Some(Columns(dx)) = dx else { return };
        let mut turned = Scratch::take_zeroed(outputs * BLOCK);
        transpose(&weight[first * outputs..][..real * outputs], outputs, &mut turned, BLOCK);
        let packed;
        let b = match O::as_they_are(&turned) {
            Some(turned) => turned,
            None => {
                packed = pack_rows::<O>(&turned, BLOCK, BLOCK);
                cast_slice(&packed)
            }
        };
        let product = Product {
            a: gradients[1],
            a_row: operands::<O>(width),
            a_step: 1,
            b,
            b_row: BLOCK,
            depth: operands::<O>(outputs),
            rows: batch,
            columns: real,
            bias: None,
            relu: false,
            over: Over::Channels,
            onto: false,
        };
        // SAFETY: columns `first..first + real` of `dx` (`[batch, inputs]`, checked by the caller) are this
        // task's alone.
        unsafe { product.write(simd, dx.add(first), inputs) };
    }
}
