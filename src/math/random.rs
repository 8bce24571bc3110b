//! Randomness as a pure function of (seed, purpose, epoch, index).
//!
//! The four numbers are the ChaCha8 key, so nothing has to be saved to go on where a run stopped,
//! and no draw depends on the number of threads or on what was drawn before.

use std::f64::consts::TAU;

use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::functions::{cos, ln};

/// What the numbers are drawn for; each purpose has its own sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial parameters; `index` is the number of the parameter.
    Initialise = 1,
    /// Order of the samples in an epoch; of images in several roles, in a pass over those of role `index` (from 1).
    Shuffle = 2,
    /// Which training images are held out for validation.
    Validation = 3,
    /// Which training images keep their labels.
    Labels = 4,
    /// The generated data set; `index` is the number of the image.
    Scenes = 5,
    /// Augmentation; `index` is the number of the image.
    Augment = 6,
    /// Which way an image is turned in an epoch; `index` is the number of the image.
    Turn = 7,
    /// Patches that parts of an encoder are computed from; `index` is the number of the patch.
    Patches = 8,
    /// Resamples of a test set; `index` is the number of the resample.
    Bootstrap = 9,
}

/// The generator of one purpose in one epoch for one index.
pub fn generator(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, index]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// A number from the normal distribution with mean 0 and variance 1 (Box and Muller 1958): the same on every processor,
/// which `rand_distr`'s are not, as it takes logarithms from the system.
pub(crate) fn normal(random: &mut impl Rng) -> f64 {
    // 1 less a number in 0..1 is never 0.
    let [distance, turn] = [1.0 - random.random::<f64>(), random.random()];
    (-2.0 * ln(distance)).sqrt() * cos(TAU * turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_numbers_have_the_moments_and_tails_of_their_distribution() {
        let mut random = generator(1, Purpose::Initialise, 0, 0);
        let numbers: Vec<f64> = (0..100_000).map(|_| normal(&mut random)).collect();
        let mean = |power: u32| {
            let powers = numbers.iter().map(|&number| (0..power).fold(1.0, |product, _| product * number));
            powers.sum::<f64>() / numbers.len() as f64
        };
        let moments = [1, 2, 3, 4].map(mean);
        let near = |expected: [f64; 4]| moments.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.05);
        assert!(near([0.0, 1.0, 0.0, 3.0]), "{moments:?}");
        let beyond = numbers.iter().filter(|number| number.abs() > 1.96).count();
        assert!((4_700..5_300).contains(&beyond), "{beyond}");
    }

    #[test]
    fn every_coordinate_changes_the_sequence() {
        let base = generator(1, Purpose::Shuffle, 1, 1).next_u64();
        assert_eq!(base, generator(1, Purpose::Shuffle, 1, 1).next_u64());
        assert_ne!(base, generator(2, Purpose::Shuffle, 1, 1).next_u64());
        assert_ne!(base, generator(1, Purpose::Labels, 1, 1).next_u64());
        assert_ne!(base, generator(1, Purpose::Shuffle, 2, 1).next_u64());
        assert_ne!(base, generator(1, Purpose::Shuffle, 1, 2).next_u64());
    }
}
