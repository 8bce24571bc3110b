//! The networks: encoders, heads, and the combinations of both that stages train.
//!
//! A batch reaches a network as `[batch, values]`: for images the values are height x width x channels,
//! row by row with the channels last; for features they are the features.

mod conv;
mod dense;
mod encoder;
mod head;
mod initialise;
mod joint;
mod norm;
mod parameters;
mod readout;
mod whitening;

use std::convert::Infallible;

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::kernels;

pub use conv::{BlockShape, ConvBlock};
pub use dense::Dense;
pub use encoder::{Activation, Dictionary, Encoder, EncoderConfig, EncoderKind};
pub(crate) use encoder::{PATCH_SIDE, PATCH_THRESHOLD};
pub use head::{FeatureMap, HeadKind};
pub use initialise::{Initialiser, Scheme};
pub use joint::{JointNetwork, Mixture, fresh_head};
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

/// Shape of a [`Classifier`], as recorded in its checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassifierShape {
    /// Features per sample.
    pub features: usize,
    /// Widths of the hidden layers; empty for a linear classifier.
    pub hidden: Vec<usize>,
    /// Batch normalisation in the hidden layers.
    pub batch_norm: bool,
    /// Number of classes.
    pub classes: usize,
    /// What map the features are, if the hidden layers are convolutions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<FeatureMap>,
}

impl ClassifierShape {
    /// Number of weights of its layers, not counting biases and norms.
    pub fn weights(&self) -> usize {
        let product = |inputs: usize, outputs: usize| inputs.saturating_mul(outputs);
        let (hidden, last) = match &self.map {
            Some(map) => {
                let layers = head::convolutions(map.shape[2], &self.hidden);
                let weights = layers.iter().map(|layer| {
                    product(layer.kernel * layer.kernel, product(layer.channels[0], layer.channels[1]))
                });
                (weights.fold(0, usize::saturating_add), map.shape[2])
            }
            None => {
                let widths = [&[self.features], &self.hidden[..]].concat();
                let weights = widths.windows(2).map(|pair| product(pair[0], pair[1]));
                (weights.fold(0, usize::saturating_add), self.features)
            }
        };
        hidden.saturating_add(product(self.hidden.last().copied().unwrap_or(last), self.classes))
    }
}

/// Mean and deviation of each feature over the training samples.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMoments {
    /// Mean.
    pub mean: Vec<f32>,
    /// Standard deviation.
    pub deviation: Vec<f32>,
}

/// A feature with a smaller deviation counts as constant.
const LEAST_DEVIATION: f32 = 1e-6;

impl FeatureMoments {
    /// Of `values` `[samples, width]`.
    pub fn of(values: &[f32], width: usize) -> Self {
        let shape = [values.len() / width, width];
        let Ok(moments) = Self::of_blocks(shape, |take| {
            take(values);
            Ok::<(), Infallible>(())
        });
        moments
    }

    /// Of samples `[samples, width]`. Each call of `pass` goes through all rows in order, some at a time; how many at a
    /// time changes no bit.
    ///
    /// # Errors
    /// What `pass` fails with.
    pub fn of_blocks<E>(
        [samples, width]: [usize; 2],
        mut pass: impl FnMut(&mut dyn FnMut(&[f32])) -> Result<(), E>,
    ) -> Result<Self, E> {
        let count = samples as f64;
        let mut mean = vec![0f64; width];
        let mut squares = vec![0f64; width];
        pass(&mut |rows| {
            for row in rows.chunks_exact(width) {
                for (sum, value) in mean.iter_mut().zip(row) {
                    *sum += f64::from(*value);
                }
            }
        })?;
        mean.iter_mut().for_each(|sum| *sum /= count);
        pass(&mut |rows| {
            for row in rows.chunks_exact(width) {
                for ((sum, value), mean) in squares.iter_mut().zip(row).zip(&mean) {
                    *sum += (f64::from(*value) - mean) * (f64::from(*value) - mean);
                }
            }
        })?;
        Ok(Self {
            mean: mean.into_iter().map(|mean| mean as f32).collect(),
            deviation: squares.into_iter().map(|sum| (sum / count).sqrt() as f32).collect(),
        })
    }

    /// Gives every feature of `values` `[samples, width]` mean 0 and deviation 1.
    pub fn standardise(&self, values: &mut [f32]) {
        let factors = self.factors();
        for row in values.chunks_exact_mut(factors.len().max(1)) {
            for ((value, mean), factor) in row.iter_mut().zip(&self.mean).zip(&factors) {
                *value = (*value - mean) * factor;
            }
        }
    }

    /// Factors that scale each feature to deviation 1; features that hardly vary keep their scale.
    pub fn factors(&self) -> Vec<f32> {
        let inverse = |&deviation: &f32| if deviation < LEAST_DEVIATION { 1.0 } else { 1.0 / deviation };
        self.deviation.iter().map(inverse).collect()
    }
}

