//! Files of features, in memory and as streams.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, TensorData};

use super::*;
use crate::model::{Classifier, ClassifierShape, Parameters, collect};
use crate::progress::{Event, Reporter, Stage};
use crate::store::checkpoint::DatasetLabel;
use crate::training::{self, Optimizer, OptimizerConfig, Plan, Position, Replicas, SaveConfig};

const CLASSES: usize = 3;

fn origin() -> Origin {
    let dataset = DatasetLabel { name: "a".into(), fingerprint: "b".into() };
    Origin { checkpoint: "c".into(), dataset, layer: "d".into() }
}

fn values(count: usize) -> Vec<f32> {
    (0..count as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e5 - 80.0).collect()
}

/// The same features in memory, in a file that is read into memory, and in a file that is not.
fn three_ways(folder: &tempfile::TempDir, images: usize, width: usize) -> [Features; 3] {
    let labels = (0..images).map(|index| (index * 7 % CLASSES) as u16).collect();
    let features = Features::new(values(images * width), labels, width);
    let path: PathBuf = folder.path().join("features");
    features.save(&path, &origin()).unwrap();
    let kept = Features::load(&path, &origin(), CLASSES).unwrap();
    let bytes = (4 * images * width) as u64;
    let streamed = Features::load_within(&path, &origin(), CLASSES, bytes - 1).unwrap();
    assert_eq!([&kept, &streamed].map(Features::held), [bytes, 0]);
    [features, kept, streamed]
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|number| number.to_bits()).collect()
}

#[test]
fn a_stream_gives_the_numbers_that_memory_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (images, width) = (2 * BLOCK / 7, 7);
    let [original, kept, streamed] = three_ways(&folder, images, width);
    let all = values(images * width);
    let moments = FeatureMoments::of(&all, width);
    for features in [&original, &kept, &streamed] {
        assert_eq!(features.shape(), [images, width]);
        assert_eq!(bits(&features.numbers().unwrap()), bits(&all));
        // In blocks: each sum in the order of the rows, hence the same bits.
        let found = features.moments().unwrap();
        assert_eq!(bits(&found.mean), bits(&moments.mean));
        assert_eq!(bits(&found.deviation), bits(&moments.deviation));
        let mut blocks = Vec::new();
        let mut take = |block: &[f32]| {
            assert!(block.len() <= BLOCK);
            blocks.extend_from_slice(block);
            Ok(())
        };
        features.each_block(&mut take).unwrap();
        assert_eq!(bits(&blocks), bits(&all));
    }
}

#[test]
fn parts_of_a_stream_are_those_of_memory() {
    let folder = tempfile::tempdir().unwrap();
    let number = |row: usize, column: usize| values(200)[row * 10 + column];
    for features in three_ways(&folder, 20, 10) {
        let part = features.subset(&[19, 3, 3, 8]).columns(&[7..9, 0..3]);
        let places = |rows: &[usize], columns: &[usize]| -> Vec<f32> {
            rows.iter().flat_map(|&row| columns.iter().map(move |&column| number(row, column))).collect()
        };
        assert_eq!(part.shape(), [4, 5]);
        assert_eq!(part.numbers().unwrap(), places(&[19, 3, 3, 8], &[7, 8, 0, 1, 2]));
        // Parts of parts.
        let part = part.columns(&[1..2, 2..4]).subset(&[3, 0]);
        assert_eq!(part.numbers().unwrap(), places(&[8, 19], &[8, 0, 1]));
        let [one, other] = [19 * 7 % CLASSES, 8 * 7 % CLASSES].map(|label| label as u16);
        assert_eq!(part.labels(), [other, one]);
        let (mut inputs, mut labels) = ([0.0; 6], [9; 2]);
        part.fill(0, &[1, 0], &mut inputs, &mut labels);
        assert_eq!(inputs[..], places(&[19, 8], &[8, 0, 1]));
        assert_eq!(labels, [one, other]);
        assert!(part.failure().is_none());
    }
}

