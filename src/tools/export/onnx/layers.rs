//! Layers as ONNX operators, on maps `[batch, channels, height, width]`.

use super::graph::{Attribute, Graph, Value};
use crate::kernels::OverlappingPool;
use crate::model::{BlockShape, EPSILON, Pool};
use crate::tools::export::tensors::{Tensors, permuted};

/// `[batch, height, width, channels]` to `[batch, channels, height, width]`.
pub(super) fn channels_first(graph: &mut Graph, map: &Value) -> Value {
    graph.node("Transpose", &[map], &[Attribute::Ints("perm", vec![0, 3, 1, 2])])
}

/// A map to `[batch, numbers]`: row by row with the channels last.
pub(super) fn flattened(graph: &mut Graph, map: &Value) -> Value {
    let last = graph.node("Transpose", &[map], &[Attribute::Ints("perm", vec![0, 2, 3, 1])]);
    graph.node("Flatten", &[&last], &[Attribute::Int("axis", 1)])
}

/// A map to the means of its channels, `[batch, channels]`.
pub(super) fn mean_over_places(graph: &mut Graph, map: &Value) -> Value {
    let means = graph.node("GlobalAveragePool", &[map], &[]);
    graph.node("Flatten", &[&means], &[Attribute::Int("axis", 1)])
}

/// Convolution, pooling, normalisation, ReLU, overlapping pooling: [`crate::model::ConvBlock`], whose parameters are called
/// `prefix` and `weight`, and so on.
pub(super) fn conv_block(
    graph: &mut Graph,
    map: &Value,
    shape: &BlockShape,
    prefix: &str,
    tensors: &Tensors<'_>,
) -> Result<Value, String> {
    let weight = convolution_weight(graph, &format!("{prefix}.weight"), tensors)?;
    let attributes = [
        Attribute::Ints("kernel_shape", vec![shape.kernel as i64; 2]),
        Attribute::Ints("pads", vec![shape.padding as i64; 4]),
    ];
    let mut map = match shape.norm {
        true => graph.node("Conv", &[map, &weight], &attributes),
        false => {
            let bias = vector(graph, &format!("{prefix}.bias"), tensors)?;
            graph.node("Conv", &[map, &weight, &bias], &attributes)
        }
    };
    if shape.pool {
        map = graph.node("MaxPool", &[&map], &window(2, 2, 0));
    }
    if shape.norm {
        map = batch_norm(graph, &map, &format!("{prefix}.norm"), tensors)?;
    }
    map = graph.node("Relu", &[&map], &[]);
    Ok(match shape.overlapping {
        None => map,
        Some(OverlappingPool::Max) => graph.node("MaxPool", &[&map], &window(3, 2, 1)),
        Some(OverlappingPool::Average) => {
            let [kernel, strides, pads] = window(3, 2, 1);
            let padded = Attribute::Int("count_include_pad", 1);
            graph.node("AveragePool", &[&map], &[kernel, strides, pads, padded])
        }
    })
}

fn window(kernel: i64, stride: i64, padding: i64) -> [Attribute; 3] {
    [
        Attribute::Ints("kernel_shape", vec![kernel; 2]),
        Attribute::Ints("strides", vec![stride; 2]),
        Attribute::Ints("pads", vec![padding; 4]),
    ]
}

/// A kernel `[height, width, inputs, outputs]` in ONNX's layout, `[outputs, inputs, height, width]`.
pub(super) fn convolution_weight(
    graph: &mut Graph,
    name: &str,
    tensors: &Tensors<'_>,
) -> Result<Value, String> {
    let (_, values) = tensors.get(name)?;
    let [height, width, inputs, outputs] = tensors.sizes(name)?;
    let order = permuted([height, width, inputs, outputs], [3, 2, 0, 1]);
    let values: Vec<f32> = order.into_iter().map(|index| values[index]).collect();
    Ok(graph.floats(&tensors.full(name), &[outputs, inputs, height, width], &values))
}

fn vector(graph: &mut Graph, name: &str, tensors: &Tensors<'_>) -> Result<Value, String> {
    let (shape, values) = tensors.get(name)?;
    Ok(graph.floats(&tensors.full(name), &shape, values))
}

/// `value · weight + bias`.
pub(super) fn dense(
    graph: &mut Graph,
    value: &Value,
    prefix: &str,
    tensors: &Tensors<'_>,
) -> Result<Value, String> {
    let weight = vector(graph, &format!("{prefix}.weight"), tensors)?;
    let bias = vector(graph, &format!("{prefix}.bias"), tensors)?;
    Ok(graph.node("Gemm", &[value, &weight, &bias], &[]))
}

/// By the running statistics; the channels are the second axis. Without the ReLU that follows it.
pub(super) fn batch_norm(
    graph: &mut Graph,
    value: &Value,
    prefix: &str,
    tensors: &Tensors<'_>,
) -> Result<Value, String> {
    let mut inputs = vec![value.clone()];
    for name in ["scale", "shift", "running_mean", "running_variance"] {
        inputs.push(vector(graph, &format!("{prefix}.{name}"), tensors)?);
    }
    let inputs: Vec<&Value> = inputs.iter().collect();
    Ok(graph.node("BatchNormalization", &inputs, &[Attribute::Float("epsilon", EPSILON)]))
}

/// `(value - mean) * factor`, by column.
pub(super) fn standardised(graph: &mut Graph, value: &Value, tensors: &Tensors<'_>) -> Result<Value, String> {
    let mean = vector(graph, "standardise.mean", tensors)?;
    let factor = vector(graph, "standardise.factor", tensors)?;
    let centred = graph.node("Sub", &[value, &mean], &[]);
    Ok(graph.node("Mul", &[&centred, &factor], &[]))
}

/// A map of so many rows and columns, pooled as a read-out says, to `[batch, numbers]`.
pub(super) fn pooled(graph: &mut Graph, map: &Value, [height, width]: [usize; 2], pool: Pool) -> Value {
    let Some(side) = pool.side() else {
        return flattened(graph, map);
    };
    if side == 1 {
        return mean_over_places(graph, map);
    }
    let cells = if height.is_multiple_of(side) && width.is_multiple_of(side) {
        let cell = vec![(height / side) as i64, (width / side) as i64];
        let attributes = [Attribute::Ints("kernel_shape", cell.clone()), Attribute::Ints("strides", cell)];
        graph.node("AveragePool", &[map], &attributes)
    } else {
        // Cells of different sizes, which overlap: rows · map · columns.
        let rows = means(side, height);
        let rows = graph.floats(&format!("means_{side}_of_{height}"), &[side, height], &rows);
        let columns = transposed(&means(side, width), width);
        let columns = graph.floats(&format!("{width}_to_means_{side}"), &[width, side], &columns);
        let by_row = graph.node("MatMul", &[&rows, map], &[]);
        graph.node("MatMul", &[&by_row, &columns], &[])
    };
    flattened(graph, &cells)
}

/// The matrix `[side, places]` that takes means over cells as adaptive pooling has them.
fn means(side: usize, places: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; side * places];
    for (cell, row) in matrix.chunks_exact_mut(places).enumerate() {
        let range = cell * places / side..((cell + 1) * places).div_ceil(side);
        let share = 1.0 / range.len() as f32;
        row[range].fill(share);
    }
    matrix
}

fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_do_not_divide_overlap() {
        assert_eq!(means(2, 3), [0.5, 0.5, 0.0, 0.0, 0.5, 0.5]);
        assert_eq!(transposed(&means(2, 3), 3), [0.5, 0.0, 0.5, 0.5, 0.0, 0.5]);
        assert_eq!(means(2, 4), [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5]);
    }
}
