//! The network in the program, and encoders taken over from elsewhere.

use std::fs;

use rotnet::files::sha256_file;
use serde_json::Value;

use crate::images::{SHORT, json, save, scene, with_photos};
use crate::support::Folder;

/// A cheap classifier on the included encoder.
const CHEAP: &str = "--quiet --set finetune.epochs=2 --set finetune.batch_size=8 --set extract.layers=[\"block6\"] \
                     --set extract.pool=gap --set extract.views=1";

fn shares(plan: &Value) -> Vec<f64> {
    let shares = plan["expected"]["shares"].as_array().unwrap();
    shares.iter().map(|share| share.as_f64().unwrap()).collect()
}

#[test]
fn an_album_is_looked_at_without_a_run_and_says_how_much_of_it_lies_wrong() {
    let folder = Folder::new();
    for number in 0..6 {
        save(&folder, &format!("album/{number}.png"), scene(1, number, 90, 60));
    }
    let plan = json(&folder.succeed("orient album --json --quiet").stdout);
    assert_eq!(plan["run"], "photos");
    assert_eq!(plan["images"].as_array().unwrap().len(), 6);
    let found = shares(&plan);
    assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-9 && plan["expected"]["told_by"] == "images");
    // A share that is given moves every image the same way.
    let upright = |plan: &Value| -> Vec<f64> {
        let images = plan["images"].as_array().unwrap();
        images.iter().map(|image| image["probabilities"][0].as_f64().unwrap()).collect()
    };
    let [few, many] = ["0.001", "0.999"]
        .map(|share| json(&folder.succeed(&format!("orient album --json --quiet --expect {share}")).stdout));
    assert!((few["expected"]["not_upright"].as_f64().unwrap() - 0.001).abs() < 1e-12);
    assert!(upright(&few).iter().zip(upright(&many)).all(|(few, many)| *few > many));
    // Mistakes are what the probabilities of the turns leave over.
    let turned = many["images"].as_array().unwrap().iter().filter(|image| image["action"] == "turn");
    let left: f64 = turned.clone().map(|image| 1.0 - image["probability"].as_f64().unwrap()).sum();
    assert_eq!(many["expected"]["turns"], turned.count());
    assert!((many["expected"]["mistakes"].as_f64().unwrap() - left).abs() < 1e-9);
    folder.refuse("orient album --expect 1.5", 2, &["--expect 1.5", "from 0 to 1"]);
    let nowhere = folder.rotnet("orient nowhere");
    assert!(nowhere.code == 1 && nowhere.stderr.contains("error: cannot read nowhere"), "{}", nowhere.stderr);
}

#[test]
fn a_run_in_front_of_the_images_is_asked_instead() {
    let folder = with_photos();
    folder.succeed(&format!("pretrain {SHORT} --data photos/unlabeled --out a"));
    save(&folder, "album/one.png", scene(0, 1, 64, 64));
    assert_eq!(json(&folder.succeed("orient a album --json --quiet").stdout)["run"], "a");
    folder.refuse("orient a", 2, &["a is a run", "name image files"]);
}

#[test]
fn a_run_takes_over_the_included_encoder_and_holds_it_from_then_on() {
    let folder = with_photos();
    folder.succeed(&format!("run --from photos --data photos --out a {CHEAP}"));
    let summary = folder.json("a/pretrain/summary.json");
    assert_eq!(summary["from"], "photos");
    assert_eq!(
        summary["checkpoint"],
        sha256_file(&folder.path("a/pretrain/checkpoint.safetensors")).unwrap()
    );
    assert_eq!(folder.json("a/pretrain/config.json")["data"]["image_size"], 64);
    assert!(folder.json("a/finetune/summary.json")["test_accuracy"].is_number());
    let evaluated = folder.rotnet(
        "evaluate a --quiet --set evaluate.heads=ridge --set evaluate.baselines=random --set evaluate.labels_per_class=0",
    );
    assert_eq!((evaluated.code, evaluated.stderr.as_str()), (0, ""));
    // Stage by stage, with the same result; once taken over, no stage has to be told again.
    folder.succeed(&format!("extract --from photos --data photos --out b {CHEAP}"));
    folder.succeed("finetune --out b --quiet");
    for file in
        ["pretrain/checkpoint.safetensors", "features/train.safetensors", "finetune/predictions.safetensors"]
    {
        assert_eq!(folder.read(&format!("a/{file}")), folder.read(&format!("b/{file}")), "{file}");
    }
    folder.succeed(&format!("run --from photos --data photos --out a --resume {CHEAP}"));
    folder.succeed(&format!("run --config a/finetune/config.json --out a --resume {CHEAP}"));
    let checked = folder.succeed("verify run a --quiet").stdout;
    assert!(checked.contains("taken over"), "{checked}");
    folder.succeed("predict a photos/test/red/1.png --quiet");
    folder.succeed("report a --quiet");
}

#[test]
fn an_encoder_is_taken_over_from_another_run_and_never_over_another_one() {
    let folder = with_photos();
    folder.succeed(&format!("pretrain {SHORT} --data photos/unlabeled --out a"));
    folder.succeed(&format!("run --from a --data photos --out b {SHORT}"));
    assert_eq!(folder.json("b/pretrain/summary.json")["from"], "a");
    let before = folder.read("b/pretrain/checkpoint.safetensors");
    assert_eq!(before, folder.read("a/pretrain/checkpoint.safetensors"));
    folder.refuse("pretrain --from photos --out b --quiet", 1, &["b/pretrain", "--force"]);
    folder.refuse("pretrain --from photos --out b --quiet --resume", 1, &["b/pretrain"]);
    assert_eq!(folder.read("b/pretrain/checkpoint.safetensors"), before);
    folder.succeed("pretrain --from photos --out b --quiet --force");
    assert_ne!(folder.read("b/pretrain/checkpoint.safetensors"), before);
    folder.refuse("pretrain --from photoss --out c", 2, &["--from photoss", "`photos`"]);
    // A stopped pretraining is no encoder to build on.
    fs::remove_file(folder.path("a/pretrain/summary.json")).unwrap();
    folder.refuse("pretrain --from a --out c", 1, &["not finished"]);
    assert!(!folder.path("c").exists());
}

#[test]
fn a_checkpoint_leaves_a_run_without_what_only_training_needs() {
    let folder = with_photos();
    folder.succeed(&format!("pretrain {SHORT} --data photos/unlabeled --out a"));
    folder.succeed("export a --what checkpoint --out small --quiet");
    let [whole, small] =
        ["a/pretrain", "small"].map(|place| folder.read(&format!("{place}/checkpoint.safetensors")));
    assert!(small.len() < whole.len() * 2 / 3, "{} of {}", small.len(), whole.len());
    folder.succeed(&format!("extract --checkpoint small/checkpoint.safetensors --data photos --out b {SHORT} --allow-data-mismatch"));
    folder.succeed(&format!(
        "extract --checkpoint a/pretrain --data photos --out c {SHORT} --allow-data-mismatch"
    ));
    let numbers =
        |run: &str| rotnet::store::features::FeatureFiles::new(&folder.path(run)).read_manifest().unwrap();
    assert_eq!(numbers("b/features").train, numbers("c/features").train);
}
