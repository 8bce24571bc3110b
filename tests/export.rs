//! Networks and features for other programs.

use serde_json::Value;

use crate::pipeline::SHORT;
use crate::support::Folder;

/// The header of a safetensors file: a length in 8 bytes, then JSON.
fn header(bytes: &[u8]) -> Value {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    serde_json::from_slice(&bytes[8..8 + length]).unwrap()
}

/// Numbers of a tensor in a safetensors file.
pub fn tensor(bytes: &[u8], name: &str) -> Vec<f32> {
    let header = header(bytes);
    let offsets = header[name]["data_offsets"].as_array().unwrap();
    let [start, end] = [0, 1].map(|side| offsets[side].as_u64().unwrap() as usize);
    let data = &bytes[8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize..];
    data[start..end].chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
}

#[test]
fn encoders_have_the_names_and_the_layout_of_pytorch() {
    let folder = Folder::with_data();
    let once = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=0");
    folder.succeed(&format!("pretrain {once} --out seed"));
    let outcome = folder.succeed("export seed");
    assert!(
        outcome.stdout.starts_with("seed/export/encoder.safetensors: encoder, 8 tensors"),
        "{}",
        outcome.stdout
    );
    let exported = folder.read("seed/export/encoder.safetensors");
    assert_eq!(header(&exported)["layers.0.conv.weight"]["shape"], serde_json::json!([32, 3, 3, 3]));
    let description = header(&exported)["__metadata__"]["rotnet"].as_str().unwrap().to_owned();
    let description: Value = serde_json::from_str(&description).unwrap();
    assert_eq!(description["dense"], serde_json::json!([1024, 64]));

    // rotnet: [row, column, input, output]; PyTorch: [output, input, row, column].
    let own = tensor(&folder.read("seed/pretrain/checkpoint.safetensors"), "model.encoder.blocks.1.weight");
    let torch = tensor(&exported, "layers.1.conv.weight");
    let (row, column, input, output) = (2, 0, 7, 33);
    assert_eq!(
        torch[(output * 32 + input) * 9 + row * 3 + column],
        own[((row * 3 + column) * 32 + input) * 64 + output]
    );
    // Inputs of the dense layer: [place, channel] and [channel, place], 16 places of 64 channels.
    let own = tensor(&folder.read("seed/pretrain/checkpoint.safetensors"), "model.encoder.dense.weight");
    let torch = tensor(&exported, "dense.weight");
    let (place, channel, output) = (5, 11, 40);
    assert_eq!(torch[output * 1024 + channel * 16 + place], own[(place * 64 + channel) * 64 + output]);

    folder.refuse("export seed", 1, &["encoder.safetensors", "--force"]);
    folder.succeed("export seed --force");
    assert_eq!(folder.read("seed/export/encoder.safetensors"), exported);

    let compact = "--set encoder.kind=compact --set encoder.widths=[8,16] --set encoder.pools=[true,false]";
    folder.succeed(&format!("pretrain {once} {compact} --out compact"));
    folder.succeed("export compact --out elsewhere");
    let exported = header(&folder.read("elsewhere/encoder.safetensors"));
    assert_eq!(exported["layers.1.norm.running_var"]["shape"], serde_json::json!([16]));
    assert!(exported["layers.1.conv.bias"].is_null() && exported["dense.weight"].is_null());
}

#[test]
fn features_are_the_same_numbers_in_every_format() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {SHORT} --out a"));
    folder.refuse("export a --what features", 1, &["a/features", "rotnet extract"]);
    folder.succeed("extract --out a --quiet");
    folder.succeed("export a --what features,encoder --format npy,csv --quiet --json");
    let own = tensor(&folder.read("a/features/test.safetensors"), "features");
    let array = folder.read("a/export/test.npy");
    let text = String::from_utf8(array[..array.len() - 4 * own.len()].to_vec().split_off(10)).unwrap();
    assert!(text.contains("'shape': (20, 64)"), "{text}");
    let numbers: Vec<f32> = array[array.len() - 4 * own.len()..]
        .chunks_exact(4)
        .map(|value| f32::from_le_bytes(value.try_into().unwrap()))
        .collect();
    assert_eq!(numbers, own);

    let lines = String::from_utf8(folder.read("a/export/test.csv")).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].starts_with("image,label,class,f0,f1,"), "{}", lines[0]);
    let row: Vec<&str> = lines[13].split(',').collect();
    assert_eq!(row[..3], ["12", "2", "bird"]);
    let numbers: Vec<f32> = row[3..].iter().map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers, own[12 * 64..13 * 64]);
    let images = String::from_utf8(folder.read("a/export/train-images.csv")).unwrap();
    assert_eq!(images.lines().nth(4), Some("3,3,cat"));
    folder.refuse("export nowhere", 1, &["nowhere/pretrain", "rotnet pretrain"]);
}

