//! Image files: as a data set, and as what a run is put to use on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use rand::{Rng, SeedableRng};
use rotnet::store::predictions::Predictions;
use serde_json::Value;

use crate::support::Folder;

/// A small encoder and a short run; `--out` and `--data` are left to the test.
pub const SHORT: &str = "--quiet --seed 3 --set data.kind=folder --set data.scale_pixels=true --set encoder.kind=compact \
                     --set encoder.widths=[8,8] --set encoder.pools=[true,true] --set pretrain.batch_size=8 \
                     --set pretrain.epochs=2 --set finetune.epochs=4 --set finetune.batch_size=8";

/// A bright sky above a dark ground; the class is in the colour of the ground.
pub fn scene(class: u32, seed: u64, width: u32, height: u32) -> RgbImage {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed * 100 + u64::from(class));
    RgbImage::from_fn(width, height, |_, y| {
        let noise = (random.next_u32() % 40) as u8;
        let ground = if class == 0 { [120, 10, 10] } else { [10, 10, 120] };
        Rgb(if y < height / 2 { [180 + noise; 3] } else { ground.map(|value| value + noise) })
    })
}

pub fn save(folder: &Folder, name: &str, image: impl Into<DynamicImage>) {
    let path = folder.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.into().save(path).unwrap();
}

/// `photos/train/{red,blue}`, `photos/test/{red,blue}` and `photos/unlabeled`.
pub fn with_photos() -> Folder {
    let folder = Folder::new();
    for (class, name) in [(1, "blue"), (0, "red")] {
        for number in 0..12 {
            let size = 32 + number as u32 * 3;
            save(
                &folder,
                &format!("photos/train/{name}/{number}.png"),
                scene(class, number, size, 90 - size / 2),
            );
        }
        for number in 0..5 {
            save(&folder, &format!("photos/test/{name}/{number}.png"), scene(class, 50 + number, 32, 32));
        }
        for number in 0..4 {
            let path = format!("photos/unlabeled/deep/{name}{number}.jpg");
            save(&folder, &path, scene(class, 90 + number, 70, 60));
        }
    }
    folder
}

/// A JPEG with the given EXIF orientation.
pub fn tagged(image: &RgbImage, orientation: u8) -> Vec<u8> {
    let mut jpeg = std::io::Cursor::new(Vec::new());
    image.write_to(&mut jpeg, ImageFormat::Jpeg).unwrap();
    let jpeg = jpeg.into_inner();
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() + 2) as u16;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), &exif, &jpeg[2..]].concat()
}

