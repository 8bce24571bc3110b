//! A graph of ONNX operators under construction, and the model around it. Field numbers are those of `onnx.proto`
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>).

use std::collections::{BTreeMap, BTreeSet};

use super::protobuf::Message;

/// Version of the operators: the oldest with all that is used here as it is used, which every runtime since 2021 has.
const OPSET: i64 = 13;
/// Version of the format that came with it (ONNX 1.8).
const IR_VERSION: i64 = 7;

/// The name of a result within the graph.
pub(super) type Value = String;

/// Types of numbers (`TensorProto.DataType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Float = 1,
    Uint8 = 2,
    Int64 = 7,
    Double = 11,
}

/// Attributes of operators.
pub(super) enum Attribute {
    Int(&'static str, i64),
    Ints(&'static str, Vec<i64>),
    Float(&'static str, f32),
}

impl Attribute {
    /// `name` 1, `f` 2, `i` 3, `ints` 8, `type` 20 (1 a float, 2 an integer, 7 integers).
    fn message(&self) -> Message {
        let named = |name: &str| Message::default().text(1, name);
        match self {
            Self::Float(name, value) => named(name).float(2, *value).number(20, 1),
            Self::Int(name, value) => named(name).number(3, *value).number(20, 2),
            Self::Ints(name, values) => {
                named(name).each(values, |message, value| message.number(8, *value)).number(20, 7)
            }
        }
    }
}

/// Operators in the order in which they run, what they read and what they give.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<Message>,
    initializers: Vec<Message>,
    named: BTreeSet<String>,
    counts: BTreeMap<String, usize>,
    inputs: Vec<Message>,
    outputs: Vec<Message>,
}

impl Graph {
    /// An input `[batch, shape..]`.
    pub(super) fn input(&mut self, name: &str, kind: Kind, shape: &[usize]) -> Value {
        self.inputs.push(value_info(name, kind, shape));
        name.to_owned()
    }

    /// Names a result `[batch, shape..]` of floats as an output.
    pub(super) fn output(&mut self, name: &str, value: &Value, shape: &[usize]) {
        self.outputs.push(value_info(name, Kind::Float, shape));
        self.push("Identity", &[value], name, &[]);
    }

    /// The result of an operator.
    pub(super) fn node(&mut self, operator: &str, inputs: &[&Value], attributes: &[Attribute]) -> Value {
        let count = self.counts.entry(operator.to_owned()).or_default();
        let output = format!("{}_{count}", operator.to_lowercase());
        *count += 1;
        self.push(operator, inputs, &output, attributes);
        output
    }

    /// `input` 1, `output` 2, `name` 3, `op_type` 4, `attribute` 5.
    fn push(&mut self, operator: &str, inputs: &[&Value], output: &str, attributes: &[Attribute]) {
        let node = Message::default().each(inputs, |message, input| message.text(1, input));
        let node = node.text(2, output).text(3, &format!("{output}_node")).text(4, operator);
        self.nodes.push(node.each(attributes, |message, attribute| message.message(5, &attribute.message())));
    }

    /// Fixed 32-bit floats.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Value {
        self.constant(name, Kind::Float, shape, || {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        })
    }

    /// Fixed 64-bit floats.
    pub(super) fn doubles(&mut self, name: &str, shape: &[usize], values: &[f64]) -> Value {
        self.constant(name, Kind::Double, shape, || {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        })
    }

    /// Fixed integers: a shape, axes.
    pub(super) fn integers(&mut self, values: &[i64]) -> Value {
        let text = values.iter().map(i64::to_string).collect::<Vec<_>>().join("_");
        let bytes = || values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(&format!("integers_{text}"), Kind::Int64, &[values.len()], bytes)
    }

    /// `dims` 1, `data_type` 2, `name` 8, `raw_data` 9 in little-endian. A name stands for the same numbers throughout.
    fn constant(
        &mut self,
        name: &str,
        kind: Kind,
        shape: &[usize],
        bytes: impl FnOnce() -> Vec<u8>,
    ) -> Value {
        if self.named.insert(name.to_owned()) {
            let tensor = Message::default().each(shape, |message, &size| message.number(1, size as i64));
            let tensor = tensor.number(2, kind as i64).text(8, name).bytes(9, &bytes());
            self.initializers.push(tensor);
        }
        name.to_owned()
    }

    /// The file: `ir_version` 1, `producer_name` 2, `producer_version` 3, `graph` 7, `opset_import` 8 and
    /// `metadata_props` 14 of the model; `node` 1, `name` 2, `initializer` 5, `input` 11 and `output` 12 of the graph.
    pub(super) fn into_model(self, name: &str, version: &str, metadata: &[(&str, String)]) -> Vec<u8> {
        let graph = Message::default().each(&self.nodes, |message, node| message.message(1, node));
        let graph =
            graph.text(2, name).each(&self.initializers, |message, tensor| message.message(5, tensor));
        let graph = graph.each(&self.inputs, |message, input| message.message(11, input));
        let graph = graph.each(&self.outputs, |message, output| message.message(12, output));
        let opset = Message::default().text(1, "").number(2, OPSET);
        let model = Message::default().number(1, IR_VERSION).text(2, "rotnet").text(3, version);
        let model = model.message(7, &graph).message(8, &opset);
        let entry = |(key, value): &(&str, String)| Message::default().text(1, key).text(2, value);
        model.each(metadata, |message, pair| message.message(14, &entry(pair))).into_bytes()
    }
}

/// Name and type of an input or output: `name` 1 and `type` 2, in it `tensor_type` 1 with `elem_type` 1 and `shape` 2, in it
/// a `dim` 1 each, with a `dim_value` 1 or a `dim_param` 2.
fn value_info(name: &str, kind: Kind, shape: &[usize]) -> Message {
    let batch = Message::default().text(2, "batch");
    let fixed = shape.iter().map(|&size| Message::default().number(1, size as i64));
    let dimensions = std::iter::once(batch).chain(fixed);
    let shape = Message::default().each(dimensions, |message, size| message.message(1, &size));
    let tensor = Message::default().number(1, kind as i64).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor))
}
