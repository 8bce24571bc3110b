//! A network as a safetensors file with PyTorch's names and layout.
//!
//! Convolutions are `[outputs, inputs, height, width]`, dense layers `[outputs, inputs]`, and the inputs of the encoder's
//! dense layer, behind a flattening, are reordered from rotnet's channels last to PyTorch's channels first, so that a
//! plain `flatten` gives the same features. Where a head stands on an encoder, the names of the encoder's parameters
//! begin with `encoder.`. The metadata has one key, `rotnet`, with a JSON document ([`Description`]) from which
//! `python/rotnet/network.py` builds the network.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use super::description::Description;
use super::networks::{Head, Network, refuse};
use super::tensors::{Tensors, permuted};
use super::{Files, What};
use crate::error::{Error, Result};
use crate::files::write_atomically;

/// A tensor in PyTorch's layout.
struct Exported {
    name: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Writes `encoder.safetensors`, `classifier.safetensors` or `rotation.safetensors`.
pub(super) fn write(network: &Network, what: What, files: &mut Files<'_>) -> Result<()> {
    if network.blocks().is_empty() {
        let hint = "write it as ONNX, --format onnx, or the run's features, --what features";
        let problem = format!("encoder `{}` is no network of layers", network.config.kind.name());
        return Err(Error::checkpoint(&network.path, problem, hint));
    }
    let tensors = tensors(network).map_err(|problem| refuse(network, problem))?;
    let description = Description::of(network).map_err(|problem| refuse(network, problem))?;
    let content = match network.head {
        None => {
            format!("encoder, {} tensors, {} features an image", tensors.len(), network.encoder.features())
        }
        Some(_) => network.describe("PyTorch")?,
    };
    files.add(&format!("{}.safetensors", what.stem()), content, |path| {
        save(path, &tensors, &description).map_err(|problem| refuse(network, problem))?
    })
}

/// Writes the file; what cannot be written down is the outer error.
fn save(path: &Path, tensors: &[Exported], description: &Description<'_>) -> Result<Result<()>, String> {
    let views = tensors
        .iter()
        .map(|tensor| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), &tensor.bytes);
            view.map(|view| (&tensor.name, view)).map_err(|error| error.to_string())
        })
        .collect::<Result<Vec<_>, String>>()?;
    let json = serde_json::to_string(description).map_err(|error| error.to_string())?;
    let metadata = HashMap::from([("rotnet".to_owned(), json)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| error.to_string())?;
    Ok(write_atomically(path, |out| out.write_all(&bytes)))
}

/// Every parameter under PyTorch's name, in PyTorch's layout.
fn tensors(network: &Network) -> Result<Vec<Exported>, String> {
    let blocks = network.blocks();
    let last = blocks.iter().flatten().last().map_or(network.header.image[2], |shape| shape.channels[1]);
    let parameters = match &network.head {
        None => return convert(&Tensors::new(&network.parameters, ""), last),
        Some(Head::Rotation(parameters) | Head::Classifier { parameters, .. }) => parameters,
    };
    let mut tensors = convert(&Tensors::new(&network.parameters, "encoder."), last)?;
    // Heads see the features in rotnet's order.
    tensors.extend(convert(&Tensors::new(parameters, ""), 1)?);
    Ok(tensors)
}

/// Parameters of a part of a network. The inputs of its dense layers are places of so many channels, `[places, channels]`,
/// and become `[channels, places]`.
fn convert(tensors: &Tensors<'_>, channels: usize) -> Result<Vec<Exported>, String> {
    let convert = |name: &String| {
        let (shape, values) = tensors.get(name)?;
        let (shape, order) = match shape[..] {
            [height, width, inputs, outputs] => (
                vec![outputs, inputs, height, width],
                permuted([height, width, inputs, outputs], [3, 2, 0, 1]),
            ),
            [inputs, outputs] => {
                // A last layer of places, or the features as they are.
                let channels = if inputs.is_multiple_of(channels) { channels } else { 1 };
                (vec![outputs, inputs], permuted([1, inputs / channels, channels, outputs], [3, 2, 1, 0]))
            }
            [count] => (vec![count], (0..count).collect()),
            ref other => return Err(format!("`{name}` has an unknown shape {other:?}")),
        };
        Ok(Exported {
            name: tensors.full(&torch_name(name)),
            shape,
            bytes: order.into_iter().flat_map(|index| values[index].to_le_bytes()).collect(),
        })
    };
    tensors.names().map(convert).collect()
}

