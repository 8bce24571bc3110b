//! One line that every processor must give: the digest of two tiny trainings.

use burn::tensor::Device;

use crate::data::{DataConfig, Pixels};
use crate::error::Result;
use crate::files::sha256;
use crate::model::{EncoderConfig, EncoderKind, Parameters, RotationNetwork, collect};
use crate::samples::{Batch, RotatedImages, Rotations, Samples};
use crate::tools::bench::{IMAGE, made_up_images};
use crate::training::{Momentum, Optimizer, OptimizerConfig, Replicas, Rule};

/// What the processors gave on which this version was tested.
pub const SHIPPED: &str = include_str!("../../../tests/golden/processor.txt");

/// Steps of each training, and images of a step, in four rotations each.
const STEPS: u32 = 4;
const IMAGES: u32 = 12;

/// What this processor gives: SHA-256 over the names and numbers of all parameters of a Keras network after some steps of
/// Adam, and of a compact one after some of Muon.
///
/// # Errors
/// [`crate::Error::Usage`] if threads cannot be started.
pub fn of_this_processor() -> Result<String> {
    let compact = EncoderConfig {
        kind: EncoderKind::Compact,
        widths: Some(vec![16, 24]),
        pools: Some(vec![true, true]),
        ..EncoderConfig::default()
    };
    let mut bytes = Vec::new();
    for (encoder, optimizer) in [(EncoderConfig::default(), OptimizerConfig::default()), (compact, muon())] {
        for (name, data) in train(&encoder, &optimizer)? {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(data.as_bytes());
        }
    }
    Ok(sha256(&bytes))
}

fn muon() -> OptimizerConfig {
    let momentum = Momentum { decay: 0.95, nesterov: true };
    let others = Box::new(OptimizerConfig::default());
    OptimizerConfig { learning_rate: 0.02, rule: Rule::Muon { momentum, weight_decay: 0.0, others } }
}

fn train(encoder: &EncoderConfig, optimizer: &OptimizerConfig) -> Result<Parameters> {
    let images = made_up_images(32);
    let indices: Vec<u32> = (0..STEPS * IMAGES).collect();
    let pixels = Pixels::new(&DataConfig { scale_pixels: true, ..DataConfig::default() }, &images, &indices);
    let samples = RotatedImages::new(&images, indices, Rotations::All, &pixels, 0);
    let order: Vec<u32> = (0..samples.len() as u32).collect();
    let device = Device::flex();
    let replicas = Replicas::new(std::slice::from_ref(&device))?;
    let mut network = RotationNetwork::new(encoder, IMAGE, 1, &device.autodiff());
    let mut optimizer = Optimizer::new(optimizer);
    for indices in order.chunks(order.len() / STEPS as usize) {
        network = replicas.step(network, &mut optimizer, Batch::new(&samples, 0, indices), 0.0).0;
    }
    Ok(collect(&optimizer.evaluated(&network)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_line_is_that_of_every_processor() {
        let found = of_this_processor().unwrap() + "\n";
        if std::env::var("ROTNET_GOLDEN").is_ok_and(|value| value == "write") {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/processor.txt");
            std::fs::write(path, &found).unwrap();
        } else {
            assert_eq!(found, SHIPPED);
        }
    }
}