#[test]
fn heads_go_with_their_encoder_and_formats_with_what_they_are_for() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --out a --set finetune.batch_norm=true"));
    folder.succeed("extract --out a --quiet --force --layer block2 --pool gap");
    folder.succeed("export a --what rotation,encoder,features --format csv --quiet");
    assert!(folder.path("a/export/test.csv").exists() && !folder.path("a/export/test.npy").exists());
    let rotation = header(&folder.read("a/export/rotation.safetensors"));
    assert_eq!(rotation["output.weight"]["shape"], serde_json::json!([4, 64]));
    assert_eq!(rotation["encoder.layers.0.conv.weight"]["shape"], serde_json::json!([32, 3, 3, 3]));
    let described = |header: &Value| -> Value {
        serde_json::from_str(header["__metadata__"]["rotnet"].as_str().unwrap()).unwrap()
    };
    assert_eq!(described(&rotation)["head"]["classes"], serde_json::json!(["0", "90", "180", "270"]));
    // What `extract` read of the encoder goes with the encoder, and not with the head of pretraining.
    let encoder = described(&header(&folder.read("a/export/encoder.safetensors")));
    assert_eq!(encoder["readout"]["layers"], serde_json::json!(["block2"]));
    assert_eq!(described(&rotation)["readout"]["layers"], serde_json::json!([]));

    folder.succeed("export a --what classifier --quiet");
    let bytes = folder.read("a/export/classifier.safetensors");
    let head = &described(&header(&bytes))["head"];
    assert_eq!((&head["kind"], &head["batch_norm"]), (&"classifier".into(), &true.into()));
    assert_eq!(
        (&head["hidden"], &head["output"]),
        (&serde_json::json!([[64, 64]]), &serde_json::json!([64, 10]))
    );
    assert_eq!(head["classes"][3], "cat");
    let own = tensor(&folder.read("a/finetune/checkpoint.safetensors"), "model.output.weight");
    let torch = tensor(&bytes, "output.weight");
    let (input, output) = (7, 9);
    assert_eq!(torch[output * 64 + input], own[input * 10 + output]);
    assert_eq!(header(&bytes)["hidden.0.norm.running_var"]["shape"], serde_json::json!([64]));
}

#[test]
fn an_export_that_fails_leaves_nothing() {
    let folder = Folder::with_data();
    folder.refuse("export typo", 1, &["typo"]);
    assert!(!folder.path("typo").exists());
    folder.succeed(&format!("run {SHORT} --out a"));
    folder.refuse("export a --checkpoint missing --out new", 1, &["missing"]);
    assert!(!folder.path("new").exists());
    std::fs::create_dir_all(folder.path("taken/rotation.safetensors")).unwrap();
    folder.refuse(
        "export a --what encoder,rotation --out taken --force",
        2,
        &["rotation.safetensors is a folder"],
    );
    assert_eq!(std::fs::read_dir(folder.path("taken")).unwrap().count(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn documents_name_runs_whose_paths_are_no_text() {
    let folder = Folder::with_data();
    let rotnet = |command: &str| {
        let outcome = folder.shell(&format!("run=$(printf 'run\\377'); exec \"$ROTNET\" {command}"));
        assert_eq!(outcome.code, 0, "{command}: {}", outcome.stderr);
        outcome.stdout
    };
    rotnet(&format!("run {SHORT} --out $run"));
    for (command, name) in
        [("report $run", "/file"), ("export $run", "/files/0/path"), ("compare $run $run", "/runs/0/run")]
    {
        let document: serde_json::Value =
            serde_json::from_str(&rotnet(&format!("{command} --quiet --json"))).unwrap();
        let path =
            document.pointer(name).and_then(|path| path.as_str()).unwrap_or_else(|| panic!("{document}"));
        assert!(path.starts_with("run\u{fffd}"), "{path}");
    }
}
