//! The norm of all gradients together.

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::model::Network;

/// Factor, at most 1, that brings the norm of all gradients together down to `most` (PyTorch's `clip_grad_norm_`).
///
/// The squares are summed on the host, parameter after parameter, in one order.
pub(super) fn factor<N: Network>(network: &N, gradients: &Gradients, most: f64) -> f32 {
    let mut squares = Squares { gradients, sum: 0.0 };
    network.visit(&mut squares);
    // PyTorch's 1e-6 keeps a norm of 0 from being divided by. A norm that is not a number leaves gradients as they
    // are, so that the loss shows it.
    (most / (squares.sum.sqrt() + 1e-6)).min(1.0) as f32
}

struct Squares<'a> {
    gradients: &'a Gradients,
    sum: f64,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad(self.gradients) {
            let numbers = gradient.into_data();
            self.sum +=
                numbers.iter::<f32>().fold(0.0, |sum, number| sum + f64::from(number) * f64::from(number));
        }
    }
}
