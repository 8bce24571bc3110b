//! Dense layer with bias and optional ReLU.
//!
//! `x` is `[batch, inputs]`, the weight `[inputs, outputs]`, `y` `[batch, outputs]`. The backward pass walks
//! over blocks of inputs: a block owns its rows of `dweight` and its columns of `dx`, so the units of the batch are added
//! in registers, one parallel region does both, and the result does not depend on threads.

mod backward;
mod forward;
#[cfg(test)]
mod tests;
mod wide;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use pulp::bytemuck::cast_slice_mut;
use pulp::{Simd, WithSimd};

use super::pack::{Operand, operands};
use super::scratch::Scratch;

pub use backward::{LinearGradients, linear_backward};
pub use forward::linear_forward;

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

/// Multiply-adds below which the calling thread does all: under 7 us of work (128x128x4: 6.2 us forward), which is
/// hardly worth waking another thread for. What that wake costs was not measured: where no other thread came (two Zen 5
/// cores, both busy with other work), a parallel region took 0.1 us more from 8,000 to 1,300,000 multiply-adds.
const SERIAL: usize = 100_000;

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

/// Start of rows of which each task writes its own columns.
struct Columns(*mut f32);
// SAFETY: tasks write disjoint columns of the slice, which stays mutably borrowed by who hands it to them.
unsafe impl Sync for Columns {}
