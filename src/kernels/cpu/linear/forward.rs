//! The forward pass.

use std::marker::PhantomData;

use pulp::bytemuck::cast_slice;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::matmul::{Over, Product};
use super::super::pack::{Operand, operands};
use super::super::pair::with_operand;
use super::super::scratch::Scratch;
use super::super::simd::{Arch, Lanes, arch};
use super::{LinearShape, Pack, SERIAL, pack_columns, wide};
use crate::kernels::Precision;

/// Rows of the batch that a forward task takes: one register tile.
const FORWARD_ROWS: usize = 6;

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
