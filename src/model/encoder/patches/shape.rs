//! The numbers of a patch encoder.

use std::borrow::Cow;

use burn::tensor::TensorData;

use super::{Activation, Dictionary};
use crate::model::ImageShape;

/// What a patch layer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PatchShape {
    /// Rows and columns of a patch.
    pub(super) side: usize,
    /// Channels of the images.
    pub(super) channels: usize,
    /// Patches in the dictionary.
    pub(super) count: usize,
    /// Where they come from.
    pub(super) dictionary: Dictionary,
    /// What is computed from the comparison of a place with a patch.
    pub(super) activation: Activation,
}

impl PatchShape {
    /// Numbers of a patch.
    pub(super) fn values(self) -> usize {
        self.side * self.side * self.channels
    }

    /// Outputs of the convolution: the products; for the triangle the whitened patch too, for its length.
    pub(super) fn outputs(self) -> usize {
        match self.activation {
            Activation::TwoSided => self.count,
            Activation::Triangle => self.count + self.values(),
        }
    }

    /// Numbers a place.
    pub(super) fn features(self) -> usize {
        match self.activation {
            Activation::TwoSided => 2 * self.count,
            Activation::Triangle => self.count,
        }
    }

    /// Height and width of the places, and numbers a place.
    pub(super) fn places(self, [height, width, _]: ImageShape) -> ImageShape {
        [height + 1 - self.side, width + 1 - self.side, self.features()]
    }

    /// Numbers of the convolution's weight.
    pub(super) fn weights(self) -> usize {
        self.values() * self.outputs()
    }
}

pub(super) fn floats(data: &TensorData) -> Cow<'_, [f32]> {
    match data.as_slice::<f32>() {
        Ok(values) => values.into(),
        Err(_) => data.iter::<f32>().collect::<Vec<_>>().into(),
    }
}
