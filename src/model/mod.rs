//! The networks: encoders, heads, and their combinations that a stage trains.
//!
//! A batch reaches a network as `[batch, values]`: for images the values are height x width x channels,
//! row by row with the channels last; for features they are the features.

mod conv;
mod dense;
mod encoder;
mod initialise;
mod norm;
mod parameters;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use conv::{BlockShape, ConvBlock};
pub use dense::Dense;
pub use encoder::{Encoder, EncoderConfig, EncoderKind};
pub use initialise::Initialiser;
pub use norm::BatchNorm;
pub use parameters::{Parameters, Path, collect, load};

/// Number of rotations, and of the rotation head's outputs (Gidaris, Singh, Komodakis 2018: 0, 90, 180, 270 degrees).
pub const ROTATIONS: usize = 4;

/// Shape of an image: height, width, channels.
pub type ImageShape = [usize; 3];

/// What the training loop needs of a network: one logit a class.
pub trait Network: Module {
    /// `[batch, values]` to `[batch, classes]`.
    fn logits(&self, batch: Tensor<2>) -> Tensor<2>;
}

/// Encoder and rotation head: what `pretrain` trains.
#[derive(Module, Debug)]
pub struct RotationNetwork {
    /// The part that is kept.
    pub encoder: Encoder,
    /// Features to four logits, one a rotation.
    pub head: Dense,
}

impl RotationNetwork {
    /// A network with fresh parameters.
    pub fn new(config: &EncoderConfig, image: ImageShape, seed: u64, device: &Device) -> Self {
        let mut initialiser = Initialiser::new(seed, device);
        let encoder = Encoder::new(config, image, &mut initialiser);
        let head = Dense::new(encoder.features(), ROTATIONS, false, &mut initialiser);
        Self { encoder, head }
    }
}

impl Network for RotationNetwork {
    fn logits(&self, batch: Tensor<2>) -> Tensor<2> {
        self.head.forward(self.encoder.forward(batch))
    }
}

/// Shape of a [`Classifier`], as its checkpoint tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifierShape {
    /// Numbers a sample.
    pub features: usize,
    /// Width of the hidden layer.
    pub hidden: usize,
    /// Number of classes.
    pub classes: usize,
}

/// Dense, ReLU, dense: the downstream classifier of the Keras program.
#[derive(Module, Debug)]
pub struct Classifier {
    hidden: Dense,
    output: Dense,
}

/// Offset of the classifier's initialisation, so that it does not repeat the encoder's draws.
const CLASSIFIER_FIRST_PARAMETER: u64 = 1 << 32;

impl Classifier {
    /// A classifier with fresh parameters.
    pub fn new(shape: &ClassifierShape, seed: u64, device: &Device) -> Self {
        let mut initialiser = Initialiser::starting_at(seed, CLASSIFIER_FIRST_PARAMETER, device);
        Self {
            hidden: Dense::new(shape.features, shape.hidden, true, &mut initialiser),
            output: Dense::new(shape.hidden, shape.classes, false, &mut initialiser),
        }
    }
}

impl Network for Classifier {
    fn logits(&self, batch: Tensor<2>) -> Tensor<2> {
        self.output.forward(self.hidden.forward(batch))
    }
}

/// Encoder and classifier in one, from images to classes: what `finetune` trains in mode `full`.
#[derive(Module, Debug)]
pub struct ImageClassifier {
    /// The pretrained encoder.
    pub encoder: Encoder,
    /// The classifier on its features.
    pub classifier: Classifier,
}

impl ImageClassifier {
    /// A pretrained encoder, set to be trained on `device`, below a fresh classifier.
    pub fn new(encoder: Encoder, shape: &ClassifierShape, seed: u64, device: &Device) -> Self {
        Self {
            encoder: encoder.train(),
            classifier: Classifier::new(shape, seed, device),
        }
    }
}

impl Network for ImageClassifier {
    fn logits(&self, batch: Tensor<2>) -> Tensor<2> {
        self.classifier.logits(self.encoder.forward(batch))
    }
}
