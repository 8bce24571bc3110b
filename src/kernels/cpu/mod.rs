//! CPU kernels of a training step: plain Rust over slices, no framework types.
//!
//! Start with `shape` (layouts) and `method` (which kernels a convolution goes to), then `forward`, `sparse`,
//! `weight_gradient`, `input_gradient`, `dense_weight_gradient`, `unfold` and `backward` (direct convolution), `winograd`
//! (fewer products), `linear` with `matmul` (dense layers), `norm` (batch normalisation), `elementwise` (loss and optimizer),
//! `orthogonal` (Muon). `pack` says what a factor is, `pair` is the one of bfloat16, `outputs` what follows the products, `ahead`
//! fetches what is needed next. `tree` adds up the units of a batch, `simd` chooses the instruction set, `scratch` keeps
//! buffers between calls, `peak` measures the machine, `naive` is the plain twin that the tests compare with.
//!
//! Call from inside a rayon pool: from outside, each call wakes a worker and sleeps until it is done. Each call is
//! one parallel region; `conv_backward` with a weight gradient has a second, short one.
#![allow(
    unsafe_code,
    reason = "the one place where vector instructions and disjoint writes of threads need it"
)]
#![allow(
    clippy::needless_range_loop,
    reason = "register tiles are indexed by constants, side by side in several arrays"
)]

mod ahead;
mod backward;
#[cfg(test)]
mod check;
mod dense_weight_gradient;
mod elementwise;
mod forward;
#[cfg(test)]
mod golden;
mod input_gradient;
mod linear;
mod matmul;
mod method;
#[cfg(test)]
mod naive;
mod norm;
mod orthogonal;
mod outputs;
mod pack;
mod pair;
mod peak;
mod pool;
mod scratch;
mod shape;
mod simd;
mod sparse;
mod tree;
mod unfold;
mod weight_gradient;
mod winograd;

pub use backward::{InputGradient, Saved, WeightGradient, conv_backward_through_norm};
pub use elementwise::{adam_update, sgd_update, softmax_cross_entropy};
pub use linear::{LinearGradients, LinearShape, linear_backward, linear_forward};
pub use method::{
    Pass, conv_backward, conv_forward, conv_forward_normalised, conv_forward_of_normalised,
    normalises_inputs, products,
};
pub use norm::{
    Affine, AffineGradient, Inputs, Moments, Normalisation, Normalised, affine_gradient, batch_moments,
    input_gradient, inverse_deviation, normalise,
};
pub use orthogonal::orthogonalise;
pub use peak::peak;
pub use pool::{PoolShape, pool_backward, pool_forward};
pub use shape::{ConvShape, uses_fast_path};
pub use simd::choose;

/// Name of the instruction set that the kernels use on this machine.
pub fn instruction_set() -> &'static str {
    simd::chosen().0
}

/// Names of the instruction sets that this machine has, widest first.
pub fn instruction_sets() -> impl Iterator<Item = &'static str> {
    simd::arches().into_iter().map(|(name, _)| name)
}
