//! Initial parameters, drawn on the host so that they are the same on every device.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;

use crate::random::{Purpose, generator};

/// Hands out initial parameters; the n-th one depends on the seed and n alone.
pub struct Initialiser<'a> {
    seed: u64,
    next: u64,
    device: &'a Device,
}

impl<'a> Initialiser<'a> {
    /// Starts with parameter number 0.
    pub fn new(seed: u64, device: &'a Device) -> Self {
        Self::starting_at(seed, 0, device)
    }

    /// Starts with parameter number `first`.
    pub fn starting_at(seed: u64, first: u64, device: &'a Device) -> Self {
        Self { seed, next: first, device }
    }

    /// Glorot-uniform: ±sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010, equation 16; Keras' default kernel).
    pub fn glorot_uniform<const D: usize>(
        &mut self,
        shape: [usize; D],
        fan_in: usize,
        fan_out: usize,
    ) -> Param<Tensor<D>> {
        let limit = (6.0 / (fan_in + fan_out) as f64).sqrt() as f32;
        let mut random = generator(self.seed, Purpose::Initialise, 0, self.next);
        self.next += 1;
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| random.random_range(-limit..limit)).collect();
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    /// The same number everywhere.
    pub fn constant(&self, value: f32, length: usize) -> Param<Tensor<1>> {
        Param::from_data(TensorData::new(vec![value; length], [length]), self.device)
    }
}
