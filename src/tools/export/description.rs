//! What an exported network says of itself, as JSON under the key `rotnet` of the file's metadata.

use serde::Serialize;

use super::networks::{Head, Network};
use super::tensors::Tensors;
use crate::data::Pixels;
use crate::kernels::OverlappingPool;
use crate::model::{BlockShape, EncoderConfig, ImageShape, Readout};
use crate::store::checkpoint::DatasetLabel;

/// What the file says of itself.
#[derive(Serialize)]
pub(super) struct Description<'a> {
    /// The encoder's section of the config.
    encoder: &'a EncoderConfig,
    /// Height, width and channels of an image.
    image: ImageShape,
    /// What bytes become before the first layer.
    pixels: &'a Pixels,
    /// Convolution, pooling, normalisation, ReLU; in this order.
    layers: Vec<Layer>,
    /// Number of layers up to the end of each block.
    blocks: Vec<usize>,
    /// Inputs and outputs of the dense layer, with ReLU, behind them; null: the mean over all places.
    dense: Option<[usize; 2]>,
    /// Numbers an image that the encoder's last layer gives.
    features: usize,
    /// What is read of the encoder: `layers` (none: the last one), `pool` and `views` of section `extract`.
    readout: &'a Readout,
    /// What stands on it; null: nothing.
    head: Option<HeadDescription>,
    /// Data set that the encoder was trained on.
    dataset: &'a DatasetLabel,
    /// Epochs that the encoder was trained.
    epochs: usize,
    /// SHA-256 of the checkpoint.
    checkpoint: String,
}

/// The layers on an encoder, in the order in which they come.
#[derive(Serialize)]
struct HeadDescription {
    kind: &'static str,
    #[serde(flatten)]
    layers: HeadLayers,
    /// Height, width and channels that convolutions read the features as; null: no convolutions.
    map: Option<ImageShape>,
    /// Names of the outputs; of rotations the degrees, counter-clockwise.
    classes: Vec<String>,
}

#[derive(Serialize)]
struct Layer {
    kernel: usize,
    padding: usize,
    channels: [usize; 2],
    pool: bool,
    norm: bool,
    /// `max` or `average` over 3x3 places, 2 apart, at the end; null: none.
    overlapping: Option<&'static str>,
}

impl From<BlockShape> for Layer {
    fn from(shape: BlockShape) -> Self {
        let BlockShape { kernel, padding, channels, pool, norm, overlapping, frozen: _ } = shape;
        let overlapping = overlapping.map(|pool| match pool {
            OverlappingPool::Max => "max",
            OverlappingPool::Average => "average",
        });
        Self { kernel, padding, channels, pool, norm, overlapping }
    }
}

/// The layers of a head, as its parameters tell.
#[derive(Serialize)]
pub(super) struct HeadLayers {
    /// Features less a mean, times a factor, first.
    pub standardise: bool,
    /// Convolutions with batch normalisation and ReLU, then the mean over all places.
    #[serde(serialize_with = "as_layers")]
    pub convolutions: Vec<BlockShape>,
    /// Inputs and outputs of dense layers with ReLU.
    pub hidden: Vec<[usize; 2]>,
    /// Batch normalisation in front of the ReLU of these.
    pub batch_norm: bool,
    /// Inputs and outputs of the last layer.
    pub output: [usize; 2],
}

fn as_layers<S: serde::Serializer>(shapes: &[BlockShape], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(shapes.iter().copied().map(Layer::from))
}

impl HeadLayers {
    pub(super) fn of(tensors: &Tensors<'_>) -> Result<Self, String> {
        let while_there = |prefix: &'static str, suffix: &'static str| {
            let names = (0..).map(move |layer| format!("{prefix}.{layer}.{suffix}"));
            names.take_while(|name| tensors.has(name))
        };
        let convolution = |name: String| {
            let [kernel, _, inputs, outputs] = tensors.sizes(&name)?;
            Ok(BlockShape::same(kernel, [inputs, outputs]))
        };
        Ok(Self {
            standardise: tensors.has("standardise.mean"),
            convolutions: while_there("convolutions", "weight")
                .map(convolution)
                .collect::<Result<_, String>>()?,
            hidden: while_there("hidden", "dense.weight")
                .map(|name| tensors.sizes(&name))
                .collect::<Result<_, _>>()?,
            batch_norm: tensors.has("hidden.0.norm.scale"),
            output: tensors.sizes("output.weight")?,
        })
    }
}

impl<'a> Description<'a> {
    pub(super) fn of(network: &'a Network) -> Result<Self, String> {
        let blocks = network.blocks();
        let encoder = Tensors::new(&network.parameters, "");
        let head = match &network.head {
            None => None,
            Some(head) => {
                let (kind, parameters, map) = match head {
                    Head::Rotation(parameters) => ("rotation", parameters, None),
                    Head::Classifier { parameters, map, .. } => ("classifier", parameters, *map),
                };
                let layers = HeadLayers::of(&Tensors::new(parameters, ""))?;
                Some(HeadDescription { kind, layers, map, classes: network.classes() })
            }
        };
        Ok(Self {
            encoder: &network.config,
            image: network.header.image,
            pixels: &network.header.pixels,
            blocks: ends(&blocks),
            layers: blocks.into_iter().flatten().map(Layer::from).collect(),
            dense: encoder.has("dense.weight").then(|| encoder.sizes("dense.weight")).transpose()?,
            features: network.encoder.features(),
            readout: &network.readout,
            head,
            dataset: &network.header.dataset,
            epochs: network.header.epochs,
            checkpoint: network.digest.clone(),
        })
    }
}

/// Number of layers up to the end of each block.
fn ends(blocks: &[Vec<BlockShape>]) -> Vec<usize> {
    let lengths = blocks.iter().map(Vec::len);
    lengths
        .scan(0, |end, length| {
            *end += length;
            Some(*end)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EncoderKind;

    #[test]
    fn a_network_in_network_is_described_layer_by_layer() {
        let config =
            EncoderConfig { kind: EncoderKind::RotnetNin, blocks: Some(3), ..EncoderConfig::default() };
        let blocks = config.layers(3);
        assert_eq!(ends(&blocks), [3, 6, 9]);
        let layers: Vec<Layer> = blocks.into_iter().flatten().map(Layer::from).collect();
        let pools: Vec<_> = layers.iter().map(|layer| layer.overlapping).collect();
        let none = None::<&str>;
        let expected = [none, none, Some("max"), none, none, Some("average"), none, none, none];
        assert_eq!(pools, expected);
        let kernels: Vec<_> = layers.iter().map(|layer| (layer.kernel, layer.padding)).collect();
        assert_eq!(kernels[..4], [(5, 2), (1, 0), (1, 0), (5, 2)]);
        assert!(layers.iter().all(|layer| layer.norm && !layer.pool));
    }
}
