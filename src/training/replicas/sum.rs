//! How what the parts of a step computed is added up: the one place that decides on the order.

use std::fmt::Debug;

use burn::tensor::Tensor;

/// Adds flat buffers (gradients, loss, right answers) over everyone who computed a part of a step.
///
/// A buffer is a tensor `[numbers]`, so that buffers of graphics cards and workers are added where they are; on `flex`
/// its numbers can be had as a slice without a copy. An implementation over several processes exchanges those.
pub trait GradientSum: Debug + Send + Sync {
    /// Processes that take part, this one included. Where it is 1 and the process has but one part, nothing is added
    /// and no buffer made.
    fn processes(&self) -> usize;

    /// The sum over all parts of all processes, number by number and in an order that depends on the parts alone. `parts`
    /// are those of this process in the order of the batch, at least one; they have one length and are on one device,
    /// which the sum is on too. Every process gets the same sum.
    fn sum(&self, parts: Vec<Tensor<1>>) -> Tensor<1>;
}

/// The parts of one process, the first plus the second, plus the third, and so on.
#[derive(Debug)]
pub(super) struct LeftToRight;

impl GradientSum for LeftToRight {
    fn processes(&self) -> usize {
        1
    }

    fn sum(&self, parts: Vec<Tensor<1>>) -> Tensor<1> {
        parts.into_iter().reduce(|sum, part| sum + part).expect("a step has at least one part")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn parts_are_added_from_left_to_right() {
        let part = |numbers: [f32; 2]| Tensor::from_floats(numbers, &Device::flex());
        let sum = |parts: [[f32; 2]; 3]| -> Vec<f32> {
            LeftToRight.sum(parts.map(part).into()).into_data().iter::<f32>().collect()
        };
        // 1e8 + 1 is 1e8 in 32 bits, so that each order has its own sum.
        assert_eq!(sum([[1e8, 1.0], [-1e8, 2.0], [1.0, 3.0]]), [1.0, 6.0]);
        assert_eq!(sum([[1e8, 1.0], [1.0, 2.0], [-1e8, 3.0]]), [0.0, 6.0]);
    }
}
