//! The forward pass of dense layers whose weights outgrow the caches.
//!
//! Where rows of the weight are KiB long, the operands of a register tile meet few sets of a cache, and a task that takes
//! some samples through the layer reads the whole weight. Here a task owns some outputs. It copies a strip of the weight,
//! as wide as a register tile and as high as L1 holds it, and takes all samples through that before the next one. Sums
//! go on in `y` from strip to strip with the inputs in ascending order, so the bytes are the same.

use std::marker::PhantomData;

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::super::matmul::{MOST_VECTORS, Over, Product};
use super::super::pack::{Operand, operands};
use super::super::scratch::Scratch;
use super::super::simd::{Arch, Lanes};
use super::{Columns, LinearShape, pack_columns, pack_strip};

/// Inputs and outputs from which on a layer is wide: its weights take 512 KiB, the whole L2 of a Zen 3 core.
const LEAST: [usize; 2] = [512, 256];

/// Outputs of a task: the block of `x` that a strip meets is then read from L2 two to eight times.
const GROUP: usize = 64;

/// Operands of a strip: 16 KiB, half of L1.
const STRIP: usize = 4096;

impl LinearShape {
    /// Whether products with its weights are taken strip by strip.
    pub(super) fn is_wide(&self) -> bool {
        self.inputs >= LEAST[0] && self.outputs >= LEAST[1]
    }
}

/// Columns of a strip.
pub(super) fn strip<O: Operand>(arch: Arch) -> usize {
    MOST_VECTORS * O::dispatch(arch, Lanes)
}

/// `bias` fills whole vectors.
pub(super) fn forward<O: Operand>(
    arch: Arch,
    shape: &LinearShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
) {
    let packed;
    let x = match O::as_they_are(x) {
        Some(x) => x,
        None => {
            packed = O::dispatch(arch, PackColumns::<O>(x, shape.inputs, PhantomData));
            cast_slice(&packed)
        }
    };
    let y = Columns(y.as_mut_ptr());
    (0..shape.outputs.div_ceil(GROUP)).into_par_iter().for_each(|task| {
        let first = task * GROUP;
        let last = shape.outputs.min(first + GROUP);
        O::dispatch(arch, Group::<O> { shape, outputs: [first, last], x, weight, bias, y: &y });
    });
}

/// All samples through some outputs.
struct Group<'a, O> {
    shape: &'a LinearShape,
    /// The first one of this task, and that of the next.
    outputs: [usize; 2],
    /// Operands of successive inputs, `[batch, operands of the inputs]`.
    x: &'a [O],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    y: &'a Columns,
}

impl<O: Operand> WithSimd for Group<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, outputs: [first, end], x, weight, bias, y: &Columns(y) } = self;
        let (strip, depth) = (MOST_VECTORS * S::F32_LANES, operands::<O>(shape.inputs));
        let mut packed = Scratch::take_zeroed(STRIP);
        let packed: &mut [O] = cast_slice_mut(&mut packed);
        for from in (0..depth).step_by(STRIP / strip) {
            let steps = (STRIP / strip).min(depth - from);
            for column in (first..end).step_by(strip) {
                let columns = column..end.min(column + strip);
                let rows = &weight[from * O::FACTORS * shape.outputs..];
                pack_strip(rows, shape.outputs, columns.clone(), packed.chunks_exact_mut(strip).take(steps));
                let product = Product {
                    a: &x[from..],
                    a_row: depth,
                    a_step: 1,
                    b: packed,
                    b_row: strip,
                    depth: steps,
                    rows: shape.batch,
                    columns: columns.len(),
                    bias: bias.filter(|_| from == 0).map(|bias| &bias[column..]),
                    relu: shape.relu && from + steps == depth,
                    over: Over::Channels,
                    onto: from > 0,
                };
                // SAFETY: columns `first..end` of `y` (`[batch, outputs]`, checked by the caller) are this task's alone.
                unsafe { product.write(simd, y.add(column), shape.outputs) };
            }
        }
    }
}

/// [`pack_columns`] of rows, and how many numbers they have.
struct PackColumns<'a, O>(&'a [f32], usize, PhantomData<O>);

impl<O: Operand> WithSimd for PackColumns<'_, O> {
    type Output = Scratch;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Scratch {
        pack_columns::<O>(self.0, self.1)
    }
}
