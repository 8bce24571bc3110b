//! How sure the rotation head may be: what its answers are divided by, so that probabilities are as often right as they say.

use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::judge::turns::{TURNS, calibration_error, combine, temperature};
use crate::math::logits::argmax;
use crate::model::ROTATIONS;
use crate::samples::Samples;
use crate::store::networks::{load_encoder, load_rotation_network};
use crate::training;

/// Measured on held-out images, each seen in all four rotations, of which the answers are combined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Held-out images.
    pub images: usize,
    /// Share of them whose rotation was recognised, in 0..=1.
    pub accuracy: f64,
    /// What the logarithms of probabilities are divided by.
    pub temperature: f64,
    /// Expected calibration error without the temperature, in 0..=1.
    pub error_before: f64,
    /// The same with it, on the images that it was chosen by.
    pub error_after: f64,
}

/// Calibrates the checkpoint at `path` on `held_out` images in all four rotations; `None` without a rotation head.
pub(super) fn calibrate(path: &Path, held_out: &dyn Samples, device: &Device) -> Result<Option<Calibration>> {
    let (encoder, checkpoint, _) = load_encoder(device, path.to_path_buf())?;
    let Some(network) = load_rotation_network(encoder, path, &checkpoint)? else {
        return Ok(None);
    };
    let (_, logits) = training::predict(&network, held_out, device);
    let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
    let upright: Vec<[f64; TURNS]> = logits.chunks_exact(ROTATIONS * TURNS).map(combine).collect();
    let temperature = temperature(&upright);
    let divided: Vec<_> = upright.iter().map(|image| image.map(|value| value / temperature)).collect();
    let right = upright.iter().filter(|image| argmax(*image) == 0).count();
    Ok(Some(Calibration {
        images: upright.len(),
        accuracy: right as f64 / upright.len().max(1) as f64,
        temperature,
        error_before: calibration_error(&upright),
        error_after: calibration_error(&divided),
    }))
}
