//! Convolutions of the `flex` device: forward for inference ([`convolved`], [`convolved_and_normalised`]), forward with what
//! the backward pass needs ([`conv_forward`], [`conv_forward_of_normalised`]), and backward.

use burn::backend::TensorMetadata;

use super::cpu::{self, ConvShape, Pass};
use super::memory;
use super::profile::{Operations, counted};
use super::storage::{Floats, contiguous, floats, tensor};
use super::{Arithmetic, ConvOptions, Precision};

/// What the backward pass of a convolution block needs.
#[derive(Clone, Debug)]
pub(super) struct ConvState {
    shape: ConvShape,
    arithmetic: Arithmetic,
    input: Floats,
    /// How the input is normalised while it is read, if it is.
    norm: Option<cpu::Normalisation>,
    weight: Floats,
    /// Where ReLU made its outputs zero; absent where pooling says so, or without ReLU.
    output: Option<Floats>,
    /// Which pixel of each pooling window was the largest; empty without pooling.
    argmax: Vec<u8>,
}

/// The shape of a convolution, if the kernels take it.
pub(super) fn conv_shape(input: &Floats, weight: &Floats, options: ConvOptions) -> Option<ConvShape> {
    let [batch, height, width, in_channels] = dimensions(input)?;
    let [kernel, kernel_width, weight_channels, out_channels] = dimensions(weight)?;
    let shape = ConvShape {
        batch,
        height,
        width,
        in_channels,
        out_channels,
        kernel,
        padding: options.padding,
        pool: options.pool,
        relu: options.relu,
    };
    let fits = kernel == kernel_width && weight_channels == in_channels;
    (fits && cpu::uses_fast_path(&shape)).then_some(shape)
}

fn dimensions(tensor: &Floats) -> Option<[usize; 4]> {
    tensor.shape().to_vec().try_into().ok()
}

pub(super) fn conv_forward(
    shape: ConvShape,
    arithmetic: Arithmetic,
    input: Floats,
    weight: Floats,
    bias: &Floats,
) -> (Floats, ConvState) {
    let mut argmax = vec![0; if shape.pool { shape.batch * shape.output_len() } else { 0 }];
    let places = shape.pool.then_some(&mut argmax[..]);
    let output = convolved(&shape, arithmetic, &input, &weight, bias, places);
    let kept = (shape.relu && !shape.pool).then(|| output.clone());
    (output, ConvState { shape, arithmetic, input, norm: None, weight, output: kept, argmax })
}

/// A convolution that normalises its input while it reads it.
pub(super) fn conv_forward_of_normalised(
    shape: ConvShape,
    arithmetic: Arithmetic,
    input: Floats,
    norm: cpu::Normalisation,
    weight: Floats,
) -> (Floats, ConvState) {
    let (input, weight) = (contiguous(input), contiguous(weight));
    let output = forward(&shape, arithmetic, |y| {
        let x = cpu::Inputs { numbers: floats(&input), norm: Some(&norm) };
        cpu::conv_forward_of_normalised(&shape, arithmetic, x, floats(&weight), y);
    });
    (
        output,
        ConvState { shape, arithmetic, input, norm: Some(norm), weight, output: None, argmax: Vec::new() },
    )
}

/// The output alone; `places` of maxima only where they are wanted.
pub(super) fn convolved(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    input: &Floats,
    weight: &Floats,
    bias: &Floats,
    places: Option<&mut [u8]>,
) -> Floats {
    let (input, weight, bias) = (input.to_contiguous(), weight.to_contiguous(), bias.to_contiguous());
    forward(shape, arithmetic, |y| {
        let (x, weight, bias) = (floats(&input), floats(&weight), Some(floats(&bias)));
        cpu::conv_forward(shape, arithmetic, x, weight, bias, y, places);
    })
}

/// See [`conv_norm`](super::conv_norm).
pub(super) fn convolved_and_normalised(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    input: &Floats,
    weight: &Floats,
    norm: &cpu::Normalisation,
) -> Floats {
    let (input, weight) = (input.to_contiguous(), weight.to_contiguous());
    forward(shape, arithmetic, |y| {
        cpu::conv_forward_normalised(shape, arithmetic, floats(&input), floats(&weight), norm, y);
    })
}

/// What `write` makes of the outputs' memory, timed.
fn forward(shape: &ConvShape, arithmetic: Arithmetic, write: impl FnOnce(&mut [f32])) -> Floats {
    let mut output = memory::room(shape.batch * shape.output_len());
    let operations = conv_operations(shape, arithmetic, &[Pass::Forward]);
    counted(|| format!("{shape} forward"), operations, || write(&mut output));
    tensor(output, &[shape.batch, shape.out_height(), shape.out_width(), shape.out_channels])
}

fn conv_operations(shape: &ConvShape, arithmetic: Arithmetic, passes: &[Pass]) -> Operations {
    let places = shape.batch * shape.conv_height() * shape.conv_width();
    let dense = 2.0 * (places * shape.weight_len() * passes.len()) as f64;
    let products = passes.iter().map(|&pass| cpu::products(shape, arithmetic, pass));
    Operations { dense, executed: 2.0 * products.sum::<f64>() }
}

