//! The operations on the `flex` device: burn's tensors to plain slices and back.
//!
//! Forward passes come in two kinds: for inference ([`Kernels`]'s own), and functions that also keep what the backward pass
//! needs. Those of convolutions are in `convolution.rs`.

use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::IntTensor;
use burn::backend::{Flex, TensorMetadata};

use super::convolution::{conv_shape, convolved, convolved_and_normalised};
use super::cpu::{self, LinearShape};
use super::memory;
use super::profile::{Operations, counted, timed};
use super::storage::{Floats, contiguous, floats, tensor};
use super::{
    AdamStep, ConvNormOptions, ConvOptions, DenseOptions, Kernels, NormOptions, OverlappingPool, Precision,
    SgdStep, normalisation, pooling, reference,
};

type Integers = IntTensor<Flex>;

impl Kernels for Flex {
    fn conv_block(input: Floats, weight: Floats, bias: Floats, options: ConvOptions) -> Floats {
        match conv_shape(&input, &weight, options) {
            Some(shape) => {
                let output = convolved(&shape, options.arithmetic, &input, &weight, &bias, None);
                memory::reuse(input);
                output
            }
            None => reference::conv_block::<Self>(input, weight, bias, options),
        }
    }

    fn conv_norm(
        input: Floats,
        weight: Floats,
        mean: Floats,
        variance: Floats,
        scale: Floats,
        shift: Floats,
        options: ConvNormOptions,
    ) -> Floats {
        let ConvNormOptions { conv, norm } = &options;
        let Some(shape) = conv_shape(&input, &weight, *conv) else {
            return reference::conv_norm::<Self>(input, weight, mean, variance, scale, shift, options);
        };
        let [mean, variance, scale, shift] = [mean, variance, scale, shift].map(contiguous);
        let inverse = cpu::inverse_deviation(floats(&variance), norm.epsilon);
        let affine = cpu::Affine { scale: floats(&scale), shift: floats(&shift) };
        let norm = cpu::Normalisation::new(floats(&mean), &inverse, affine, norm.relu);
        let output = convolved_and_normalised(&shape, conv.arithmetic, &input, &weight, &norm);
        memory::reuse(input);
        output
    }

    fn overlapping_pool(input: Floats, kind: OverlappingPool) -> Floats {
        pooling::forward(input, kind).0
    }

    fn dense_block(input: Floats, weight: Floats, bias: Floats, options: DenseOptions) -> Floats {
        dense_forward(&input, &weight, &bias, options)
    }

    fn cross_entropy(logits: Floats, labels: Integers, smoothing: f32) -> (Floats, Floats) {
        let (loss, correct, _) = cross_entropy(&logits, labels, smoothing);
        (loss, correct)
    }

    fn batch_norm(
        input: Floats,
        samples: usize,
        scale: Floats,
        shift: Floats,
        options: NormOptions,
    ) -> (Floats, Floats, Floats) {
        let (output, [mean, variance], _) = normalisation::forward(input, samples, scale, shift, options);
        (output, mean, variance)
    }

    fn normalise(
        input: Floats,
        mean: Floats,
        variance: Floats,
        scale: Floats,
        shift: Floats,
        options: NormOptions,
    ) -> Floats {
        let input = contiguous(input);
        let [mean, variance, scale, shift] = [mean, variance, scale, shift].map(contiguous);
        let inverse = cpu::inverse_deviation(floats(&variance), options.epsilon);
        let affine = cpu::Affine { scale: floats(&scale), shift: floats(&shift) };
        let mut output = memory::room(floats(&input).len());
        cpu::normalise(floats(&input), floats(&mean), &inverse, affine, options.relu, &mut output);
        tensor(output, &input.shape().to_vec())
    }

    fn adam(
        mut parameter: Floats,
        gradient: Floats,
        mut moment_1: Floats,
        mut moment_2: Floats,
        step: AdamStep,
    ) -> (Floats, Floats, Floats) {
        parameter = contiguous(parameter);
        let gradient = contiguous(gradient);
        timed(
            || "optimizer".into(),
            || {
                cpu::adam_update(
                    parameter.storage_mut(),
                    floats(&gradient),
                    moment_1.storage_mut(),
                    moment_2.storage_mut(),
                    &step,
                )
            },
        );
        (parameter, moment_1, moment_2)
    }

    fn sgd(parameter: Floats, gradient: Floats, mut velocity: Floats, step: SgdStep) -> (Floats, Floats) {
        let mut parameter = contiguous(parameter);
        let gradient = contiguous(gradient);
        timed(
            || "optimizer".into(),
            || cpu::sgd_update(parameter.storage_mut(), floats(&gradient), velocity.storage_mut(), &step),
        );
        (parameter, velocity)
    }

