//! What the tests share: seeded numbers and comparisons.

use super::naive;
use super::shape::ConvShape;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Uniform in -1..1.
    pub fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (self.next() >> 29) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    pub fn shape(&mut self) -> ConvShape {
        let kernel = [1, 3, 3, 3, 5][self.below(5)];
        ConvShape {
            batch: 1 + self.below(6),
            height: kernel + self.below(9),
            width: kernel + self.below(14),
            in_channels: [1, 3, 8, 16, 19, 32, 48, 64][self.below(8)],
            out_channels: [1, 4, 8, 16, 20, 32, 48, 64, 70, 96][self.below(10)],
            kernel,
            padding: if self.below(2) == 0 { 0 } else { (kernel - 1) / 2 },
            pool: self.below(2) == 0,
            relu: self.below(2) == 0,
        }
    }
}

/// A layer with what the forward pass leaves, and a gradient.
pub struct Case {
    pub shape: ConvShape,
    pub x: Vec<f32>,
    pub weight: Vec<f32>,
    pub y: Vec<f32>,
    pub argmax: Vec<u8>,
    pub dy: Vec<f32>,
}

impl Case {
    pub fn new(shape: ConvShape, random: &mut Random) -> Self {
        let x = random.floats(shape.batch * shape.input_len());
        let weight = random.floats(shape.weight_len());
        let (y, argmax) = naive::conv_forward(&shape, &x, &weight, None);
        let dy = random.floats(y.len());
        Self { shape, x, weight, y, argmax, dy }
    }
}

/// Largest difference relative to the largest number.
pub fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1e-20f32, |scale, value| scale.max(value.abs()));
    found.iter().zip(expected).fold(0.0, |worst: f32, (a, b)| worst.max((a - b).abs())) / scale
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Runs `work` in rayon pools of 1, 2, 3 and 7 threads.
pub fn in_pools<T: Send>(work: impl Fn() -> T + Sync) -> Vec<T> {
    [1, 2, 3, 7]
        .into_iter()
        .map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&work))
        .collect()
}
