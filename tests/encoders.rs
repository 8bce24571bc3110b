//! Encoders, read-outs and heads, each through the stages.

use safetensors::SafeTensors;

use crate::pipeline::SHORT;
use crate::support::{DETERMINISTIC, Folder, assert_same_results};

const NIN: &str = "--set encoder.kind=rotnet-nin --set encoder.blocks=3 --set data.train_images=10 \
                   --set finetune.epochs=1";
const WHITENED: &str = "--set encoder.kind=compact --set encoder.whiten=true --set encoder.widths=[54,16] \
                        --set encoder.pools=[true,true]";
const PATCHES: &str = "--set encoder.kind=patches --set encoder.patches=20";

/// The short run, without pretraining.
fn untrained() -> String {
    SHORT.replace("pretrain.epochs=2", "pretrain.epochs=0")
}

fn tensor(folder: &Folder, file: &str, name: &str) -> Vec<u8> {
    let bytes = folder.read(file);
    SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec()
}

#[test]
fn network_in_network_runs_resumes_and_is_read_block_by_block() {
    let folder = Folder::with_data();
    let short = SHORT.replace("--seed", &format!("{NIN} --seed"));
    folder.succeed(&format!("pretrain {short} --out whole"));
    folder.succeed(&format!(
        "pretrain {} --out parts",
        short.replace("pretrain.epochs=2", "pretrain.epochs=1")
    ));
    folder.succeed(&format!("pretrain {short} --out parts --resume --threads 1"));
    let file = "pretrain/checkpoint.safetensors";
    assert_eq!(folder.read(&format!("whole/{file}")), folder.read(&format!("parts/{file}")));

    folder.succeed("extract --out whole --quiet --layer block1,block2 --pool 2x2");
    assert_eq!(folder.json("whole/features/manifest.json")["train"], serde_json::json!([10, 4 * (96 + 192)]));
    folder.refuse(
        "extract --out whole --quiet --layer block4 --force",
        2,
        &["extract.layers", "block1 to block3"],
    );
    folder.succeed("finetune --out whole --quiet");
}

#[test]
fn whitening_is_computed_from_the_images_and_never_trained() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} {WHITENED} --threads 1 --out whole"));
    folder.succeed(&format!("pretrain {} {WHITENED} --threads 3 --out parts", untrained()));
    let (weight, checkpoint) = ("model.encoder.blocks.0.weight", "pretrain/checkpoint.safetensors");
    let untrained = tensor(&folder, &format!("parts/{checkpoint}"), weight);
    folder.succeed(&format!("run {SHORT} {WHITENED} --threads 3 --out parts --resume"));
    assert_same_results(&folder, "whole", "parts");
    assert_eq!(tensor(&folder, &format!("whole/{checkpoint}"), weight), untrained);

    // Other images give another whitening; fine-tuning of everything leaves it too.
    let fewer = format!("pretrain {SHORT} {WHITENED} --set data.train_images=20 --out fewer");
    folder.succeed(&fewer);
    assert_ne!(tensor(&folder, &format!("fewer/{checkpoint}"), weight), untrained);
    folder.succeed("finetune --out whole --quiet --force --set finetune.mode=full");
    assert_eq!(tensor(&folder, "whole/finetune/checkpoint.safetensors", weight), untrained);
}

#[test]
fn patches_are_a_baseline_that_is_not_trained() {
    let folder = Folder::with_data();
    folder.refuse(&format!("pretrain {SHORT} {PATCHES} --out a"), 2, &["pretrain.epochs", "not trained"]);
    let untrained = untrained();
    folder.succeed(&format!("run {untrained} {PATCHES} --threads 1 --out a"));
    folder.succeed(&format!("run {untrained} {PATCHES} --threads 3 --out b"));
    for file in DETERMINISTIC {
        assert!(folder.read(&format!("a/{file}")) == folder.read(&format!("b/{file}")), "{file}");
    }
    let manifest = folder.json("a/features/manifest.json");
    assert_eq!(manifest["train"], serde_json::json!([50, 4 * 2 * 20]));
    assert_eq!(manifest["origin"]["layer"], "means over quadrants");
    folder.refuse(
        "finetune --out a --quiet --force --set finetune.mode=full",
        2,
        &["finetune.mode", "not trained"],
    );
    folder.succeed("extract --out a --quiet --force --layer block1 --pool 4x4 --views 4+flip");
    assert_eq!(folder.json("a/features/manifest.json")["train"], serde_json::json!([50, 4 * 16 * 40]));

    let kmeans = "--set encoder.dictionary=kmeans --set encoder.activation=triangle";
    folder.succeed(&format!("run {untrained} {PATCHES} {kmeans} --out kmeans"));
    assert_eq!(folder.json("kmeans/features/manifest.json")["train"], serde_json::json!([50, 4 * 20]));
    folder.succeed(&format!("run {untrained} {PATCHES} {kmeans} --out kmeans --resume"));
}