    fn orthogonalise(matrix: Floats) -> Floats {
        let (shape, matrix) = (matrix.shape().dims(), matrix.to_contiguous());
        let result = timed(|| "optimizer".into(), || cpu::orthogonalise(shape, floats(&matrix)));
        tensor(result, &shape)
    }
}

/// `input · weight + bias`, with or without ReLU.
pub(super) fn dense_forward(input: &Floats, weight: &Floats, bias: &Floats, options: DenseOptions) -> Floats {
    let shape = linear_shape(input, weight, options.relu);
    let precision = options.arithmetic.precision;
    let (input, weight, bias) = (input.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
    let mut output = memory::room(shape.batch * shape.outputs);
    counted(
        || format!("{shape} forward"),
        Operations::of_products(shape.batch * shape.inputs * shape.outputs),
        || {
            let bias = Some(floats(&bias));
            cpu::linear_forward(&shape, precision, floats(&input), floats(&weight), bias, &mut output);
        },
    );
    tensor(output, &[shape.batch, shape.outputs])
}

fn linear_shape(input: &Floats, weight: &Floats, relu: bool) -> LinearShape {
    let [batch, inputs] = input.shape().dims();
    let [_, outputs] = weight.shape().dims();
    LinearShape { batch, inputs, outputs, relu }
}

/// Gradients of a dense block.
pub(super) struct DenseGradients {
    pub input: Option<Floats>,
    pub weight: Floats,
    pub bias: Floats,
}

/// What a dense block keeps for its backward pass.
#[derive(Clone, Debug)]
pub(super) struct DenseState {
    pub input: Floats,
    pub weight: Floats,
    pub precision: Precision,
    /// Kept only where ReLU masks the gradient.
    pub output: Option<Floats>,
}

/// Backward pass of a dense block.
pub(super) fn dense_backward(state: DenseState, gradient: Floats, input_wanted: bool) -> DenseGradients {
    let DenseState { input, weight, precision, output } = state;
    let shape = linear_shape(&input, &weight, output.is_some());
    let [input, weight, gradient] = [input, weight, gradient].map(contiguous);
    let output = output.map(contiguous);
    let mut for_weight = vec![0.0; shape.inputs * shape.outputs];
    let mut for_bias = vec![0.0; shape.outputs];
    let mut for_input = input_wanted.then(|| memory::room(shape.batch * shape.inputs));
    let directions = if input_wanted { 2 } else { 1 };
    counted(
        || format!("{shape} backward"),
        Operations::of_products(directions * shape.batch * shape.inputs * shape.outputs),
        || {
            let output = output.as_ref().map(floats).unwrap_or_default();
            let wanted = cpu::LinearGradients {
                dweight: &mut for_weight,
                dbias: Some(&mut for_bias),
                dx: for_input.as_deref_mut(),
            };
            let [input, weight, gradient] = [&input, &weight, &gradient].map(floats);
            cpu::linear_backward(&shape, precision, input, weight, output, gradient, wanted);
        },
    );
    [input, gradient].into_iter().chain(output).for_each(memory::reuse);
    DenseGradients {
        input: for_input.map(|values| tensor(values, &[shape.batch, shape.inputs])),
        weight: tensor(for_weight, &[shape.inputs, shape.outputs]),
        bias: tensor(for_bias, &[shape.outputs]),
    }
}

/// Sum of the losses `[1]`, number of right answers `[1]`, and the gradient of that sum by the logits.
pub(super) fn cross_entropy(logits: &Floats, labels: Integers, smoothing: f32) -> (Floats, Floats, Floats) {
    let [samples, classes] = logits.shape().dims();
    let logits = logits.to_contiguous();
    let labels: Vec<i32> = labels.into_data().iter::<i32>().collect();
    let mut gradient = memory::room(samples * classes);
    let (loss, correct) = timed(
        || "cross-entropy".into(),
        || cpu::softmax_cross_entropy(floats(&logits), &labels, classes, smoothing, &mut gradient),
    );
    (tensor(vec![loss], &[1]), tensor(vec![correct], &[1]), tensor(gradient, &[samples, classes]))
}

/// `values` times the one number in `factor`.
pub(super) fn scaled(values: Floats, factor: &Floats) -> Floats {
    match floats(&factor.to_contiguous()) {
        [1.0] => values,
        [factor] => Flex::float_mul_scalar(values, (*factor).into()),
        _ => Flex::float_mul(values, factor.clone()),
    }
}
