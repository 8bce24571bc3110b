//! The operations in terms of burn's own: the oracle of the tests, and what devices without kernels run.

use burn::backend::ops::ConvOptions as BurnConvOptions;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, FloatDType, IntDType, TensorMetadata};
use burn::tensor::Shape;

use super::{
    AdamStep, ConvNormOptions, ConvOptions, DenseOptions, ITERATIONS, LEAST_NORM, NormOptions,
    OverlappingPool, QUINTIC, SgdStep,
};

pub(super) fn conv_block<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    options: ConvOptions,
) -> FloatTensor<B> {
    let input = B::float_permute(input, &[0, 3, 1, 2]);
    let weight = B::float_permute(weight, &[3, 2, 0, 1]);
    let padding = [options.padding; 2];
    let mut output = B::conv2d(input, weight, Some(bias), BurnConvOptions::new([1, 1], padding, [1, 1], 1));
    if options.relu {
        output = B::relu(output);
    }
    if options.pool {
        output = B::max_pool2d(output, [2, 2], [2, 2], [0, 0], [1, 1], false);
    }
    B::float_permute(output, &[0, 2, 3, 1])
}

pub(super) fn conv_norm<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    options: ConvNormOptions,
) -> FloatTensor<B> {
    let no_bias = no_bias::<B>(&weight);
    let output = conv_block::<B>(input, weight, no_bias, options.conv);
    normalise::<B>(output, mean, variance, scale, shift, options.norm)
}

/// Zeros in place of the bias of a convolution with this weight.
pub(super) fn no_bias<B: Backend>(weight: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros(Shape::new([weight.shape()[3]]), &weight.device(), FloatDType::F32)
}

/// The pixels of all images, `[rows, channels]`.
pub(super) fn pixels<B: Backend>(images: FloatTensor<B>) -> FloatTensor<B> {
    let shape = images.shape();
    B::float_reshape(images, Shape::new([shape.num_elements() / shape[3], shape[3]]))
}

pub(super) fn overlapping_pool<B: Backend>(input: FloatTensor<B>, kind: OverlappingPool) -> FloatTensor<B> {
    let input = B::float_permute(input, &[0, 3, 1, 2]);
    let output = match kind {
        OverlappingPool::Max => B::max_pool2d(input, [3, 3], [2, 2], [1, 1], [1, 1], false),
        OverlappingPool::Average => B::avg_pool2d(input, [3, 3], [2, 2], [1, 1], true, false),
    };
    B::float_permute(output, &[0, 2, 3, 1])
}

pub(super) fn dense_block<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    bias: FloatTensor<B>,
    options: DenseOptions,
) -> FloatTensor<B> {
    let outputs = bias.shape()[0];
    let bias = B::float_reshape(bias, Shape::new([1, outputs]));
    let output = B::float_add(B::float_matmul(input, weight), bias);
    if options.relu { B::relu(output) } else { output }
}

pub(super) fn batch_norm<B: Backend>(
    input: FloatTensor<B>,
    _samples: usize,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    options: NormOptions,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let mean = B::float_mean_dim(input.clone(), 0);
    let centred = B::float_sub(input.clone(), mean.clone());
    let variance = B::float_mean_dim(B::float_mul(centred.clone(), centred), 0);
    let channels = scale.shape()[0];
    let flat = |tensor| B::float_reshape(tensor, Shape::new([channels]));
    let (mean, variance) = (flat(mean), flat(variance));
    let output = normalise::<B>(input, mean.clone(), variance.clone(), scale, shift, options);
    (output, B::float_detach(mean), B::float_detach(variance))
}

pub(super) fn norm_conv<B: Backend>(
    input: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    weight: FloatTensor<B>,
    options: ConvNormOptions,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (shape, no_bias) = (input.shape(), no_bias::<B>(&weight));
    let (rows, mean, variance) = batch_norm::<B>(pixels::<B>(input), shape[0], scale, shift, options.norm);
    (conv_block::<B>(B::float_reshape(rows, shape), weight, no_bias, options.conv), mean, variance)
}

pub(super) fn normalise<B: Backend>(
    input: FloatTensor<B>,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    scale: FloatTensor<B>,
    shift: FloatTensor<B>,
    options: NormOptions,
) -> FloatTensor<B> {
    let mut shape = vec![1; input.shape().num_dims()];
    *shape.last_mut().expect("a tensor has dimensions") = scale.shape()[0];
    let row = |tensor| B::float_reshape(tensor, Shape::from(shape.clone()));
    let deviation = B::float_sqrt(B::float_add_scalar(variance, options.epsilon.into()));
    let factor = row(B::float_div(scale, deviation));
    let centred = B::float_sub(input, row(mean));
    let output = B::float_add(B::float_mul(centred, factor), row(shift));
    if options.relu { B::relu(output) } else { output }
}

