use burn::tensor::TensorData;

use super::*;
use crate::model::{RotationNetwork, Views, collect, load};
use crate::samples::Batch;
use crate::training::{Optimizer, OptimizerConfig, step};

/// Ten images of noise that differ by their number.
struct Noise(ImageShape);

impl Samples for Noise {
    fn len(&self) -> usize {
        10
    }

    fn values(&self) -> usize {
        self.0.iter().product()
    }

    fn fill(&self, _: u64, indices: &[u32], inputs: &mut [f32], _: &mut [u16]) {
        use rand::RngExt;
        for (&index, image) in indices.iter().zip(inputs.chunks_exact_mut(self.values())) {
            let mut random =
                crate::math::random::generator(2, crate::math::random::Purpose::Scenes, 0, index.into());
            image.iter_mut().for_each(|value| *value = random.random_range(0.0..1.0));
        }
    }
}

const IMAGE: ImageShape = [32, 32, 3];

fn batch(count: u32) -> Batch {
    let indices: Vec<u32> = (0..count).collect();
    Batch::new(&Noise(IMAGE), 0, &indices)
}

fn whitened() -> EncoderConfig {
    EncoderConfig {
        kind: EncoderKind::Compact,
        widths: Some(vec![54, 16]),
        pools: Some(vec![true, true]),
        whiten: true,
        ..EncoderConfig::default()
    }
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[test]
fn no_optimizer_moves_the_whitening_and_every_one_moves_the_rest() {
    let device = Device::flex().autodiff();
    for kind in ["adamw", "sgd", "muon"] {
        let mut network = RotationNetwork::new(&whitened(), IMAGE, 1, &device);
        let fresh = collect(&network);
        network.encoder = network.encoder.fit(&Noise(IMAGE), 1.0 / 255.0, 1);
        // As on resuming.
        let parameters = collect(&network);
        let network = load(network, parameters.clone()).unwrap();
        let config = serde_json::json!({ "kind": kind, "weight_decay": 0.1 });
        let config: OptimizerConfig = serde_json::from_value(config).unwrap();
        let mut optimizer = Optimizer::new(&config).with_average(Some(0.9));
        let (network, ..) =
            step(network, &mut optimizer, Batch { labels: vec![0, 1, 2, 3], ..batch(4) }, 0.0, &device);
        for (name, data) in collect(&network.valid()) {
            if name.starts_with("encoder.blocks.0.") {
                assert_ne!(data, fresh[&name], "{name} is not computed from the images");
                assert_eq!(data, parameters[&name], "{kind:?} moved {name}");
            } else if name.ends_with("weight") {
                assert_ne!(data, parameters[&name], "{kind:?} did not move {name}");
            }
        }
        let state = optimizer.state(&network);
        assert!(state.keys().all(|name| name.starts_with("raw.") || !name.contains("blocks.0.")));
        let averaged = collect(&optimizer.evaluated(&network));
        assert_eq!(averaged["encoder.blocks.0.weight"], parameters["encoder.blocks.0.weight"]);
    }
}

#[test]
fn an_encoder_that_is_trained_on_keeps_its_whitening() {
    use crate::model::{ClassifierShape, ImageClassifier, Mode, Network};
    let plain = Device::flex();
    let mut initialiser = Initialiser::new(1, whitened().scheme(), &plain);
    let encoder = Encoder::new(&whitened(), IMAGE, &mut initialiser).fit(&Noise(IMAGE), 1.0 / 255.0, 1);
    let before = collect(&encoder);
    let shape = ClassifierShape { features: 16, hidden: vec![], batch_norm: false, classes: 3, map: None };
    let device = plain.clone().autodiff();
    let network = ImageClassifier::new(encoder, Readout::default(), &shape, 1, &device);
    let inputs = Batch { labels: vec![0, 1, 2, 0], ..batch(4) };
    let (network, ..) = step(network, &mut Optimizer::new(&OptimizerConfig::default()), inputs, 0.0, &device);
    let after = collect(&network.encoder);
    assert_eq!(after["blocks.0.weight"], before["blocks.0.weight"]);
    assert_ne!(after["blocks.1.weight"], before["blocks.1.weight"]);
    let (images, _) = batch(2).into_tensors(&device);
    assert_eq!(network.logits(images, Mode::Train).dims(), [2, 3]);
}

#[test]
fn whitened_outputs_have_mean_near_zero_before_relu() {
    let device = Device::flex();
    let mut initialiser = Initialiser::new(1, whitened().scheme(), &device);
    let config = EncoderConfig { pools: Some(vec![false, false]), ..whitened() };
    let encoder = Encoder::new(&config, IMAGE, &mut initialiser).fit(&Noise(IMAGE), 1.0 / 255.0, 1);
    let (images, _) = batch(4).into_tensors(&device);
    let readout = Readout { layers: vec!["block1".into()], ..Readout::default() };
    let outputs = values(encoder.read(images, &readout));
    // Output n is the positive part of component n, output n + 27 that of its negative: one of both is zero.
    let inner = (1..31).flat_map(|row| (1..31).map(move |column| row * 32 + column));
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    for place in inner {
        let outputs = &outputs[place * 54..][..54];
        for component in 0..27 {
            let (positive, negative) = (outputs[component], outputs[component + 27]);
            assert!(positive.min(negative) == 0.0);
            sum += positive - negative;
            squares += (positive - negative) * (positive - negative);
            count += 1.0;
        }
    }
    assert!((sum / count).abs() < 0.05, "{}", sum / count);
    assert!((squares / count - 1.0f32).abs() < 0.1, "{}", squares / count);
}

#[test]
fn network_in_network_has_the_papers_shapes() {
    let device = Device::flex();
    let config = EncoderConfig { kind: EncoderKind::RotnetNin, blocks: Some(5), ..EncoderConfig::default() };
    let mut initialiser = Initialiser::new(1, config.scheme(), &device);
    let encoder = Encoder::new(&config, IMAGE, &mut initialiser);
    let shapes: Vec<ImageShape> =
        encoder.block_names().iter().map(|name| encoder.block_shape(name).unwrap()).collect();
    assert_eq!(shapes, [[16, 16, 96], [8, 8, 192], [8, 8, 192], [8, 8, 192], [8, 8, 192]]);
    assert_eq!(encoder.features(), 192);
    let (images, _) = batch(2).into_tensors(&device);
    assert_eq!(encoder.forward(images.clone()).dims(), [2, 192]);
    for name in encoder.block_names() {
        let readout = Readout { layers: vec![name], pool: Pool::Two, views: Views::One };
        let width = encoder.read_width(&readout).unwrap();
        assert_eq!(encoder.read(images.clone(), &readout).dims(), [2, width]);
    }
}

#[test]
fn parameters_keep_their_names_whatever_kind_an_encoder_is() {
    let names = |kind| {
        let config = EncoderConfig { kind, ..EncoderConfig::default() };
        let network = RotationNetwork::new(&config, IMAGE, 1, &Device::flex());
        let parameters = collect(&network);
        let names: Vec<String> = parameters.keys().cloned().collect();
        assert!(load(network, parameters).is_ok());
        names
    };
    let head = ["head.bias", "head.weight"];
    let patches = ["bias", "contrast", "filters", "squares"].map(|name| format!("encoder.patches.{name}"));
    assert_eq!(names(EncoderKind::Patches), [&patches.each_ref().map(String::as_str)[..], &head].concat());
    let keras = names(EncoderKind::Keras);
    assert_eq!(keras[..2], ["encoder.blocks.0.bias", "encoder.blocks.0.weight"]);
    assert_eq!(keras[6..], ["encoder.dense.bias", "encoder.dense.weight", head[0], head[1]]);
    let compact = names(EncoderKind::Compact);
    assert!(compact.iter().any(|name| name == "encoder.blocks.4.norm.running_variance"), "{compact:?}");
}

#[test]
fn mirrored_features_are_the_mean_of_both_images() {
    let device = Device::flex();
    let mut initialiser = Initialiser::new(1, whitened().scheme(), &device);
    let encoder = Encoder::new(&whitened(), IMAGE, &mut initialiser);
    let (images, _) = batch(2).into_tensors(&device);
    let pixels = values(images.clone());
    let mirrored: Vec<f32> = pixels
        .chunks(32 * 3)
        .flat_map(|row| row.chunks(3).rev().flatten().copied().collect::<Vec<_>>())
        .collect();
    let mirrored = Tensor::<2>::from_data(TensorData::new(mirrored, [2, 3072]), &device);
    let readout = Readout { layers: vec!["block2".into()], pool: Pool::Two, views: Views::One };
    let (one, other) =
        (values(encoder.read(images.clone(), &readout)), values(encoder.read(mirrored, &readout)));
    let both = values(encoder.read(images, &Readout { views: Views::Flip, ..readout }));
    assert_ne!(one, other);
    for ((one, other), both) in one.iter().zip(&other).zip(both) {
        assert!((both - (one + other) / 2.0).abs() < 1e-6);
    }
}
