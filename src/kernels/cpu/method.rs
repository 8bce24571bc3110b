//! How a convolution is computed: which kernels a shape goes to.

use super::backward::{self, InputGradient, Saved, WeightGradient};
use super::forward;
use super::shape::ConvShape;
use crate::kernels::Arithmetic;

/// See [`forward::conv_forward`].
pub fn conv_forward(
    shape: &ConvShape,
    _arithmetic: Arithmetic,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    argmax: Option<&mut [u8]>,
) {
    forward::conv_forward(shape, x, weight, bias, y, argmax);
}

/// See [`backward::conv_backward`].
pub fn conv_backward(
    shape: &ConvShape,
    _arithmetic: Arithmetic,
    saved: Saved,
    for_weight: Option<WeightGradient>,
    for_input: Option<InputGradient>,
) {
    backward::conv_backward(shape, saved.y, saved.argmax, saved.dy, for_weight, for_input);
}