pub(super) fn cross_entropy<B: Backend>(
    logits: FloatTensor<B>,
    labels: IntTensor<B>,
    smoothing: f32,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let [samples, classes] = logits.shape().dims();
    let labels = B::int_reshape(labels, Shape::new([samples, 1]));
    // 1 where there is a label, 0 where it is negative.
    let sign = B::int_clamp(B::int_add_scalar(labels.clone(), 1.into()), 0.into(), 1.into());
    let labeled = B::int_into_float(sign, FloatDType::F32);
    let dtype: IntDType = labels.dtype().into();
    let predicted = B::float_argmax(B::float_detach(logits.clone()), 1, dtype);
    let difference = B::int_into_float(B::int_sub(predicted, labels.clone()), FloatDType::F32);
    let wrong = B::float_clamp_max(B::float_abs(difference), 1f32.into());
    let correct = B::float_add_scalar(B::float_neg(B::float_sum(wrong)), (samples as f32).into());
    let logarithms = B::log_softmax(logits, 1);
    let logarithms = B::float_mul(logarithms, labeled);
    let picked = B::float_sum(B::float_gather(1, logarithms.clone(), B::int_clamp_min(labels, 0.into())));
    let picked = B::float_mul_scalar(picked, (1.0 - smoothing).into());
    let all = B::float_mul_scalar(B::float_sum(logarithms), (smoothing / classes as f32).into());
    (B::float_neg(B::float_add(picked, all)), correct)
}

pub(super) fn adam<B: Backend>(
    parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    moment_1: FloatTensor<B>,
    moment_2: FloatTensor<B>,
    step: AdamStep,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let scaled = |tensor, factor: f32| B::float_mul_scalar(tensor, factor.into());
    let square = B::float_mul(gradient.clone(), gradient.clone());
    let moment_1 = B::float_add(scaled(moment_1, step.beta_1), scaled(gradient, 1.0 - step.beta_1));
    let moment_2 = B::float_add(scaled(moment_2, step.beta_2), scaled(square, 1.0 - step.beta_2));
    let root = B::float_add_scalar(B::float_sqrt(moment_2.clone()), step.epsilon.into());
    let change = scaled(B::float_div(moment_1.clone(), root), step.step_size);
    let kept = scaled(parameter, step.keep);
    (B::float_sub(kept, change), moment_1, moment_2)
}

pub(super) fn sgd<B: Backend>(
    parameter: FloatTensor<B>,
    gradient: FloatTensor<B>,
    velocity: FloatTensor<B>,
    step: SgdStep,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let scaled = |tensor, factor: f32| B::float_mul_scalar(tensor, factor.into());
    let gradient = B::float_add(gradient, scaled(parameter.clone(), step.weight_decay));
    let velocity = B::float_add(scaled(velocity, step.momentum), gradient.clone());
    let change = match step.nesterov {
        true => B::float_add(gradient, scaled(velocity.clone(), step.momentum)),
        false => velocity.clone(),
    };
    let change = scaled(change, step.learning_rate);
    (B::float_sub(parameter, change), velocity)
}

pub(super) fn orthogonalise<B: Backend>(matrix: FloatTensor<B>) -> FloatTensor<B> {
    let scaled = |tensor, factor: f32| B::float_mul_scalar(tensor, factor.into());
    let [inputs, outputs] = matrix.shape().dims();
    let wide = outputs > inputs;
    let mut x = if wide { B::float_transpose(matrix) } else { matrix };
    let squares = B::float_sum(B::float_mul(x.clone(), x.clone()));
    let norm = B::float_add_scalar(B::float_sqrt(squares), LEAST_NORM.into());
    x = B::float_div(x, B::float_reshape(norm, Shape::new([1, 1])));
    let [a, b, c] = QUINTIC;
    for _ in 0..ITERATIONS {
        let gram = B::float_matmul(B::float_transpose(x.clone()), x.clone());
        let square = B::float_matmul(gram.clone(), gram.clone());
        let mixed = B::float_add(scaled(gram, b), scaled(square, c));
        x = B::float_add(scaled(x.clone(), a), B::float_matmul(x, mixed));
    }
    if wide { B::float_transpose(x) } else { x }
}
