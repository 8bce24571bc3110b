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

use std::borrow::Cow;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::whitening::{SAMPLED_PATCHES, sample_patches};
use super::{ImageShape, Initialiser, Pool};
use crate::kernels::{self, ConvOptions};
use crate::math::principal_components::Components;
use crate::samples::Samples;
use dictionary::{folded, kmeans, normalise, to_length_one, whiten};
use encode::Tail;

/// Side of a patch (`rfSize = 6`).
pub const PATCH_SIDE: usize = 6;
/// Added to the variance of a patch whose pixels reach to 255 (`var(patches,[],2)+10`).
const CONTRAST_EPSILON: f32 = 10.0;
/// Added to the variance of each component (`diag(D) + 0.1`).
const ZCA_EPSILON: f64 = 0.1;
/// Images whose responses are in memory at a time: 37 MB with 400 patches.
const IMAGES_AT_A_TIME: usize = 32;

/// Where the patches come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dictionary {
    /// Random places of random images, scaled to length 1.
    #[default]
    Random,
    /// Means of patches that are near each other.
    Kmeans,
}

/// What becomes of a comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// The product with the patch beyond a threshold of 0.25, positive and negative apart: two numbers a patch.
    #[default]
    TwoSided,
    /// How much nearer the place is to the patch than to the average patch, or zero: one number a patch.
    Triangle,
}

/// What a [`PatchLayer`] looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchShape {
    /// Rows and columns of a patch.
    pub side: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Patches in the dictionary.
    pub count: usize,
    /// Where they come from.
    pub dictionary: Dictionary,
    /// What becomes of a comparison.
    pub activation: Activation,
}

impl PatchShape {
    /// Numbers of a patch.
    fn values(self) -> usize {
        self.side * self.side * self.channels
    }

    /// Outputs of the convolution: the products; for the triangle the whitened patch too, for its length.
    fn outputs(self) -> usize {
        match self.activation {
            Activation::TwoSided => self.count,
            Activation::Triangle => self.count + self.values(),
        }
    }

    /// Numbers a place.
    pub fn features(self) -> usize {
        match self.activation {
            Activation::TwoSided => 2 * self.count,
            Activation::Triangle => self.count,
        }
    }

    /// Height and width of the places, and numbers a place.
    pub fn places(self, [height, width, _]: ImageShape) -> ImageShape {
        [height + 1 - self.side, width + 1 - self.side, self.features()]
    }

    /// Numbers of the convolution's weight.
    pub fn weights(self) -> usize {
        self.values() * self.outputs()
    }
}

/// Comparison with patches; nothing of it is trained.
#[derive(Module, Debug)]
pub struct PatchLayer {
    /// `[side, side, channels, outputs]`.
    pub filters: Param<Tensor<4>>,
    /// `[outputs]`, added after the division by the deviation.
    bias: Param<Tensor<1>>,
    /// `[count]`: squared lengths of the patches; used by the triangle.
    squares: Param<Tensor<1>>,
    /// `[1]`: added to the variance of a patch.
    contrast: Param<Tensor<1>>,
    #[module(skip)]
    shape: PatchShape,
}

impl PatchLayer {
    /// With noise in place of patches, until [`fit`](Self::fit) or a checkpoint.
    pub fn new(shape: PatchShape, initialiser: &mut Initialiser) -> Self {
        let fixed = |length: usize| initialiser.constant(0.0, length).set_require_grad(false);
        Self {
            bias: fixed(shape.outputs()),
            squares: fixed(shape.count),
            contrast: initialiser.constant(CONTRAST_EPSILON, 1).set_require_grad(false),
            filters: initialiser
                .convolution([shape.side, shape.channels, shape.outputs()])
                .set_require_grad(false),
            shape,
        }
    }

    /// With patches of `images`; `step` is what one of the 255 steps of a pixel is given as.
    pub fn fit(self, images: &dyn Samples, image: ImageShape, step: f32, seed: u64) -> Self {
        let shape = self.shape;
        let device = self.filters.val().device();
        let contrast = CONTRAST_EPSILON * step.powi(2);
        let mut patches = sample_patches(images, image, shape.side, SAMPLED_PATCHES, seed);
        patches.par_chunks_exact_mut(shape.values()).for_each(|patch| normalise(patch, contrast));
        let components = Components::new(&patches, shape.values());
        let zca = components.zca(ZCA_EPSILON);
        let dictionary = match shape.dictionary {
            Dictionary::Random => {
                let chosen = &patches[..shape.count * shape.values()];
                let mut chosen = whiten(chosen, &components.mean, &zca, &device);
                chosen.chunks_exact_mut(shape.values()).for_each(to_length_one);
                chosen
            }
            Dictionary::Kmeans => {
                let whitened = whiten(&patches, &components.mean, &zca, &device);
                kmeans(&whitened, shape.values(), shape.count, &device)
            }
        };
        let (filters, bias) = folded(&dictionary, &components.mean, &zca, shape);
        let squares =
            dictionary.chunks_exact(shape.values()).map(|row| row.iter().map(|x| x * x).sum()).collect();
        Self {
            filters: fixed(filters, [shape.side, shape.side, shape.channels, shape.outputs()], &device),
            bias: fixed(bias, [shape.outputs()], &device),
            squares: fixed(squares, [shape.count], &device),
            contrast: fixed(vec![contrast], [1], &device),
            shape,
        }
    }

    /// Images `[batch, height, width, channels]` to activations averaged as `pool` says, `[batch, ..]`.
    pub fn read(&self, images: Tensor<4>, pool: Pool) -> Tensor<2> {
        let device = images.device();
        let [batch, height, width, channels] = images.dims();
        let places = self.shape.places([height, width, channels]);
        let (image, responses) = (height * width * channels, places[0] * places[1] * self.shape.outputs());
        let numbers = pool.width(places);
        let tail = Tail::new(self, [height, width, channels], pool);
        let mut features = Vec::with_capacity(batch * numbers);
        for first in (0..batch).step_by(IMAGES_AT_A_TIME) {
            let count = IMAGES_AT_A_TIME.min(batch - first);
            let chunk = images.clone().narrow(0, first, count).detach();
            let options = ConvOptions { padding: 0, relu: false, pool: false };
            let zeros = Tensor::zeros([self.shape.outputs()], &device);
            let filters = self.filters.val().detach();
            let compared = kernels::conv_block(chunk.clone(), filters, zeros, options).into_data();
            let (compared, pixels) = (floats(&compared), chunk.into_data());
            let pixels = floats(&pixels);
            let mut rows = vec![0.0; count * numbers];
            rows.par_chunks_exact_mut(numbers)
                .zip(pixels.par_chunks_exact(image))
                .zip(compared.par_chunks_exact(responses))
                .for_each(|((row, pixels), responses)| tail.encode(pixels, responses, row));
            features.extend(rows);
        }
        Tensor::from_data(TensorData::new(features, [batch, numbers]), &device)
    }

    /// Height and width of the places, and numbers a place.
    pub fn places(&self, image: ImageShape) -> ImageShape {
        self.shape.places(image)
    }
}

fn fixed<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_data(TensorData::new(values, shape), device).set_require_grad(false)
}

fn floats(data: &TensorData) -> Cow<'_, [f32]> {
    match data.as_slice::<f32>() {
        Ok(values) => values.into(),
        Err(_) => data.iter::<f32>().collect::<Vec<_>>().into(),
    }
}

#[cfg(test)]
mod tests;
