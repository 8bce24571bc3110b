//! Convolutions of the `flex` device: forward for inference ([`convolved`], [`convolved_and_normalised`]), forward with what
//! the backward pass needs ([`conv_forward`]), and backward.

use burn::backend::TensorMetadata;

use super::cpu::{self, ConvShape, Pass};
use super::profile::{Operations, counted};
use super::storage::{Floats, floats, tensor};
use super::{Arithmetic, ConvOptions};

/// Result of a convolution block with what its backward pass needs.
#[derive(Clone, Debug)]
pub(super) struct ConvForward {
    pub output: Floats,
    /// Which pixel of each pooling window was the largest; empty without pooling.
    pub argmax: Vec<u8>,
    pub arithmetic: Arithmetic,
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
    shape: &ConvShape,
    arithmetic: Arithmetic,
    input: &Floats,
    weight: &Floats,
    bias: &Floats,
) -> ConvForward {
    let mut argmax = vec![0; if shape.pool { shape.batch * shape.output_len() } else { 0 }];
    let places = shape.pool.then_some(&mut argmax[..]);
    let output = convolved(shape, arithmetic, input, weight, bias, places);
    ConvForward { output, argmax, arithmetic }
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
    let mut output = vec![0.0; shape.batch * shape.output_len()];
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

/// Backward pass of a convolution block; the gradient of the input, or of the parameters, only where `wanted`.
pub(super) fn conv_backward(
    shape: &ConvShape,
    input: &Floats,
    weight: &Floats,
    forward: &ConvForward,
    gradient: &Floats,
    wanted: Wanted,
) -> ConvGradients {
    let (input, weight) = (input.to_contiguous(), weight.to_contiguous());
    let (output, gradient) = (forward.output.to_contiguous(), gradient.to_contiguous());
    let zeros = |yes: bool, length: usize| vec![0.0; if yes { length } else { 0 }];
    let mut for_input = zeros(wanted.input, shape.batch * shape.input_len());
    let mut for_weight = zeros(wanted.parameters, shape.weight_len());
    let mut for_bias = zeros(wanted.parameters, shape.out_channels);
    let passes = [(wanted.parameters, Pass::WeightGradient), (wanted.input, Pass::InputGradient)];
    let passes: Vec<Pass> = passes.into_iter().filter(|(wanted, _)| *wanted).map(|(_, pass)| pass).collect();
    counted(
        || format!("{shape} backward"),
        conv_operations(shape, forward.arithmetic, &passes),
        || {
            let parameters = wanted.parameters.then(|| cpu::WeightGradient {
                x: floats(&input),
                dweight: &mut for_weight,
                dbias: Some(&mut for_bias),
            });
            let input =
                wanted.input.then(|| cpu::InputGradient { weight: floats(&weight), dx: &mut for_input });
            let saved = cpu::Saved { y: floats(&output), argmax: &forward.argmax, dy: floats(&gradient) };
            cpu::conv_backward(shape, forward.arithmetic, saved, parameters, input);
        },
    );
    let kept = |yes: bool, values, dimensions: &[usize]| yes.then(|| tensor(values, dimensions));
    let ConvShape { batch, height, width, in_channels, kernel, out_channels, .. } = *shape;
    ConvGradients {
        input: kept(wanted.input, for_input, &[batch, height, width, in_channels]),
        weight: kept(wanted.parameters, for_weight, &[kernel, kernel, in_channels, out_channels]),
        bias: kept(wanted.parameters, for_bias, &[out_channels]),
    }
}

/// Which gradients a backward pass is to compute.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub input: bool,
    pub parameters: bool,
}
