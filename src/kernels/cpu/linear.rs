//! Dense layer with bias and optional ReLU.
//!
//! `x` is `[batch, inputs]`, the weight `[inputs, outputs]`, `y` `[batch, outputs]`. The backward pass walks
//! over blocks of inputs: a block owns its rows of `dweight` and its columns of `dx`, so the units of the batch are added
//! in registers, one parallel region does both, and the result does not depend on threads.

use std::fmt;
use std::marker::PhantomData;

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

/// Rows `[rows, columns]` as a right factor: operands of successive rows, `[operands of the rows, width]`, beyond the
/// columns zero.
#[inline(always)]
fn pack_rows<O: Operand>(rows: &[f32], columns: usize, width: usize) -> Scratch {
    let count = operands::<O>(rows.len() / columns);
    let mut packed = Scratch::take_zeroed(count * width);
    let target: &mut [O] = cast_slice_mut(&mut packed);
    for (target, sources) in target.chunks_exact_mut(width).zip(rows.chunks(O::FACTORS * columns)) {
        let (first, second) = sources.split_at(columns);
        O::pack_rows(first, (!second.is_empty()).then_some(second), &mut target[..columns]);
    }
    packed
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
    width: usize,
    both: bool,
    operand: PhantomData<O>,
}

impl<O: Operand> WithSimd for Pack<'_, O> {
    type Output = [Scratch; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [Scratch; 2] {
        let Self { rows, columns, width, both, .. } = self;
        let as_columns = if both { pack_columns::<O>(rows, columns) } else { Scratch::take(0) };
        [pack_rows::<O>(rows, columns, width), as_columns]
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
    let as_it_is = O::as_they_are(weight).filter(|_| width == outputs);
    let pack = Pack { rows: weight, columns: outputs, width, both: false, operand: PhantomData::<O> };
    let packed = as_it_is.is_none().then(|| O::dispatch(arch, pack));
    let weight = match (as_it_is, &packed) {
        (Some(weight), _) => weight,
        (None, Some([packed, _])) => cast_slice(packed),
        (None, None) => unreachable!("packed where it is not operands as it is"),
    };
    let bias = bias.map(|bias| {
        let mut padded = Scratch::take_zeroed(width);
        padded.iter_mut().zip(bias).for_each(|(padded, &bias)| *padded = O::bias(bias));
        padded
    });
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
    let pack = Pack { rows: &gradient, columns: width, width, both: true, operand: PhantomData::<O> };
    let packed = O::as_they_are(&gradient).is_none().then(|| O::dispatch(arch, pack));
    let gradients = match (O::as_they_are(&gradient), &packed) {
        (Some(gradient), _) => [gradient; 2],
        (None, Some(packed)) => packed.each_ref().map(|packed| cast_slice(packed)),
        (None, None) => unreachable!("packed where they are not operands as they are"),
    };
    let dx = dx.map(|dx| Columns(dx.as_mut_ptr()));
    let run = |(task, dweight): (usize, &mut [f32])| {
        let first = task * BLOCK;
        let dx = dx.as_ref();
        O::dispatch(arch, Backward::<O> { shape, width, first, x, weight, gradients, dweight, dx });
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

/// Start of `dx`, of which each task writes its own columns.
struct Columns(*mut f32);
// SAFETY: tasks write disjoint columns of the slice, which stays mutably borrowed by `linear_backward`.
unsafe impl Sync for Columns {}

struct Backward<'a, O> {
    shape: &'a LinearShape,
    /// Outputs with those that fill a vector up.
    width: usize,
    /// First input of this task.
    first: usize,
    x: &'a [f32],
    weight: &'a [f32],
    /// Operands of successive samples, `[operands of the batch, width]`, and of outputs, `[batch, operands of the width]`.
    gradients: [&'a [O]; 2],
    /// The rows of this task.
    dweight: &'a mut [f32],
    dx: Option<&'a Columns>,
}

impl<O: Operand> WithSimd for Backward<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, width, first, x, weight, gradients, dweight, dx } = self;
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
        let product = Product {
            a: columns,
            a_row: 1,
            a_step: BLOCK,
            b: gradients[0],
            b_row: width,
            depth: operands::<O>(batch),
            rows: real,
            columns: outputs,
            bias: None,
            relu: false,
            over: Over::Samples(batch),
        };
        // SAFETY: `dweight` holds `real` rows of `outputs` floats and is borrowed mutably.
        unsafe { product.write(simd, dweight.as_mut_ptr(), outputs) };

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
        };
        // SAFETY: columns `first..first + real` of `dx` (`[batch, inputs]`, checked by the caller) are this
        // task's alone.
        unsafe { product.write(simd, dx.add(first), inputs) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Random, bits, error, in_pools};
    use super::super::naive;
    use super::super::simd::{arches, with_arch};
    use super::*;
    use crate::math::units::shares;

    struct Case {
        shape: LinearShape,
        precision: Precision,
        x: Vec<f32>,
        weight: Vec<f32>,
        bias: Vec<f32>,
        dy: Vec<f32>,
    }

    impl Case {
        fn new(shape: LinearShape, random: &mut Random) -> Self {
            Self {
                shape,
                precision: Precision::F32,
                x: random.floats(shape.batch * shape.inputs),
                weight: random.floats(shape.inputs * shape.outputs),
                bias: random.floats(shape.outputs),
                dy: random.floats(shape.batch * shape.outputs),
            }
        }

        /// `y`, `dweight`, `dbias`, `dx`.
        fn run(&self) -> [Vec<f32>; 4] {
            let [mut y, mut dweight] = [vec![f32::MIN; self.dy.len()], vec![f32::MIN; self.weight.len()]];
            let [mut dbias, mut dx] = [vec![f32::MIN; self.bias.len()], vec![f32::MIN; self.x.len()]];
            linear_forward(&self.shape, self.precision, &self.x, &self.weight, Some(&self.bias), &mut y);
            linear_backward(
                &self.shape,
                self.precision,
                &self.x,
                &self.weight,
                &y,
                &self.dy,
                LinearGradients { dweight: &mut dweight, dbias: Some(&mut dbias), dx: Some(&mut dx) },
            );
            [y, dweight, dbias, dx]
        }
    }

    #[test]
    fn agrees_with_naive() {
        let mut random = Random::new(10);
        for (batch, inputs, outputs) in
            [(32, 1024, 64), (32, 64, 4), (1, 1, 1), (7, 50, 33), (13, 97, 16), (117, 48, 10)]
        {
            for relu in [true, false] {
                let case = Case::new(LinearShape { batch, inputs, outputs, relu }, &mut random);
                // A dense layer is a 1x1 convolution of 1x1 images.
                let conv = naive::linear_as_conv(batch, inputs, outputs, relu);
                let (y, _) = naive::conv_forward(&conv, &case.x, &case.weight, Some(&case.bias));
                let (dweight, dbias, dx) =
                    naive::conv_backward(&conv, &case.x, &case.weight, &y, &[], &case.dy);
                for (name, arch) in arches() {
                    let found = with_arch(arch, || case.run());
                    for (found, expected) in found.iter().zip([&y, &dweight, &dbias, &dx]) {
                        assert!(error(found, expected) < 1e-5, "{name} {:?}", case.shape);
                    }
                }
            }
        }
    }

    #[test]
    fn threads_and_vector_width_leave_every_bit() {
        let case =
            Case::new(LinearShape { batch: 33, inputs: 1000, outputs: 60, relu: true }, &mut Random::new(11));
        let mut results = Vec::new();
        for (_, arch) in arches() {
            results.extend(in_pools(|| with_arch(arch, || case.run().map(|values| bits(&values)))));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }

    /// Shares of a batch, each by itself, add up to the gradients of the whole.
    #[test]
    fn shares_add_up_to_the_whole() {
        for precision in [Precision::F32, Precision::Bf16] {
            shares_add_up(precision);
        }
    }

    fn shares_add_up(precision: Precision) {
        let mut random = Random::new(12);
        let shape = LinearShape { batch: 77, inputs: 51, outputs: 21, relu: true };
        let case = Case { precision, ..Case::new(shape, &mut random) };
        let [_, dweight, dbias, dx] = case.run();
        for count in 2..=8 {
            let parts = shares(shape.batch, count).into_iter().map(|Unit { samples, merges }| {
                let cut = |rows: &[f32], columns: usize| {
                    rows[samples.start * columns..samples.end * columns].to_vec()
                };
                let part = Case {
                    shape: LinearShape { batch: samples.len(), ..shape },
                    precision,
                    x: cut(&case.x, shape.inputs),
                    weight: case.weight.clone(),
                    bias: case.bias.clone(),
                    dy: cut(&case.dy, shape.outputs),
                };
                let [_, dweight, dbias, part_dx] = part.run();
                assert_eq!(bits(&part_dx), bits(&cut(&dx, shape.inputs)));
                ([dweight, dbias], merges)
            });
            let sums = add_up(parts, |earlier, later| {
                earlier.iter_mut().zip(&later).for_each(|(earlier, later)| add_row(earlier, later));
            });
            assert_eq!(sums[0].0.each_ref().map(|sum| bits(sum)), [bits(&dweight), bits(&dbias)], "{count}");
        }
    }
}
