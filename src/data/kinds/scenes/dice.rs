//! Random numbers for one image.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::canvas::Colour;
use crate::math::random::{Purpose, generator};

/// The random numbers of one image, which depend on seed and index alone.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Of image `index`.
    pub fn new(seed: u64, index: usize) -> Self {
        Self(generator(seed, Purpose::Scenes, 0, index as u64))
    }

    /// A number from `low` to `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.random::<f32>()
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f32) -> bool {
        self.0.random::<f32>() < probability
    }

    /// A number from 0 to `count - 1`.
    pub fn below(&mut self, count: u32) -> u32 {
        self.0.random_range(0..count)
    }

    /// Plus or minus one.
    pub fn sign(&mut self) -> f32 {
        if self.chance(0.5) { 1.0 } else { -1.0 }
    }

    /// A colour with every channel from `low` to `high`.
    pub fn colour(&mut self, [low, high]: [f32; 2]) -> Colour {
        std::array::from_fn(|_| self.between(low, high))
    }

    /// Approximately normal, mean 0, deviation 1: four bytes added up.
    pub fn noise(&mut self) -> f32 {
        let bytes = self.0.random::<u32>().to_le_bytes();
        let sum: f32 = bytes.iter().map(|&byte| f32::from(byte)).sum();
        // Four uniform draws from 0..=255 have mean 510 and variance 4 (256² - 1) / 12.
        (sum - 510.0) / 147.8
    }
}
