//! The encoder `patches` as ONNX operators.

use super::graph::{Attribute, Graph, Kind, Value};
use super::layers::convolution_weight;
use crate::model::{Activation, ImageShape, PATCH_SIDE, PATCH_THRESHOLD};
use crate::tools::export::tensors::Tensors;

/// Images `[batch, channels, height, width]` to the activations at every place.
pub(super) fn activations(
    graph: &mut Graph,
    images: &Value,
    image: ImageShape,
    activation: Activation,
    tensors: &Tensors<'_>,
) -> Result<Value, String> {
    let filters = convolution_weight(graph, "patches.filters", tensors)?;
    let responses = graph.node("Conv", &[images, &filters], &[]);
    let (_, contrast) = tensors.get("patches.contrast")?;
    let contrast = contrast.first().copied().ok_or("`patches.contrast` is empty")?;
    let deviations = deviations(graph, images, image, contrast);
    let scaled = graph.node("Div", &[&responses, &deviations], &[]);
    let (_, bias) = tensors.get("patches.bias")?;
    let bias = graph.floats("patches.bias", &[1, bias.len(), 1, 1], bias);
    let values = graph.node("Add", &[&scaled, &bias], &[]);
    match activation {
        Activation::TwoSided => Ok(two_sided(graph, &values)),
        Activation::Triangle => triangle(graph, &values, tensors),
    }
}

/// The deviation of the patch at each place, `[batch, 1, rows, columns]`. In double precision, as variance is a difference
/// of sums.
fn deviations(
    graph: &mut Graph,
    images: &Value,
    [height, width, channels]: ImageShape,
    contrast: f32,
) -> Value {
    let double = [Attribute::Int("to", Kind::Double as i64)];
    let pixels = graph.node("Cast", &[images], &double);
    let squares = graph.node("Mul", &[&pixels, &pixels], &[]);
    let axis = graph.integers(&[1]);
    let (down, across) = (height + 1 - PATCH_SIDE, width + 1 - PATCH_SIDE);
    let rows = graph.doubles("patches.rows", &[down, height], &windows(down, height));
    // The matrix of sums along a row, which stands on the right.
    let columns = windows(across, width);
    let columns: Vec<f64> =
        (0..width).flat_map(|column| columns.iter().skip(column).step_by(width).copied()).collect();
    let columns = graph.doubles("patches.columns", &[width, across], &columns);
    let [sums, squares] = [pixels, squares].map(|value| {
        let over_channels = graph.node("ReduceSum", &[&value, &axis], &[]);
        let down = graph.node("MatMul", &[&rows, &over_channels], &[]);
        graph.node("MatMul", &[&down, &columns], &[])
    });
    let count = (PATCH_SIDE * PATCH_SIDE * channels) as f64;
    let product = graph.node("Mul", &[&sums, &sums], &[]);
    let numbers = graph.doubles("patches.count", &[], &[count]);
    let expected = graph.node("Div", &[&product, &numbers], &[]);
    let spread = graph.node("Sub", &[&squares, &expected], &[]);
    let degrees = graph.doubles("patches.degrees", &[], &[count - 1.0]);
    let variance = graph.node("Div", &[&spread, &degrees], &[]);
    let contrast = graph.doubles("patches.contrast", &[], &[f64::from(contrast)]);
    let zero = graph.doubles("patches.zero", &[], &[0.0]);
    let variance = graph.node("Max", &[&variance, &zero], &[]);
    let variance = graph.node("Add", &[&variance, &contrast], &[]);
    let deviations = graph.node("Sqrt", &[&variance], &[]);
    graph.node("Cast", &[&deviations], &[Attribute::Int("to", Kind::Float as i64)])
}

/// `[count, places]`: sums over a patch's side.
fn windows(count: usize, places: usize) -> Vec<f64> {
    let mut matrix = vec![0.0; count * places];
    for (first, row) in matrix.chunks_exact_mut(places).enumerate() {
        row[first..first + PATCH_SIDE].fill(1.0);
    }
    matrix
}

fn two_sided(graph: &mut Graph, values: &Value) -> Value {
    let threshold = graph.floats("patches.threshold", &[], &[PATCH_THRESHOLD]);
    let negative = graph.node("Neg", &[values], &[]);
    let [positive, negative] = [values, &negative].map(|value| {
        let beyond = graph.node("Sub", &[value, &threshold], &[]);
        graph.node("Relu", &[&beyond], &[])
    });
    graph.node("Concat", &[&positive, &negative], &[Attribute::Int("axis", 1)])
}

fn triangle(graph: &mut Graph, values: &Value, tensors: &Tensors<'_>) -> Result<Value, String> {
    let (_, squares) = tensors.get("patches.squares")?;
    let count = squares.len();
    let squares = graph.floats("patches.squares", &[1, count, 1, 1], squares);
    let [zero, middle, end, axis] = [0, count as i64, i64::MAX, 1].map(|value| graph.integers(&[value]));
    let products = graph.node("Slice", &[values, &zero, &middle, &axis], &[]);
    let whitened = graph.node("Slice", &[values, &middle, &end, &axis], &[]);
    let length = graph.node("Mul", &[&whitened, &whitened], &[]);
    let length = graph.node("ReduceSum", &[&length, &axis], &[]);
    let two = graph.floats("patches.two", &[], &[2.0]);
    let twice = graph.node("Mul", &[&products, &two], &[]);
    let distance = graph.node("Sub", &[&length, &twice], &[]);
    let distance = graph.node("Add", &[&distance, &squares], &[]);
    let distance = graph.node("Relu", &[&distance], &[]);
    let distance = graph.node("Sqrt", &[&distance], &[]);
    let mean = graph.node("ReduceMean", &[&distance], &[Attribute::Ints("axes", vec![1])]);
    let nearer = graph.node("Sub", &[&mean, &distance], &[]);
    Ok(graph.node("Relu", &[&nearer], &[]))
}
