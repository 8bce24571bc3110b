//! Which way up images are, by the head that pretraining left.

use serde::Serialize;

use crate::data::{Images, Pixels, Rotation};
use crate::math::logits::{argmax, log_softmax, softmax};
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
    pub probabilities: [f64; ROTATIONS],
}

impl Turns {
    fn new(probabilities: [f64; ROTATIONS]) -> Self {
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
}

impl TurnFinder {
    /// How each image lies. All four rotations of an image are shown to the network; what it says of one tells about
    /// the others, and the mean of the four logarithms is what counts.
    pub fn find(&self, images: &Images) -> Vec<Turns> {
        let indices = (0..images.len() as u32).collect();
        let samples = RotatedImages::new(images, indices, Rotations::All, &self.pixels, 0);
        let all: Vec<u32> = (0..samples.len() as u32).collect();
        let (inputs, _) = Batch::new(&samples, 0, &all).into_tensors(&self.network.encoder.device());
        let logits = self.network.logits(inputs, Mode::Evaluate).into_data();
        let mut logarithms: Vec<f64> = logits.iter::<f64>().collect();
        log_softmax(&mut logarithms, ROTATIONS);
        logarithms.chunks(ROTATIONS * ROTATIONS).map(|views| Turns::new(combine(views))).collect()
    }
}

/// `views[shown * 4 + said]` to the probabilities of the image's own turns: one shown with `shown` more turns has
/// `own + shown` of them.
fn combine(views: &[f64]) -> [f64; ROTATIONS] {
    let mean = |own: usize| {
        let terms = (0..ROTATIONS).map(|shown| views[shown * ROTATIONS + (own + shown) % ROTATIONS]);
        terms.sum::<f64>() / ROTATIONS as f64
    };
    let mut probabilities = [0, 1, 2, 3].map(mean);
    softmax(&mut probabilities, ROTATIONS);
    probabilities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_views_of_one_image_agree_on_its_own_turns() {
        // An image that lies turned by one quarter, seen without doubt in three views and missed in the last.
        let mut views = [-10.0; 16];
        for (shown, said) in [1, 2, 3, 2].into_iter().enumerate() {
            views[shown * 4 + said] = 0.0;
        }
        let turns = Turns::new(combine(&views));
        assert_eq!((turns.turns, turns.degrees, turns.rotation()), (1, 90, Rotation::Quarter));
        assert!(turns.probability > 0.9);
        assert!((turns.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}