/// Gradients of a convolution block, as far as they are wanted.
pub(super) struct ConvGradients {
    pub input: Option<Floats>,
    pub weight: Option<Floats>,
    pub bias: Option<Floats>,
}

/// Which gradients a backward pass is to compute.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub input: bool,
    pub weight: bool,
    pub bias: bool,
}

/// Backward pass of a convolution block; the gradient of the input, or of the parameters, only where `wanted`.
pub(super) fn conv_backward(state: ConvState, gradient: Floats, wanted: Wanted) -> ConvGradients {
    let ConvState { shape, arithmetic, input, norm, weight, output, argmax } = state;
    let [input, weight, gradient] = [input, weight, gradient].map(contiguous);
    let output = output.map(contiguous);
    let y = output.as_ref().map(floats).unwrap_or_default();
    let saved = cpu::Saved { y, argmax: &argmax, dy: floats(&gradient) };
    let run = |direction, for_weight: Option<cpu::WeightGradient>, dx: Option<&mut [f32]>| {
        let passes = [(for_weight.is_some(), Pass::WeightGradient), (dx.is_some(), Pass::InputGradient)];
        let passes: Vec<Pass> = passes.into_iter().filter(|(made, _)| *made).map(|(_, pass)| pass).collect();
        let operations = conv_operations(&shape, arithmetic, &passes);
        let for_input = dx.map(|dx| cpu::InputGradient { weight: floats(&weight), dx });
        counted(
            || format!("{shape} {direction}"),
            operations,
            || cpu::conv_backward(&shape, arithmetic, saved, for_weight, for_input),
        );
    };
    let zeros = |wanted: bool, length: usize| vec![0.0; if wanted { length } else { 0 }];
    let of_parameters = wanted.weight || wanted.bias;
    let mut for_weight = zeros(of_parameters, shape.weight_len());
    let mut for_bias = zeros(wanted.bias, shape.out_channels);
    let parameters = of_parameters.then(|| cpu::WeightGradient {
        x: cpu::Inputs { numbers: floats(&input), norm: norm.as_ref() },
        dweight: &mut for_weight,
        dbias: wanted.bias.then_some(&mut for_bias[..]),
    });
    let inputs = shape.batch * shape.input_len();
    let for_input = if shape.pool || shape.relu {
        // One walk over the non-zeros makes both.
        let mut for_input = wanted.input.then(|| memory::room(inputs));
        run("backward", parameters, for_input.as_deref_mut());
        memory::reuse(input);
        for_input
    } else {
        if parameters.is_some() {
            run("gradient of weights", parameters, None);
        }
        wanted.input.then(|| {
            // It takes the place of the input, which is not needed any more.
            memory::reuse(input);
            let mut for_input = memory::room(inputs);
            run("gradient of inputs", None, Some(&mut for_input));
            for_input
        })
    };
    [gradient].into_iter().chain(output).for_each(memory::reuse);
    let kept = |yes: bool, values, dimensions: &[usize]| yes.then(|| tensor(values, dimensions));
    let ConvShape { batch, height, width, in_channels, kernel, out_channels, .. } = shape;
    ConvGradients {
        input: for_input.map(|dx| tensor(dx, &[batch, height, width, in_channels])),
        weight: kept(wanted.weight, for_weight, &[kernel, kernel, in_channels, out_channels]),
        bias: kept(wanted.bias, for_bias, &[out_channels]),
    }
}

impl ConvState {
    /// Whether [`backward_through_norm`] makes the gradients of a convolution that normalises its input.
    pub(super) fn is_fused(&self) -> bool {
        self.arithmetic.precision == Precision::F32
    }
}

/// Gradient of the normalised input, sums of the normalisation's backward pass, and gradient of the weight.
pub(super) fn backward_through_norm(
    state: ConvState,
    norm: cpu::Normalised,
    gradient: Floats,
) -> (Floats, cpu::AffineGradient, Floats) {
    let ConvState { shape, arithmetic, weight, .. } = state;
    let [weight, gradient] = [weight, gradient].map(contiguous);
    let mut for_weight = vec![0.0; shape.weight_len()];
    let mut for_input = memory::room(shape.batch * shape.input_len());
    let operations = conv_operations(&shape, arithmetic, &[Pass::WeightGradient, Pass::InputGradient]);
    let sums = counted(
        || format!("{shape} backward"),
        operations,
        || {
            let [weight, gradient] = [&weight, &gradient].map(floats);
            cpu::conv_backward_through_norm(&shape, norm, weight, gradient, &mut for_weight, &mut for_input)
        },
    );
    memory::reuse(gradient);
    let ConvShape { batch, height, width, in_channels, out_channels, .. } = shape;
    (
        tensor(for_input, &[batch, height, width, in_channels]),
        sums,
        tensor(for_weight, &[1, 1, in_channels, out_channels]),
    )
}
