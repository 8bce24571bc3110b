//! A dense layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Initialiser;
use crate::kernels::{self, DenseOptions};

/// `input · weight + bias`, with or without ReLU.
#[derive(Module, Debug)]
pub struct Dense {
    /// `[inputs, outputs]`.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`.
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    options: DenseOptions,
}

impl Dense {
    /// Weight by the initialiser's scheme, zero bias.
    pub fn new(inputs: usize, outputs: usize, relu: bool, initialiser: &mut Initialiser) -> Self {
        Self {
            weight: initialiser.dense(inputs, outputs),
            bias: initialiser.constant(0.0, outputs),
            options: DenseOptions { relu, arithmetic: initialiser.arithmetic },
        }
    }

    /// `[batch, inputs]` to `[batch, outputs]`.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        kernels::dense_block(input, self.weight.val(), self.bias.val(), self.options)
    }
}
