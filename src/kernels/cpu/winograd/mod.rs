//! Convolutions of 3x3 and 5x5 by Winograd's minimal filtering: fewer multiplications than outputs times taps.
//!
//! `filter` has the transforms and `matrices` what they apply, `strip` the numbers under a row of tiles, `weights` the
//! transformed weights, `products` the register tiles between the transforms; `convolve` is the forward pass and the input
//! gradient, `weight_gradient` the rest. `method` says which layers come here.
//!
//! **Sums.** Every output is one sum over the input channels, in their order, for each of a tile's products, and the
//! transforms' fixed order of these; a weight gradient sums the tiles of a unit of images in their order and units along
//! their tree. Vectors run along channels. So the bits depend on the layer alone.
//!
//! **Error** against sums in double precision, root mean square by the outputs' deviation (prototype in C, 16x16x128 -> 128):
//! direct convolution 4 to 7e-7, F(2x2, 3x3) 2 to 4e-7, F(4x4, 3x3) 0.9 to 1.9e-6; in numpy, 96 channels, F(4x4, 3x3) 1.6e-6,
//! F(2x2, 5x5) 1.9e-6, F(4x4, 5x5) 3.0e-6.
//!
//! **NaN and infinity** come through wherever they do in dense math, as NaN at least; they may also reach the other outputs of
//! the tiles that they lie under, and products with a gradient that is zero because of pool or ReLU are made, so that an
//! infinity there gives NaN.

mod convolve;
mod filter;
mod matrices;
mod products;
mod strip;
#[cfg(test)]
mod tests;
mod weight_gradient;
mod weights;

use super::backward::{InputGradient, Saved, WeightGradient};
use super::norm::Inputs;
use super::outputs::Outputs;
use super::pack::flip_weights;
use super::shape::ConvShape;
use super::simd::arch;
use super::unfold::OutputGradient;
use convolve::convolve;
use filter::{Four, FourOfFive, Two, TwoOfFive};
use strip::Maps;
use weight_gradient::weight_gradient;

/// Which filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Two,
    Four,
    TwoOfFive,
    FourOfFive,
}

/// See `forward::conv_forward`.
pub fn conv_forward(
    method: Method,
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    outputs: Outputs,
) {
    let maps = Maps::Plain { shape: [shape.height, shape.width, shape.in_channels], numbers: x };
    convolved(method, shape, maps, weight, bias, outputs);
}

/// The weight gradient of [`backward::conv_backward`](super::backward::conv_backward).
pub fn conv_weight_gradient(method: Method, shape: &ConvShape, saved: Saved, wanted: WeightGradient) {
    let gradient = OutputGradient { shape, saved };
    let WeightGradient { x: Inputs { numbers: x, .. }, dweight, dbias } = wanted;
    let arch = arch();
    match method {
        Method::Two => weight_gradient::<Two>(arch, x, gradient, dweight, dbias),
        Method::Four => weight_gradient::<Four>(arch, x, gradient, dweight, dbias),
        Method::TwoOfFive => weight_gradient::<TwoOfFive>(arch, x, gradient, dweight, dbias),
        Method::FourOfFive => weight_gradient::<FourOfFive>(arch, x, gradient, dweight, dbias),
    }
}

/// The input gradient of [`backward::conv_backward`](super::backward::conv_backward): the convolution of the gradient of the
/// output, from which nothing is left out, with turned weights.
pub fn conv_input_gradient(method: Method, shape: &ConvShape, saved: Saved, wanted: InputGradient) {
    let maps = Maps::Gradient(OutputGradient { shape, saved });
    let weight = flip_weights(shape, wanted.weight);
    let turned = shape.turned();
    let outputs = Outputs::new(turned.out_channels, wanted.dx, None);
    convolved(method, &turned, maps, &weight, None, outputs);
}

fn convolved(
    method: Method,
    shape: &ConvShape,
    maps: Maps,
    weight: &[f32],
    bias: Option<&[f32]>,
    outputs: Outputs,
) {
    let arch = arch();
    match method {
        Method::Two => convolve::<Two>(arch, shape, maps, weight, bias, outputs),
        Method::Four => convolve::<Four>(arch, shape, maps, weight, bias, outputs),
        Method::TwoOfFive => convolve::<TwoOfFive>(arch, shape, maps, weight, bias, outputs),
        Method::FourOfFive => convolve::<FourOfFive>(arch, shape, maps, weight, bias, outputs),
    }
}
