//! Backward pass of a convolution: both gradients in one walk over the images.
//!
//! **Saved by the forward pass:** behind a pool one byte per output (where the maximum was, 255 where ReLU made
//! it zero), else the output itself (its non-zeros are the ReLU mask). Nothing of full resolution.
//!
//! **Sums.** A unit of the batch adds its images, in order, into its own `[out_channels, kernel, row piece]` sums; `tree`
//! adds the units and `collect` transposes. Vectors run along input channels. So the result has the same bits for any number
//! of threads and every instruction set.
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

mod normalised;
mod unit;

use super::dense_weight_gradient::{self, dense_weight_gradient};
use super::forward::{Layer, UNIT, conv_forward};
use super::norm::Inputs;
use super::outputs::Outputs;
use super::pack::{Operand, flip_weights, pack_for_input_gradient};
use super::pair::with_operand;
use super::scratch::Scratch;
use super::shape::ConvShape;
use super::simd::{Arch, arch, lanes};
use super::tree::sum_units;
use super::unfold::{is_dense, unfold};
use super::weight_gradient::{collect, sums_len};
use crate::kernels::Precision;
pub use normalised::conv_backward_through_norm;
use rayon::prelude::*;
pub use unit::Saved;
use unit::{Images, Plan};

/// Weight and bias gradients asked for.
pub struct WeightGradient<'a> {
    pub x: Inputs<'a>,
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
    let saved = Saved { y, argmax, dy };
    conv_backward(shape, saved, Some(WeightGradient { x: x.into(), dweight, dbias }), None);
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
    conv_backward(shape, Saved { y, argmax, dy }, None, Some(InputGradient { weight, dx }));
}

/// Both gradients at once. `saved` is as the forward pass left it: `y` is read only with ReLU and without pooling, `argmax`
/// only with pooling. The masks are built once and each image's data is touched once.
pub fn conv_backward(
    shape: &ConvShape,
    saved: Saved,
    mut for_weight: Option<WeightGradient>,
    mut for_input: Option<InputGradient>,
) {
    check(shape, saved, &for_weight, &for_input);
    if saved.dy.is_empty() {
        fill_with_zeros(for_weight, for_input);
        return;
    }
    if let Some(InputGradient { weight, dx }) = for_input.take_if(|_| is_dense(shape)) {
        dense_input_gradient::<f32>(arch(), shape, weight, saved, dx);
    }
    if let Some(WeightGradient { x, dweight, dbias }) =
        for_weight.take_if(|_| dense_weight_gradient::takes(shape))
    {
        dense_weight_gradient::<f32>(arch(), shape, x, saved, dweight, dbias);
    }
    if for_weight.is_some() || for_input.is_some() {
        sparse_backward(shape, saved, for_weight, for_input);
    }
}

/// Both gradients, of a gradient that is taken as dense: behind ReLU or pool, zeros are multiplied with the others.
pub fn conv_backward_as_dense(
    shape: &ConvShape,
    precision: Precision,
    saved: Saved,
    for_weight: Option<WeightGradient>,
    for_input: Option<InputGradient>,
) {
    check(shape, saved, &for_weight, &for_input);
    if saved.dy.is_empty() {
        fill_with_zeros(for_weight, for_input);
        return;
    }
    let arch = arch();
    with_operand!(precision, arch, O => {
        if let Some(InputGradient { weight, dx }) = for_input {
            dense_input_gradient::<O>(arch, shape, weight, saved, dx);
        }
        if let Some(WeightGradient { x, dweight, dbias }) = for_weight {
            dense_weight_gradient::<O>(arch, shape, x, saved, dweight, dbias);
        }
    });
}

fn check(
    shape: &ConvShape,
    Saved { y, argmax, dy }: Saved,
    for_weight: &Option<WeightGradient>,
    for_input: &Option<InputGradient>,
) {
    shape.check();
    let outputs = shape.batch * shape.output_len();
    assert_eq!(dy.len(), outputs);
    assert!(!shape.pool || argmax.len() == outputs);
    assert!(shape.pool || !shape.relu || y.len() == outputs);
    if let Some(gradient) = for_weight {
        assert_eq!(gradient.x.numbers.len(), shape.batch * shape.input_len());
        assert_eq!(gradient.dweight.len(), shape.weight_len());
        assert!(gradient.dbias.as_ref().is_none_or(|dbias| dbias.len() == shape.out_channels));
    }
    if let Some(gradient) = for_input {
        assert_eq!(gradient.dx.len(), shape.batch * shape.input_len());
        assert_eq!(gradient.weight.len(), shape.weight_len());
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

/// The walk over the non-zeros of the gradient.
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
    let mut sums = Scratch::take(plan.unit_sums);
    let x = for_weight.as_ref().map_or(&[][..], |gradient| gradient.x.numbers);
    let dx = for_input.map_or(&mut [][..], |gradient| gradient.dx);
    sum_units(arch, shape.batch, Images { plan: &plan, x, saved, dx }, &mut sums);
    if let Some(WeightGradient { dweight, dbias, .. }) = for_weight {
        let (weight_sums, bias_sums) = sums.split_at(sums_len(shape));
        collect(arch, shape, weight_sums, dweight);
        dbias.into_iter().for_each(|dbias| dbias.copy_from_slice(&bias_sums[..shape.out_channels]));
    }
}

/// A forward convolution of the dense gradient with flipped weights.
fn dense_input_gradient<O: Operand>(
    arch: Arch,
    shape: &ConvShape,
    weight: &[f32],
    saved: Saved,
    dx: &mut [f32],
) {
    let flipped = flip_weights(shape, weight);
    let turned = shape.turned();
    if is_dense(shape) {
        conv_forward::<O>(
            arch,
            &turned,
            saved.dy.into(),
            &flipped,
            None,
            Outputs::new(turned.out_channels, dx, None),
        );
        return;
    }
    let layer = Layer::<O>::new(arch, &turned, &flipped, None);
    let parts = saved.par_chunks(UNIT * shape.output_len()).zip(dx.par_chunks_mut(UNIT * shape.input_len()));
    parts.for_each(|(saved, dx)| {
        let mut room = Scratch::take(UNIT * turned.input_len());
        layer.run(unfold(shape, saved, &mut room), Outputs::new(turned.out_channels, dx, None));
    });
}

#[cfg(test)]
mod tests;
