//! Whitening of image patches, computed from them before training, without labels.

use rand::RngExt;

use super::ImageShape;
use crate::math::principal_components::Components;
use crate::math::random::{Purpose, generator};
use crate::samples::Samples;

/// Patches that statistics are taken from; fewer in unit tests, which need no good ones.
pub const SAMPLED_PATCHES: usize = if cfg!(test) { 8_000 } else { 100_000 };
/// Images gathered at a time.
const GATHERED: usize = 1_000;
/// Added to the variance of each component, as a share of their mean: 5e-4 on pixels of deviation 1, as in
/// `init_whitening_conv` of <https://github.com/KellerJordan/cifar10-airbench>.
const WHITENING_EPSILON: f64 = 5e-4;

/// Square patches at random places of random images, one a row of `side * side * channels` numbers (row by row,
/// channels last). Patch n depends on the seed, n and the images alone.
pub fn sample_patches(
    images: &dyn Samples,
    [height, width, channels]: ImageShape,
    side: usize,
    count: usize,
    seed: u64,
) -> Vec<f32> {
    let mut patches = Vec::with_capacity(count * side * side * channels);
    for first in (0..count).step_by(GATHERED) {
        let draws = (first..count.min(first + GATHERED)).map(|patch| {
            let mut random = generator(seed, Purpose::Patches, 0, patch as u64);
            let image = random.random_range(0..images.len() as u32);
            (image, random.random_range(0..=height - side), random.random_range(0..=width - side))
        });
        let draws: Vec<(u32, usize, usize)> = draws.collect();
        let indices: Vec<u32> = draws.iter().map(|(image, _, _)| *image).collect();
        let (mut inputs, mut labels) = (vec![0.0; indices.len() * images.values()], vec![0; indices.len()]);
        images.fill(0, &indices, &mut inputs, &mut labels);
        for ((_, top, left), image) in draws.into_iter().zip(inputs.chunks(height * width * channels)) {
            for row in top..top + side {
                let start = (row * width + left) * channels;
                patches.extend_from_slice(&image[start..start + side * channels]);
            }
        }
    }
    patches
}

impl Components {
    /// Weight `[width, 2 * width]` and bias `[2 * width]` of a layer that gives every component with variance about 1,
    /// then the negatives.
    pub fn whitening(&self) -> (Vec<f32>, Vec<f32>) {
        let width = self.mean.len();
        let epsilon = WHITENING_EPSILON * self.variances.iter().sum::<f64>() / width as f64;
        let mut weight = vec![0.0; width * 2 * width];
        let mut bias = vec![0.0; 2 * width];
        for (component, direction) in self.directions.iter().enumerate() {
            // Images of one colour have no variance; any number over zero does then.
            let factor = 1.0 / (self.variances[component].max(0.0) + epsilon.max(f64::MIN_POSITIVE)).sqrt();
            let mut shift = 0.0;
            for (input, value) in direction.iter().enumerate() {
                let value = value * factor;
                weight[input * 2 * width + component] = value as f32;
                weight[input * 2 * width + width + component] = -value as f32;
                shift -= value * self.mean[input];
            }
            bias[component] = shift as f32;
            bias[width + component] = -shift as f32;
        }
        (weight, bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with known relations: the second number follows the first one, the third is noise.
    fn rows() -> Vec<f32> {
        let mut random = generator(5, Purpose::Patches, 0, 0);
        let mut draw = || random.random_range(-1.0f32..1.0);
        (0..20_000)
            .flat_map(|_| {
                let (one, two) = (draw(), draw());
                [3.0 * one + 7.0, 2.0 * one + 0.3 * two, 0.1 * draw()]
            })
            .collect()
    }

    #[test]
    fn whitened_rows_have_mean_zero_and_unit_covariance() {
        let rows = rows();
        let components = Components::new(&rows, 3);
        let (weight, bias) = components.whitening();
        let whitened: Vec<f32> = rows
            .chunks(3)
            .flat_map(|row| {
                let output = |out: usize| -> f32 {
                    bias[out] + (0..3).map(|input| row[input] * weight[input * 6 + out]).sum::<f32>()
                };
                [output(0), output(1), output(2)]
            })
            .collect();
        let found = Components::new(&whitened, 3);
        assert!(found.mean.iter().all(|mean| mean.abs() < 1e-4), "{:?}", found.mean);
        // The smallest one is held down by the epsilon.
        assert!(
            found.variances.iter().all(|variance| (0.5..1.001).contains(variance)),
            "{:?}",
            found.variances
        );
        assert!(weight.chunks(6).all(|row| (0..3).all(|out| row[out] == -row[out + 3])));
    }
}
