//! How bytes become the numbers that a network sees; kept in every checkpoint, since extraction must do the same.

use serde::{Deserialize, Serialize};

use super::config::DataConfig;
use super::images::{CHANNELS, Images};

/// What is done to the pixels of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Pixels {
    /// Nothing: 0 to 255.
    Raw,
    /// Divided by 255.
    Scaled,
    /// Divided by 255, less the mean of the channel, divided by its standard deviation.
    Normalised {
        /// Mean of each channel over all pixels, in 0..=1.
        mean: [f64; CHANNELS],
        /// Standard deviation of each channel over all pixels, at least 1/255.
        std: [f64; CHANNELS],
    },
}

impl Pixels {
    /// What the config asks for; mean and standard deviation are those of the images of `indices`.
    pub fn new(config: &DataConfig, images: &Images, indices: &[u32]) -> Self {
        match (config.normalise, config.scale_pixels) {
            (true, _) => Self::normalised(images, indices),
            (false, true) => Self::Scaled,
            (false, false) => Self::Raw,
        }
    }

    /// Whether the config asks for this kind.
    pub fn is_as(&self, config: &DataConfig) -> bool {
        match self {
            Self::Raw => !config.normalise && !config.scale_pixels,
            Self::Scaled => !config.normalise && config.scale_pixels,
            Self::Normalised { .. } => config.normalise,
        }
    }

    /// The sums are of whole numbers, and so exact in any order.
    fn normalised(images: &Images, indices: &[u32]) -> Self {
        let mut sums = [[0u64; 2]; CHANNELS];
        for &index in indices {
            for pixel in images.image(index as usize).chunks_exact(CHANNELS) {
                for (sums, &byte) in sums.iter_mut().zip(pixel) {
                    sums[0] += u64::from(byte);
                    sums[1] += u64::from(byte) * u64::from(byte);
                }
            }
        }
        let count = (indices.len() * images.height * images.width).max(1) as f64;
        let mean = sums.map(|[sum, _]| sum as f64 / count / 255.0);
        let std = sums.map(|[sum, squares]| {
            let mean = sum as f64 / count;
            let variance = (squares as f64 / count - mean * mean).max(0.0);
            variance.sqrt().max(1.0) / 255.0
        });
        Self::Normalised { mean, std }
    }

    /// By how much a network's input changes if a byte changes by one; the mean over the channels.
    pub fn step(&self) -> f32 {
        match self {
            Self::Raw => 1.0,
            Self::Scaled => 1.0 / 255.0,
            Self::Normalised { std, .. } => {
                let steps = std.iter().map(|std| 1.0 / (255.0 * std));
                (steps.sum::<f64>() / CHANNELS as f64) as f32
            }
        }
    }

    /// The number that each byte becomes, by channel.
    pub fn table(&self) -> PixelTable {
        let mut table = [[0.0; 256]; CHANNELS];
        for (channel, values) in table.iter_mut().enumerate() {
            for (byte, value) in values.iter_mut().enumerate() {
                *value = match self {
                    Self::Raw => byte as f32,
                    Self::Scaled => byte as f32 / 255.0,
                    Self::Normalised { mean, std } => {
                        ((byte as f64 / 255.0 - mean[channel]) / std[channel]) as f32
                    }
                };
            }
        }
        PixelTable(table)
    }
}

/// The number that each byte becomes, by channel.
#[derive(Clone, Debug)]
pub struct PixelTable(pub(crate) [[f32; 256]; CHANNELS]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalised_pixels_have_mean_0_and_deviation_1_by_channel() {
        let images = Images {
            pixels: (0..=254).cycle().take(4 * 12).collect(),
            labels: vec![0; 4],
            height: 2,
            width: 2,
        };
        let config = DataConfig { normalise: true, ..DataConfig::default() };
        let pixels = Pixels::new(&config, &images, &[0, 2]);
        let table = pixels.table();
        let bytes = [images.image(0), images.image(2)].concat();
        for channel in 0..CHANNELS {
            let values = bytes.iter().skip(channel).step_by(CHANNELS);
            let values: Vec<f64> =
                values.map(|&byte| f64::from(table.0[channel][usize::from(byte)])).collect();
            let mean = values.iter().sum::<f64>() / 8.0;
            let square = values.iter().map(|value| value * value).sum::<f64>() / 8.0;
            assert!(mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-6);
        }
        assert!(pixels.is_as(&config) && !Pixels::Raw.is_as(&config));
        let text = serde_json::to_string(&pixels).unwrap();
        assert_eq!(serde_json::from_str::<Pixels>(&text).unwrap(), pixels);
    }

    #[test]
    fn raw_and_scaled_numbers_are_exact() {
        for (pixels, divisor) in [(Pixels::Raw, 1.0), (Pixels::Scaled, 255.0)] {
            let table = pixels.table();
            for byte in 0..=255u8 {
                assert_eq!(table.0[2][usize::from(byte)], f32::from(byte) / divisor);
            }
        }
    }
}
