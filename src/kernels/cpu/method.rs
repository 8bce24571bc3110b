//! How a convolution is computed: which kernels a shape goes to.

use super::backward::{self, InputGradient, Saved, WeightGradient};
use super::forward;
use super::pair::with_operand;
use super::shape::ConvShape;
use super::simd::arch;
use crate::kernels::{Arithmetic, Precision};

/// See [`forward::conv_forward`].
pub fn conv_forward(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    argmax: Option<&mut [u8]>,
) {
    let arch = arch();
    with_operand!(arithmetic.precision, arch, O => {
        forward::conv_forward::<O>(arch, shape, x, weight, bias, y, argmax)
    });
}

/// See [`backward::conv_backward`].
pub fn conv_backward(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    saved: Saved,
    for_weight: Option<WeightGradient>,
    for_input: Option<InputGradient>,
) {
    match arithmetic.precision {
        Precision::Bf16 if pays_as_bf16(shape) => {
            backward::conv_backward_as_dense(shape, Precision::Bf16, saved, for_weight, for_input);
        }
        _ => backward::conv_backward(shape, saved, for_weight, for_input),
    }
}

/// Whether the gradients of `shape` are computed from bfloat16 factors, zeros behind pool and ReLU with the others.
fn pays_as_bf16(_: &ConvShape) -> bool {
    true
}
