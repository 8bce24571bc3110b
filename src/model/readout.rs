//! Which of an encoder's outputs become features, and how they are pooled.

use burn::tensor::{Tensor, module::adaptive_avg_pool2d};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a block's output is averaged over the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Pool {
    /// Not averaged: every place is kept.
    #[default]
    #[serde(rename = "none")]
    None,
    /// The mean over all places.
    #[serde(rename = "gap")]
    Gap,
    /// Means over a grid of 2 by 2.
    #[serde(rename = "2x2")]
    Two,
    /// Means over a grid of 4 by 4.
    #[serde(rename = "4x4")]
    Four,
    /// Means over a grid of 8 by 8.
    #[serde(rename = "8x8")]
    Eight,
}

impl Pool {
    /// Side of the grid; absent where every place is kept.
    pub fn side(self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Gap => Some(1),
            Self::Two => Some(2),
            Self::Four => Some(4),
            Self::Eight => Some(8),
        }
    }

    /// Numbers per image after pooling `[height, width, channels]`.
    pub fn width(self, [height, width, channels]: [usize; 3]) -> usize {
        let places = self.side().map_or(height * width, |side| side * side);
        places * channels
    }

    /// `[batch, height, width, channels]` to `[batch, width(..)]`: row by row with the channels last.
    pub fn apply(self, output: Tensor<4>) -> Tensor<2> {
        let [batch, height, width, channels] = output.dims();
        match self.side() {
            None => output.reshape([batch, height * width * channels]),
            Some(side) => {
                let means = adaptive_avg_pool2d(output.permute([0, 3, 1, 2]), [side, side]);
                means.permute([0, 2, 3, 1]).reshape([batch, side * side * channels])
            }
        }
    }
}

/// What to read from an encoder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readout {
    /// Names of blocks (`block1`, ...), whose pooled outputs are put side by side; none: the encoder's last layer.
    pub layers: Vec<String>,
    /// How a block's output is averaged over the image.
    pub pool: Pool,
    /// How an image is shown to the encoder.
    pub views: Views,
}

/// How an image is shown to the encoder; in a config 1, 4, "flip" or "4+flip".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ViewsValue", into = "ViewsValue")]
pub enum Views {
    /// As it is.
    #[default]
    One,
    /// In all four rotations, whose features stand side by side.
    Four,
    /// As it is and mirrored; features are averaged.
    Flip,
    /// In all four rotations side by side, each averaged over its mirror image.
    FourFlip,
}

impl Views {
    /// Rotations of an image that stand side by side.
    pub fn rotations(self) -> usize {
        match self {
            Self::One | Self::Flip => 1,
            Self::Four | Self::FourFlip => 4,
        }
    }

    /// Whether features are averaged over an image and its mirror image.
    pub fn mirrored(self) -> bool {
        matches!(self, Self::Flip | Self::FourFlip)
    }

    /// Square images `[batch, side, side, channels]` in their rotations, `[rotations * batch, side, side, channels]`:
    /// all images as they are, then all turned by 90 degrees (counter-clockwise, as `numpy.rot90`), and so on.
    pub(super) fn turned(self, images: Tensor<4>) -> Tensor<4> {
        if self.rotations() == 1 {
            return images;
        }
        let transposed = images.clone().swap_dims(1, 2);
        let turned =
            [images.clone(), transposed.clone().flip([1]), images.flip([1, 2]), transposed.flip([2])];
        Tensor::cat(turned.into(), 0)
    }

    /// The features of [`turned`](Self::turned) images, `[rotations * batch, width]`, to
    /// `[batch, rotations * width]`.
    pub(super) fn side_by_side(self, features: Tensor<2>) -> Tensor<2> {
        let [rows, width] = features.dims();
        let rotations = self.rotations();
        let features = features.reshape([rotations, rows / rotations, width]);
        features.swap_dims(0, 1).reshape([rows / rotations, rotations * width])
    }

    /// In words, to be put behind the name of a layer.
    pub fn describe(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Four => ", four views",
            Self::Flip => ", averaged over mirror images",
            Self::FourFlip => ", four views averaged over mirror images",
        }
    }
}

/// [`Views`] as a config spells them.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum ViewsValue {
    Number(u64),
    Name(String),
}

impl From<Views> for ViewsValue {
    fn from(views: Views) -> Self {
        match views {
            Views::One => Self::Number(1),
            Views::Four => Self::Number(4),
            Views::Flip => Self::Name("flip".into()),
            Views::FourFlip => Self::Name("4+flip".into()),
        }
    }
}

impl TryFrom<ViewsValue> for Views {
    type Error = String;

    fn try_from(value: ViewsValue) -> Result<Self, String> {
        let text = match value {
            ViewsValue::Number(number) => number.to_string(),
            ViewsValue::Name(name) => name,
        };
        match text.as_str() {
            "1" => Ok(Self::One),
            "4" => Ok(Self::Four),
            "flip" => Ok(Self::Flip),
            "4+flip" => Ok(Self::FourFlip),
            _ => Err(format!("must be 1, 4, \"flip\" or \"4+flip\", got {text}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn pooling_averages_the_cells_of_the_grid_with_the_channels_last() {
        let values: Vec<f32> = (0..32).map(|n| n as f32).collect();
        let output = Tensor::<4>::from_data(TensorData::new(values, [1, 4, 4, 2]), &Device::flex());
        let pooled: Vec<f32> = Pool::Two.apply(output.clone()).into_data().iter::<f32>().collect();
        assert_eq!(pooled, [5.0, 6.0, 9.0, 10.0, 21.0, 22.0, 25.0, 26.0]);
        assert_eq!(Pool::Gap.apply(output.clone()).dims(), [1, 2]);
        assert_eq!(Pool::None.apply(output).dims(), [1, Pool::None.width([4, 4, 2])]);
    }
}
