//! Batch normalisation.

use burn::module::{Module, Param, RunningState};
use burn::tensor::Tensor;

use super::Initialiser;
use crate::kernels::{self, NormOptions};

/// Share of the newest batch in the running statistics (PyTorch's default).
pub(crate) const MOMENTUM: f64 = 0.1;
/// Added to the variance (PyTorch's default).
const EPSILON: f32 = 1e-5;

/// Batch normalisation by channel over all rows, then ReLU.
///
/// On a device with automatic differentiation it uses the statistics of the batch and keeps running means of them;
/// on a plain device it uses the running ones.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// Scale (gamma), `[channels]`.
    pub scale: Param<Tensor<1>>,
    /// Shift (beta), `[channels]`.
    pub shift: Param<Tensor<1>>,
    running_mean: RunningState<Tensor<1>>,
    running_variance: RunningState<Tensor<1>>,
}

impl BatchNorm {
    /// Scale 1, shift 0, running mean 0 and variance 1.
    pub fn new(channels: usize, initialiser: &Initialiser) -> Self {
        Self {
            scale: initialiser.constant(1.0, channels),
            shift: initialiser.constant(0.0, channels),
            running_mean: RunningState::new(initialiser.constant(0.0, channels).val().detach()),
            running_variance: RunningState::new(initialiser.constant(1.0, channels).val().detach()),
        }
    }

    /// `[rows, channels]` to the same shape.
    pub fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        let options = NormOptions { epsilon: EPSILON, relu: true };
        let (scale, shift) = (self.scale.val(), self.shift.val());
        if !rows.device().is_autodiff() {
            let (mean, variance) = (self.running_mean.value(), self.running_variance.value());
            return kernels::normalise(rows, mean, variance, scale, shift, options);
        }
        let (output, mean, variance) = kernels::batch_norm(rows, scale, shift, options);
        for (running, newest) in [(&self.running_mean, mean), (&self.running_variance, variance)] {
            running.update(updated(running.value_sync(), newest));
        }
        output
    }
}

/// The running mean one batch later. Computed without automatic differentiation: its graph would keep every value
/// since the first step alive.
fn updated(running: Tensor<1>, newest: Tensor<1>) -> Tensor<1> {
    let kept = running.inner().mul_scalar(1.0 - MOMENTUM);
    Tensor::from_inner(kept + newest.inner().mul_scalar(MOMENTUM))
}

/// Whether the parameter of that name is a running statistic of batch normalisation.
pub(crate) fn is_running(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_variance")
}
