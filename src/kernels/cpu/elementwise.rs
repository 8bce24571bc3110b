//! Loops over plain slices that the compiler vectorises, compiled for each instruction set and chosen at run time.
//!
//! Multiplications and additions stay apart (no fused multiply-add), so every instruction set gives the same bytes.

use super::simd::arch;
use crate::kernels::{AdamStep, SgdStep};
use crate::math::functions::{exp_f32, ln_f32};
use crate::math::logits::argmax;
use crate::math::units::{add_up, units};

/// Gradients smaller than this (1.4e-17) count as zero in Adam, so that neither their square nor a share of it is denormal:
/// Intel's processors take a hundred times as long for such a product. A moment that is zero but for gradients like these
/// moves a parameter by less than a hundred-millionth of the step size.
const LEAST_GRADIENT: f32 = f32::from_bits((127 - 56) << 23);
/// Moments and velocities smaller than this (7.5e-37) become zero: a parameter without gradients would keep them denormal for
/// good. One Emerald Rapids core, the Keras program's network on made-up pixels, when most gradients have come to nothing:
/// 123 us a parameter, where it had been 8 at first.
const LEAST_MOMENT: f32 = f32::from_bits((127 - 120) << 23);

/// The value, or zero if it is smaller; what is not a number stays.
#[inline(always)]
fn at_least(least: f32, value: f32) -> f32 {
    if value.abs() < least { 0.0 } else { value }
}

/// One step of Adam on every element, in place.
pub fn adam_update(
    parameter: &mut [f32],
    gradient: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    step: &AdamStep,
) {
    let AdamStep { step_size, beta_1, beta_2, epsilon, keep } = *step;
    arch().run(
        #[inline(always)]
        || {
            let moments = moment_1.iter_mut().zip(moment_2.iter_mut());
            for ((parameter, gradient), (first, second)) in parameter.iter_mut().zip(gradient).zip(moments) {
                let gradient = at_least(LEAST_GRADIENT, *gradient);
                *first = at_least(LEAST_MOMENT, *first * beta_1 + gradient * (1.0 - beta_1));
                *second = at_least(LEAST_MOMENT, *second * beta_2 + gradient * gradient * (1.0 - beta_2));
                *parameter = *parameter * keep - *first / (second.sqrt() + epsilon) * step_size;
            }
        },
    );
}

/// One step of gradient descent with momentum on every element, in place.
pub fn sgd_update(parameter: &mut [f32], gradient: &[f32], velocity: &mut [f32], step: &SgdStep) {
    let SgdStep { learning_rate, momentum, nesterov, weight_decay } = *step;
    arch().run(
        #[inline(always)]
        || {
            for ((parameter, gradient), velocity) in
                parameter.iter_mut().zip(gradient).zip(velocity.iter_mut())
            {
                let gradient = gradient + *parameter * weight_decay;
                *velocity = at_least(LEAST_MOMENT, *velocity * momentum + gradient);
                let change = match nesterov {
                    true => gradient + *velocity * momentum,
                    false => *velocity,
                };
                *parameter -= change * learning_rate;
            }
        },
    );
}

