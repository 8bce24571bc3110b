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
    SgdStep, pooling, reference,
};
use crate::ranks::Share;

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
        let forward = norm_forward(&contiguous(input), samples, &scale, &shift, &options);
        (forward.output, forward.mean, forward.variance)
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

/// Result of a batch normalisation with what its backward pass needs.
pub(super) struct NormForward {
    pub output: Floats,
    pub mean: Floats,
    pub variance: Floats,
    pub inverse_deviation: Vec<f32>,
}

fn norm_name(input: &Floats) -> String {
    let [rows, channels] = input.shape().dims();
    format!("batch norm {rows} x {channels}")
}

/// Batch normalisation of a contiguous input.
pub(super) fn norm_forward(
    input: &Floats,
    samples: usize,
    scale: &Floats,
    shift: &Floats,
    options: &NormOptions,
) -> NormForward {
    let [_, channels] = input.shape().dims();
    let (scale, shift) = (scale.to_contiguous(), shift.to_contiguous());
    let affine = cpu::Affine { scale: floats(&scale), shift: floats(&shift) };
    let rows = floats(input);
    let mut output = memory::room(rows.len());
    let (statistics, inverse_deviation) = timed(
        || format!("{} forward", norm_name(input)),
        || {
            let moments = cpu::batch_moments(rows, samples, channels);
            let moments = match &options.share {
                Some(share) => {
                    share.total(&moments.numbers(), cpu::Moments::from_numbers, cpu::Moments::merge)
                }
                None => moments,
            };
            let statistics = moments.statistics();
            let inverse = cpu::inverse_deviation(&statistics.variance, options.epsilon);
            cpu::normalise(rows, &statistics.mean, &inverse, affine, options.relu, &mut output);
            (statistics, inverse)
        },
    );
    NormForward {
        output: tensor(output, &input.shape().to_vec()),
        mean: tensor(statistics.mean, &[channels]),
        variance: tensor(statistics.variance, &[channels]),
        inverse_deviation,
    }
}

/// What a batch normalisation keeps for its backward pass.
#[derive(Clone, Debug)]
pub(super) struct NormState {
    pub input: Floats,
    pub samples: usize,
    pub mean: Floats,
    pub inverse_deviation: Vec<f32>,
    pub scale: Floats,
    pub shift: Floats,
    pub relu: bool,
    pub share: Option<Share>,
}

/// Gradients of input, scale and shift.
pub(super) fn norm_backward(state: NormState, gradient: Floats) -> [Floats; 3] {
    let (scale, shift) = (state.scale.to_contiguous(), state.shift.to_contiguous());
    let gradients = timed(
        || format!("{} backward", norm_name(&state.input)),
        || {
            let mut gradient = contiguous(gradient);
            let forward = cpu::Normalised {
                rows: floats(&state.input),
                samples: state.samples,
                mean: floats(&state.mean),
                inverse_deviation: &state.inverse_deviation,
                affine: cpu::Affine { scale: floats(&scale), shift: floats(&shift) },
                relu: state.relu,
            };
            let own = cpu::affine_gradient(forward, floats(&gradient));
            let whole = state.share.as_ref().map(|share| {
                let (read, add) = (cpu::AffineGradient::from_numbers, cpu::AffineGradient::add);
                (share.total(&own.numbers(), read, add), share.of())
            });
            let (total, samples) = whole.as_ref().map_or((&own, state.samples), |(total, of)| (total, *of));
            cpu::input_gradient(forward, total, samples, gradient.storage_mut());
            // Those of all shares are added with the other gradients.
            let cpu::AffineGradient { scale, shift } = own;
            let channels = scale.len();
            [gradient, tensor(scale, &[channels]), tensor(shift, &[channels])]
        },
    );
    memory::reuse(state.input);
    gradients
}
