//! A convolution block.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Initialiser;
use crate::kernels::{self, ConvOptions};

/// Square convolution of stride 1 with bias, and what follows it directly.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[kernel, kernel, inputs, outputs]`.
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    options: ConvOptions,
}

impl Conv {
    /// Glorot-uniform weight (fans counted over the whole kernel window, as Keras does), zero bias.
    pub fn new(
        kernel: usize,
        channels: [usize; 2],
        options: ConvOptions,
        initialiser: &mut Initialiser,
    ) -> Self {
        let [inputs, outputs] = channels;
        let window = kernel * kernel;
        Self {
            weight: initialiser.glorot_uniform(
                [kernel, kernel, inputs, outputs],
                window * inputs,
                window * outputs,
            ),
            bias: initialiser.zeros(outputs),
            options,
        }
    }

    /// `[batch, height, width, inputs]` to `[batch, height', width', outputs]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        kernels::conv_block(input, self.weight.val(), self.bias.val(), self.options)
    }
}
