//! `keras`, the Keras program's: three 3x3 convolutions (32, 64, 64) and a dense layer of 64.

use super::layers::plain;
use super::{Architecture, Encoder, Layers};
use crate::model::conv::BlockShape;
use crate::model::{ImageShape, Initialiser};

/// Width of the penultimate layer of the Keras program.
const FEATURES: usize = 64;

/// It has no keys.
pub(super) struct Keras;

impl Architecture for Keras {
    fn fixed_size(&self) -> Option<&'static str> {
        Some("the dense layer of encoder `keras` is made for one size; `compact` and `rotnet-nin` take any")
    }

    fn layers(&self, channels: usize) -> Vec<Vec<BlockShape>> {
        plain(channels, &[32, 64, 64], &[true, true, false], false)
    }

    fn init(&self, image: ImageShape, initialiser: &mut Initialiser) -> Encoder {
        Encoder::Layers(Layers::new(self.layers(image[2]), Some(FEATURES), image, initialiser))
    }
}
