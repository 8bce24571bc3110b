//! Encoders: from images to features.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Conv, Dense, ImageShape, Initialiser};
use crate::error::Result;
use crate::kernels::ConvOptions;

/// Section `encoder` of the config, and the architecture that a checkpoint carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// The architecture.
    pub kind: EncoderKind,
}

/// The architectures there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// The Keras program's: three 3x3 convolutions (32, 64, 64) and a dense layer of 64.
    Seed,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            kind: EncoderKind::Seed,
        }
    }
}

impl EncoderConfig {
    /// Checks every value against its range.
    pub fn validate(&self) -> Result<()> {
        Ok(())
    }
}

/// The encoder of the Keras program.
#[derive(Module, Debug)]
pub struct Encoder {
    conv1: Conv,
    conv2: Conv,
    conv3: Conv,
    dense: Dense,
    #[module(skip)]
    image: ImageShape,
}

/// Width of the penultimate layer of the Keras program.
const FEATURES: usize = 64;

impl Encoder {
    /// An encoder of images of shape `image` with fresh parameters.
    pub fn new(config: &EncoderConfig, image: ImageShape, initialiser: &mut Initialiser) -> Self {
        let EncoderKind::Seed = config.kind;
        let [height, width, channels] = image;
        let pooled = ConvOptions {
            padding: 0,
            relu: true,
            pool: true,
        };
        let plain = ConvOptions {
            pool: false,
            ..pooled
        };
        let side = |length: usize| ((length - 2) / 2 - 2) / 2 - 2;
        Self {
            conv1: Conv::new(3, [channels, 32], pooled, initialiser),
            conv2: Conv::new(3, [32, 64], pooled, initialiser),
            conv3: Conv::new(3, [64, 64], plain, initialiser),
            dense: Dense::new(side(height) * side(width) * 64, FEATURES, true, initialiser),
            image,
        }
    }

    /// Features an image.
    pub fn features(&self) -> usize {
        FEATURES
    }

    /// Images `[batch, height * width * channels]` to features `[batch, features]`.
    ///
    /// The flattening between convolutions and dense layer is row by row with the channels last, as in Keras.
    pub fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        let [batch, _] = images.dims();
        let [height, width, channels] = self.image;
        let x = images.reshape([batch, height, width, channels]); // [b, 32, 32, 3]
        let x = self.conv1.forward(x); // [b, 15, 15, 32]
        let x = self.conv2.forward(x); // [b, 6, 6, 64]
        let x = self.conv3.forward(x); // [b, 4, 4, 64]
        self.dense.forward(x.flatten(1, 3)) // [b, 64]
    }

    /// The device its parameters are on.
    pub fn device(&self) -> Device {
        self.dense.weight.val().device()
    }
}
