//! Augmentation of an image before it is rotated. A flip after the rotation would swap 90 and 270 degrees and cap the
//! task at 75 %; the order is fixed here, and no config can change it.

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::images::CHANNELS;
use crate::error::{Error, Result};
use crate::random::{Purpose, generator};

/// Section `pretrain.augment`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Mirror left and right, every other time.
    pub flip: bool,
    /// Shift by up to so many pixels each way; what comes in is mirrored at the edge. 0 to 16.
    pub crop_padding: usize,
}

/// Half the smallest image: a mirrored edge is no wider.
const MAX_PADDING: usize = 16;

impl AugmentConfig {
    /// Checks every value against its range.
    pub fn validate(&self) -> Result<()> {
        if self.crop_padding <= MAX_PADDING {
            return Ok(());
        }
        let problem = format!("must be at most {MAX_PADDING}, got {}", self.crop_padding);
        Err(Error::config("pretrain.augment.crop_padding", problem))
    }

    /// Whether nothing is done.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Writes `image` (height x width x channels) augmented into `target`; the draw depends on the seed, the epoch and
/// the image's number alone, so all four rotations of an image see the same one.
pub fn augment(
    config: AugmentConfig,
    image: &[u8],
    [height, width]: [usize; 2],
    [seed, epoch, index]: [u64; 3],
    target: &mut [u8],
) {
    let mut random = generator(seed, Purpose::Augment, epoch, index);
    let reach = config.crop_padding as i64;
    let mut shift = || match reach {
        0 => 0,
        _ => random.random_range(-reach..=reach),
    };
    let (down, right) = (shift(), shift());
    let flipped = config.flip && random.random::<bool>();
    for (y, row) in target.chunks_exact_mut(width * CHANNELS).enumerate() {
        let from = mirrored(y as i64 + down, height) * width;
        for (x, pixel) in row.chunks_exact_mut(CHANNELS).enumerate() {
            let x = if flipped { width - 1 - x } else { x };
            let place = (from + mirrored(x as i64 + right, width)) * CHANNELS;
            pixel.copy_from_slice(&image[place..place + CHANNELS]);
        }
    }
}

/// An index up to one length outside, mirrored at the edge without repeating the edge.
fn mirrored(index: i64, length: usize) -> usize {
    let last = length as i64 - 1;
    let inside = if index < 0 { -index } else { index };
    let inside = if inside > last { 2 * last - inside } else { inside };
    inside.clamp(0, last) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(config: AugmentConfig, index: u64) -> Vec<u8> {
        let image: Vec<u8> = (0..5 * 4 * 3).collect();
        let mut target = vec![0; image.len()];
        augment(config, &image, [5, 4], [1, 2, index], &mut target);
        target
    }

    #[test]
    fn nothing_asked_nothing_done_and_the_draw_is_a_function_of_its_numbers() {
        let plain: Vec<u8> = (0..60).collect();
        assert_eq!(run(AugmentConfig::default(), 3), plain);
        let all = AugmentConfig { flip: true, crop_padding: 2 };
        assert_eq!(run(all, 3), run(all, 3));
        assert!((0..20).any(|index| run(all, index) != run(all, 3)));
    }

    #[test]
    fn a_flip_mirrors_each_row_every_other_time() {
        let flip = AugmentConfig { flip: true, crop_padding: 0 };
        let flipped = (0..200).filter(|&index| run(flip, index)[..3] == [9, 10, 11]).count();
        assert!((60..140).contains(&flipped), "{flipped}");
    }

    #[test]
    fn the_edge_is_mirrored() {
        assert_eq!([-2, -1, 0, 3, 4, 5].map(|index| mirrored(index, 4)), [2, 1, 0, 3, 2, 1]);
    }
}
