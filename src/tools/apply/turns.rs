//! Which way up images are, by the head that pretraining left.

use serde::Serialize;

use crate::data::{Images, Pixels, Rotation};
use crate::judge::turns::{EVEN, TURNS, combine, probabilities};
use crate::math::logits::argmax;
use crate::model::{Mode, Network, ROTATIONS, RotationNetwork};
use crate::samples::{Batch, Samples};
use crate::samples::{RotatedImages, Rotations};

/// How an image lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Turns {
    /// Quarter turns counter-clockwise that it was most likely turned by; 0 is upright.
    pub turns: u8,
    /// The same in degrees.
    pub degrees: u16,
    /// How likely that is.
    pub probability: f64,
    /// How likely each number of turns is.
    pub probabilities: [f64; TURNS],
}

impl Turns {
    pub(super) fn new(probabilities: [f64; TURNS]) -> Self {
        let best = argmax(&probabilities);
        Self { turns: best as u8, degrees: 90 * best as u16, probability: probabilities[best], probabilities }
    }

    /// The rotation that it was most likely turned by.
    pub fn rotation(&self) -> Rotation {
        Rotation::from_turns(self.turns.into())
    }
}

/// Encoder and rotation head.
pub(super) struct TurnFinder {
    pub network: RotationNetwork,
    pub pixels: Pixels,
    /// What likelihoods are divided by; absent where no held-out images told.
    pub temperature: Option<f64>,
}

impl TurnFinder {
    /// The likelihoods of each image's turns, from its squares: the next `squares[image]` of `images`.
    pub fn likelihoods(&self, images: &Images, squares: &[usize]) -> Vec<[f64; TURNS]> {
        let indices = (0..images.len() as u32).collect();
        let samples = RotatedImages::new(images, indices, Rotations::All, &self.pixels, 0);
        let all: Vec<u32> = (0..samples.len() as u32).collect();
        let (inputs, _) = Batch::new(&samples, 0, &all).into_tensors(&self.network.encoder.device());
        let logits: Vec<f64> =
            self.network.logits(inputs, Mode::Evaluate).into_data().iter::<f64>().collect();
        let temperature = self.temperature.unwrap_or(1.0);
        let mut left = &logits[..];
        let of_image = |&squares: &usize| {
            let (views, rest) = left.split_at(squares * ROTATIONS * TURNS);
            left = rest;
            combine(views).map(|likelihood| likelihood / temperature)
        };
        squares.iter().map(of_image).collect()
    }

    /// How each image lies, if one rotation is as likely as another.
    pub fn find(&self, images: &Images) -> Vec<Turns> {
        let likelihoods = self.likelihoods(images, &vec![1; images.len()]);
        likelihoods.iter().map(|image| Turns::new(probabilities(image, &EVEN))).collect()
    }
}
