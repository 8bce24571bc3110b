//! Classifiers of features.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::head::{self, FeatureMap};
use super::moments::FeatureMoments;
use super::{BatchNorm, ConvBlock, Dense, ImageShape, Initialiser, Mode, Network, Scheme, mean_over_places};

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
            batch = mean_over_places(ConvBlock::forward_all(&self.convolutions, map, mode));
        }
        let hidden = self.hidden.iter().fold(batch, |batch, layer| layer.forward(batch, mode));
        self.output.forward(hidden)
    }
}
