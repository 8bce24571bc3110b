//! The operations as functions of burn's tensors, whatever device they are on.

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use super::{
    AdamStep, ConvNormOptions, ConvOptions, DenseOptions, Kernels, NormOptions, OverlappingPool, SgdStep,
    burn_operations, count, reference,
};

/// The device's own implementation of an operation, or burn's.
macro_rules! choice {
    ($operation:ident) => {
        match burn_operations() {
            true => reference::$operation::<Dispatch>,
            false => <Dispatch as Kernels>::$operation,
        }
    };
}

/// Convolution, bias, and on request ReLU and max-pooling.
///
/// `input` `[batch, height, width, in]`, `weight` `[kernel, kernel, in, out]`, `bias` `[out]`;
/// gives `[batch, height', width', out]`.
pub fn conv_block(input: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>, options: ConvOptions) -> Tensor<4> {
    count(convolution_products(&input, &weight, options));
    let operation = choice!(conv_block);
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
    let operation = choice!(conv_norm);
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
    let operation = choice!(overlapping_pool);
    Tensor::from_dispatch(operation(input.into_dispatch(), kind))
}

/// `input · weight + bias`, and on request ReLU: `[batch, in]`, `[in, out]`, `[out]` give `[batch, out]`.
pub fn dense_block(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>, options: DenseOptions) -> Tensor<2> {
    count(input.dims()[0] * weight.shape().num_elements());
    let operation = choice!(dense_block);
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
    let operation = choice!(batch_norm);
    let (output, mean, variance) =
        operation(input.into_dispatch(), samples, scale.into_dispatch(), shift.into_dispatch(), options);
    (Tensor::from_dispatch(output), Tensor::from_dispatch(mean), Tensor::from_dispatch(variance))
}

/// [`batch_norm`] of images, and behind it a convolution without bias. Where the kernels can, the normalised images are never
/// written: the convolution makes them whenever it reads them, from the input that the backward pass needs anyway.
///
/// `input` `[batch, height, width, in]`, `scale` and `shift` `[in]`, `weight` `[kernel, kernel, in, out]`; gives the output
/// `[batch, height', width', out]`, and mean and variance `[in]`.
pub fn norm_conv(
    input: Tensor<4>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    weight: Tensor<4>,
    options: ConvNormOptions,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    count(convolution_products(&input, &weight, options.conv));
    let operation = choice!(norm_conv);
    let (output, mean, variance) = operation(
        input.into_dispatch(),
        scale.into_dispatch(),
        shift.into_dispatch(),
        weight.into_dispatch(),
        options,
    );
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
    let operation = choice!(normalise);
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
    let operation = choice!(cross_entropy);
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
    let operation = choice!(adam);
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
    let operation = choice!(sgd);
    let (parameter, velocity) =
        operation(parameter.into_dispatch(), gradient.into_dispatch(), velocity.into_dispatch(), step);
    (Tensor::from_dispatch(parameter), Tensor::from_dispatch(velocity))
}

/// The matrix with the singular vectors of `matrix` and all singular values near 1, by Newton-Schulz iterations on the
/// side of fewer numbers (Muon: Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>).
pub fn orthogonalise(matrix: Tensor<2>) -> Tensor<2> {
    let operation = choice!(orthogonalise);
    Tensor::from_dispatch(operation(matrix.into_dispatch()))
}
