//! The encoder as a safetensors file with PyTorch's names and layout.
//!
//! Convolutions are `[outputs, inputs, height, width]`, dense layers `[outputs, inputs]`, and the inputs of a dense
//! layer behind a flattening are reordered from rotnet's channels last to PyTorch's channels first, so that a plain
//! `flatten` gives the same features. The metadata has one key, `rotnet`, with a JSON document ([`Description`])
//! from which `examples/encoder.py` builds the network.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use serde::Serialize;

use super::Files;
use crate::data::Pixels;
use crate::device::{self, DeviceName};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::kernels::OverlappingPool;
use crate::model::{BlockShape, EncoderConfig, ImageShape, Parameters};
use crate::store::checkpoint::DatasetLabel;
use crate::store::networks::load_encoder;

const HINT: &str = "name a checkpoint of `rotnet pretrain` with --checkpoint";

/// What the file says of itself.
#[derive(Serialize)]
struct Description<'a> {
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
    /// Numbers an image.
    features: usize,
    /// Data set trained on.
    dataset: &'a DatasetLabel,
    /// Epochs trained.
    epochs: usize,
    /// SHA-256 of the checkpoint.
    checkpoint: String,
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

/// A tensor in PyTorch's layout.
struct Exported {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Writes `encoder.safetensors`.
pub(super) fn write(checkpoint: &Path, files: &mut Files<'_>) -> Result<()> {
    let (encoder, loaded, digest) =
        load_encoder(&device::open(&DeviceName::Flex)?, checkpoint.to_path_buf())?;
    let header = &loaded.header;
    let Some(config) = &header.encoder else {
        return Err(Error::checkpoint(checkpoint, "holds no encoder", HINT));
    };
    let blocks = config.layers(header.image[2]);
    if blocks.is_empty() {
        let hint = "export the run's features: --what features";
        let problem = format!("encoder `{}` is no network of layers", config.kind.name());
        return Err(Error::checkpoint(checkpoint, problem, hint));
    }
    let parameters = loaded.part("encoder");
    let tensors = convert(&parameters, config, header.image[2])
        .map_err(|problem| Error::checkpoint(checkpoint, problem, HINT))?;
    let dense = parameters.get("dense.weight").map(|weight| weight.shape().to_vec());
    let description = Description {
        encoder: config,
        image: header.image,
        pixels: &header.pixels,
        blocks: ends(&blocks),
        layers: blocks.into_iter().flatten().map(Layer::from).collect(),
        dense: dense.and_then(|shape| shape.try_into().ok()),
        features: encoder.features(),
        dataset: &header.dataset,
        epochs: header.epochs,
        checkpoint: digest,
    };
    let content = format!("encoder, {} tensors, {} features an image", tensors.len(), encoder.features());
    files.add("encoder.safetensors", content, |path| save(path, &tensors, &description))
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

fn save(path: &Path, tensors: &[Exported], description: &Description<'_>) -> Result<()> {
    let unusable = |problem: String| Error::checkpoint(path, problem, HINT);
    let views = tensors
        .iter()
        .map(|tensor| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &tensor.bytes);
            view.map(|view| (&tensor.name, view)).map_err(|error| unusable(error.to_string()))
        })
        .collect::<Result<Vec<_>>>()?;
    let json = serde_json::to_string(description).map_err(|error| unusable(error.to_string()))?;
    let metadata = HashMap::from([("rotnet".to_owned(), json)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| unusable(error.to_string()))?;
    write_atomically(path, |out| out.write_all(&bytes))
}

/// Every parameter under PyTorch's name, in PyTorch's layout.
fn convert(
    parameters: &Parameters,
    config: &EncoderConfig,
    channels: usize,
) -> Result<Vec<Exported>, String> {
    let last = config.layers(channels).iter().flatten().last().map_or(channels, |shape| shape.channels[1]);
    let convert = |name: &String| {
        let data = &parameters[name];
        let values = data.as_slice::<f32>().map_err(|_| format!("`{name}` is not of 32-bit floats"))?;
        let (shape, order) = match data.shape().to_vec()[..] {
            [height, width, inputs, outputs] => (
                vec![outputs, inputs, height, width],
                permuted([height, width, inputs, outputs], [3, 2, 0, 1]),
            ),
            // Places in order, channels within a place: `[places, channels, outputs]`.
            [inputs, outputs] if inputs % last == 0 => {
                (vec![outputs, inputs], permuted([1, inputs / last, last, outputs], [3, 2, 1, 0]))
            }
            [count] => (vec![count], (0..count).collect()),
            ref other => return Err(format!("`{name}` has an unknown shape {other:?}")),
        };
        Ok(Exported {
            name: torch_name(name),
            shape,
            bytes: order.into_iter().flat_map(|index| values[index].to_le_bytes()).collect(),
        })
    };
    parameters.keys().map(convert).collect()
}

/// Where the values of an array of shape `[shape[axes[0]], shape[axes[1]], ...]` lie in one of `shape`.
fn permuted(shape: [usize; 4], axes: [usize; 4]) -> Vec<usize> {
    let strides = [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1];
    let [a, b, c, d] = axes.map(|axis| (shape[axis], strides[axis]));
    let mut order = Vec::with_capacity(shape.iter().product());
    for i in 0..a.0 {
        for j in 0..b.0 {
            for k in 0..c.0 {
                order.extend((0..d.0).map(|l| i * a.1 + j * b.1 + k * c.1 + l * d.1));
            }
        }
    }
    order
}

/// `blocks.0.weight` to `layers.0.conv.weight`, `blocks.0.norm.scale` to `layers.0.norm.weight`.
fn torch_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["blocks", layer, "norm", parameter] => {
            let parameter = match parameter {
                "scale" => "weight",
                "shift" => "bias",
                "running_variance" => "running_var",
                other => other,
            };
            format!("layers.{layer}.norm.{parameter}")
        }
        ["blocks", layer, parameter] => format!("layers.{layer}.conv.{parameter}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Encoder, EncoderKind, Initialiser, collect};
    use burn::tensor::Device;

    fn exported(kind: EncoderKind) -> Vec<Exported> {
        let config = EncoderConfig { kind, ..EncoderConfig::default() };
        let device = Device::flex();
        let encoder = Encoder::new(&config, [32, 32, 3], &mut Initialiser::new(1, config.scheme(), &device));
        convert(&collect(&encoder), &config, 3).unwrap()
    }

    #[test]
    fn names_and_shapes_are_those_of_pytorch() {
        let find = |kind, name: &str| {
            let tensors = exported(kind);
            tensors.into_iter().find(|tensor| tensor.name == name).map(|tensor| tensor.shape)
        };
        assert_eq!(find(EncoderKind::Keras, "layers.1.conv.weight"), Some(vec![64, 32, 3, 3]));
        assert_eq!(find(EncoderKind::Keras, "layers.1.conv.bias"), Some(vec![64]));
        assert_eq!(find(EncoderKind::Keras, "dense.weight"), Some(vec![64, 1024]));
        assert_eq!(find(EncoderKind::Keras, "dense.bias"), Some(vec![64]));
        for name in ["weight", "bias", "running_mean", "running_var"] {
            assert_eq!(find(EncoderKind::Compact, &format!("layers.0.norm.{name}")), Some(vec![32]));
        }
        assert_eq!(exported(EncoderKind::Compact).len(), 5 * 5);
    }

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

    #[test]
    fn axes_change_places() {
        // [1, 1, 2, 3] to [3, 2, 1, 1]: a transposed matrix.
        assert_eq!(permuted([1, 1, 2, 3], [3, 2, 0, 1]), [0, 3, 1, 4, 2, 5]);
        // Two places of two channels to one output: channels first.
        assert_eq!(permuted([1, 2, 2, 1], [3, 2, 1, 0]), [0, 2, 1, 3]);
    }
}
