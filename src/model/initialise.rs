//! Initial parameters, drawn on the host so that they are the same on every device.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::kernels::Arithmetic;
use crate::math::random::{Purpose, generator, normal};

/// How weights are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Uniform in ±sqrt(6 / (fan in + fan out)), fans counted over the whole kernel window (Glorot and Bengio 2010,
    /// equation 16; Keras' default).
    #[default]
    Glorot,
    /// As the program of RotNet (`weight_initialization` in `architectures/NetworkInNetwork.py`): convolutions normal
    /// with variance 2 / fan out (He and others 2015), dense layers PyTorch's default, uniform in ±1 / sqrt(fan in).
    RotNet,
}

/// Hands out initial parameters; the n-th one depends on the seed and n alone.
pub struct Initialiser<'a> {
    seed: u64,
    next: u64,
    scheme: Scheme,
    device: &'a Device,
    /// How the layers that get the parameters compute.
    pub arithmetic: Arithmetic,
}

impl<'a> Initialiser<'a> {
    /// Starts with parameter number 0.
    pub fn new(seed: u64, scheme: Scheme, device: &'a Device) -> Self {
        Self::starting_at(seed, 0, scheme, device)
    }

    /// Starts with parameter number `first`.
    pub fn starting_at(seed: u64, first: u64, scheme: Scheme, device: &'a Device) -> Self {
        Self { seed, next: first, scheme, device, arithmetic: Arithmetic::default() }
    }

    /// The weight of a convolution, `[kernel, kernel, inputs, outputs]`.
    pub fn convolution(&mut self, [kernel, inputs, outputs]: [usize; 3]) -> Param<Tensor<4>> {
        let (shape, window) = ([kernel, kernel, inputs, outputs], kernel * kernel);
        match self.scheme {
            Scheme::Glorot => self.uniform(shape, glorot(window * inputs, window * outputs)),
            Scheme::RotNet => {
                let deviation = (2.0 / (window * outputs) as f64).sqrt();
                self.draw(shape, |random| (normal(random) * deviation) as f32)
            }
        }
    }

    /// The weight of a dense layer, `[inputs, outputs]`.
    pub fn dense(&mut self, inputs: usize, outputs: usize) -> Param<Tensor<2>> {
        let limit = match self.scheme {
            Scheme::Glorot => glorot(inputs, outputs),
            Scheme::RotNet => (1.0 / inputs as f64).sqrt() as f32,
        };
        self.uniform([inputs, outputs], limit)
    }

    /// A vector of one number repeated.
    pub fn constant(&self, value: f32, length: usize) -> Param<Tensor<1>> {
        self.given(vec![value; length], [length])
    }

    /// Given numbers.
    pub fn given<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Param<Tensor<D>> {
        Param::from_data(TensorData::new(values, shape), self.device)
    }

    fn uniform<const D: usize>(&mut self, shape: [usize; D], limit: f32) -> Param<Tensor<D>> {
        self.draw(shape, |random| random.random_range(-limit..limit))
    }

    fn draw<const D: usize>(
        &mut self,
        shape: [usize; D],
        one: impl Fn(&mut ChaCha8Rng) -> f32,
    ) -> Param<Tensor<D>> {
        let mut random = generator(self.seed, Purpose::Initialise, 0, self.next);
        self.next += 1;
        let values = (0..shape.iter().product()).map(|_| one(&mut random)).collect();
        self.given(values, shape)
    }
}

fn glorot(fan_in: usize, fan_out: usize) -> f32 {
    (6.0 / (fan_in + fan_out) as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convolutions_of_rotnet_have_the_papers_deviation() {
        let device = Device::flex();
        let weight = Initialiser::new(3, Scheme::RotNet, &device).convolution([3, 40, 50]);
        let values: Vec<f32> = weight.val().into_data().iter::<f32>().collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
        let expected = 2.0 / (9.0 * 50.0);
        assert!(mean.abs() < 1e-3, "{mean}");
        assert!((variance / expected - 1.0).abs() < 0.05, "{variance} {expected}");
    }
}
