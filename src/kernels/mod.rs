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
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

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
        let no_bias = reference::zeros_like::<Self>(&mean);
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

/// Convolution, bias, and on request ReLU and max-pooling.
///
/// `input` `[batch, height, width, in]`, `weight` `[kernel, kernel, in, out]`, `bias` `[out]`;
/// gives `[batch, height', width', out]`.
pub fn conv_block(input: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, options: ConvOptions) -> Tensor<4> {
    count(convolution_products(&input, &weight, options));
    let operation = match burn_operations() {
        true => reference::conv_block::<Dispatch>,
        false => <Dispatch as Kernels>::conv_block,
    };
    Tensor::from_dispatch(operation(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        options,
    ))
}

fn convolution_products(input: &Tensor<4>, weight: &Tensor<4>, options: ConvOptions) -> usize {
    let [[batch, height, width, _], [window, ..]] = [input.dims(), weight.dims()];
    let places = |side: usize| (side + 2 * options.padding + 1).saturating_sub(window);
    batch * places(height) * places(width) * weight.shape().num_elements()
}

/// A convolution without bias, on request max-pooling, and normalisation by given statistics as [`normalise`] does it: for
/// evaluation, where the convolution's own outputs are not needed.
///
/// `input` `[batch, height, width, in]`, `weight` `[kernel, kernel, in, out]`, the others `[out]`; gives
/// `[batch, height', width', out]`.
pub fn conv_norm(
    input: Tensor<4>,
    weight: Tensor<4>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    options: ConvNormOptions,
) -> Tensor<4> {
    count(convolution_products(&input, &weight, options.conv));
    let operation = match burn_operations() {
        true => reference::conv_norm::<Dispatch>,
        false => <Dispatch as Kernels>::conv_norm,
    };
    Tensor::from_dispatch(operation(
        input.into_dispatch(),
        weight.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        options,
    ))
}

/// Pooling of `[batch, height, width, channels]` over windows of 3x3 with stride 2 and padding 1.
pub fn overlapping_pool(input: Tensor<4>, kind: OverlappingPool) -> Tensor<4> {
    let operation = match burn_operations() {
        true => reference::overlapping_pool::<Dispatch>,
        false => <Dispatch as Kernels>::overlapping_pool,
    };
    Tensor::from_dispatch(operation(input.into_dispatch(), kind))
}

/// `input · weight + bias`, and on request ReLU: `[batch, in]`, `[in, out]`, `[out]` give `[batch, out]`.
pub fn dense_block(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, options: DenseOptions) -> Tensor<2> {
    count(input.dims()[0] * weight.shape().num_elements());
    let operation = match burn_operations() {
        true => reference::dense_block::<Dispatch>,
        false => <Dispatch as Kernels>::dense_block,
    };
    Tensor::from_dispatch(operation(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        options,
    ))
}

/// Batch normalisation of rows by the statistics of the batch (Ioffe and Szegedy 2015), and on request ReLU.
///
/// `input` `[rows, channels]`, equally many rows of each of `samples`; `scale` and `shift` `[channels]`. Gives the output `[rows, channels]`, and mean and
/// variance (divided by the number of rows) `[channels]`, through which no gradient flows.
pub fn batch_norm(
    input: Tensor<2>,
    samples: usize,
    scale: Tensor<1>,
    shift: Tensor<1>,
    options: NormOptions,
) -> (Tensor<2>, Tensor<1>, Tensor<1>) {
    let operation = match burn_operations() {
        true => reference::batch_norm::<Dispatch>,
        false => <Dispatch as Kernels>::batch_norm,
    };
    let (output, mean, variance) =
        operation(input.into_dispatch(), samples, scale.into_dispatch(), shift.into_dispatch(), options);
    (Tensor::from_dispatch(output), Tensor::from_dispatch(mean), Tensor::from_dispatch(variance))
}

/// The same normalisation by given statistics (those of training, for evaluation).
pub fn normalise(
    input: Tensor<2>,
    mean: Tensor<1>,
    variance: Tensor<1>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    options: NormOptions,
) -> Tensor<2> {
    let operation = match burn_operations() {
        true => reference::normalise::<Dispatch>,
        false => <Dispatch as Kernels>::normalise,
    };
    Tensor::from_dispatch(operation(
        input.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        options,
    ))
}

/// Softmax cross-entropy of `logits` `[batch, classes]` against `labels` `[batch]`.
///
/// With `smoothing` the target is `1 - smoothing` on the label and `smoothing` spread over all classes, the label's
/// included (Szegedy et al. 2016, section 7; PyTorch's `label_smoothing`).
///
/// A sample with a negative label counts for nothing. Gives the sum of the losses in nats `[1]`, to be divided by the samples of the whole batch wherever its parts are, and the number of samples whose largest logit is that of their label
/// (the first one where several are largest) `[1]`, through which no gradient flows.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>, smoothing: f32) -> (Tensor<1>, Tensor<1>) {
    let operation = match burn_operations() {
        true => reference::cross_entropy::<Dispatch>,
        false => <Dispatch as Kernels>::cross_entropy,
    };
    let (loss, correct) = operation(logits.into_dispatch(), labels.into_dispatch(), smoothing);
    (Tensor::from_dispatch(loss), Tensor::from_dispatch(correct))
}

/// One step of Adam on a parameter of any shape; gives parameter, first and second moment.
pub fn adam<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moment_1: Tensor<D>,
    moment_2: Tensor<D>,
    step: AdamStep,
) -> (Tensor<D>, Tensor<D>, Tensor<D>) {
    let operation = match burn_operations() {
        true => reference::adam::<Dispatch>,
        false => <Dispatch as Kernels>::adam,
    };
    let (parameter, moment_1, moment_2) = operation(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        moment_1.into_dispatch(),
        moment_2.into_dispatch(),
        step,
    );
    (Tensor::from_dispatch(parameter), Tensor::from_dispatch(moment_1), Tensor::from_dispatch(moment_2))
}

/// One step of gradient descent on a parameter of any shape; gives parameter and velocity.
pub fn sgd<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    velocity: Tensor<D>,
    step: SgdStep,
) -> (Tensor<D>, Tensor<D>) {
    let operation = match burn_operations() {
        true => reference::sgd::<Dispatch>,
        false => <Dispatch as Kernels>::sgd,
    };
    let (parameter, velocity) =
        operation(parameter.into_dispatch(), gradient.into_dispatch(), velocity.into_dispatch(), step);
    (Tensor::from_dispatch(parameter), Tensor::from_dispatch(velocity))
}

/// The matrix with the singular vectors of `matrix` and all singular values near 1, by Newton-Schulz iterations on the
/// side of fewer numbers (Muon: Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>).
pub fn orthogonalise(matrix: Tensor<2>) -> Tensor<2> {
    let operation = match burn_operations() {
        true => reference::orthogonalise::<Dispatch>,
        false => <Dispatch as Kernels>::orthogonalise,
    };
    Tensor::from_dispatch(operation(matrix.into_dispatch()))
}

/// `y = a · b` on the processor, whatever device tensors are on: `a` `[rows, depth]`, `b` `[depth, columns]`, `y`
/// `[rows, columns]`, all row by row. The sums have one order, whatever the number of threads and the instruction set.
pub fn matrix_product([rows, depth, columns]: [usize; 3], a: &[f32], b: &[f32], y: &mut [f32]) {
    let shape = cpu::LinearShape { batch: rows, inputs: depth, outputs: columns, relu: false };
    cpu::linear_forward(&shape, Precision::F32, a, b, None, y);
}
