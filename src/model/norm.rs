//! Batch normalisation.

use burn::module::{Module, Param, RunningState};
use burn::tensor::Tensor;

use super::Initialiser;
use crate::kernels::{self, ConvNormOptions, ConvOptions, NormOptions};
use crate::ranks::Share;

/// Share of the newest batch in the running statistics (PyTorch's default).
pub(crate) const MOMENTUM: f64 = 0.1;
/// Added to the variance (PyTorch's default).
pub(crate) const EPSILON: f32 = 1e-5;

/// What a network is run for.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Batch normalisation uses the statistics of the batch, and updates the running ones.
    Train,
    /// The same for a share of a batch, with the statistics of all of it.
    TrainShare(&'a Share),
    /// Batch normalisation uses the running statistics. The network stays as it is.
    Evaluate,
}

impl Mode<'_> {
    fn share(self) -> Option<Share> {
        match self {
            Self::TrainShare(share) => Some(share.clone()),
            Self::Train | Self::Evaluate => None,
        }
    }
}

/// Batch normalisation by channel over all rows, then ReLU; [`Mode`] says by which statistics.
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

    /// A convolution without bias, and behind it [`forward`](Self::forward) in [`Mode::Evaluate`]: the same numbers, and the
    /// convolution's own outputs are never written.
    pub fn behind_convolution(&self, input: Tensor<4>, weight: Tensor<4>, options: ConvOptions) -> Tensor<4> {
        let (mean, variance) = (self.running_mean.value_sync(), self.running_variance.value_sync());
        let options = ConvNormOptions { conv: options, norm: OPTIONS };
        kernels::conv_norm(input, weight, mean, variance, self.scale.val(), self.shift.val(), options)
    }

    /// `[rows, channels]` to the same shape; the rows belong to so many samples.
    pub fn forward(&self, rows: Tensor<2>, samples: usize, mode: Mode) -> Tensor<2> {
        let options = NormOptions { share: mode.share(), ..OPTIONS };
        let (scale, shift) = (self.scale.val(), self.shift.val());
        match mode {
            Mode::Evaluate => {
                let (mean, variance) = (self.running_mean.value_sync(), self.running_variance.value_sync());
                kernels::normalise(rows, mean, variance, scale, shift, options)
            }
            Mode::Train | Mode::TrainShare(_) => {
                let (output, mean, variance) = kernels::batch_norm(rows, samples, scale, shift, options);
                self.update([mean, variance]);
                output
            }
        }
    }

    /// [`forward`](Self::forward) of images, in training, and behind it a convolution without bias: the same numbers, and the
    /// normalised images are not written where that saves time.
    pub fn before_convolution(
        &self,
        input: Tensor<4>,
        weight: Tensor<4>,
        options: ConvOptions,
        mode: Mode,
    ) -> Tensor<4> {
        let options = ConvNormOptions { conv: options, norm: NormOptions { share: mode.share(), ..OPTIONS } };
        let (output, mean, variance) =
            kernels::norm_conv(input, self.scale.val(), self.shift.val(), weight, options);
        self.update([mean, variance]);
        output
    }

    /// Moves the running statistics to those of the newest batch.
    fn update(&self, newest: [Tensor<1>; 2]) {
        for (running, newest) in [&self.running_mean, &self.running_variance].into_iter().zip(newest) {
            running.update(updated(running.value_sync(), newest));
        }
    }
}

/// Epsilon and ReLU, of a batch that is whole.
const OPTIONS: NormOptions = NormOptions { epsilon: EPSILON, relu: true, share: None };

/// The running mean one batch later, on the device of `running`. Computed without automatic differentiation, whose
/// graph would keep every value since the first step alive.
fn updated(running: Tensor<1>, newest: Tensor<1>) -> Tensor<1> {
    let differentiated = running.device().is_autodiff();
    let updated = running.inner().mul_scalar(1.0 - MOMENTUM) + newest.inner().mul_scalar(MOMENTUM);
    if differentiated { Tensor::from_inner(updated) } else { updated }
}

/// Whether the parameter of that name is a running statistic of batch normalisation.
pub(crate) fn is_running(name: &str) -> bool {
    name.ends_with(".running_mean") || name.ends_with(".running_variance")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::{Parameters, Scheme, collect};

    /// Outputs for two rows, and the running statistics afterwards.
    fn run(mode: Mode, device: &Device) -> (Vec<f32>, Parameters) {
        let norm = BatchNorm::new(2, &Initialiser::new(1, Scheme::Glorot, device));
        let rows = Tensor::from_floats([[1.0, 2.0], [3.0, 8.0]], device);
        let output = norm.forward(rows, 2, mode).into_data().iter::<f32>().collect();
        (output, collect(&norm.valid()))
    }

    #[test]
    fn the_mode_decides_on_the_statistics_and_the_device_does_not() {
        let devices = [Device::flex(), Device::flex().autodiff()];
        let [plain, differentiated] = devices.each_ref().map(|device| run(Mode::Train, device));
        assert_eq!(plain, differentiated);
        let mean: Vec<f32> = plain.1["running_mean"].iter::<f32>().collect();
        assert!((mean[0] - 0.2).abs() < 1e-6 && (mean[1] - 0.5).abs() < 1e-6, "{mean:?}");
        let [plain, differentiated] = devices.each_ref().map(|device| run(Mode::Evaluate, device));
        assert_eq!(plain, differentiated);
        assert!((plain.0[1] - 2.0).abs() < 1e-4, "{:?}", plain.0);
        assert_eq!(plain.1["running_mean"].iter::<f32>().collect::<Vec<_>>(), [0.0, 0.0]);
    }
}
