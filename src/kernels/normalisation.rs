//! Batch normalisation of the `flex` device, by itself and in front of a convolution.

use burn::backend::TensorMetadata;

use super::convolution::{self, ConvState, Wanted};
use super::cpu::{self, ConvShape};
use super::memory;
use super::profile::timed;
use super::storage::{Floats, contiguous, floats, tensor};
use super::{ConvNormOptions, NormOptions};
use crate::ranks::Share;

/// What a batch normalisation keeps for its backward pass.
#[derive(Clone, Debug)]
pub(super) struct NormState {
    input: Floats,
    samples: usize,
    mean: Floats,
    inverse_deviation: Vec<f32>,
    scale: Floats,
    shift: Floats,
    relu: bool,
    share: Option<Share>,
}

fn name(input: &Floats, direction: &str) -> String {
    let channels = input.shape().to_vec().last().copied().unwrap_or(1);
    format!("batch norm {} x {channels} {direction}", input.shape().num_elements() / channels)
}

impl NormState {
    /// Takes the statistics of a batch, gives its variance, too, and normalises nothing yet.
    fn new(
        input: Floats,
        samples: usize,
        scale: Floats,
        shift: Floats,
        options: NormOptions,
    ) -> (Self, Floats) {
        let NormOptions { epsilon, relu, share } = options;
        let [input, scale, shift] = [input, scale, shift].map(contiguous);
        let channels = floats(&scale).len();
        let moments = cpu::batch_moments(floats(&input), samples, channels);
        let moments = match &share {
            Some(share) => {
                let merge = |total: &mut cpu::Moments, part: cpu::Moments| total.merge(&part);
                share.total(&moments.numbers(), cpu::Moments::from_numbers, merge)
            }
            None => moments,
        };
        let statistics = moments.statistics();
        let inverse_deviation = cpu::inverse_deviation(&statistics.variance, epsilon);
        let [mean, variance] = [statistics.mean, statistics.variance].map(|row| tensor(row, &[channels]));
        (Self { input, samples, mean, inverse_deviation, scale, shift, relu, share }, variance)
    }

    fn affine(&self) -> cpu::Affine<'_> {
        cpu::Affine { scale: floats(&self.scale), shift: floats(&self.shift) }
    }

    fn normalised(&self) -> cpu::Normalised<'_> {
        cpu::Normalised {
            rows: floats(&self.input),
            samples: self.samples,
            mean: floats(&self.mean),
            inverse_deviation: &self.inverse_deviation,
            affine: self.affine(),
            relu: self.relu,
        }
    }
}

/// Batch normalisation of rows: output, mean and variance, and what the backward pass needs.
pub(super) fn forward(
    input: Floats,
    samples: usize,
    scale: Floats,
    shift: Floats,
    options: NormOptions,
) -> (Floats, [Floats; 2], NormState) {
    let shape = input.shape().to_vec();
    let mut output = memory::room(input.shape().num_elements());
    let name = name(&input, "forward");
    let (state, variance) = timed(
        || name,
        || {
            let (state, variance) = NormState::new(input, samples, scale, shift, options);
            let (rows, mean) = (floats(&state.input), floats(&state.mean));
            cpu::normalise(rows, mean, &state.inverse_deviation, state.affine(), state.relu, &mut output);
            (state, variance)
        },
    );
    (tensor(output, &shape), [state.mean.clone(), variance], state)
}

/// Batch normalisation of images and the convolution behind it, which makes the normalised images strip by strip, each time
/// it reads them: output, mean and variance, and what the backward passes of both need.
pub(super) fn forward_into_convolution(
    shape: ConvShape,
    input: Floats,
    scale: Floats,
    shift: Floats,
    weight: Floats,
    options: ConvNormOptions,
) -> (Floats, [Floats; 2], (NormState, ConvState)) {
    let ConvNormOptions { conv, norm } = options;
    let name = name(&input, "statistics");
    let (state, variance) = timed(|| name, || NormState::new(input, shape.batch, scale, shift, norm));
    let on_the_way = state.normalised().normalisation();
    let input = state.input.clone();
    let (output, conv) =
        convolution::conv_forward_of_normalised(shape, conv.arithmetic, input, on_the_way, weight);
    (output, [state.mean.clone(), variance], (state, conv))
}

/// Gradients of input, scale and shift.
pub(super) fn backward(state: NormState, gradient: Floats) -> [Floats; 3] {
    let gradient = contiguous(gradient);
    let own =
        timed(|| name(&state.input, "sums"), || cpu::affine_gradient(state.normalised(), floats(&gradient)));
    to_input(state, own, gradient)
}

/// The same of [`forward_into_convolution`], with the gradient of the weight. `wanted` are the gradients of the input or its
/// normalisation, and of the weight.
pub(super) fn backward_through_convolution(
    norm: NormState,
    conv: ConvState,
    gradient: Floats,
    wanted: [bool; 2],
) -> (Option<[Floats; 3]>, Option<Floats>) {
    if wanted == [true; 2] && conv.is_fused() {
        let (for_input, own, for_weight) =
            convolution::backward_through_norm(conv, norm.normalised(), gradient);
        return (Some(to_input(norm, own, for_input)), Some(for_weight));
    }
    let [input, weight] = wanted;
    let gradients = convolution::conv_backward(conv, gradient, Wanted { input, weight, bias: false });
    (gradients.input.map(|gradient| backward(norm, gradient)), gradients.weight)
}

/// [`backward`] behind the sums over the batch.
fn to_input(state: NormState, own: cpu::AffineGradient, mut gradient: Floats) -> [Floats; 3] {
    let gradients = timed(
        || name(&state.input, "backward"),
        || {
            let whole = state.share.as_ref().map(|share| {
                let (read, add) = (cpu::AffineGradient::from_numbers, cpu::AffineGradient::add);
                (share.total(&own.numbers(), read, add), share.of())
            });
            let (total, samples) = whole.as_ref().map_or((&own, state.samples), |(total, of)| (total, *of));
            cpu::input_gradient(state.normalised(), total, samples, gradient.storage_mut());
            // Those of all shares are added with the other gradients.
            let cpu::AffineGradient { scale, shift } = own;
            let channels = scale.len();
            [gradient, tensor(scale, &[channels]), tensor(shift, &[channels])]
        },
    );
    memory::reuse(state.input);
    gradients
}
