//! A convolution block.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{BatchNorm, Initialiser};
use crate::kernels::{self, ConvOptions};

/// Square convolution of stride 1, and what follows it: bias and ReLU, or batch normalisation and ReLU; with
/// pooling on request directly behind the convolution.
///
/// Pooling commutes with bias and ReLU, so in a block without normalisation it may as well be thought of as last.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// `[kernel, kernel, inputs, outputs]`.
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`; absent with normalisation, whose shift takes its place.
    pub bias: Option<Param<Tensor<1>>>,
    norm: Option<BatchNorm>,
    #[module(skip)]
    options: ConvOptions,
}

/// What a [`ConvBlock`] looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Side of the kernel.
    pub kernel: usize,
    /// Zeros around the input.
    pub padding: usize,
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Max-pooling 2x2.
    pub pool: bool,
    /// Batch normalisation in place of the bias.
    pub norm: bool,
}

impl ConvBlock {
    /// Glorot-uniform weight (fans counted over the whole kernel window, as Keras does), zero bias.
    pub fn new(shape: BlockShape, initialiser: &mut Initialiser) -> Self {
        let BlockShape { kernel, channels: [inputs, outputs], .. } = shape;
        let window = kernel * kernel;
        Self {
            weight: initialiser.glorot_uniform(
                [kernel, kernel, inputs, outputs],
                window * inputs,
                window * outputs,
            ),
            bias: (!shape.norm).then(|| initialiser.constant(0.0, outputs)),
            norm: shape.norm.then(|| BatchNorm::new(outputs, initialiser)),
            options: ConvOptions { padding: shape.padding, relu: !shape.norm, pool: shape.pool },
        }
    }

    /// `[batch, height, width, inputs]` to `[batch, height', width', outputs]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let weight = self.weight.val();
        let bias = match &self.bias {
            Some(bias) => bias.val(),
            None => Tensor::zeros([weight.dims()[3]], &weight.device()),
        };
        let output = kernels::conv_block(input, weight, bias, self.options);
        match &self.norm {
            Some(norm) => {
                let shape = output.dims();
                let [batch, height, width, channels] = shape;
                norm.forward(output.reshape([batch * height * width, channels])).reshape(shape)
            }
            None => output,
        }
    }
}
