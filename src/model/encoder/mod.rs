//! Encoders: from images to features.
//!
//! Each kind is a file: what its keys in the config mean ([`Architecture`]), and what it does to images ([`Encode`]). A
//! kind that is a row of layers leaves the second to [`Layers`]. A new one is also listed in `config.rs`, with its keys,
//! and if it is no row of layers in [`Encoder`].

mod compact;
mod config;
mod keras;
mod layers;
mod nin;
mod patches;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::conv::BlockShape;
use super::{ImageShape, Initialiser, Mode, Pool, Readout, Scheme};
use crate::error::{Error, Result};
use crate::samples::Samples;

pub use config::{EncoderConfig, EncoderKind};
pub use layers::Layers;
pub use patches::{Activation, Dictionary, Patches};
pub(crate) use patches::{SIDE as PATCH_SIDE, THRESHOLD as PATCH_THRESHOLD};

/// An encoder of whatever kind. Parameters are named as if there were no enum around them ([`super::Path`]).
#[derive(Module, Debug)]
pub enum Encoder {
    /// Convolution blocks, one behind the other.
    Layers(Layers),
    /// Comparison with patches.
    Patches(Patches),
}

/// What follows from the config of an encoder before there is one. Every default is right for a row of layers that takes
/// images of any size.
trait Architecture {
    /// Checks its keys against their ranges.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Writes its keys out, those that were left to their defaults, too.
    fn write_keys(&self, _config: &mut EncoderConfig) {}

    /// How initial parameters are drawn.
    fn scheme(&self) -> Scheme {
        Scheme::Glorot
    }

    /// See [`EncoderConfig::fixed_size`].
    fn fixed_size(&self) -> Option<&'static str> {
        None
    }

    /// Whether [`Encode::fitted`] gives something.
    fn is_fitted(&self) -> bool {
        false
    }

    /// Whether training changes anything of it.
    fn is_trainable(&self) -> bool {
        true
    }

    /// The convolutions of each block, on images with so many channels; empty if it is no row of layers.
    fn layers(&self, channels: usize) -> Vec<Vec<BlockShape>>;

    /// Number of weights of its convolutions.
    fn weights(&self, channels: usize) -> usize {
        let blocks = self.layers(channels).into_iter().flatten();
        blocks.map(|shape| shape.kernel * shape.kernel * shape.channels[0] * shape.channels[1]).sum()
    }

    /// An encoder with fresh parameters.
    fn init(&self, image: ImageShape, initialiser: &mut Initialiser) -> Encoder {
        Encoder::Layers(Layers::new(self.layers(image[2]), None, image, initialiser))
    }
}

/// What an encoder does to images.
trait Encode {
    /// Shape of the images it was made for.
    fn image(&self) -> ImageShape;

    /// Height, width and channels behind each block that can be read.
    fn shapes(&self) -> &[ImageShape];

    /// Numbers an image that [`Self::forward`] gives.
    fn features(&self) -> usize;

    /// Name of the layer whose output [`Self::forward`] gives.
    fn feature_layer(&self) -> &'static str;

    /// The device its parameters are on.
    fn device(&self) -> Device;

    /// Images `[batch, height, width, channels]` to features `[batch, features]`.
    fn forward(&self, images: Tensor<4>, mode: Mode) -> Tensor<2>;

    /// The outputs of `blocks` (counted from 0), each pooled to `[batch, numbers]`, in the order of `blocks`.
    fn read(&self, images: Tensor<4>, blocks: &[usize], pool: Pool, mode: Mode) -> Vec<Tensor<2>>;

    /// [`Self::read`], and what [`Self::forward`] gives of the same images.
    fn read_and_forward(
        &self,
        images: Tensor<4>,
        blocks: &[usize],
        pool: Pool,
        mode: Mode,
    ) -> (Vec<Tensor<2>>, Tensor<2>) {
        (self.read(images.clone(), blocks, pool, mode), self.forward(images, mode))
    }

    /// The encoder with what is not trained computed from `images`; none if it is trained as a whole. See
    /// [`Encoder::fit`].
    fn fitted(&self, _images: &dyn Samples, _step: f32, _seed: u64) -> Option<Encoder> {
        None
    }
}

/// Side of the smallest image there is, which pooling must leave something of.
const SMALLEST_IMAGE: usize = 32;

