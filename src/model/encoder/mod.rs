//! Encoders: from images to features.

mod config;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};

use super::conv::ConvBlock;
use super::patches::PatchLayer;
use super::whitening::{Components, SAMPLED_PATCHES, sample_patches};
use super::{Dense, ImageShape, Initialiser, Mode, Pool, Readout, mean_over_places};
use crate::error::{Error, Result};
use crate::samples::Samples;

pub use config::{EncoderConfig, EncoderKind};

/// Width of the penultimate layer of the Keras program.
const SEED_FEATURES: usize = 64;

/// Convolution blocks, then a dense layer (`seed`) or the mean over all places (`compact`, `rotnet-nin`); or the
/// comparison with patches alone.
#[derive(Module, Debug)]
pub struct Encoder {
    /// All layers of all blocks.
    blocks: Vec<ConvBlock>,
    dense: Option<Dense>,
    patches: Option<PatchLayer>,
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

fn block_name(index: usize) -> String {
    format!("block{}", index + 1)
}

impl Encoder {
    /// An encoder of images of shape `image` with fresh parameters.
    pub fn new(config: &EncoderConfig, image: ImageShape, initialiser: &mut Initialiser) -> Self {
        let [mut height, mut width, channels] = image;
        let (mut blocks, mut ends, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
        let mut features = channels;
        for layers in config.layers(channels) {
            for shape in layers {
                blocks.push(ConvBlock::new(shape, initialiser));
                (height, width) = (shape.side(height), shape.side(width));
                features = shape.channels[1];
            }
            ends.push(blocks.len());
            shapes.push([height, width, features]);
        }
        let dense = (config.kind == EncoderKind::Seed).then(|| {
            let flat = height * width * features;
            features = SEED_FEATURES;
            Dense::new(flat, SEED_FEATURES, true, initialiser)
        });
        let patches = (config.kind == EncoderKind::Patches).then(|| {
            let layer = PatchLayer::new(config.patch_shape(channels), initialiser);
            shapes.push(layer.places(image));
            features = QUADRANTS.width(layer.places(image));
            layer
        });
        Self { blocks, dense, patches, image, ends, shapes, features }
    }

    /// Computes from `images` what is not trained but computed ([`EncoderConfig::is_fitted`]): the whitening block,
    /// the patches. Their labels are not used. `step` is what one of the 255 steps of a pixel is given as; the draws
    /// depend on `seed`.
    pub fn fit(mut self, images: &dyn Samples, step: f32, seed: u64) -> Self {
        self.patches = self.patches.map(|layer| layer.fit(images, self.image, step, seed));
        if self.blocks.first().is_some_and(ConvBlock::is_fixed) {
            let first = self.blocks.remove(0);
            self.blocks.insert(0, whitening(first, images, self.image, seed));
        }
        self
    }

    /// Features an image.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Name of the layer whose output [`forward`](Self::forward) gives.
    pub fn feature_layer(&self) -> &'static str {
        match (&self.dense, &self.patches) {
            (Some(_), _) => "dense",
            (None, Some(_)) => "means over quadrants",
            (None, None) => "mean over places",
        }
    }

    /// Names of the blocks that can be read, in their order.
    pub fn block_names(&self) -> Vec<String> {
        (0..self.shapes.len()).map(block_name).collect()
    }

    /// Height, width and channels behind the block of that name.
    pub fn block_shape(&self, name: &str) -> Option<ImageShape> {
        let index = self.block_names().iter().position(|block| block == name)?;
        Some(self.shapes[index])
    }

    /// Images `[batch, height * width * channels]` to features `[batch, features]`, as of a finished encoder
    /// ([`Mode::Evaluate`]).
    ///
    /// The flattening before the dense layer is row by row with the channels last, as in Keras.
    pub fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        self.forward_in(Mode::Evaluate, images)
    }

    /// [`Self::forward`], in training too.
    pub(super) fn forward_in(&self, mode: Mode, images: Tensor<2>) -> Tensor<2> {
        self.features_of(self.as_images(images), mode)
    }

    fn features_of(&self, mut x: Tensor<4>, mode: Mode) -> Tensor<2> {
        if let Some(patches) = &self.patches {
            return patches.read(x, QUADRANTS);
        }
        for block in &self.blocks {
            x = block.forward(x, mode);
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
            None => mean_over_places(x),
        }
    }

    /// Images to the features that `readout` names, `[batch, read_width(readout)]`. Blocks behind the last one named are
    /// not computed. As of a finished encoder ([`Mode::Evaluate`]).
    pub fn read(&self, images: Tensor<2>, readout: &Readout) -> Tensor<2> {
        self.read_in(Mode::Evaluate, images, readout)
    }

    /// [`Self::read`], in training too.
    pub(super) fn read_in(&self, mode: Mode, images: Tensor<2>, readout: &Readout) -> Tensor<2> {
        let images = readout.views.turned(self.as_images(images));
        let features = match readout.views.mirrored() {
            false => self.read_once(images, readout, mode),
            true => {
                let mirrored = self.read_once(images.clone().flip([2]), readout, mode);
                (self.read_once(images, readout, mode) + mirrored).mul_scalar(0.5)
            }
        };
        readout.views.side_by_side(features)
    }

    fn read_once(&self, images: Tensor<4>, readout: &Readout, mode: Mode) -> Tensor<2> {
        if readout.layers.is_empty() {
            return self.features_of(images, mode);
        }
        let mut x = images;
        if let Some(patches) = &self.patches {
            let read = readout.layers.iter().map(|_| patches.read(x.clone(), readout.pool));
            return Tensor::cat(read.collect(), 1);
        }
        let mut read = vec![None; readout.layers.len()];
        let mut first = 0;
        for (index, &end) in self.ends.iter().enumerate() {
            for layer in &self.blocks[first..end] {
                x = layer.forward(x, mode);
            }
            first = end;
            for (place, name) in read.iter_mut().zip(&readout.layers) {
                if *name == block_name(index) {
                    *place = Some(readout.pool.apply(x.clone()));
                }
            }
            if read.iter().all(Option::is_some) {
                break;
            }
        }
        Tensor::cat(read.into_iter().flatten().collect(), 1)
    }

    /// Numbers an image that [`read`](Self::read) gives.
    ///
    /// # Errors
    /// [`Error::Config`] if a block is not there, or smaller than the grid it is to be pooled to.
    pub fn read_width(&self, readout: &Readout) -> Result<usize> {
        let width: usize = match (&readout.layers[..], readout.pool) {
            ([], Pool::None) => self.features,
            ([], _) => {
                return Err(Error::config("extract.pool", "goes with extract.layers, which names none"));
            }
            (layers, pool) => {
                let widths = layers.iter().map(|name| self.layer_width(name, pool));
                widths.sum::<Result<usize>>()?
            }
        };
        Ok(width * readout.views.rotations())
    }

    fn layer_width(&self, name: &str, pool: Pool) -> Result<usize> {
        let Some(shape) = self.block_shape(name) else {
            let problem = match self.shapes.len() {
                1 => format!("`{name}` is not block1, the only one"),
                blocks => format!("`{name}` is none of block1 to block{blocks}"),
            };
            return Err(Error::config("extract.layers", problem));
        };
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
        match &self.patches {
            Some(patches) => patches.filters.val().device(),
            None => self.blocks[0].weight.val().device(),
        }
    }
}

/// How the places of patches become features where no layer is named, as in the paper.
const QUADRANTS: Pool = Pool::Two;

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

#[cfg(test)]
mod tests;