/// Dense layers with ReLU between them, or convolutions and a dense layer. With one hidden layer of 64 it is the
/// downstream classifier of the Keras program.
#[derive(Module, Debug)]
pub struct Classifier {
    standardise: Option<Standardise>,
    convolutions: Vec<ConvBlock>,
    hidden: Vec<HiddenLayer>,
    output: Dense,
    /// Shape of the features if there are convolutions.
    #[module(skip)]
    map: Option<ImageShape>,
}

/// Subtracts a fixed mean and divides by a fixed deviation; saved with the parameters, never trained.
#[derive(Module, Debug)]
struct Standardise {
    mean: Param<Tensor<1>>,
    factor: Param<Tensor<1>>,
}

impl Standardise {
    fn new(moments: FeatureMoments, device: &Device) -> Self {
        let fixed = |values: Vec<f32>| {
            let count = values.len();
            Param::from_data(TensorData::new(values, [count]), device).set_require_grad(false)
        };
        Self { factor: fixed(moments.factors()), mean: fixed(moments.mean) }
    }

    fn forward(&self, batch: Tensor<2>) -> Tensor<2> {
        (batch - self.mean.val().unsqueeze()) * self.factor.val().unsqueeze()
    }
}

/// A dense layer, batch normalisation on request, ReLU.
#[derive(Module, Debug)]
struct HiddenLayer {
    dense: Dense,
    norm: Option<BatchNorm>,
}

impl HiddenLayer {
    fn forward(&self, batch: Tensor<2>, mode: Mode) -> Tensor<2> {
        let batch = self.dense.forward(batch);
        match &self.norm {
            Some(norm) => {
                let [samples, _] = batch.dims();
                norm.forward(batch, samples, mode)
            }
            None => batch,
        }
    }
}

/// Offset of the classifier's initialisation, so that it does not repeat the encoder's draws.
const CLASSIFIER_FIRST_PARAMETER: u64 = 1 << 32;

impl Classifier {
    /// A classifier with fresh parameters; features are standardised by `moments` if there are any.
    pub fn new(shape: &ClassifierShape, moments: Option<FeatureMoments>, seed: u64, device: &Device) -> Self {
        let scheme = if shape.map.is_some() { Scheme::RotNet } else { Scheme::Glorot };
        let mut initialiser = Initialiser::starting_at(seed, CLASSIFIER_FIRST_PARAMETER, scheme, device);
        let mut inputs = shape.features;
        let (mut convolutions, mut dense) = (Vec::new(), &shape.hidden[..]);
        if let Some(map) = &shape.map {
            let layers = head::convolutions(map.shape[2], &shape.hidden).into_iter();
            convolutions.extend(layers.map(|layer| ConvBlock::new(layer, &mut initialiser)));
            (inputs, dense) = (shape.hidden.last().copied().unwrap_or(map.shape[2]), &[]);
        }
        let mut hidden = Vec::with_capacity(dense.len());
        for &width in dense {
            hidden.push(HiddenLayer {
                dense: Dense::new(inputs, width, !shape.batch_norm, &mut initialiser),
                norm: shape.batch_norm.then(|| BatchNorm::new(width, &initialiser)),
            });
            inputs = width;
        }
        Self {
            standardise: moments.map(|moments| Standardise::new(moments, device)),
            convolutions,
            hidden,
            output: Dense::new(inputs, shape.classes, false, &mut initialiser),
            map: shape.map.as_ref().map(|map| map.shape),
        }
    }
}

impl Classifier {
    /// A linear classifier of standardised features with given parameters: `weight` `[features, classes]`, `bias`
    /// `[classes]`.
    pub fn linear(
        shape: &ClassifierShape,
        moments: FeatureMoments,
        weight: Vec<f32>,
        bias: Vec<f32>,
        device: &Device,
    ) -> Self {
        let mut network = Self::new(shape, Some(moments), 0, device);
        let weight = TensorData::new(weight, [shape.features, shape.classes]);
        network.output.weight = Param::from_data(weight, device);
        network.output.bias = Param::from_data(TensorData::new(bias, [shape.classes]), device);
        network
    }
}

impl Classifier {
    /// Shape of the features, if convolutions read them as a map.
    pub fn map(&self) -> Option<ImageShape> {
        self.map
    }
}

impl Network for Classifier {
    const LAST_LAYERS: &'static [&'static str] = &["output"];

    fn logits(&self, batch: Tensor<2>, mode: Mode) -> Tensor<2> {
        let mut batch = match &self.standardise {
            Some(standardise) => standardise.forward(batch),
            None => batch,
        };
        if let Some([height, width, channels]) = self.map {
            let [count, _] = batch.dims();
            let map = batch.reshape([count, height, width, channels]);
            batch =
                mean_over_places(self.convolutions.iter().fold(map, |map, layer| layer.forward(map, mode)));
        }
        let hidden = self.hidden.iter().fold(batch, |batch, layer| layer.forward(batch, mode));
        self.output.forward(hidden)
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