pub fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_folder_trains_from_start_to_end_and_predict_agrees_with_the_test() {
    let folder = with_photos();
    let run = folder.rotnet(&format!("run {SHORT} --data photos --out a"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let pretrain = folder.json("a/pretrain/summary.json");
    assert_eq!(pretrain["images"], 24 + 8);
    assert_eq!(pretrain["dataset"]["name"], "folder photos: 24 images of 2 classes, 8 without labels");
    assert_eq!(folder.json("a/finetune/summary.json")["classes"], Value::from(vec!["blue", "red"]));
    assert_predictions_are_those_of_the_test(&folder, "a");

    let full = "--set finetune.mode=full --set finetune.epochs=1 --force";
    folder.succeed(&format!("finetune --quiet --out a {full}"));
    assert_predictions_are_those_of_the_test(&folder, "a");

    let views = "--set extract.layers=[\"block1\",\"block2\"] --set extract.pool=2x2 --set extract.views=4 \
                 --set finetune.standardise=true --set finetune.batch_norm=true";
    folder.succeed(&format!("run {SHORT} {views} --data photos --out b --threads 1"));
    assert_predictions_are_those_of_the_test(&folder, "b");
    let mirrored = "--set extract.views=4+flip --set finetune.standardise=false";
    folder.succeed(&format!("finetune --quiet --out b {full} {mirrored}"));
    assert_predictions_are_those_of_the_test(&folder, "b");
    assert!(folder.temporary_files().is_empty());
}

/// Labels beyond a byte go through every file, from the folders to the page about the run.
#[test]
fn a_thousand_classes_keep_their_labels_through_all_stages() {
    const CLASSES: usize = 1_000;
    let folder = Folder::new();
    for class in 0..CLASSES {
        for part in ["train", "test"] {
            let picture = scene(class as u32 % 2, class as u64, 32, 32);
            save(&folder, &format!("many/{part}/class{class:03}/0.png"), picture);
        }
    }
    let short = "--set pretrain.epochs=1 --set pretrain.batch_size=256 --set finetune.epochs=1";
    folder.succeed(&format!("run {SHORT} {short} --set finetune.batch_size=100 --data many --out a"));

    folder.succeed("export a --what features --format npy --out exported --quiet");
    let table = folder.read("exported/test-images.csv");
    let mut images = csv::Reader::from_reader(&table[..]);
    assert_eq!(images.headers().unwrap(), vec!["image", "file", "label", "class"]);
    let mut seen = vec![false; CLASSES];
    for image in images.records() {
        let image = image.unwrap();
        let label: usize = image[2].parse().unwrap();
        assert_eq!(image[3], format!("class{label:03}"));
        assert_eq!(image[1], format!("test/class{label:03}/0.png"));
        seen[label] = true;
    }
    assert!(seen.into_iter().all(|seen| seen));

    let summary = folder.json("a/finetune/summary.json");
    let confusion = summary["test"]["confusion"].as_array().unwrap();
    let images = |row: &Value| row.as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(confusion.len(), CLASSES);
    assert!(confusion.iter().all(|row| images(row) == 1));
    let kept = Predictions::load(&folder.path("a/finetune/predictions.safetensors")).unwrap();
    let mut labels: Vec<usize> = kept.labels.iter().map(|&label| label.into()).collect();
    labels.sort_unstable();
    assert_eq!(labels, (0..CLASSES).collect::<Vec<_>>());
}

/// The test images are 32x32 PNG files, so that what `predict` reads is what `finetune` tested on.
fn assert_predictions_are_those_of_the_test(folder: &Folder, run: &str) {
    let found = json(&folder.succeed(&format!("predict {run} photos/test --json")).stdout);
    let test = folder.json(&format!("{run}/finetune/summary.json"));
    let mut counts: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for image in found["images"].as_array().unwrap() {
        let place = |class: &str| usize::from(class == "red");
        let truth = Path::new(image["file"].as_str().unwrap()).parent().unwrap();
        let truth = place(truth.file_name().unwrap().to_str().unwrap());
        *counts.entry((truth, place(image["class"].as_str().unwrap()))).or_default() += 1;
    }
    for truth in 0..2 {
        for said in 0..2 {
            let expected = test["test"]["confusion"][truth][said].as_u64().unwrap();
            assert_eq!(counts.get(&(truth, said)).copied().unwrap_or(0), expected, "{run} {truth} {said}");
        }
    }
    let mean: f64 = found["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| {
            let truth = usize::from(image["file"].as_str().unwrap().contains("/red/"));
            -image["probabilities"][truth].as_f64().unwrap().ln()
        })
        .sum::<f64>()
        / 10.0;
    let loss = test["test"]["loss"].as_f64().unwrap();
    assert!((mean - loss).abs() < 1e-4 * loss.max(1.0), "{run}: {mean} {loss}");
}

#[test]
fn larger_images_train_and_another_size_is_refused_by_name() {
    let folder = with_photos();
    let large = "--set data.image_size=48 --set encoder.kind=seed --set encoder.widths=null \
                 --set encoder.pools=null --set pretrain.epochs=1 --set finetune.epochs=1";
    folder.succeed(&format!("run {SHORT} {large} --data photos --out a"));
    let manifest = folder.json("a/features/manifest.json");
    assert_eq!((manifest["train"][0].as_u64(), manifest["test"][0].as_u64()), (Some(24), Some(10)));
    folder.refuse("extract --quiet --out a --force --set data.image_size=32", 1, &["32, 32", "48, 48"]);
    folder.succeed("predict a photos/test/red/0.png --quiet");
}

#[test]
fn images_without_classes_serve_pretraining_alone() {
    let folder = with_photos();
    let outcome = folder.rotnet(&format!("pretrain {SHORT} --data photos/unlabeled --out a"));
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(folder.json("a/pretrain/summary.json")["images"], 8);
    folder.refuse("extract --out a", 1, &["no images with labels"]);
    folder.refuse("finetune --out a --set finetune.mode=full", 1, &["no images with labels"]);
    folder
        .succeed(&format!("pretrain {SHORT} --set data.validation_images=3 --data photos/unlabeled --out b"));
    assert_eq!(folder.json("b/pretrain/summary.json")["images"], 5);
    // A run, which would lack them at its end, does not begin.
    let loud = SHORT.replace("--quiet ", "");
    let outcome = folder.rotnet(&format!("run {loud} --data photos/unlabeled --out c"));
    assert!(
        outcome.code == 1 && outcome.stderr.contains("only `rotnet pretrain` can use it"),
        "{}",
        outcome.stderr
    );
    assert!(!folder.path("c").exists());
}

#[test]
fn broken_files_are_named_and_counted_or_fatal() {
    let folder = with_photos();
    fs::write(folder.path("photos/train/red/bad.jpg"), b"\xff\xd8\xff\xe0 no").unwrap();
    let loud = SHORT.replace("--quiet ", "");
    let outcome = folder.succeed(&format!("pretrain {loud} --data photos --out a"));
    assert!(outcome.stderr.contains("1 image files cannot be read and are left out: train/red/bad.jpg ("));
    folder.refuse(&format!("pretrain {SHORT} --data photos --out b --strict"), 1, &["bad.jpg", "--strict"]);
    let info = folder.rotnet("data info photos");
    assert_eq!(info.code, 1);
    assert!(info.stdout.contains("train/red/bad.jpg: damaged: "), "{}", info.stdout);
    assert!(info.stdout.contains("43 files read, 1 of them damaged"), "{}", info.stdout);
    assert!(info.stdout.contains("no label"), "what can be read is described: {}", info.stdout);
}

#[test]
fn a_folder_is_described_verified_and_checked() {
    let folder = with_photos();
    let info = json(&folder.succeed("data info photos --json --quiet").stdout);
    assert_eq!((&info["train"]["images"], &info["unlabeled"]), (&24.into(), &8.into()));
    assert_eq!(info["test"]["per_class"], Value::from(vec![5, 5]));
    let text = folder.succeed("data info photos");
    assert!(text.stdout.contains("no label"));
    let former = folder.succeed("data verify photos");
    assert_eq!(former.stdout, text.stdout);
    assert!(
        former.stderr.contains("note: `rotnet data verify` is now `rotnet data info`\n"),
        "{}",
        former.stderr
    );
    fs::copy(folder.path("photos/test/red/0.png"), folder.path("photos/train/red/copy.png")).unwrap();
    let info = json(&folder.succeed("data info photos --json --quiet").stdout);
    assert_eq!((&info["checked"], &info["test_images_in_train"]), (&43.into(), &1.into()));
    assert_eq!((&info["ok"], &info["train"]["images"]), (&true.into(), &25.into()));

    folder.refuse("data check photos", 1, &["33 training images, too few"]);
    for number in 0..40 {
        save(
            &folder,
            &format!("noise/{number}.png"),
            RgbImage::from_fn(40, 40, |x, y| {
                let mixed =
                    (u64::from(x) << 40 ^ u64::from(y) << 20 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Rgb([(mixed >> 56) as u8; 3])
            }),
        );
    }
    let check = folder.succeed("data check noise --quiet").stdout;
    assert!(check.contains("warning: no upright to be seen") && check.contains("\n  advice: "), "{check}");
    let check = json(&folder.succeed("data check noise --quiet --json").stdout);
    let warning = &check["warnings"][0];
    assert!(warning["problem"].as_str().unwrap().starts_with("no upright"), "{check}");
    assert!(warning["advice"].as_str().unwrap().contains("natural upright"), "{check}");
}

#[test]
fn data_of_another_kind_is_named_with_what_to_set() {
    let folder = with_photos();
    folder.refuse(
        "run --data photos --set data.kind=scenes --out a",
        1,
        &["image files", "data.kind=folder"],
    );
    folder.refuse(
        "run --data photos --set data.kind=cifar10 --out a",
        1,
        &["image files", "data.kind=folder"],
    );
    folder.refuse(
        "run --data photos --set data.kind=scenes --out a --dry-run",
        1,
        &["image files", "data.kind=folder"],
    );
    folder.refuse("run --set data.kind=folder --out a", 2, &["data.directory"]);
    folder.refuse("run --set data.image_size=48 --out a", 2, &["data.image_size", "`folder`"]);
    assert!(!folder.path("photos/cifar-10-batches-bin").exists());
}

#[test]
fn the_folder_that_data_names_decides_the_kind_unless_it_is_set() {
    let folder = with_photos();
    fs::write(folder.path("cifar.json"), r#"{"data": {"kind": "cifar10"}, "finetune": {"epochs": 1}}"#)
        .unwrap();
    let short = SHORT.replace("--set data.kind=folder ", "");
    let loud = short.replace("--quiet ", "");
    let outcome = folder.succeed(&format!("run {loud} --config cifar.json --data photos --out a"));
    let note =
        "note: photos is used with data.kind `folder`, which it holds, instead of `cifar10` as in cifar.json";
    assert!(outcome.stderr.contains(note), "{}", outcome.stderr);
    assert_eq!(folder.json("a/pretrain/config.json")["data"]["kind"], "folder");
    folder.succeed(&format!("run {short} --config cifar.json --data photos --out a --resume"));
    folder.refuse(
        "run --config cifar.json --data photos --set data.kind=cifar10 --out b",
        1,
        &["image files", "data.kind=folder"],
    );
    folder.refuse("run --config cifar.json --out b --quiet", 1, &["holds neither cifar-10-batches-bin"]);

    // Keys of the kind that is found are taken, too.
    let sized = folder.succeed("config show cifar.json --data photos --set data.image_size=48 --quiet");
    assert_eq!(json(&sized.stdout)["data"]["kind"], "folder");
    // Scenes lie in CIFAR-10's layout, so that the config is right.
    folder.succeed("data synth --quiet --out scenes");
    let same = folder.succeed("config show cifar.json --data scenes");
    assert_eq!((json(&same.stdout)["data"]["kind"].as_str(), same.stderr.as_str()), (Some("cifar10"), ""));
    fs::write(folder.path("sweep.json"), r#"{"config": "cifar.json", "seeds": [1, 2]}"#).unwrap();
    let planned = folder.succeed("sweep sweep.json --data photos --dry-run");
    assert_eq!(
        planned.stderr.lines().filter(|line| line.contains("`folder`")).count(),
        1,
        "{}",
        planned.stderr
    );
}

#[test]
fn a_folder_without_a_config_gets_the_recipe_the_size_and_the_epochs_that_suit_it() {
    let folder = with_photos();
    let shown = folder.succeed("config show --data photos");
    let said = "note: photos: 32 images of 56 pixels on their shorter side (median); recipe `photos` at 48x48 for 60 epochs";
    assert!(
        shown.stderr.contains(said) && shown.stderr.contains("2.2 times as long as 32x32"),
        "{}",
        shown.stderr
    );
    let config = json(&shown.stdout);
    assert_eq!((&config["data"]["image_size"], &config["pretrain"]["epochs"]), (&48.into(), &60.into()));
    assert_eq!(config["pretrain"]["sizes"], serde_json::json!([{ "until": 0.45, "size": 32 }]));
    let asked = "config show --data photos --quiet --set data.image_size=32 --set pretrain.epochs=3";
    let config = json(&folder.succeed(asked).stdout);
    assert_eq!((&config["data"]["image_size"], &config["pretrain"]["epochs"]), (&32.into(), &3.into()));
    assert_eq!(config["pretrain"]["sizes"], serde_json::json!([{ "until": 0.4, "size": 24 }]));
    // What is asked for is done, also where the recipe says the same.
    let asked = "config show --data photos --quiet --set data.image_size=64 --set pretrain.epochs=10";
    let config = json(&folder.succeed(asked).stdout);
    assert_eq!((&config["data"]["image_size"], &config["pretrain"]["epochs"]), (&64.into(), &10.into()));
    // As asked for by name, whatever the folder is like.
    let named = json(&folder.succeed("config show photos --data photos --quiet").stdout);
    assert_eq!(named["data"]["image_size"], 64);

    let small = "--set encoder.widths=[8,8] --set encoder.pools=[true,true] --set extract.layers=[\"block2\"] \
                 --set pretrain.epochs=1 --set pretrain.batch_size=8 --set finetune.epochs=1";
    folder.succeed(&format!("run --data photos --quiet {small}"));
    assert_eq!(folder.json("runs/photos/pretrain/config.json")["data"]["image_size"], 48);
    assert!(folder.json("runs/photos/finetune/summary.json")["test_accuracy"].is_number());
}

#[test]
fn damaged_records_are_shown_and_fail_the_command() {
    let folder = Folder::new();
    folder.succeed("data synth --quiet --out data");
    let whole = folder.succeed("data info data");
    assert!(whole.stdout.contains("6 files read, 0 of them damaged"), "{}", whole.stdout);
    let path = folder.path("data/cifar-10-batches-bin/data_batch_2.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[1] ^= 1;
    fs::write(&path, bytes).unwrap();
    let damaged = folder.rotnet("data info data");
    assert_eq!(damaged.code, 1);
    let problem = "data_batch_2.bin: damaged: differs from what was recorded";
    assert!(damaged.stdout.contains(problem), "{}", damaged.stdout);
    assert!(damaged.stdout.contains("6 files read, 1 of them damaged"), "{}", damaged.stdout);
    let error = "1 of 6 files damaged or missing: data_batch_2.bin; `rotnet data synth --force`";
    assert!(damaged.stderr.contains(error), "{}", damaged.stderr);
    let found = folder.rotnet("data info data --json --quiet");
    assert_eq!((found.code, &json(&found.stdout)["ok"]), (1, &false.into()));
}

#[test]
fn every_kind_of_image_is_predicted_and_a_broken_one_is_one_line() {
    let folder = with_photos();
    folder.succeed(&format!("run {SHORT} --data photos --out a"));
    save(&folder, "files/odd.jpg", scene(0, 1, 301, 47));
    save(&folder, "files/grey.png", GrayImage::from_fn(50, 40, |_, y| Luma([if y < 20 { 200 } else { 10 }])));
    let alpha = RgbaImage::from_fn(50, 40, |x, y| Rgba([9, 9, 9, (x + y) as u8]));
    save(&folder, "files/alpha.png", alpha);
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> =
        ImageBuffer::from_fn(33, 65, |x, y| Rgb([x as u16 * 900, y as u16, 7]));
    save(&folder, "files/deep.png", deep);
    save(&folder, "files/tiny.bmp", scene(1, 1, 3, 2));
    let upright = scene(1, 2, 80, 60);
    fs::write(folder.path("files/tagged.jpg"), tagged(&upright, 1)).unwrap();
    fs::write(folder.path("files/turned.jpg"), tagged(&image::imageops::rotate270(&upright), 6)).unwrap();
    fs::write(folder.path("files/broken.webp"), b"RIFF....WEBP").unwrap();

    let outcome = folder.rotnet("predict a files --json");
    assert_eq!(outcome.code, 1);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("error: files/broken.webp: cannot be decoded"), "{}", outcome.stderr);
    let found = json(&outcome.stdout);
    let images = found["images"].as_array().unwrap();
    assert_eq!((images.len(), found["failed"].as_array().unwrap().len()), (7, 1));
    for image in images {
        let sum =
            |values: &Value| values.as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum::<f64>();
        assert!((sum(&image["probabilities"]) - 1.0).abs() < 1e-6, "{image}");
        assert!((sum(&image["rotation"]["probabilities"]) - 1.0).abs() < 1e-6, "{image}");
    }
    // The tag is applied: two files of one upright image give about the same.
    let of =
        |name: &str| images.iter().find(|image| image["file"].as_str().unwrap().ends_with(name)).unwrap();
    let [one, other] =
        ["tagged.jpg", "turned.jpg"].map(|name| of(name)["probabilities"][0].as_f64().unwrap());
    assert!((one - other).abs() < 0.05, "{one} {other}");

    let text = folder.succeed("predict a files/odd.jpg photos/test/red/0.png");
    assert_eq!(text.stdout.lines().count(), 2);
    assert!(text.stderr.contains("resized to 32x32"), "{}", text.stderr);
    let table = folder.succeed("predict a files/odd.jpg --format csv --quiet").stdout;
    let header = "file,class,probability,blue,red,rotation_degrees,rotation_probability,upright_probability";
    assert_eq!(table.lines().next().unwrap(), header);
    assert_eq!(table.lines().nth(1).unwrap().split(',').count(), 8);
    folder.refuse("predict a nowhere.png", 1, &["nowhere.png"]);
    folder.refuse("predict b nowhere.png", 1, &["b", "is not a run"]);
    // As where `finetune` was stopped.
    fs::remove_file(folder.path("a/finetune/summary.json")).unwrap();
    folder.refuse("predict a files/odd.jpg", 1, &["this classifier is not finished", "--resume"]);
}

#[test]
fn cifar_100_trains_on_either_label() {
    let folder = Folder::new();
    let directory = folder.path("data/cifar-100-binary");
    fs::create_dir_all(&directory).unwrap();
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    for (name, count) in [("train.bin", 200), ("test.bin", 100)] {
        let mut bytes = Vec::new();
        for record in 0..count {
            bytes.extend([(record % 20) as u8, (record % 100) as u8]);
            bytes.extend((0..3_072).map(|_| random.next_u32() as u8));
        }
        fs::write(directory.join(name), bytes).unwrap();
    }
    let short = SHORT.replace("data.kind=folder", "data.kind=cifar100");
    folder.succeed(&format!("run {short} --data data --out fine"));
    let fine = folder.json("fine/finetune/summary.json");
    assert_eq!(fine["classes"].as_array().unwrap().len(), 100);
    assert_eq!(fine["dataset"]["name"], "CIFAR-100 layout, fine labels");
    folder.succeed(&format!("run {short} --data data --out coarse --set data.coarse_labels=true"));
    assert_eq!(folder.json("coarse/finetune/summary.json")["classes"].as_array().unwrap().len(), 20);
    assert!(folder.succeed("data info data").stdout.contains("class 99"));
    assert!(folder.succeed("data info data").stdout.contains("2 files read, 0 of them damaged"));
}
