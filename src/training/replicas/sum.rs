//! How what the parts of a step computed is added up: the one place that decides on the order.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::math::units::add_up;

/// Adds flat buffers (gradients, loss, right answers) over everyone who computed a part of a step.
///
/// A buffer is a tensor `[numbers]`, so that buffers of graphics cards and workers are added where they are; on `flex`
/// its numbers can be had as a slice without a copy. An implementation over several processes exchanges those.
pub trait GradientSum: Debug + Send + Sync {
    /// Processes that take part, this one included. Where it is 1 and the process has but one part, nothing is added
    /// and no buffer made.
    fn processes(&self) -> usize;

    /// The sum over all parts of all processes, number by number and along the tree of the batch. `parts` are those of this
    /// process in the order of the batch, at least one, each with its merges (see `add_up`); they have one length and are
    /// on one device, which the sum is on too. Every process gets the same sum.
    fn sum(&self, parts: Vec<(Tensor<1>, usize)>) -> Tensor<1>;
}

/// The parts of one process, which are the whole batch.
#[derive(Debug)]
pub(super) struct AlongTheTree;

impl GradientSum for AlongTheTree {
    fn processes(&self) -> usize {
        1
    }

    fn sum(&self, parts: Vec<(Tensor<1>, usize)>) -> Tensor<1> {
        let mut sums = add_up(parts, |earlier, later| *earlier = earlier.clone() + later);
        sums.pop().expect("a step has at least one part").0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn parts_are_added_along_the_tree() {
        let part =
            |(number, merges): (f32, usize)| (Tensor::from_floats([number, 1.0], &Device::flex()), merges);
        let sum = |parts: [(f32, usize); 4]| -> Vec<f32> {
            AlongTheTree.sum(parts.map(part).into()).into_data().iter::<f32>().collect()
        };
        // 1e8 + 1 is 1e8 in 32 bits, so that each order has its own sum.
        assert_eq!(sum([(1e8, 0), (1.0, 1), (-1e8, 0), (3e8, 2)]), [3e8, 4.0]);
        assert_eq!(sum([(1e8, 0), (-1e8, 1), (1.0, 0), (1.0, 2)]), [2.0, 4.0]);
        assert_eq!(sum([(1.0, 0), (1e8, 1), (-1e8, 1), (1.0, 1)]), [1.0, 4.0]);
    }
}
