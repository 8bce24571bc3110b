//! Randomness as a pure function of (seed, purpose, epoch, index).
//!
//! The four numbers are the ChaCha8 key, so nothing has to be saved to go on where a run stopped,
//! and no draw depends on the number of threads or on what was drawn before.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What the numbers are drawn for; each purpose has its own sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial parameters; `index` is the number of the parameter.
    Initialise = 1,
    /// Order of the samples in an epoch.
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

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
