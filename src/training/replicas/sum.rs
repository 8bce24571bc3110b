//! How what the parts of a step computed is added up.

use burn::tensor::{Tensor, TensorData};

use crate::math::units::add_up;
use crate::ranks::Share;

/// The sum over the parts of one process, number by number and along the tree of the batch. `parts` are in the order of
/// the batch, at least one, each with its merges (see [`add_up`]); they have one length and are on one device, which the
/// sum is on too: buffers of graphics cards and workers are added where they are.
pub(super) fn along_the_tree(parts: Vec<(Tensor<1>, usize)>) -> Tensor<1> {
    let mut sums = add_up(parts, |earlier, later| *earlier = earlier.clone() + later);
    sums.pop().expect("a step has at least one part").0
}

/// The sum over the shares of all ranks, on the device of `mine`.
pub(super) fn over_ranks(share: &Share, mine: Tensor<1>) -> Tensor<1> {
    let device = mine.device();
    let numbers: Vec<f32> = mine.into_data().iter::<f32>().collect();
    let sum = share.sum(&numbers);
    let length = sum.len();
    Tensor::from_data(TensorData::new(sum, [length]), &device)
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
            along_the_tree(parts.map(part).into()).into_data().iter::<f32>().collect()
        };
        // 1e8 + 1 is 1e8 in 32 bits, so that each order has its own sum.
        assert_eq!(sum([(1e8, 0), (1.0, 1), (-1e8, 0), (3e8, 2)]), [3e8, 4.0]);
        assert_eq!(sum([(1e8, 0), (-1e8, 1), (1.0, 0), (1.0, 2)]), [2.0, 4.0]);
        assert_eq!(sum([(1.0, 0), (1e8, 1), (-1e8, 1), (1.0, 1)]), [1.0, 4.0]);
    }
}
