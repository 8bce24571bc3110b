//! What rows of logits, or of any scores, say: the best class and the probabilities of all.

use std::iter::Sum;
use std::ops::{Div, Sub};

/// `f32` or `f64`.
pub trait Real: Copy + PartialOrd + Sub<Output = Self> + Div<Output = Self> + Sum {
    /// e to the power of the number.
    fn exp(self) -> Self;
}

impl Real for f32 {
    fn exp(self) -> Self {
        self.exp()
    }
}

impl Real for f64 {
    fn exp(self) -> Self {
        self.exp()
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
        let mut logits = [0.0, (3.0_f32).ln(), 1_000.0, 1_000.0];
        softmax(&mut logits, 2);
        assert!((logits[1] - 0.75).abs() < 1e-6 && logits[2] == 0.5);
        let mut logits = [-1_000.0_f64, -1_000.0 + 3.0_f64.ln()];
        softmax(&mut logits, 2);
        assert!((logits[1] - 0.75).abs() < 1e-12);
    }
}
