//! A convolution block.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{BatchNorm, Initialiser, Mode};
use crate::kernels::{self, ConvOptions, OverlappingPool};

/// A square convolution of stride 1, followed by bias and ReLU or by batch normalisation and ReLU; on request with
/// pooling directly behind the convolution, or overlapping pooling at the end.
///
/// Pooling commutes with bias and ReLU, so without normalisation it makes no difference where it is.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// `[kernel, kernel, inputs, outputs]`.
    pub weight: Param<Tensor<4>>,
    /// `[outputs]`; absent with normalisation, whose shift takes its place.
    pub bias: Option<Param<Tensor<1>>>,
    norm: Option<BatchNorm>,
    #[module(skip)]
    options: ConvOptions,
    #[module(skip)]
    overlapping: Option<OverlappingPool>,
    #[module(skip)]
    frozen: bool,
}

/// Shape and options of a [`ConvBlock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Side of the kernel.
    pub kernel: usize,
    /// Rows and columns of zeros around the input.
    pub padding: usize,
    /// Input and output channels.
    pub channels: [usize; 2],
    /// Max-pooling 2x2 behind the convolution.
    pub pool: bool,
    /// Batch normalisation instead of a bias.
    pub norm: bool,
    /// Pooling 3x3 with stride 2 at the end.
    pub overlapping: Option<OverlappingPool>,
    /// Weight and bias are not trained.
    pub frozen: bool,
}

impl BlockShape {
    /// Convolution that keeps height and width, batch normalisation and ReLU.
    pub fn same(kernel: usize, channels: [usize; 2]) -> Self {
        Self {
            kernel,
            padding: (kernel - 1) / 2,
            channels,
            pool: false,
            norm: true,
            overlapping: None,
            frozen: false,
        }
    }

    /// Height or width of the output.
    pub fn side(&self, input: usize) -> usize {
        let convolved = input + 2 * self.padding + 1 - self.kernel;
        let pooled = if self.pool { convolved / 2 } else { convolved };
        match self.overlapping {
            Some(_) => OverlappingPool::side(pooled),
            None => pooled,
        }
    }
}

/// What is handed from block to block: numbers `[batch, height, width, channels]`, in front of the batch normalisation that is
/// still to be made of them, if there is one.
struct Map<'a> {
    values: Tensor<4>,
    norm: Option<&'a BatchNorm>,
}

impl Map<'_> {
    /// Normalised.
    fn whole(self, mode: Mode) -> Tensor<4> {
        let Some(norm) = self.norm else { return self.values };
        let shape = self.values.dims();
        let [batch, height, width, channels] = shape;
        let rows = self.values.reshape([batch * height * width, channels]);
        norm.forward(rows, batch, mode).reshape(shape)
    }
}

impl ConvBlock {
    /// Weight by the initialiser's scheme, zero bias.
    pub fn new(shape: BlockShape, initialiser: &mut Initialiser) -> Self {
        let BlockShape { kernel, channels: [inputs, outputs], frozen, .. } = shape;
        let weight = initialiser.convolution([kernel, inputs, outputs]);
        let bias = (!shape.norm).then(|| initialiser.constant(0.0, outputs));
        Self {
            weight: if frozen { weight.set_require_grad(false) } else { weight },
            bias: bias.map(|bias| if frozen { bias.set_require_grad(false) } else { bias }),
            norm: shape.norm.then(|| BatchNorm::new(outputs, initialiser)),
            options: ConvOptions {
                padding: shape.padding,
                relu: !shape.norm,
                pool: shape.pool,
                arithmetic: initialiser.arithmetic,
            },
            overlapping: shape.overlapping,
            frozen,
        }
    }

    /// Whether weight and bias are not trained.
    pub fn is_fixed(&self) -> bool {
        self.frozen
    }

    /// The same block with this weight and bias, which are not trained.
    pub fn with_fixed(self, weight: Param<Tensor<4>>, bias: Param<Tensor<1>>) -> Self {
        Self {
            weight: weight.set_require_grad(false),
            bias: Some(bias.set_require_grad(false)),
            frozen: true,
            ..self
        }
    }

    /// Images `[batch, height, width, channels]` through blocks, one behind the other.
    pub fn forward_all(blocks: &[Self], images: Tensor<4>, mode: Mode) -> Tensor<4> {
        let map = Map { values: images, norm: None };
        blocks.iter().fold(map, |map, block| block.forward(map, mode)).whole(mode)
    }

    /// `[batch, height, width, inputs]` to `[batch, height', width', outputs]`.
    fn forward(&self, input: Map<'_>, mode: Mode) -> Map<'_> {
        let (values, norm) = match (&self.norm, mode) {
            (Some(norm), Mode::Evaluate) => {
                (norm.behind_convolution(input.whole(mode), self.weight.val(), self.options), None)
            }
            (norm, _) => (self.convolved(input, mode), norm.as_ref()),
        };
        let output = Map { values, norm };
        match self.overlapping {
            Some(kind) => Map { values: kernels::overlapping_pool(output.whole(mode), kind), norm: None },
            None => output,
        }
    }

    fn convolved(&self, input: Map, mode: Mode) -> Tensor<4> {
        // Loading or moving the parameters may have set their own flags.
        let weight = if self.frozen { self.weight.val().detach() } else { self.weight.val() };
        match (input.norm, &self.bias) {
            (Some(norm), None) => norm.before_convolution(input.values, weight, self.options, mode),
            (_, bias) => {
                let bias = match bias {
                    Some(bias) if self.frozen => bias.val().detach(),
                    Some(bias) => bias.val(),
                    None => Tensor::zeros([weight.dims()[3]], &weight.device()),
                };
                kernels::conv_block(input.whole(mode), weight, bias, self.options)
            }
        }
    }
}
