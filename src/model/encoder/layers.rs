//! Encoders that are a row of layers: what `keras`, `compact` and `rotnet-nin` share.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Encode, Encoder};
use crate::math::principal_components::Components;
use crate::model::conv::{BlockShape, ConvBlock};
use crate::model::whitening::{SAMPLED_PATCHES, sample_patches};
use crate::model::{Dense, ImageShape, Initialiser, Mode, Pool, mean_over_places};
use crate::samples::Samples;

/// Convolution blocks, then a dense layer or the mean over all places.
#[derive(Module, Debug)]
pub struct Layers {
    /// All layers of all blocks.
    blocks: Vec<ConvBlock>,
    dense: Option<Dense>,
    #[module(skip)]
    image: ImageShape,
    /// Number of layers up to the end of each block.
    #[module(skip)]
    ends: Vec<usize>,
    /// Height, width and channels behind each block.
    #[module(skip)]
    shapes: Vec<ImageShape>,
    #[module(skip)]
    features: usize,
}

impl Layers {
    /// With fresh parameters; `dense` is the width of the last layer, which is the mean over all places without.
    pub(super) fn new(
        blocks: Vec<Vec<BlockShape>>,
        dense: Option<usize>,
        image: ImageShape,
        initialiser: &mut Initialiser,
    ) -> Self {
        let [mut height, mut width, mut channels] = image;
        let (mut layers, mut ends, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        for block in blocks {
            for shape in block {
                layers.push(ConvBlock::new(shape, initialiser));
                (height, width) = (shape.side(height), shape.side(width));
                channels = shape.channels[1];
            }
            ends.push(layers.len());
            shapes.push([height, width, channels]);
        }
        let features = dense.unwrap_or(channels);
        let dense = dense.map(|outputs| Dense::new(height * width * channels, outputs, true, initialiser));
        Self { blocks: layers, dense, image, ends, shapes, features }
    }

    /// The output of the last block to features.
    fn end(&self, map: Tensor<4>) -> Tensor<2> {
        match &self.dense {
            Some(dense) => dense.forward(map.flatten(1, 3)),
            None => mean_over_places(map),
        }
    }

    /// The pooled outputs of `blocks`, the map behind the last of them, and the number of layers up to there.
    fn read_on_the_way(
        &self,
        images: Tensor<4>,
        blocks: &[usize],
        pool: Pool,
        mode: Mode,
    ) -> (Vec<Tensor<2>>, Tensor<4>, usize) {
        let mut map = images;
        let mut read = vec![None; blocks.len()];
        let mut first = 0;
        for (index, &end) in self.ends.iter().enumerate() {
            map = ConvBlock::forward_all(&self.blocks[first..end], map, mode);
            first = end;
            for (place, _) in read.iter_mut().zip(blocks).filter(|(_, block)| **block == index) {
                *place = Some(pool.apply(map.clone()));
            }
            if read.iter().all(Option::is_some) {
                break;
            }
        }
        (read.into_iter().flatten().collect(), map, first)
    }
}

impl Encode for Layers {
    fn image(&self) -> ImageShape {
        self.image
    }

    fn shapes(&self) -> &[ImageShape] {
        &self.shapes
    }

    fn features(&self) -> usize {
        self.features
    }

    fn feature_layer(&self) -> &'static str {
        if self.dense.is_some() { "dense" } else { "mean over places" }
    }

    fn device(&self) -> Device {
        self.blocks[0].weight.val().device()
    }

    /// Flattened for the dense layer row by row with the channels last, as in Keras.
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2> {
        self.end(ConvBlock::forward_all(&self.blocks, images, mode))
    }

    fn read(&self, images: Tensor<4>, blocks: &[usize], pool: Pool, mode: Mode) -> Vec<Tensor<2>> {
        self.read_on_the_way(images, blocks, pool, mode).0
    }

    fn read_and_forward(
        &self,
        images: Tensor<4>,
        blocks: &[usize],
        pool: Pool,
        mode: Mode,
    ) -> (Vec<Tensor<2>>, Tensor<2>) {
        let (read, map, done) = self.read_on_the_way(images, blocks, pool, mode);
        (read, self.end(ConvBlock::forward_all(&self.blocks[done..], map, mode)))
    }

    fn fitted(&self, images: &dyn Samples, _: f32, seed: u64) -> Option<Encoder> {
        self.blocks.first().filter(|first| first.is_fixed())?;
        let mut fitted = self.clone();
        let first = fitted.blocks.remove(0);
        fitted.blocks.insert(0, whitening(first, images, self.image, seed));
        Some(Encoder::Layers(fitted))
    }
}

/// `block` with the whitened principal components of 3x3 patches of the images.
fn whitening(block: ConvBlock, images: &dyn Samples, image: ImageShape, seed: u64) -> ConvBlock {
    let weight = block.weight.val();
    let [side, _, channels, outputs] = weight.dims();
    let patches = sample_patches(images, image, side, SAMPLED_PATCHES, seed);
    let (values, bias) = Components::new(&patches, side * side * channels).whitening();
    let device = weight.device();
    let weight = TensorData::new(values, [side, side, channels, outputs]);
    let bias = TensorData::new(bias, [outputs]);
    block.with_fixed(Param::from_data(weight, &device), Param::from_data(bias, &device))
}

/// Blocks of one 3x3 convolution each: `same` with normalisation, `valid` without.
pub(super) fn plain(channels: usize, widths: &[usize], pools: &[bool], norm: bool) -> Vec<Vec<BlockShape>> {
    let inputs = std::iter::once(channels).chain(widths.iter().copied());
    let layers = inputs.zip(widths).zip(pools);
    let layer = |((inputs, &outputs), &pool)| {
        let padding = usize::from(norm);
        vec![BlockShape { padding, pool, norm, ..BlockShape::same(3, [inputs, outputs]) }]
    };
    layers.map(layer).collect()
}
