//! The layer that compares with patches, and how it is computed from images.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::Dictionary;
use super::dictionary::{folded, kmeans, normalise, to_length_one, whiten};
use super::encode::Tail;
use super::shape::{PatchShape, floats};
use crate::kernels::{self, Arithmetic, ConvOptions};
use crate::math::principal_components::Components;
use crate::model::whitening::{SAMPLED_PATCHES, sample_patches};
use crate::model::{ImageShape, Initialiser, Pool};
use crate::samples::Samples;

/// Added to the variance of a patch whose pixels reach to 255 (`var(patches,[],2)+10`).
const CONTRAST_EPSILON: f32 = 10.0;
/// Added to the variance of each component (`diag(D) + 0.1`).
const ZCA_EPSILON: f64 = 0.1;
/// Images whose responses are in memory at a time: 37 MB with 400 patches.
const IMAGES_AT_A_TIME: usize = 32;

/// Comparison with patches; nothing of it is trained.
#[derive(Module, Debug)]
pub(super) struct PatchLayer {
    /// `[side, side, channels, outputs]`.
    pub(super) filters: Param<Tensor<4>>,
    /// `[outputs]`, added after the division by the deviation.
    pub(super) bias: Param<Tensor<1>>,
    /// `[count]`: squared lengths of the patches; used by the triangle.
    pub(super) squares: Param<Tensor<1>>,
    /// `[1]`: added to the variance of a patch.
    pub(super) contrast: Param<Tensor<1>>,
    #[module(skip)]
    pub(super) shape: PatchShape,
}

impl PatchLayer {
    /// With noise in place of patches, until [`fit`](Self::fit) or a checkpoint.
    pub(super) fn new(shape: PatchShape, initialiser: &mut Initialiser) -> Self {
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
    pub(super) fn fit(self, images: &dyn Samples, image: ImageShape, step: f32, seed: u64) -> Self {
        let shape = self.shape;
        let device = self.filters.val().device();
        let contrast = CONTRAST_EPSILON * (step * step);
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
    pub(super) fn read(&self, images: Tensor<4>, pool: Pool) -> Tensor<2> {
        let device = images.device();
        let [batch, height, width, channels] = images.dims();
        let places = self.shape.places([height, width, channels]);
        let (image, responses) = (height * width * channels, places[0] * places[1] * self.shape.outputs());
        let numbers = pool.width(places);
        let tail = Tail::new(
            self.shape,
            [&self.bias, &self.squares, &self.contrast],
            [height, width, channels],
            pool,
        );
        let mut features = Vec::with_capacity(batch * numbers);
        for first in (0..batch).step_by(IMAGES_AT_A_TIME) {
            let count = IMAGES_AT_A_TIME.min(batch - first);
            let chunk = images.clone().narrow(0, first, count).detach();
            let arithmetic = Arithmetic::default();
            let options = ConvOptions { padding: 0, relu: false, pool: false, arithmetic };
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
}

fn fixed<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_data(TensorData::new(values, shape), device).set_require_grad(false)
}

#[cfg(test)]
mod tests;
