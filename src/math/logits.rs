//! What rows of logits, or of any scores, say: the best class and the probabilities of all.

use std::iter::Sum;
use std::ops::{Div, Sub};

use super::functions;

/// `f32` or `f64`.
pub trait Real: Copy + PartialOrd + Sub<Output = Self> + Div<Output = Self> + Sum {
    /// e to the power of the number.
    fn exp(self) -> Self;
}

impl Real for f32 {
    fn exp(self) -> Self {
        functions::exp_f32(self)
    }
}

impl Real for f64 {
    fn exp(self) -> Self {
        functions::exp(self)
    }
}

/// Index of the largest number; the first one among equals.
pub fn argmax<T: PartialOrd>(row: &[T]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    best
}

/// Turns logits `[samples, classes]` into probabilities, in place; each row then adds up to 1.
pub fn softmax<T: Real>(logits: &mut [T], classes: usize) {
    for row in logits.chunks_exact_mut(classes) {
        // Relative to the largest: the same probabilities, and no overflow.
        let largest = row[argmax(row)];
        row.iter_mut().for_each(|value| *value = (*value - largest).exp());
        let sum: T = row.iter().copied().sum();
        row.iter_mut().for_each(|value| *value = *value / sum);
    }
}

/// Turns logits `[samples, classes]` into the logarithms of their probabilities, in place.
pub fn log_softmax(logits: &mut [f64], classes: usize) {
    for row in logits.chunks_exact_mut(classes) {
        let largest = row[argmax(row)];
        let sum: f64 = row.iter().map(|value| functions::exp(value - largest)).sum();
        let logarithm = largest + functions::ln(sum);
        row.iter_mut().for_each(|value| *value -= logarithm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_is_the_largest() {
        assert_eq!(argmax(&[0.5, 2.0, 2.0, -1.0]), 1);
        assert_eq!(argmax::<f32>(&[]), 0);
    }

    #[test]
    fn probabilities_are_as_by_hand_and_do_not_overflow() {
        let mut logits = [0.0, functions::ln_f32(3.0), 1_000.0, 1_000.0];
        softmax(&mut logits, 2);
        assert!((logits[1] - 0.75).abs() < 1e-6 && logits[2] == 0.5);
        let mut logits = [-1_000.0_f64, -1_000.0 + functions::ln(3.0)];
        softmax(&mut logits, 2);
        assert!((logits[1] - 0.75).abs() < 1e-12);
        let mut logits = [-1_000.0, -1_000.0 + functions::ln(3.0)];
        log_softmax(&mut logits, 2);
        assert!((logits[1] - functions::ln(0.75)).abs() < 1e-12);
    }
}
