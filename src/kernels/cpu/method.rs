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
    mut for_weight: Option<WeightGradient>,
    mut for_input: Option<InputGradient>,
) {
    let rounded = arithmetic.precision == Precision::Bf16;
    let dense_weight = for_weight.take_if(|_| rounded && weight_gradient_pays_as_bf16(shape));
    let dense_input = for_input.take_if(|_| rounded && input_gradient_pays_as_bf16(shape));
    if dense_weight.is_some() || dense_input.is_some() {
        backward::conv_backward_as_dense(shape, arithmetic.precision, saved, dense_weight, dense_input);
    }
    if for_weight.is_some() || for_input.is_some() {
        backward::conv_backward(shape, saved, for_weight, for_input);
    }
}

// Which gradients are computed from bfloat16 factors. Behind neither pool nor ReLU all are. Behind them zeros would be
// multiplied with the others, where the walk over non-zeros in 32 bits leaves them out. GFLOP/s as a dense pass is counted,
// 32-bit walk and bfloat16, one Zen 4 core (peaks 118 and 236), `scripts/kernels/examples/speed.rs`; about half of all
// gradients behind a ReLU are non-zero, an eighth behind both:
//
// | layer                        | input gradient | weight gradient |
// |------------------------------|----------------|-----------------|
// | 3x3 8x8x128 -> 128 relu      | 119 205        | 120 205         |
// | 1x1 16x16x64 -> 64 relu      |  63 143        |  90 122         |
// | 3x3 6x6x64 -> 64 relu, valid | 148  95        | 121 182         |
// | 3x3 8x8x128 -> 128 pool      | 248 211        | 216 207         |
// | 3x3 16x16x32 -> 64 pool      | 313 203        | 276 205         |
// | 3x3 15x15x32 -> 64 pool      | 373 157        | 356 201         |

fn weight_gradient_pays_as_bf16(shape: &ConvShape) -> bool {
    !shape.pool
}

/// Without padding, the dense input gradient also multiplies a frame of zeros around the gradient.
fn input_gradient_pays_as_bf16(shape: &ConvShape) -> bool {
    let framed = shape.height * shape.width > shape.conv_height() * shape.conv_width();
    !(shape.pool || shape.relu && framed)
}
