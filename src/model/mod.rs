//! The networks: encoders, heads, and the combinations of both that stages train.
//!
//! A batch reaches a network as `[batch, values]`: for images the values are height x width x channels,
//! row by row with the channels last; for features they are the features.

mod classifier;
mod conv;
mod dense;
mod encoder;
mod head;
mod initialise;
mod joint;
mod moments;
mod norm;
mod parameters;
mod readout;
mod whitening;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

use crate::kernels;

pub use classifier::{Classifier, ClassifierShape};
pub use conv::{BlockShape, ConvBlock};
pub use dense::Dense;
pub use encoder::{Activation, Dictionary, Encoder, EncoderConfig, EncoderKind};
pub(crate) use encoder::{PATCH_SIDE, PATCH_THRESHOLD};
pub use head::{FeatureMap, HeadKind};
pub use initialise::{Initialiser, Scheme};
pub use joint::{JointNetwork, Mixture, fresh_head};
pub use moments::FeatureMoments;
pub use norm::{BatchNorm, Mode};
pub(crate) use norm::{EPSILON, MOMENTUM, is_running};
pub use parameters::{Parameters, Path, collect, load, not_finite};
pub use readout::{Pool, Readout, Views};

/// Number of rotations, and of the rotation head's outputs (Gidaris, Singh, Komodakis 2018: 0, 90, 180, 270 degrees).
pub const ROTATIONS: usize = 4;

/// Shape of an image: height, width, channels.
pub type ImageShape = [usize; 3];

/// What the training loop needs of a network: one logit per class.
pub trait Network: Module {
    /// Paths of the layers that compute logits; Muon treats their weights like biases.
    const LAST_LAYERS: &'static [&'static str];

    /// `[batch, values]` to `[batch, classes]`.
    fn logits(&self, batch: Tensor<2>, mode: Mode) -> Tensor<2>;

    /// The tasks that it is trained on at once, the one that its logits answer first.
    fn tasks(&self) -> Vec<Task> {
        vec![Task { weight: 1.0, samples: [1, 1] }]
    }

    /// What the answers to a training batch (or a share of one), `[batch, values]` with labels `[batch]`, add up to, for
    /// each of the [`tasks`](Self::tasks). See [`kernels::cross_entropy`] for `smoothing`.
    fn judge(&self, batch: Tensor<2>, labels: Tensor<1, Int>, smoothing: f32, mode: Mode) -> Vec<Sums> {
        vec![Sums::of(self.logits(batch, mode), labels, smoothing)]
    }

    /// Whether every parameter meets every sample but once on the way to the logits. Only then do the gradients of a
    /// batch's shares add up to that of the batch bit for bit: sums over several meetings are made in another order.
    fn meets_samples_once(&self) -> bool {
        true
    }
}

/// How a task counts in the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Task {
    /// Of the mean loss over the samples of the task.
    pub weight: f32,
    /// So many samples of it are among so many of every batch.
    pub samples: [usize; 2],
}

impl Task {
    /// By what sums over the samples of the task are multiplied to be divided by the number of all samples.
    pub fn scale(&self) -> f32 {
        let [own, all] = self.samples;
        all as f32 / own as f32
    }
}

/// What the answers to samples add up to under a task; samples of other tasks count for nothing.
pub struct Sums {
    /// Losses in nats, `[1]`.
    pub losses: Tensor<1>,
    /// Number of right answers, `[1]`, through which no gradient flows.
    pub correct: Tensor<1>,
}

impl Sums {
    /// Of logits `[batch, classes]` and labels `[batch]`.
    fn of(logits: Tensor<2>, labels: Tensor<1, Int>, smoothing: f32) -> Self {
        let (losses, correct) = kernels::cross_entropy(logits, labels, smoothing);
        Self { losses, correct }
    }
}

/// Encoder and rotation head: what `pretrain` trains.
#[derive(Module, Debug)]
pub struct RotationNetwork {
    /// The part that later stages use.
    pub encoder: Encoder,
    /// Features to four logits, one per rotation.
    pub head: Dense,
}

impl RotationNetwork {
    /// A network with fresh parameters.
    pub fn new(config: &EncoderConfig, image: ImageShape, seed: u64, device: &Device) -> Self {
        let mut initialiser = Initialiser::new(seed, config.scheme(), device);
        let encoder = Encoder::new(config, image, &mut initialiser);
        let head = Dense::new(encoder.features(), ROTATIONS, false, &mut initialiser);
        Self { encoder, head }
    }
}

impl Network for RotationNetwork {
    const LAST_LAYERS: &'static [&'static str] = &["head"];

    fn logits(&self, batch: Tensor<2>, mode: Mode) -> Tensor<2> {
        self.head.forward(self.encoder.forward_in(mode, batch))
    }
}

/// `[batch, height, width, channels]` to `[batch, channels]`.
fn mean_over_places(map: Tensor<4>) -> Tensor<2> {
    let [batch, height, width, channels] = map.dims();
    map.reshape([batch, height * width, channels]).mean_dim(1).reshape([batch, channels])
}

/// Encoder and classifier in one, from images to classes: what `finetune` trains in mode `full`, and what classifies
/// images in both modes.
#[derive(Module, Debug)]
pub struct ImageClassifier {
    /// The pretrained encoder.
    pub encoder: Encoder,
    /// The classifier on top of it.
    pub classifier: Classifier,
    /// What the classifier sees of the encoder.
    #[module(skip)]
    readout: Readout,
}

impl ImageClassifier {
    /// A fresh classifier on what `readout` gives of a pretrained encoder, both to be trained on `device`.
    pub fn new(
        encoder: Encoder,
        readout: Readout,
        shape: &ClassifierShape,
        seed: u64,
        device: &Device,
    ) -> Self {
        Self::of(encoder.train(), readout, Classifier::new(shape, None, seed, device))
    }

    /// Puts an encoder and a classifier together as they are.
    pub fn of(encoder: Encoder, readout: Readout, classifier: Classifier) -> Self {
        Self { encoder, classifier, readout }
    }

    /// What the classifier sees of the encoder.
    pub fn readout(&self) -> &Readout {
        &self.readout
    }
}

impl Network for ImageClassifier {
    const LAST_LAYERS: &'static [&'static str] = &["classifier.output"];

    fn logits(&self, batch: Tensor<2>, mode: Mode) -> Tensor<2> {
        self.classifier.logits(self.encoder.read_in(mode, batch, &self.readout), mode)
    }

    fn meets_samples_once(&self) -> bool {
        self.readout.views == Views::One
    }
}