#[test]
fn views_are_put_side_by_side_and_averaged_over_mirror_images() {
    let folder = Folder::with_data();
    let compact = "--set encoder.kind=compact --set encoder.widths=[8,8] --set encoder.pools=[true,true]";
    folder.succeed(&format!("pretrain {} {compact} --out a", untrained()));
    let extract = |views: &str| {
        folder.succeed(&format!("extract --out a --quiet --force --layer block2 --pool 2x2 --views {views}"));
        let manifest = folder.json("a/features/manifest.json");
        let width = manifest["train"][1].as_u64().unwrap() as usize;
        let bytes = tensor(&folder, "a/features/train.safetensors", "features");
        let values = bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        (width, values.collect::<Vec<f32>>())
    };
    let ((width, one), (_, flipped)) = (extract("1"), extract("flip"));
    let ((wide, four), (_, both)) = (extract("4"), extract("4+flip"));
    assert_eq!((width, wide), (32, 128));
    assert_ne!(one, flipped);
    // The first of the four views is the image as it is.
    for ((one, flipped), (four, both)) in
        one.chunks(32).zip(flipped.chunks(32)).zip(four.chunks(128).zip(both.chunks(128)))
    {
        assert_eq!((one, flipped), (&four[..32], &both[..32]));
        assert_ne!(four[32..], both[32..]);
    }
    assert_eq!(folder.json("a/features/config.json")["extract"]["views"], "4+flip");
    folder.refuse(
        "extract --out a --quiet --force --set extract.views=3",
        2,
        &["extract.views", "\"4+flip\", got 3"],
    );
}

#[test]
fn a_head_of_convolutions_stands_on_a_map() {
    let folder = Folder::with_data();
    let compact = "--set encoder.kind=compact --set encoder.widths=[8,8] --set encoder.pools=[true,true]";
    folder.succeed(&format!("pretrain {SHORT} {compact} --out a"));
    let encoder = folder.read("a/pretrain/checkpoint.safetensors");
    folder.succeed("extract --out a --quiet --layer block2 --pool none");
    assert_eq!(folder.json("a/features/manifest.json")["map"]["shape"], serde_json::json!([8, 8, 8]));
    let head = "--set finetune.head=conv --set finetune.hidden=[16,8]";
    folder.succeed(&format!("finetune --out a --quiet {head}"));
    assert_eq!(folder.read("a/pretrain/checkpoint.safetensors"), encoder);
    let protocol = folder.json("a/finetune/summary.json")["protocol"].to_string();
    assert!(protocol.contains("convolutions on its map"), "{protocol}");
    let one = folder.read("a/finetune/checkpoint.safetensors");
    folder.succeed(&format!("finetune --out a --quiet --force --threads 3 {head}"));
    assert_eq!(folder.read("a/finetune/checkpoint.safetensors"), one);

    folder.succeed(&format!("finetune --out a --quiet --force --set finetune.mode=full {head}"));
    folder.succeed("extract --out a --quiet --force --layer block1,block2 --pool 2x2");
    folder.refuse(
        &format!("finetune --out a --quiet --force --set finetune.mode=frozen {head}"),
        2,
        &["finetune.head", "map of one block"],
    );
}

#[test]
fn a_linear_head_has_no_hidden_layers() {
    let folder = Folder::with_data();
    folder.succeed(&format!("run {SHORT} --set finetune.hidden=[] --out a"));
    folder.succeed("finetune --out a --quiet --force --set finetune.head=linear");
    folder.refuse(
        "finetune --out a --quiet --force --set finetune.head=linear --set finetune.hidden=[64]",
        2,
        &["finetune.hidden", "`linear`"],
    );
}

#[test]
fn ridge_is_solved_and_is_the_same_for_any_number_of_threads() {
    let folder = Folder::with_data();
    let ridge = "--set finetune.head=ridge --set finetune.hidden=null";
    folder.succeed(&format!("run {SHORT} {ridge} --out a"));
    let protocol = folder.json("a/finetune/summary.json")["protocol"].to_string();
    assert!(protocol.contains("by 5 folds of the training images"), "{protocol}");
    let one = folder.read("a/finetune/checkpoint.safetensors");
    folder.succeed("finetune --out a --quiet --force --threads 1");
    assert_eq!(folder.read("a/finetune/checkpoint.safetensors"), one);
    folder.succeed("finetune --out a --quiet --force --set data.validation_images=10");
    let protocol = folder.json("a/finetune/summary.json")["protocol"].to_string();
    assert!(protocol.contains("on the validation images"), "{protocol}");
    folder.refuse(
        "finetune --out a --quiet --force --set finetune.mode=full",
        2,
        &["finetune.head", "frozen"],
    );
}

#[test]
fn the_supervised_baseline_has_the_same_whitening_and_may_have_a_head_of_convolutions() {
    let folder = Folder::with_data();
    folder.succeed(&format!("pretrain {} {WHITENED} --out a", untrained()));
    let scratch = "--set finetune.mode=full --set finetune.head=conv --set finetune.hidden=[8]";
    folder.succeed(&format!("finetune {} {WHITENED} {scratch} --from-scratch --out b", untrained()));
    let weight = "model.encoder.blocks.0.weight";
    assert_eq!(
        tensor(&folder, "b/finetune/checkpoint.safetensors", weight),
        tensor(&folder, "a/pretrain/checkpoint.safetensors", weight)
    );
}

#[test]
fn evaluate_knows_the_head_of_convolutions_and_the_patches() {
    let folder = Folder::with_data();
    let compact = "--set encoder.kind=compact --set encoder.widths=[8,8] --set encoder.pools=[true,true]";
    folder.succeed(&format!("run {SHORT} {compact} --out a"));
    let evaluate = "--quiet --set evaluate.heads=[\"conv\"] --set evaluate.validation_images=10 \
                    --set evaluate.epochs=1 --set evaluate.batch_size=8 --set evaluate.baselines=[\"patches\"] \
                    --set evaluate.labels_per_class=[0]";
    folder.succeed(&format!("evaluate a {evaluate}"));
    let summary = folder.json("a/evaluate/summary.json");
    assert_eq!(summary["probes"][0]["head"], "conv");
    assert_eq!(summary["probes"][0]["features"], 16 * 16 * 8);
    assert_eq!(summary["verdict"]["counts"][0]["arms"][1]["name"], "patches");
}