struct Silent;

impl Reporter for Silent {
    fn report(&mut self, _: Event<'_>) {}
}

/// Trains a classifier for two epochs; returns it and how often it was saved.
fn train(features: &dyn Samples, moments: FeatureMoments, device: &Device) -> (Result<Classifier>, usize) {
    let width = features.values();
    let shape =
        ClassifierShape { features: width, hidden: vec![5], batch_norm: true, classes: CLASSES, map: None };
    let network = Classifier::new(&shape, Some(moments), 1, &device.clone().autodiff());
    let plan = Plan {
        stage: Stage::Finetune,
        steps: 2 * training::steps_an_epoch(features, 8),
        before: Vec::new(),
        from: Position::default(),
        batch_size: 8,
        seed: 1,
        label_smoothing: 0.0,
        save: SaveConfig::default(),
        replicas: Replicas::new(std::slice::from_ref(device)).unwrap(),
        resident: None,
    };
    let mut optimizer = Optimizer::new(&OptimizerConfig::default());
    let mut saved = 0;
    let trained = training::train(
        network,
        &mut optimizer,
        features,
        &plan,
        &mut |_, _| {},
        &mut Silent,
        &mut |_, _, _, _, _| {
            saved += 1;
            Ok(true)
        },
    );
    (trained.map(|network| network.valid()), saved)
}

#[test]
fn training_and_predicting_on_a_stream_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let device = Device::flex();
    // Running statistics belong to the thread that computes them: as in the program, one of a pool.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let results = three_ways(&folder, 70, 12).map(|features| -> (Parameters, Vec<TensorData>) {
        let some: Vec<u32> = (0..60).rev().collect();
        let part = features.subset(&some);
        let moments = part.moments().unwrap();
        let (network, saved) = pool.install(|| train(&part, moments, &device));
        assert_eq!(saved, 2);
        let network = network.unwrap();
        let (_, logits) = training::predict(&network, &features, &device);
        (collect(&network), vec![TensorData::new(logits, [70, CLASSES])])
    });
    assert!(!results[0].0.is_empty());
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
}

#[test]
fn a_file_that_cannot_be_read_any_longer_ends_the_training() {
    let folder = tempfile::tempdir().unwrap();
    let [_, kept, streamed] = three_ways(&folder, 70, 12);
    let moments = streamed.moments().unwrap();
    let path = folder.path().join("features");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(2_000).unwrap();
    assert_eq!(kept.numbers().unwrap(), values(70 * 12));
    assert!(matches!(streamed.numbers(), Err(Error::Io { action: "read", .. })));
    assert!(matches!(streamed.moments(), Err(Error::Io { .. })));
    assert!(streamed.failure().is_none());
    // Nothing trained on unreadable numbers is saved.
    let (trained, saved) = train(&streamed.subset(&[1, 2, 3, 60]), moments, &Device::flex());
    let error = trained.err().unwrap();
    assert!(matches!(error, Error::Io { action: "read", .. }) && saved == 0, "{error}");
    assert!(streamed.failure().unwrap().to_string().starts_with("cannot read "));
}

#[test]
fn names_come_back_with_their_images_and_only_where_there_are_some() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("features");
    let origin = origin();
    let plain = || Features::new(vec![1.0, 2.0, 3.0], vec![0, 1, 2], 1);
    plain().save(&path, &origin).unwrap();
    assert!(Features::load(&path, &origin, 3).unwrap().names().is_empty());
    let names = ["a/1.png", "a/\n2.png", "b/ü.png"].map(str::to_owned);
    plain().with_names(&names).save(&path, &origin).unwrap();
    let loaded = Features::load(&path, &origin, 3).unwrap();
    assert_eq!(loaded.names(), names);
    assert_eq!(loaded.subset(&[2, 0]).names(), ["b/ü.png", "a/1.png"]);
}
