//! The backward pass: gradients of weight, bias and inputs.

use std::marker::PhantomData;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::matmul::{Over, Product};
use super::super::pack::{Operand, operands, transpose};
use super::super::pair::with_operand;
use super::super::scratch::Scratch;
use super::super::simd::{Arch, Lanes, arch};
use super::{Columns, LinearShape, Pack, SERIAL, pack_rows, wide};
use crate::kernels::Precision;
use crate::math::units::{Unit, add_up, units};

/// Inputs that a backward task takes: 3 AVX-512 vectors, 8 register tiles of the weight gradient. What decides it is
/// that 1024 inputs make 22 tasks for threads: on one thread larger is a little faster. One Zen 5 core, AVX-512, other
/// work beside, lowest twentieth of 180 interleaved calls: 1024 -> 64, batch 128: 360 us with 16, 355 with 48, 348 with
/// 192; 1024 -> 10, batch 256: 205, 184, 175.
const BLOCK: usize = 48;

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

pub(super) fn add_row(sums: &mut [f32], row: &[f32]) {
    sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
}

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