/// Softmax cross-entropy of rows of `classes` logits.
///
/// Writes the gradient of the sum of the losses by the logits; gives that sum in nats, made of the units of the batch, and
/// the number of rows whose largest logit (the first one where several are) is that of the label. A row with a negative
/// label counts for nothing, and its gradient is zero; any other label that is no class gives NaN. The target is `1 - smoothing` on the label and `smoothing` spread over all classes.
pub fn softmax_cross_entropy(
    logits: &[f32],
    labels: &[i32],
    classes: usize,
    smoothing: f32,
    gradient: &mut [f32],
) -> (f32, f32) {
    let everywhere = smoothing / classes as f32;
    let mut correct = 0u32;
    let mut loss_of = |logits: &[f32], gradient: &mut [f32], label: i32| -> f64 {
        if label < 0 {
            gradient.fill(0.0);
            return 0.0;
        }
        let best = argmax(logits);
        let largest = logits[best];
        let mut sum = 0.0;
        for (gradient, logit) in gradient.iter_mut().zip(logits) {
            *gradient = exp_f32(logit - largest);
            sum += *gradient;
        }
        for gradient in gradient.iter_mut() {
            *gradient = *gradient / sum - everywhere;
        }
        let Some(label) = usize::try_from(label).ok().filter(|&label| label < classes) else {
            return f64::NAN;
        };
        gradient[label] -= 1.0 - smoothing;
        correct += u32::from(best == label);
        let mut loss = f64::from(ln_f32(sum) - (1.0 - smoothing) * (logits[label] - largest));
        if smoothing > 0.0 {
            let all: f32 = logits.iter().map(|logit| logit - largest).sum();
            loss -= f64::from(everywhere * all);
        }
        loss
    };
    let mut rows = logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(labels);
    let losses = units(labels.len()).into_iter().map(|unit| {
        let of_unit = rows.by_ref().take(unit.samples.len());
        let sum: f64 = of_unit.map(|((logits, gradient), &label)| loss_of(logits, gradient, label)).sum();
        (sum as f32, unit.merges)
    });
    let loss: f32 = add_up(losses, |earlier, later| *earlier += later).iter().map(|(loss, _)| loss).sum();
    (loss, correct as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::units::shares;

    #[test]
    fn the_loss_gradient_is_that_of_finite_differences() {
        let logits: Vec<f32> = (0..12).map(|n| ((n * 7) % 5) as f32 * 0.4 - 0.7).collect();
        let labels = [2, 0, 3];
        let mut gradient = vec![0.0; 12];
        for smoothing in [0.0, 0.1] {
            softmax_cross_entropy(&logits, &labels, 4, smoothing, &mut gradient);
            for index in 0..12 {
                let loss = |change: f32| {
                    let mut logits = logits.clone();
                    logits[index] += change;
                    softmax_cross_entropy(&logits, &labels, 4, smoothing, &mut [0.0; 12]).0
                };
                let numeric = (loss(1e-2) - loss(-1e-2)) / 2e-2;
                assert!((numeric - gradient[index]).abs() < 1e-4, "{numeric} {}", gradient[index]);
            }
        }
    }

    #[test]
    fn optimizers_keep_no_denormal_number() {
        let adam = AdamStep { step_size: 1e-3, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, keep: 1.0 };
        let (mut parameter, mut first, mut second) = ([1.0; 2], [1e-30, 0.0], [1e-36, 0.0]);
        for _ in 0..1000 {
            adam_update(&mut parameter, &[0.0, 1e-20], &mut first, &mut second, &adam);
            let moments = first.iter().chain(&second);
            assert!(moments.into_iter().all(|moment| *moment == 0.0 || moment.is_normal()));
        }
        assert_eq!((first, second), ([0.0; 2], [0.0; 2]));
        let sgd = SgdStep { learning_rate: 0.1, momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let mut velocity = [1e-30, f32::NAN];
        (0..1000).for_each(|_| sgd_update(&mut parameter, &[0.0; 2], &mut velocity, &sgd));
        assert!(velocity[0] == 0.0 && velocity[1].is_nan());
    }

    #[test]
    fn ties_go_to_the_first_class_and_a_nan_logit_gives_a_nan_loss() {
        let mut gradient = [0.0; 4];
        let (loss, correct) = softmax_cross_entropy(&[1.0, 1.0, 0.0, 0.0], &[0, 1], 2, 0.0, &mut gradient);
        assert!((loss - 2.0 * ln_f32(2.0)).abs() < 1e-6);
        assert_eq!(correct, 1.0);
        let (loss, _) = softmax_cross_entropy(&[f32::NAN, 0.0], &[1], 2, 0.0, &mut gradient[..2]);
        assert!(loss.is_nan());
    }

    #[test]
    fn a_row_without_a_label_counts_for_nothing() {
        let logits = [0.3, -0.2, 5.0, 1.0, 0.1, 0.4];
        let (mut all, mut labeled) = ([9.0; 6], [9.0; 4]);
        let (loss, correct) = softmax_cross_entropy(&logits, &[0, -1, 1], 2, 0.1, &mut all);
        let without = [logits[0], logits[1], logits[4], logits[5]];
        assert_eq!((loss, correct), softmax_cross_entropy(&without, &[0, 1], 2, 0.1, &mut labeled));
        assert_eq!(all, [labeled[0], labeled[1], 0.0, 0.0, labeled[2], labeled[3]]);
        let (loss, _) = softmax_cross_entropy(&logits, &[0, 2, 1], 2, 0.0, &mut all);
        assert!(loss.is_nan());
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let logits: Vec<f32> = (0..4 * 77).map(|n| ((n * 31) % 17) as f32 * 0.37 - 2.0).collect();
        let labels: Vec<i32> = (0..77).map(|n| n * 5 % 4).collect();
        let run = |samples: std::ops::Range<usize>| {
            let mut gradient = vec![0.0; 4 * samples.len()];
            let logits = &logits[4 * samples.start..4 * samples.end];
            let (loss, correct) = softmax_cross_entropy(logits, &labels[samples], 4, 0.1, &mut gradient);
            (loss, correct, gradient)
        };
        let whole = run(0..77);
        for count in 2..=8 {
            let parts = shares(77, count).into_iter().map(|unit| (run(unit.samples), unit.merges));
            let sums = add_up(parts, |earlier, later| {
                (earlier.0, earlier.1) = (earlier.0 + later.0, earlier.1 + later.1);
                earlier.2.extend(later.2);
            });
            assert!(sums[0].0 == whole, "{count}");
        }
    }
}
