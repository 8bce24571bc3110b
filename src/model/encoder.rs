//! Encoders: from images to features.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conv::{BlockShape, ConvBlock};
use super::{Dense, ImageShape, Initialiser, Pool, Readout};
use crate::error::{Error, Result};

/// Section `encoder` of the config, and the architecture that a checkpoint carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// The architecture.
    pub kind: EncoderKind,
    /// For `compact`: channels of each block, 1 to 1024; the default is 32, 64, 128, 128, 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub widths: Option<Vec<usize>>,
    /// For `compact`: which blocks pool 2x2 behind the convolution; the default is the first, second and fourth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pools: Option<Vec<bool>>,
}

/// The architectures there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// The Keras program's: three 3x3 convolutions (32, 64, 64) and a dense layer of 64.
    Seed,
    /// 3x3 convolutions with batch normalisation, then the mean over all places.
    Compact,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self { kind: EncoderKind::Seed, widths: None, pools: None }
    }
}

/// Width of the penultimate layer of the Keras program.
const SEED_FEATURES: usize = 64;
/// Most blocks and most channels of a compact encoder, so that a mistyped number is noticed.
const MAX_BLOCKS: usize = 32;
const MAX_WIDTH: usize = 1024;
/// Side of the smallest image there is, which pooling must leave something of.
const SMALLEST_IMAGE: usize = 32;

impl EncoderConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub fn validate(&self) -> Result<()> {
        if self.kind == EncoderKind::Seed {
            return match (&self.widths, &self.pools) {
                (None, None) => Ok(()),
                (Some(_), _) => Err(Error::config("encoder.widths", "goes with kind `compact` only")),
                (None, Some(_)) => Err(Error::config("encoder.pools", "goes with kind `compact` only")),
            };
        }
        let (widths, pools) = self.compact();
        if widths.is_empty() || widths.len() > MAX_BLOCKS {
            let problem = format!("must hold 1 to {MAX_BLOCKS} widths, got {}", widths.len());
            return Err(Error::config("encoder.widths", problem));
        }
        if let Some(width) = widths.iter().find(|&&width| width == 0 || width > MAX_WIDTH) {
            let problem = format!("each must be 1 to {MAX_WIDTH}, got {width}");
            return Err(Error::config("encoder.widths", problem));
        }
        if pools.len() != widths.len() {
            let problem = format!("must hold one value a block ({}), got {}", widths.len(), pools.len());
            return Err(Error::config("encoder.pools", problem));
        }
        let halvings = pools.iter().filter(|&&pool| pool).count() as u32;
        if SMALLEST_IMAGE >> halvings == 0 {
            let problem = format!("{halvings} poolings leave nothing of an image of {SMALLEST_IMAGE}");
            return Err(Error::config("encoder.pools", problem));
        }
        Ok(())
    }

    /// Why the encoder takes images of one size only; absent for one that takes any.
    pub fn fixed_size(&self) -> Option<&'static str> {
        match self.kind {
            EncoderKind::Seed => {
                Some("the dense layer of encoder `seed` is made for one size; `compact` takes any")
            }
            EncoderKind::Compact => None,
        }
    }

    /// Rows and columns of the smallest image of which pooling leaves something.
    pub fn smallest_side(&self) -> usize {
        1 << self.blocks(1).iter().filter(|block| block.pool).count()
    }

    fn compact(&self) -> (Vec<usize>, Vec<bool>) {
        (
            self.widths.clone().unwrap_or_else(|| vec![32, 64, 128, 128, 128]),
            self.pools.clone().unwrap_or_else(|| vec![true, true, false, true, false]),
        )
    }

    /// Number of weights of its convolutions, on images with so many channels.
    pub fn weights(&self, channels: usize) -> usize {
        let blocks = self.blocks(channels).into_iter();
        blocks.map(|shape| shape.kernel * shape.kernel * shape.channels[0] * shape.channels[1]).sum()
    }

    /// Its convolution blocks, on images with so many channels.
    pub fn blocks(&self, channels: usize) -> Vec<BlockShape> {
        let (widths, pools, padding, norm) = match self.kind {
            EncoderKind::Seed => (vec![32, 64, 64], vec![true, true, false], 0, false),
            EncoderKind::Compact => {
                let (widths, pools) = self.compact();
                (widths, pools, 1, true)
            }
        };
        let inputs = std::iter::once(channels).chain(widths.clone());
        let layers = inputs.zip(widths).zip(pools);
        layers
            .map(|((inputs, outputs), pool)| BlockShape {
                kernel: 3,
                padding,
                channels: [inputs, outputs],
                pool,
                norm,
            })
            .collect()
    }
}

