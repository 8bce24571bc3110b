//! What operations are told besides tensors, and the constants of Muon.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ranks::Share;

/// How a convolution is computed. Which method is used follows from a layer's shape alone, so results depend neither on
/// threads nor on the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Convolution {
    /// By Winograd's minimal filtering where a layer's shape makes that faster.
    #[default]
    Fast,
    /// Product by product: more exact in the last bits, and slower.
    Direct,
}

/// Precision of the factors of products. Sums, weights, normalisation and optimizers keep 32 bits with either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats: nothing is rounded.
    #[default]
    F32,
    /// bfloat16, 8 bits of precision, where that is faster for a layer's shape on AMD processors with AVX-512 BF16 (Zen 4
    /// and later): there about twice as fast. Others, Intel's too, give the same results, slower than with `f32`.
    Bf16,
}

/// How the sums of products of a network are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Arithmetic {
    /// The method of convolutions.
    pub convolution: Convolution,
    /// What factors are rounded to.
    pub precision: Precision,
}

/// Padding of a convolution block, and what follows its products. Stride is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvOptions {
    /// Zeros added on each side: 0 is `valid`, (kernel - 1) / 2 is `same`.
    pub padding: usize,
    /// ReLU after the bias.
    pub relu: bool,
    /// Max-pooling 2x2, stride 2, after the ReLU; an odd last row or column is dropped.
    pub pool: bool,
    /// How the products are computed; devices without kernels have their own way.
    pub arithmetic: Arithmetic,
}

/// A dense layer, and what follows its products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenseOptions {
    /// ReLU after the bias.
    pub relu: bool,
    /// How the products are computed; devices without kernels have their own way.
    pub arithmetic: Arithmetic,
}

/// Pooling over windows of 3x3 with stride 2 and padding 1: what is taken of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlappingPool {
    /// The maximum; padding is ignored.
    Max,
    /// The mean over nine places; padding counts as zeros (PyTorch's default).
    Average,
}

impl OverlappingPool {
    /// Height or width of the output for that of the input.
    pub fn side(input: usize) -> usize {
        input.div_ceil(2)
    }
}

/// Options of batch normalisation.
#[derive(Clone, Debug)]
pub struct NormOptions {
    /// Added to the variance.
    pub epsilon: f32,
    /// ReLU after scale and shift.
    pub relu: bool,
    /// Of which batch the rows are a share, if they are not all of it: its statistics are taken, forward and backward, by
    /// the kernels of `flex`. Other devices take those of the rows.
    pub share: Option<Share>,
}

/// Options of a convolution whose outputs are normalised.
#[derive(Clone, Debug)]
pub struct ConvNormOptions {
    /// Of the convolution.
    pub conv: ConvOptions,
    /// Of what is behind it.
    pub norm: NormOptions,
}

/// One update of Adam (Kingma and Ba 2015, section 2, the efficient order of computation).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate corrected for bias: `lr * sqrt(1 - beta_2^t) / (1 - beta_1^t)`.
    pub step_size: f32,
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Factor on the parameter before the update: `1 - lr * weight decay` (Loshchilov and Hutter 2019), 1 without.
    pub keep: f32,
}

/// One update of gradient descent with momentum, in PyTorch's form: the learning rate is outside the velocity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// Step size.
    pub learning_rate: f32,
    /// Decay of the velocity, the sum of gradients.
    pub momentum: f32,
    /// Nesterov's momentum: the gradient as if after the next step (Sutskever et al. 2013).
    pub nesterov: bool,
    /// Weight decay: this share of the parameter is added to its gradient.
    pub weight_decay: f32,
}

/// Coefficients of the quintic (a x + b x³ + c x⁵), tuned by Jordan and others for the steepest slope at zero.
pub(crate) const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Iterations, as there: singular values from 0.01 up end between about 0.7 and 1.2.
pub(crate) const ITERATIONS: usize = 5;
/// Added to the norm divided by, so that a gradient of zeros stays zeros.
pub(crate) const LEAST_NORM: f32 = 1e-7;
