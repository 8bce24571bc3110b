//! A network as an ONNX file: bytes of images in, features or probabilities out, with everything between in the graph.
//!
//! The file is written by a hundred lines of our own (`protobuf`): what is written are some ten messages whose field numbers
//! cannot change, where `prost` would bring a code generator or thousands of generated lines for a schema of which a
//! tenth is used. That they are right is for ONNX's own checker and onnxruntime to say, in `scripts/check-onnx.py`.
//!
//! Input `images`: bytes `[batch, height, width, 3]`, as image libraries give them. Output of an encoder: `features`
//! `[batch, width]`, as `extract` writes them. Outputs of a classifier: `logits` and `probabilities`, `[batch, classes]`;
//! of the rotation head `logits` of the images as they are, `probabilities` of all four views together, as `orient` and
//! `predict` give them. Metadata: `classes`, a JSON list of names; `rotnet`, the [`Description`].

mod graph;
mod layers;
mod patches;
mod protobuf;
#[cfg(test)]
mod tests;

use graph::{Attribute, Graph, Kind, Value};

use super::description::{Description, HeadLayers};
use super::networks::{Head, Network, refuse};
use super::tensors::Tensors;
use super::{Files, What};
use crate::data::Pixels;
use crate::device::environment::VERSION;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::model::{ImageShape, Pool, ROTATIONS, Views};

/// The pooling of encoder `patches` where no layer is named.
const QUADRANTS: Pool = Pool::Two;

/// The largest message that readers of protocol buffers take.
const LARGEST: usize = i32::MAX as usize;

/// Writes `encoder.onnx`, `classifier.onnx` or `rotation.onnx`.
pub(super) fn write(network: &Network, what: What, files: &mut Files<'_>) -> Result<()> {
    let bytes = model(network, what.stem()).map_err(|problem| refuse(network, problem))?;
    if bytes.len() > LARGEST {
        let problem = format!("would be {} bytes of ONNX, which ends at 2 GiB", bytes.len());
        let hint = "pool what the head sees (extract.pool), or write it as safetensors";
        return Err(Error::checkpoint(&network.path, problem, hint));
    }
    let content = network.describe("ONNX")?;
    files.add(&format!("{}.onnx", what.stem()), content, |path| {
        write_atomically(path, |out| out.write_all(&bytes))
    })
}

fn model(network: &Network, name: &str) -> Result<Vec<u8>, String> {
    let mut graph = Graph::default();
    let images = graph.input("images", Kind::Uint8, &network.header.image);
    let pixels = scaled(&mut graph, &images, &network.header.pixels);
    let pixels = layers::channels_first(&mut graph, &pixels);
    match &network.head {
        None => {
            let features = read(&mut graph, network, &pixels)?;
            let width = network.encoder.read_width(&network.readout).map_err(|error| error.to_string())?;
            graph.output("features", &features, &[width]);
        }
        Some(Head::Classifier { parameters, map, classes }) => {
            let features = read(&mut graph, network, &pixels)?;
            let logits = classifier(&mut graph, &features, &Tensors::new(parameters, ""), *map)?;
            let probabilities = graph.node("Softmax", &[&logits], &[Attribute::Int("axis", 1)]);
            graph.output("logits", &logits, &[classes.len()]);
            graph.output("probabilities", &probabilities, &[classes.len()]);
        }
        Some(Head::Rotation(parameters)) => {
            rotation(&mut graph, network, &pixels, &Tensors::new(parameters, ""))?;
        }
    }
    let json = |value: Result<String, serde_json::Error>| value.map_err(|error| error.to_string());
    let mut metadata = vec![("rotnet", json(serde_json::to_string(&Description::of(network)?))?)];
    if network.head.is_some() {
        metadata.push(("classes", json(serde_json::to_string(&network.classes()))?));
    }
    Ok(graph.into_model(name, VERSION, &metadata))
}

/// Bytes to the numbers that the network was trained on; channels last.
fn scaled(graph: &mut Graph, images: &Value, pixels: &Pixels) -> Value {
    let bytes = graph.node("Cast", &[images], &[Attribute::Int("to", Kind::Float as i64)]);
    match pixels {
        Pixels::Raw => bytes,
        Pixels::Scaled => {
            let most = graph.floats("pixels.most", &[], &[255.0]);
            graph.node("Div", &[&bytes, &most], &[])
        }
        Pixels::Normalised { mean, std } => {
            let in_bytes = |values: &[f64; 3]| values.map(|value| (255.0 * value) as f32);
            let mean = graph.floats("pixels.mean", &[3], &in_bytes(mean));
            let deviation = graph.floats("pixels.deviation", &[3], &in_bytes(std));
            let centred = graph.node("Sub", &[&bytes, &mean], &[]);
            graph.node("Div", &[&centred, &deviation], &[])
        }
    }
}

