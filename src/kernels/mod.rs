//! Own operations of the training path, through burn's `backend_extension`.
//!
//! [`Kernels`] is the one face: each operation has a default body made of burn's own operations
//! (`reference.rs`), which every device can run, and a hand-written forward and backward pass for the
//! `flex` device (`flex.rs`, `autodiff.rs`, over the plain loops of `cpu/`). Tensors are channels last: images `[batch, height, width, channels]`,
//! convolution kernels `[kernel, kernel, in, out]`, dense weights `[in, out]`.

mod autodiff;
mod convolution;
mod cpu;
mod flex;
mod memory;
mod normalisation;
mod operations;
mod options;
mod pooling;
pub mod profile;
mod reference;
mod storage;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, backend_extension};

pub use memory::release as release_memory;
pub use operations::{
    adam, batch_norm, conv_block, conv_norm, cross_entropy, dense_block, norm_conv, normalise, orthogonalise,
    overlapping_pool, sgd,
};
pub use options::{
    AdamStep, Arithmetic, ConvNormOptions, ConvOptions, Convolution, DenseOptions, NormOptions,
    OverlappingPool, Precision, SgdStep,
};
use options::{ITERATIONS, LEAST_NORM, QUINTIC};

use crate::error::{Error, Result};

/// Operations with a hand-written implementation for `flex`; every other device runs the default body.
#[backend_extension(
    Flex,
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "_gpu"),
    Remote: cfg(feature = "remote"),
    Autodiff
)]
pub trait Kernels: Backend {
    /// See [`conv_block`].
    fn conv_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions,
    ) -> FloatTensor<Self> {
        reference::conv_block::<Self>(input, weight, bias, options)
    }

    /// See [`conv_norm`].
    fn conv_norm(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        options: ConvNormOptions,
    ) -> FloatTensor<Self> {
        let no_bias = reference::no_bias::<Self>(&weight);
        let output = Self::conv_block(input, weight, no_bias, options.conv);
        Self::normalise(output, mean, variance, scale, shift, options.norm)
    }

    /// See [`overlapping_pool`].
    fn overlapping_pool(input: FloatTensor<Self>, kind: OverlappingPool) -> FloatTensor<Self> {
        reference::overlapping_pool::<Self>(input, kind)
    }

    /// See [`dense_block`].
    fn dense_block(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: DenseOptions,
    ) -> FloatTensor<Self> {
        reference::dense_block::<Self>(input, weight, bias, options)
    }

    /// See [`cross_entropy`].
    fn cross_entropy(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        smoothing: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::cross_entropy::<Self>(logits, labels, smoothing)
    }

    /// See [`batch_norm`].
    fn batch_norm(
        input: FloatTensor<Self>,
        samples: usize,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        options: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        reference::batch_norm::<Self>(input, samples, scale, shift, options)
    }

    /// See [`normalise`].
    fn normalise(
        input: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        reference::normalise::<Self>(input, mean, variance, scale, shift, options)
    }

    /// See [`norm_conv`].
    fn norm_conv(
        input: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        options: ConvNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        norm_and_conv::<Self>(input, scale, shift, weight, options)
    }

    /// See [`adam`].
    fn adam(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        reference::adam::<Self>(parameter, gradient, moment_1, moment_2, step)
    }

    /// See [`sgd`].
    fn sgd(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        velocity: FloatTensor<Self>,
        step: SgdStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::sgd::<Self>(parameter, gradient, velocity, step)
    }

    /// See [`orthogonalise`].
    fn orthogonalise(matrix: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::orthogonalise::<Self>(matrix)
    }
}

/// [`norm_conv`] by two operations of the device.
fn norm_and_conv<K: Kernels>(
    input: FloatTensor<K>,
    scale: FloatTensor<K>,
    shift: FloatTensor<K>,
    weight: FloatTensor<K>,
    options: ConvNormOptions,
) -> (FloatTensor<K>, FloatTensor<K>, FloatTensor<K>) {
    let (shape, no_bias) = (input.shape(), reference::no_bias::<K>(&weight));
    let rows = reference::pixels::<K>(input);
    let (rows, mean, variance) = <K as Kernels>::batch_norm(rows, shape[0], scale, shift, options.norm);
    (K::conv_block(K::float_reshape(rows, shape), weight, no_bias, options.conv), mean, variance)
}

#[cfg(feature = "ndarray")]
mod ndarray {
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::{Autodiff, NdArray};

    impl super::Kernels for NdArray {}
    impl<C: CheckpointStrategy> super::Kernels for Autodiff<NdArray, C> {}
}

#[cfg(feature = "_gpu")]
mod gpu {
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::{Autodiff, Cube};

    impl super::Kernels for Cube {}
    impl<C: CheckpointStrategy> super::Kernels for Autodiff<Cube, C> {}
}

#[cfg(feature = "remote")]
mod remote {
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::{Autodiff, Remote};

    impl super::Kernels for Remote {}
    impl<C: CheckpointStrategy> super::Kernels for Autodiff<Remote, C> {}
}

static BURN_OPERATIONS: AtomicBool = AtomicBool::new(false);

/// From now on, every device runs burn's own operations (true) or its kernels if it has any (false, the default). For
/// measuring what the kernels gain.
pub fn use_burn_operations(yes: bool) {
    BURN_OPERATIONS.store(yes, Ordering::Relaxed);
}

fn burn_operations() -> bool {
    BURN_OPERATIONS.load(Ordering::Relaxed)
}

/// The instruction set that the kernels use on this machine, or a note that burn's operations replace them.
pub fn instruction_set() -> &'static str {
    match burn_operations() {
        true => "no (burn's operations)",
        false => cpu::instruction_set(),
    }
}

/// From now on, the kernels use the instruction set of that name: for tests, since all give the same bytes.
///
/// # Errors
/// [`Error::Usage`] where the machine has it not, or something was computed with another one already.
pub fn choose_instruction_set(name: &str) -> Result<()> {
    if cpu::choose(name) {
        return Ok(());
    }
    let names: Vec<_> = cpu::instruction_sets().collect();
    Err(Error::Usage {
        problem: format!("ROTNET_KERNELS is {name:?}, which the kernels cannot use on this machine"),
        hint: format!("set it to one of {}, or not at all", names.join(", ")),
    })
}

/// Floating-point operations a second that the threads of the calling pool can make together in 32 bits, as measured for
/// so long.
pub fn peak(duration: Duration) -> f64 {
    cpu::peak(duration)
}

static MULTIPLICATIONS: AtomicU64 = AtomicU64::new(0);

fn count(multiplications: usize) {
    MULTIPLICATIONS.fetch_add(multiplications as u64, Ordering::Relaxed);
}

/// Runs `work` and returns the floating-point operations of its forward convolutions and dense layers; a multiplication
/// and an addition count as two. Includes those of other threads at the time.
pub fn operations(work: impl FnOnce()) -> u64 {
    let before = MULTIPLICATIONS.load(Ordering::Relaxed);
    work();
    2 * (MULTIPLICATIONS.load(Ordering::Relaxed) - before)
}

/// `y = a · b` on the processor, whatever device tensors are on: `a` `[rows, depth]`, `b` `[depth, columns]`, `y`
/// `[rows, columns]`, all row by row. The sums have one order, whatever the number of threads and the instruction set.
pub fn matrix_product([rows, depth, columns]: [usize; 3], a: &[f32], b: &[f32], y: &mut [f32]) {
    let shape = cpu::LinearShape { batch: rows, inputs: depth, outputs: columns, relu: false };
    cpu::linear_forward(&shape, Precision::F32, a, b, None, y);
}
