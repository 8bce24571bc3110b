//! The untrained anchor of Coates and Ng: whitened patches compared with every place of an image.
//!
//! Each 6x6 patch of an image has its mean subtracted and is divided by its deviation, is whitened (ZCA), and compared
//! with a dictionary of patches that were treated alike. Mean, whitening and comparison are linear, so they are folded
//! into one convolution; deviation, activation and averaging follow in one pass an image, so that the responses (400
//! numbers at each of 27x27 places) are never kept.
//!
//! A. Coates, H. Lee, A. Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning" (AISTATS 2011):
//! patches, k-means, triangle activation, quadrants. A. Coates, A. Ng, "The Importance of Encoding Versus Training with
//! Sparse Coding and Vector Quantization" (ICML 2011): random patches, soft threshold of both signs. The constants are
//! those of the programs published with them.

mod dictionary;
mod encode;
mod layer;
mod shape;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Architecture, Encode, Encoder, EncoderConfig};
use crate::error::{Error, Result};
use crate::model::conv::BlockShape;
use crate::model::{ImageShape, Initialiser, Mode, Pool};
use crate::samples::Samples;
pub(crate) use encode::THRESHOLD;
use layer::PatchLayer;
use shape::PatchShape;

/// Side of a patch (`rfSize = 6`).
pub(crate) const SIDE: usize = 6;
/// Most patches to compare with.
pub(super) const MOST: usize = 4096;
/// How places become features where no layer is named, as in the paper.
const QUADRANTS: Pool = Pool::Two;

/// Where the patches come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dictionary {
    /// Patches at random places of random images, scaled to length 1.
    #[default]
    Random,
    /// Means of patches that are near each other.
    Kmeans,
}

/// What is computed from the comparison of a place with a patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// Two numbers per patch: how far the product with it is above 0.25, and how far it is below -0.25.
    #[default]
    TwoSided,
    /// One number per patch: how much nearer the place is to it than to the patches on average, or zero.
    Triangle,
}

/// The keys of `patches` with their defaults.
pub(super) struct PatchConfig {
    count: usize,
    dictionary: Dictionary,
    activation: Activation,
}

impl PatchConfig {
    pub(super) fn of(config: &EncoderConfig) -> Self {
        Self {
            count: config.patches.unwrap_or(400),
            dictionary: config.dictionary.unwrap_or_default(),
            activation: config.activation.unwrap_or_default(),
        }
    }

    fn shape(&self, channels: usize) -> PatchShape {
        let Self { count, dictionary, activation } = *self;
        PatchShape { side: SIDE, channels, count, dictionary, activation }
    }
}

impl Architecture for PatchConfig {
    fn validate(&self) -> Result<()> {
        match self.count {
            1..=MOST => Ok(()),
            count => Err(Error::config("encoder.patches", format!("must be 1 to {MOST}, got {count}"))),
        }
    }

    fn write_keys(&self, config: &mut EncoderConfig) {
        config.patches = Some(self.count);
        (config.dictionary, config.activation) = (Some(self.dictionary), Some(self.activation));
    }

    fn fixed_size(&self) -> Option<&'static str> {
        Some("encoder `patches` is not trained")
    }

    fn is_fitted(&self) -> bool {
        true
    }

    fn is_trainable(&self) -> bool {
        false
    }

    fn layers(&self, _: usize) -> Vec<Vec<BlockShape>> {
        Vec::new()
    }

    fn weights(&self, channels: usize) -> usize {
        self.shape(channels).weights()
    }

    fn init(&self, image: ImageShape, initialiser: &mut Initialiser) -> Encoder {
        let patches = PatchLayer::new(self.shape(image[2]), initialiser);
        let places = [patches.shape.places(image)];
        Encoder::Patches(Patches { patches, image, places })
    }
}

/// The encoder: comparison with patches, then means over quadrants.
#[derive(Module, Debug)]
pub struct Patches {
    patches: PatchLayer,
    #[module(skip)]
    image: ImageShape,
    /// Of the only block.
    #[module(skip)]
    places: [ImageShape; 1],
}

impl Encode for Patches {
    fn image(&self) -> ImageShape {
        self.image
    }

    fn shapes(&self) -> &[ImageShape] {
        &self.places
    }

    fn features(&self) -> usize {
        QUADRANTS.width(self.places[0])
    }

    fn feature_layer(&self) -> &'static str {
        "means over quadrants"
    }

    fn device(&self) -> Device {
        self.patches.filters.val().device()
    }

    fn forward(&self, images: Tensor<4>, _: Mode) -> Tensor<2> {
        self.patches.read(images, QUADRANTS)
    }

    fn read(&self, images: Tensor<4>, blocks: &[usize], pool: Pool, _: Mode) -> Vec<Tensor<2>> {
        blocks.iter().map(|_| self.patches.read(images.clone(), pool)).collect()
    }

    fn fitted(&self, images: &dyn Samples, step: f32, seed: u64) -> Option<Encoder> {
        let patches = self.patches.clone().fit(images, self.image, step, seed);
        Some(Encoder::Patches(Self { patches, ..self.clone() }))
    }
}