/// What the network's read-out gives of images `[batch, channels, height, width]`: [`crate::model::Encoder::read`].
fn read(graph: &mut Graph, network: &Network, images: &Value) -> Result<Value, String> {
    let views = network.readout.views;
    let shown = match views.rotations() {
        1 => images.clone(),
        _ => turned(graph, images),
    };
    let width = one_view(network)?;
    if !views.mirrored() {
        let features = read_once(graph, network, &shown)?;
        return Ok(side_by_side(graph, &features, views, width));
    }
    let mirrored = flipped(graph, &shown, &[3]);
    let both = graph.node("Concat", &[&shown, &mirrored], &[Attribute::Int("axis", 0)]);
    let features = read_once(graph, network, &both)?;
    let halves = graph.integers(&[2, -1, width as i64]);
    let halves = graph.node("Reshape", &[&features, &halves], &[]);
    let axes = [Attribute::Ints("axes", vec![0]), Attribute::Int("keepdims", 0)];
    let features = graph.node("ReduceMean", &[&halves], &axes);
    Ok(side_by_side(graph, &features, views, width))
}

/// Features of one view of an image.
fn one_view(network: &Network) -> Result<usize, String> {
    let width = network.encoder.read_width(&network.readout).map_err(|error| error.to_string())?;
    Ok(width / network.readout.views.rotations())
}

/// Images, then all turned by 90 degrees counter-clockwise, and so on, along the batch.
fn turned(graph: &mut Graph, images: &Value) -> Value {
    let transposed = graph.node("Transpose", &[images], &[Attribute::Ints("perm", vec![0, 1, 3, 2])]);
    let quarter = flipped(graph, &transposed, &[2]);
    let half = flipped(graph, images, &[2, 3]);
    let three = flipped(graph, &transposed, &[3]);
    graph.node("Concat", &[images, &quarter, &half, &three], &[Attribute::Int("axis", 0)])
}

/// Backwards along some axes.
fn flipped(graph: &mut Graph, images: &Value, axes: &[i64]) -> Value {
    let [starts, ends, steps] = [-1, i64::MIN, -1].map(|value| graph.integers(&vec![value; axes.len()]));
    let axes = graph.integers(axes);
    graph.node("Slice", &[images, &starts, &ends, &axes, &steps], &[])
}

/// Features of views behind each other, `[views * batch, width]`, to `[batch, views * width]`.
fn side_by_side(graph: &mut Graph, features: &Value, views: Views, width: usize) -> Value {
    let rotations = views.rotations();
    if rotations == 1 {
        return features.clone();
    }
    let by_view = graph.integers(&[rotations as i64, -1, width as i64]);
    let by_view = graph.node("Reshape", &[features, &by_view], &[]);
    let by_image = graph.node("Transpose", &[&by_view], &[Attribute::Ints("perm", vec![1, 0, 2])]);
    let flat = graph.integers(&[-1, (rotations * width) as i64]);
    graph.node("Reshape", &[&by_image, &flat], &[])
}

/// The features of images as they are.
fn read_once(graph: &mut Graph, network: &Network, images: &Value) -> Result<Value, String> {
    let tensors = Tensors::new(&network.parameters, "encoder.");
    let blocks = network.blocks();
    let readout = &network.readout;
    if blocks.is_empty() {
        let activation = network.config.activation.unwrap_or_default();
        let image = network.header.image;
        let map = patches::activations(graph, images, image, activation, &tensors)?;
        let size = sides(network, "block1")?;
        return match &readout.layers[..] {
            [] => Ok(layers::pooled(graph, &map, size, QUADRANTS)),
            named => {
                let pooled = layers::pooled(graph, &map, size, readout.pool);
                Ok(side_by_side_of(graph, &vec![pooled; named.len()]))
            }
        };
    }
    let names = network.encoder.block_names();
    let place = |name: &String| names.iter().position(|block| block == name);
    let last = readout.layers.iter().filter_map(place).max().unwrap_or(blocks.len() - 1);
    let (mut map, mut outputs, mut layer) = (images.clone(), Vec::new(), 0);
    for block in &blocks[..=last] {
        for shape in block {
            map = layers::conv_block(graph, &map, shape, &format!("blocks.{layer}"), &tensors)?;
            layer += 1;
        }
        outputs.push(map.clone());
    }
    if readout.layers.is_empty() {
        if !tensors.has("dense.weight") {
            return Ok(layers::mean_over_places(graph, &map));
        }
        let flat = layers::flattened(graph, &map);
        let dense = layers::dense(graph, &flat, "dense", &tensors)?;
        return Ok(graph.node("Relu", &[&dense], &[]));
    }
    let mut pooled = Vec::with_capacity(readout.layers.len());
    for name in &readout.layers {
        let place = place(name).ok_or_else(|| format!("has no block called `{name}`"))?;
        pooled.push(layers::pooled(graph, &outputs[place], sides(network, name)?, readout.pool));
    }
    Ok(side_by_side_of(graph, &pooled))
}