/// `blocks.0.weight` to `layers.0.conv.weight`, `blocks.0.norm.scale` to `layers.0.norm.weight`; `convolutions.0.weight` to
/// `convolutions.0.conv.weight`.
fn torch_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        [list, layer, "norm", parameter] => {
            let parameter = match parameter {
                "scale" => "weight",
                "shift" => "bias",
                "running_variance" => "running_var",
                other => other,
            };
            format!("{}.{layer}.norm.{parameter}", torch_list(list))
        }
        [list @ ("blocks" | "convolutions"), layer, parameter] => {
            format!("{}.{layer}.conv.{parameter}", torch_list(list))
        }
        _ => name.to_owned(),
    }
}

fn torch_list(name: &str) -> &str {
    if name == "blocks" { "layers" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Classifier, ClassifierShape, Encoder, EncoderConfig, EncoderKind, FeatureMap, FeatureMoments,
        Initialiser, Parameters, collect,
    };
    use burn::tensor::Device;

    fn exported(kind: EncoderKind) -> Vec<Exported> {
        let config = EncoderConfig { kind, ..EncoderConfig::default() };
        let device = Device::flex();
        let encoder = Encoder::new(&config, [32, 32, 3], &mut Initialiser::new(1, config.scheme(), &device));
        let last = config.layers(3).iter().flatten().last().unwrap().channels[1];
        convert(&Tensors::new(&collect(&encoder), ""), last).unwrap()
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

    fn head(hidden: &[usize], map: Option<FeatureMap>) -> Parameters {
        let shape = ClassifierShape {
            features: map.as_ref().map_or(6, |map| map.shape.iter().product()),
            hidden: hidden.to_vec(),
            batch_norm: true,
            classes: 3,
            map,
        };
        let moments =
            FeatureMoments { mean: vec![0.0; shape.features], deviation: vec![1.0; shape.features] };
        collect(&Classifier::new(&shape, Some(moments), 1, &Device::flex()))
    }

    #[test]
    fn heads_keep_the_order_of_their_inputs() {
        let parameters = head(&[4], None);
        let tensors = convert(&Tensors::new(&parameters, ""), 1).unwrap();
        let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        assert!(
            names.contains(&"standardise.factor") && names.contains(&"hidden.0.norm.running_var"),
            "{names:?}"
        );
        let weight = tensors.iter().find(|tensor| tensor.name == "hidden.0.dense.weight").unwrap();
        assert_eq!(weight.shape, [4, 6]);
        let own = parameters["hidden.0.dense.weight"].as_slice::<f32>().unwrap();
        let (input, output) = (5, 2);
        let place = 4 * (output * 6 + input);
        assert_eq!(weight.bytes[place..place + 4], own[input * 4 + output].to_le_bytes());

        let map = FeatureMap { layer: "block1".into(), shape: [4, 4, 2] };
        let tensors = convert(&Tensors::new(&head(&[5, 7], Some(map)), ""), 1).unwrap();
        let shape = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap().shape.clone();
        assert_eq!(shape("convolutions.0.conv.weight"), [5, 2, 3, 3]);
        assert_eq!(shape("convolutions.1.conv.weight"), [7, 5, 1, 1]);
        assert_eq!(shape("convolutions.1.norm.running_mean"), [7]);
        assert_eq!(shape("output.weight"), [3, 7]);
    }
}
