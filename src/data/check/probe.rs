//! A linear classifier of rotation, fitted in closed form.

use rayon::prelude::*;

use crate::data::images::{CHANNELS, Images};
use crate::data::rotation::{Rotation, rotate};
use crate::math::cholesky;
use crate::math::logits::argmax;

/// Fields per side.
const FIELDS: usize = 8;
/// Penalty on the weights, for features of deviation 1: small compared with the data, large compared with rounding.
const PENALTY: f64 = 0.01;
const CLASSES: usize = Rotation::ALL.len();

/// What the probe sees of an image of `height x width`.
pub type View = fn(&[u8], [usize; 2]) -> Vec<f64>;

/// Mean colours of 8x8 fields.
pub fn layout(image: &[u8], [height, width]: [usize; 2]) -> Vec<f64> {
    let mut sums = vec![0.0; FIELDS * FIELDS * CHANNELS];
    for (place, pixel) in image.chunks_exact(CHANNELS).enumerate() {
        let (row, column) = (place / width * FIELDS / height, place % width * FIELDS / width);
        let field = &mut sums[(row * FIELDS + column) * CHANNELS..][..CHANNELS];
        field.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums
}

/// Mean colour of the outermost pixels and how much neighbours differ, in eight parts per side.
pub fn frame(image: &[u8], size: [usize; 2]) -> Vec<f64> {
    let mut parts = vec![0.0; 4 * FIELDS * (CHANNELS + 1)];
    for side in 0..4 {
        let length = if side % 2 == 0 { size[1] } else { size[0] };
        let pixel = |step: usize| &image[side_place(side, step, size) * CHANNELS..][..CHANNELS];
        for step in 0..length {
            let part =
                &mut parts[(side * FIELDS + step * FIELDS / length) * (CHANNELS + 1)..][..CHANNELS + 1];
            let before = pixel(step.saturating_sub(1));
            for (channel, (&value, &before)) in pixel(step).iter().zip(before).enumerate() {
                part[channel] += f64::from(value);
                part[CHANNELS] += f64::from(value.abs_diff(before));
            }
        }
    }
    parts
}

/// The index of a pixel on the edge of an image: `step` pixels along the top (side 0), right, bottom or left.
pub fn side_place(side: usize, step: usize, [height, width]: [usize; 2]) -> usize {
    match side {
        0 => step,
        1 => step * width + width - 1,
        2 => (height - 1) * width + step,
        _ => step * width,
    }
}

/// Linear functions of standardised features, one per rotation.
pub struct LinearProbe {
    mean: Vec<f64>,
    scale: Vec<f64>,
    /// `features + 1` rows of one weight per class, the last for the constant.
    weights: Vec<[f64; CLASSES]>,
}

impl LinearProbe {
    /// Fits to two thirds of the images in all four rotations, and returns the accuracy on the last third.
    pub fn accuracy(images: &Images, view: View) -> f64 {
        let fitted = images.len() - images.len() / 3;
        let seen = |range: std::ops::Range<usize>| -> Vec<(Vec<f64>, usize)> {
            let size = [images.height, images.width];
            let copies = |index| {
                Rotation::ALL.into_iter().map(move |rotation| {
                    let turned = rotate(images.image(index), size[0], size[1], rotation);
                    let (height, width) = rotation.shape(size[0], size[1]);
                    (view(&turned, [height, width]), rotation as usize)
                })
            };
            range.into_par_iter().flat_map_iter(copies).collect()
        };
        let probe = Self::fit(&seen(0..fitted));
        let tested = seen(fitted..images.len());
        let right = tested.iter().filter(|(features, class)| probe.class(features) == *class).count();
        right as f64 / tested.len() as f64
    }

    fn fit(samples: &[(Vec<f64>, usize)]) -> Self {
        let count = samples.len() as f64;
        let width = samples[0].0.len();
        let mut mean = vec![0.0; width];
        let mut squares = vec![0.0; width];
        for (features, _) in samples {
            for ((mean, square), value) in mean.iter_mut().zip(&mut squares).zip(features) {
                *mean += value / count;
                *square += value * value / count;
            }
        }
        let deviation =
            squares.iter().zip(&mean).map(|(square, mean)| (square - mean * mean).max(0.0).sqrt());
        let scale = deviation.map(|deviation| if deviation < 1e-6 { 0.0 } else { 1.0 / deviation }).collect();
        let mut probe = Self { mean, scale, weights: Vec::new() };
        let size = width + 1;
        let mut matrix = vec![0.0; size * size];
        let mut right = vec![[0.0; CLASSES]; size];
        for (features, class) in samples {
            let row = probe.standardised(features);
            for (i, &value) in row.iter().enumerate() {
                right[i][*class] += value / count;
                let products = matrix[i * size..=i * size + i].iter_mut().zip(&row);
                products.for_each(|(sum, other)| *sum += value * other / count);
            }
        }
        (0..size).for_each(|i| matrix[i * size + i] += PENALTY);
        // Positive definite by the penalty.
        cholesky::solve(&mut matrix, size, right.as_flattened_mut(), CLASSES);
        probe.weights = right;
        probe
    }

    fn standardised(&self, features: &[f64]) -> Vec<f64> {
        let scaled = features.iter().zip(&self.mean).zip(&self.scale);
        scaled.map(|((value, mean), scale)| (value - mean) * scale).chain([1.0]).collect()
    }

    fn class(&self, features: &[f64]) -> usize {
        let mut scores = [0.0; CLASSES];
        for (value, weights) in self.standardised(features).iter().zip(&self.weights) {
            scores.iter_mut().zip(weights).for_each(|(score, weight)| *score += value * weight);
        }
        argmax(&scores)
    }
}
