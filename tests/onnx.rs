//! Networks in the format of ONNX: what the files hold. What they compute is compared in `scripts/check-onnx.py`.

use std::collections::BTreeMap;

use crate::pipeline::SHORT;
use crate::support::Folder;

/// A field of a message of protocol buffers.
#[derive(Clone, Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The fields of a message by their numbers, in order.
#[derive(Debug, Default)]
struct Message(BTreeMap<u64, Vec<Field>>);

impl Message {
    fn read(mut bytes: &[u8]) -> Self {
        let mut message = Self::default();
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let field = match tag & 7 {
                0 => Field::Number(varint(&mut bytes)),
                kind @ (2 | 5) => {
                    let length = if kind == 2 { varint(&mut bytes) as usize } else { 4 };
                    let (content, rest) = bytes.split_at(length);
                    bytes = rest;
                    Field::Bytes(content.to_vec())
                }
                other => panic!("wire type {other}"),
            };
            message.0.entry(tag >> 3).or_default().push(field);
        }
        message
    }

    fn all(&self, field: u64) -> &[Field] {
        self.0.get(&field).map_or(&[], Vec::as_slice)
    }

    fn numbers(&self, field: u64) -> Vec<u64> {
        let number = |field: &Field| match field {
            Field::Number(number) => *number,
            Field::Bytes(_) => panic!("{field:?} is no number"),
        };
        self.all(field).iter().map(number).collect()
    }

    fn bytes(&self, field: u64) -> Vec<&[u8]> {
        let fields = self.all(field).iter();
        fields
            .map(|field| match field {
                Field::Bytes(bytes) => bytes.as_slice(),
                Field::Number(_) => panic!("{field:?} is a number"),
            })
            .collect()
    }

    fn texts(&self, field: u64) -> Vec<String> {
        self.bytes(field).into_iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    fn messages(&self, field: u64) -> Vec<Self> {
        self.bytes(field).into_iter().map(Self::read).collect()
    }

    fn message(&self, field: u64) -> Self {
        self.messages(field).pop().unwrap()
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// Name, type and sizes of an input or output.
fn described(info: &Message) -> (String, u64, Vec<String>) {
    let tensor = info.message(2).message(1);
    let size = |dimension: &Message| match dimension.numbers(1)[..] {
        [size] => size.to_string(),
        _ => dimension.texts(2).concat(),
    };
    let sizes = tensor.message(2).messages(1).iter().map(size).collect();
    (info.texts(1).concat(), tensor.numbers(1)[0], sizes)
}

fn texts(sizes: &[&str]) -> Vec<String> {
    sizes.iter().map(|&size| size.to_owned()).collect()
}

fn operators(model: &Message) -> Vec<String> {
    model.message(7).messages(1).iter().flat_map(|node| node.texts(4)).collect()
}

fn metadata(model: &Message, key: &str) -> serde_json::Value {
    let entries = model.messages(14);
    let entry = entries.iter().find(|entry| entry.texts(1) == [key]).unwrap();
    serde_json::from_str(&entry.texts(2).concat()).unwrap()
}

#[test]
fn networks_go_from_bytes_of_images_to_named_outputs() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a --set data.scale_pixels=true"));
    let all = "export a --what encoder,classifier,rotation --format onnx";
    folder.succeed(all);
    let files = ["encoder", "classifier", "rotation"].map(|name| format!("a/export/{name}.onnx"));
    let once = files.each_ref().map(|file| folder.read(file));
    folder.refuse(all, 1, &["encoder.onnx", "--force"]);
    folder.succeed(&format!("{all} --force"));
    assert!(files.each_ref().map(|file| folder.read(file)) == once, "written again, the bytes differ");

    let [encoder, classifier, rotation] = once.each_ref().map(|bytes| Message::read(bytes));
    for model in [&encoder, &classifier, &rotation] {
        assert_eq!((model.numbers(1), model.texts(2)), (vec![7], vec!["rotnet".to_owned()]));
        assert_eq!(model.message(8).numbers(2), [13]);
        let input = described(&model.message(7).message(11));
        assert_eq!(input, ("images".into(), 2, texts(&["batch", "32", "32", "3"])));
        assert_eq!(metadata(model, "rotnet")["image"], serde_json::json!([32, 32, 3]));
    }
    let outputs =
        |model: &Message| -> Vec<_> { model.message(7).messages(12).iter().map(described).collect() };
    assert_eq!(outputs(&encoder), [("features".to_owned(), 1, texts(&["batch", "64"]))]);
    let names = ["logits", "probabilities"];
    let sized = |classes: &str| names.map(|name| (name.to_owned(), 1, texts(&["batch", classes])));
    assert_eq!(outputs(&classifier), sized("10"));
    assert_eq!(outputs(&rotation), sized("4"));
    assert_eq!(metadata(&classifier, "classes")[3], "cat");
    assert_eq!(metadata(&rotation, "classes"), serde_json::json!(["0", "90", "180", "270"]));

    let expected =
        "Cast Div Transpose Conv MaxPool Relu Conv MaxPool Relu Conv Relu Transpose Flatten Gemm Relu";
    assert_eq!(operators(&encoder).join(" "), format!("{expected} Identity"));
    let head = "Gemm Relu Gemm Softmax Identity Identity";
    assert_eq!(operators(&classifier).join(" "), format!("{expected} {head}"));
}

#[test]
fn weights_have_the_layout_of_onnx_and_the_readout_is_that_of_extract() {
    let folder = Folder::with_data();
    let once = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=0");
    folder.succeed(&format!("pretrain {once} --out a"));
    folder.succeed("export a --format onnx --quiet");
    let model = Message::read(&folder.read("a/export/encoder.onnx"));
    let tensors = model.message(7).messages(5);
    let tensor = tensors.iter().find(|tensor| tensor.texts(8) == ["encoder.blocks.1.weight"]).unwrap();
    assert_eq!((tensor.numbers(1), tensor.numbers(2)), (vec![64, 32, 3, 3], vec![1]));
    let numbers: Vec<f32> = tensor.bytes(9)[0]
        .chunks_exact(4)
        .map(|value| f32::from_le_bytes(value.try_into().unwrap()))
        .collect();
    let own = crate::export::tensor(
        &folder.read("a/pretrain/checkpoint.safetensors"),
        "model.encoder.blocks.1.weight",
    );
    let (row, column, input, output) = (2, 0, 7, 33);
    assert_eq!(
        numbers[(output * 32 + input) * 9 + row * 3 + column],
        own[((row * 3 + column) * 32 + input) * 64 + output]
    );

    // Two blocks in four views, each averaged over its mirror image; 15 rows do not divide by 2, 4 do.
    folder.succeed("extract --out a --quiet --layer block1,block3 --pool 2x2 --views 4+flip");
    folder.succeed("export a --format onnx --quiet --force");
    let model = Message::read(&folder.read("a/export/encoder.onnx"));
    let output = described(&model.message(7).message(12));
    assert_eq!(output.2, texts(&["batch", &(4 * 4 * (32 + 64)).to_string()]));
    let operators = operators(&model);
    let count = |name: &str| operators.iter().filter(|operator| *operator == name).count();
    assert_eq!([count("MatMul"), count("AveragePool"), count("Slice"), count("ReduceMean")], [2, 1, 4, 1]);
    assert_eq!(count("Gemm"), 0);
    assert_eq!(metadata(&model, "rotnet")["readout"]["views"], "4+flip");
}

#[test]
fn what_cannot_be_written_is_said() {
    let folder = Folder::with_data();
    let once = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=0");
    folder.succeed(&format!("pretrain {once} --out a --set encoder.kind=patches --set encoder.patches=8"));
    folder.refuse("export a", 1, &["`patches` is no network of layers", "--format onnx"]);
    folder.refuse(
        "export a --what classifier --format onnx",
        1,
        &["no checkpoint of a classifier", "finetune"],
    );
    assert!(!folder.path("a/export/encoder.onnx").exists());
    let outcome = folder.succeed("export a --format onnx,csv");
    assert!(outcome.stderr.contains("nothing is written as csv"), "{}", outcome.stderr);
    let model = Message::read(&folder.read("a/export/encoder.onnx"));
    // Positive and negative side by side, means over quadrants.
    assert_eq!(described(&model.message(7).message(12)).2, texts(&["batch", &(2 * 8 * 4).to_string()]));
}