/// Rows and columns behind a block.
fn sides(network: &Network, block: &str) -> Result<[usize; 2], String> {
    let shape = network.encoder.block_shape(block);
    shape.map(|[height, width, _]| [height, width]).ok_or_else(|| format!("has no block called `{block}`"))
}

/// Columns of several results.
fn side_by_side_of(graph: &mut Graph, values: &[Value]) -> Value {
    match values {
        [one] => one.clone(),
        several => {
            let several: Vec<&Value> = several.iter().collect();
            graph.node("Concat", &several, &[Attribute::Int("axis", 1)])
        }
    }
}

/// Features to logits: [`crate::model::Classifier`].
fn classifier(
    graph: &mut Graph,
    features: &Value,
    tensors: &Tensors<'_>,
    map: Option<ImageShape>,
) -> Result<Value, String> {
    let head = HeadLayers::of(tensors)?;
    let mut value = features.clone();
    if head.standardise {
        value = layers::standardised(graph, &value, tensors)?;
    }
    if let Some([height, width, channels]) = map {
        let shape = graph.integers(&[-1, height as i64, width as i64, channels as i64]);
        let last = graph.node("Reshape", &[&value, &shape], &[]);
        let mut map = layers::channels_first(graph, &last);
        for (layer, shape) in head.convolutions.iter().enumerate() {
            map = layers::conv_block(graph, &map, shape, &format!("convolutions.{layer}"), tensors)?;
        }
        value = layers::mean_over_places(graph, &map);
    }
    for layer in 0..head.hidden.len() {
        value = layers::dense(graph, &value, &format!("hidden.{layer}.dense"), tensors)?;
        if head.batch_norm {
            value = layers::batch_norm(graph, &value, &format!("hidden.{layer}.norm"), tensors)?;
        }
        value = graph.node("Relu", &[&value], &[]);
    }
    layers::dense(graph, &value, "output", tensors)
}

/// The rotation head on all four views of each image. What it says of one view tells about the others; the mean of the four
/// logarithms counts, as in `tools::apply`.
fn rotation(
    graph: &mut Graph,
    network: &Network,
    images: &Value,
    tensors: &Tensors<'_>,
) -> Result<(), String> {
    let shown = turned(graph, images);
    let features = read_once(graph, network, &shown)?;
    let logits = layers::dense(graph, &features, "output", tensors)?;
    let logarithms = graph.node("LogSoftmax", &[&logits], &[Attribute::Int("axis", 1)]);
    let logarithms = side_by_side(graph, &logarithms, Views::Four, ROTATIONS);
    let matrix = graph.floats("views", &[ROTATIONS * ROTATIONS, ROTATIONS], &views());
    let means = graph.node("MatMul", &[&logarithms, &matrix], &[]);
    let probabilities = graph.node("Softmax", &[&means], &[Attribute::Int("axis", 1)]);
    let all = side_by_side(graph, &logits, Views::Four, ROTATIONS);
    let [first, end, axis] = [0, ROTATIONS as i64, 1].map(|value| graph.integers(&[value]));
    let own = graph.node("Slice", &[&all, &first, &end, &axis], &[]);
    graph.output("logits", &own, &[ROTATIONS]);
    graph.output("probabilities", &probabilities, &[ROTATIONS]);
    Ok(())
}

/// `[shown * 4 + said, own]`: an image with `own` turns that is shown with `shown` more of them has both together.
fn views() -> Vec<f32> {
    let mut matrix = vec![0.0; ROTATIONS * ROTATIONS * ROTATIONS];
    for shown in 0..ROTATIONS {
        for own in 0..ROTATIONS {
            let said = (own + shown) % ROTATIONS;
            matrix[(shown * ROTATIONS + said) * ROTATIONS + own] = 1.0 / ROTATIONS as f32;
        }
    }
    matrix
}
