//! Classifiers on top of features: which kinds there are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ImageShape;
use super::conv::BlockShape;

/// The classifiers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HeadKind {
    /// One dense layer.
    Linear,
    /// Dense layers with ReLU between them; linear where `hidden` is empty.
    #[default]
    Mlp,
    /// Ridge regression of one-hot labels on standardised features, in closed form. The penalty is chosen on the
    /// validation images, or by 5-fold cross-validation if there are none.
    Ridge,
    /// Convolutions on the map of one block, the mean over all places, one dense layer (the third block of Network in
    /// Network on the maps of the second, in Gidaris, Singh, Komodakis 2018).
    Conv,
}

impl HeadKind {
    /// The name in the config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Mlp => "mlp",
            Self::Ridge => "ridge",
            Self::Conv => "conv",
        }
    }

    /// Hidden widths if the config names none: those of the Keras program, or of the paper.
    pub fn default_hidden(self) -> Vec<usize> {
        match self {
            Self::Linear | Self::Ridge => Vec::new(),
            Self::Mlp => vec![64],
            Self::Conv => vec![192; 3],
        }
    }
}

/// Features that are the whole output map of one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureMap {
    /// The block.
    pub layer: String,
    /// Height, width and channels.
    pub shape: ImageShape,
}

/// The convolutions of a head on maps with so many channels: the first 3x3, the others 1x1, all with batch normalisation.
pub(super) fn convolutions(channels: usize, widths: &[usize]) -> Vec<BlockShape> {
    let inputs = std::iter::once(channels).chain(widths.iter().copied());
    let kernels = std::iter::once(3).chain(std::iter::repeat(1));
    let layers = inputs.zip(widths).zip(kernels);
    layers.map(|((inputs, &outputs), kernel)| BlockShape::same(kernel, [inputs, outputs])).collect()
}