fn block_name(index: usize) -> String {
    format!("block{}", index + 1)
}

impl Encoder {
    /// An encoder of images of shape `image` with fresh parameters.
    pub fn new(config: &EncoderConfig, image: ImageShape, initialiser: &mut Initialiser) -> Self {
        initialiser.arithmetic = config.arithmetic;
        config.architecture().init(image, initialiser)
    }

    fn kind(&self) -> &dyn Encode {
        match self {
            Self::Layers(layers) => layers,
            Self::Patches(patches) => patches,
        }
    }

    /// Computes from `images` what is not trained but computed ([`EncoderConfig::is_fitted`]): the whitening block,
    /// the patches. Their labels are not used. `step` is the value of one of the 255 steps of a pixel; `seed` decides
    /// which patches are drawn.
    pub fn fit(self, images: &dyn Samples, step: f32, seed: u64) -> Self {
        self.kind().fitted(images, step, seed).unwrap_or(self)
    }

    /// Features an image.
    pub fn features(&self) -> usize {
        self.kind().features()
    }

    /// Name of the layer whose output [`forward`](Self::forward) gives.
    pub fn feature_layer(&self) -> &'static str {
        self.kind().feature_layer()
    }

    /// Names of the blocks that can be read, in their order.
    pub fn block_names(&self) -> Vec<String> {
        (0..self.kind().shapes().len()).map(block_name).collect()
    }

    fn block(&self, name: &str) -> Option<usize> {
        self.block_names().iter().position(|block| block == name)
    }

    /// Height, width and channels behind the block of that name.
    pub fn block_shape(&self, name: &str) -> Option<ImageShape> {
        self.block(name).map(|index| self.kind().shapes()[index])
    }

    /// Images `[batch, height * width * channels]` to features `[batch, features]`, in [`Mode::Evaluate`].
    pub fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        self.forward_in(Mode::Evaluate, images)
    }

    /// [`Self::forward`] in either mode.
    pub(super) fn forward_in(&self, mode: Mode, images: Tensor<2>) -> Tensor<2> {
        self.kind().forward(self.as_images(images), mode)
    }

    fn as_images(&self, images: Tensor<2>) -> Tensor<4> {
        let [batch, values] = images.dims();
        let [mut height, mut width, channels] = self.kind().image();
        if values != height * width * channels {
            // Smaller images, which are square.
            height = (values / channels).isqrt();
            width = height;
        }
        images.reshape([batch, height, width, channels])
    }

    /// Images to the features that `readout` names, `[batch, read_width(readout)]`, in [`Mode::Evaluate`]. Blocks behind
    /// the last one named are not computed.
    pub fn read(&self, images: Tensor<2>, readout: &Readout) -> Tensor<2> {
        self.read_in(Mode::Evaluate, images, readout)
    }

    /// [`Self::read`] in either mode.
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
            return self.kind().forward(images, mode);
        }
        let blocks: Vec<usize> = readout.layers.iter().filter_map(|name| self.block(name)).collect();
        Tensor::cat(self.kind().read(images, &blocks, readout.pool, mode), 1)
    }

    /// What [`read_in`](Self::read_in) and [`forward_in`](Self::forward_in) give of the same images, in one pass through
    /// a row of layers. Only for one view.
    pub(super) fn read_and_forward_in(
        &self,
        mode: Mode,
        images: Tensor<2>,
        readout: &Readout,
    ) -> [Tensor<2>; 2] {
        let images = self.as_images(images);
        if readout.layers.is_empty() {
            let features = self.kind().forward(images, mode);
            return [features.clone(), features];
        }
        let blocks: Vec<usize> = readout.layers.iter().filter_map(|name| self.block(name)).collect();
        let (read, features) = self.kind().read_and_forward(images, &blocks, readout.pool, mode);
        [Tensor::cat(read, 1), features]
    }

    /// Numbers an image that [`read`](Self::read) gives.
    ///
    /// # Errors
    /// [`Error::Config`] if a block is not there, or smaller than the grid it is to be pooled to.
    pub fn read_width(&self, readout: &Readout) -> Result<usize> {
        let width: usize = match (&readout.layers[..], readout.pool) {
            ([], Pool::None) => self.features(),
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
            let problem = match self.kind().shapes().len() {
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
        self.kind().device()
    }
}

#[cfg(test)]
mod tests;