/// Convolution blocks, then a dense layer (`seed`) or the mean over all places (`compact`).
#[derive(Module, Debug)]
pub struct Encoder {
    blocks: Vec<ConvBlock>,
    dense: Option<Dense>,
    #[module(skip)]
    image: ImageShape,
    /// Height, width and channels behind each block.
    #[module(skip)]
    shapes: Vec<ImageShape>,
    #[module(skip)]
    features: usize,
}

fn block_name(index: usize) -> String {
    format!("block{}", index + 1)
}

impl Encoder {
    /// An encoder of images of shape `image` with fresh parameters.
    pub fn new(config: &EncoderConfig, image: ImageShape, initialiser: &mut Initialiser) -> Self {
        let [mut height, mut width, channels] = image;
        let shapes = config.blocks(channels);
        let mut blocks = Vec::with_capacity(shapes.len());
        let mut outputs = Vec::with_capacity(shapes.len());
        let mut features = channels;
        for shape in shapes {
            blocks.push(ConvBlock::new(shape, initialiser));
            let after =
                |side: usize| (side + 2 * shape.padding + 1 - shape.kernel) / if shape.pool { 2 } else { 1 };
            (height, width) = (after(height), after(width));
            features = shape.channels[1];
            outputs.push([height, width, features]);
        }
        let dense = (config.kind == EncoderKind::Seed).then(|| {
            let flat = height * width * features;
            features = SEED_FEATURES;
            Dense::new(flat, SEED_FEATURES, true, initialiser)
        });
        Self { blocks, dense, image, shapes: outputs, features }
    }

    /// Features an image.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Name of the layer whose output [`forward`](Self::forward) gives.
    pub fn feature_layer(&self) -> &'static str {
        match self.dense {
            Some(_) => "dense",
            None => "mean over places",
        }
    }

    /// Names of its blocks, `block1` first.
    pub fn block_names(&self) -> Vec<String> {
        (0..self.blocks.len()).map(block_name).collect()
    }

    /// Images `[batch, height * width * channels]` to features `[batch, features]`.
    ///
    /// The flattening before the dense layer is row by row with the channels last, as in Keras.
    pub fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        let mut x = self.as_images(images);
        for block in &self.blocks {
            x = block.forward(x);
        }
        self.last(x)
    }

    fn as_images(&self, images: Tensor<2>) -> Tensor<4> {
        let [batch, values] = images.dims();
        let [mut height, mut width, channels] = self.image;
        if values != height * width * channels {
            // Smaller images, which are square.
            height = (values / channels).isqrt();
            width = height;
        }
        images.reshape([batch, height, width, channels])
    }

    fn last(&self, x: Tensor<4>) -> Tensor<2> {
        match &self.dense {
            Some(dense) => dense.forward(x.flatten(1, 3)),
            None => {
                let [batch, height, width, channels] = x.dims();
                let places = x.reshape([batch, height * width, channels]);
                places.mean_dim(1).reshape([batch, channels])
            }
        }
    }

    /// Images to the features that `readout` names, `[batch, read_width(readout)]`.
    pub fn read(&self, images: Tensor<2>, readout: &Readout) -> Tensor<2> {
        let mut x = self.as_images(images);
        let mut read = vec![None; readout.layers.len()];
        for (index, block) in self.blocks.iter().enumerate() {
            x = block.forward(x);
            for (place, name) in read.iter_mut().zip(&readout.layers) {
                if *name == block_name(index) {
                    *place = Some(readout.pool.apply(x.clone()));
                }
            }
        }
        let read: Vec<Tensor<2>> = read.into_iter().flatten().collect();
        match read.is_empty() {
            true => self.last(x),
            false => Tensor::cat(read, 1),
        }
    }

    /// Numbers an image that [`read`](Self::read) gives.
    ///
    /// # Errors
    /// [`Error::Config`] if a block is not there, or smaller than the grid it is to be pooled to.
    pub fn read_width(&self, readout: &Readout) -> Result<usize> {
        if readout.layers.is_empty() {
            return match readout.pool {
                Pool::None => Ok(self.features),
                _ => Err(Error::config("extract.pool", "goes with extract.layers, which names none")),
            };
        }
        readout.layers.iter().map(|name| self.layer_width(name, readout.pool)).sum()
    }

    fn layer_width(&self, name: &str, pool: Pool) -> Result<usize> {
        let position = (0..self.blocks.len()).position(|index| *name == block_name(index));
        let Some(index) = position else {
            let problem = format!("`{name}` is none of block1 to block{}", self.blocks.len());
            return Err(Error::config("extract.layers", problem));
        };
        let shape = self.shapes[index];
        match pool.side() {
            Some(side) if side > shape[0].min(shape[1]) => {
                let problem = format!("{name} is {}x{}, smaller than {side}x{side}", shape[0], shape[1]);
                Err(Error::config("extract.pool", problem))
            }
            _ => Ok(pool.width(shape)),
        }
    }

    /// The device its parameters are on.
    pub fn device(&self) -> Device {
        self.blocks[0].weight.val().device()
    }
}
