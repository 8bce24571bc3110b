//! The kernels: loops over plain slices, nothing of burn's types.
#![allow(
    clippy::needless_range_loop,
    reason = "register tiles are indexed by constants, side by side in several arrays"
)]

mod backward;
#[cfg(test)]
mod check;
mod dense_weight_gradient;
mod elementwise;
mod forward;
mod input_gradient;
#[cfg(test)]
mod naive;
mod norm;
mod pack;
mod scratch;
mod shape;
mod simd;
mod sparse;
mod weight_gradient;

pub use backward::{InputGradient, WeightGradient, conv_backward};
pub use elementwise::{adam_update, add_bias, mask_by_relu, softmax_cross_entropy, sum_rows};
pub use forward::conv_forward;
pub use norm::{
    Affine, AffineGradient, Normalised, affine_gradient, batch_statistics, input_gradient,
    inverse_deviation, normalise,
};
pub use shape::{ConvShape, uses_fast_path};

/// Name of the instruction set that the kernels use on this machine.
pub fn instruction_set() -> &'static str {
    simd::arches()[0].0
}
