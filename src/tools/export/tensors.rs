//! Parameters of a network, and how they become those of other programs.

use crate::model::Parameters;

/// Parameters under the names of the checkpoint, and what stands in front of these in a file of whole networks.
pub(super) struct Tensors<'a> {
    parameters: &'a Parameters,
    prefix: &'static str,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(parameters: &'a Parameters, prefix: &'static str) -> Self {
        Self { parameters, prefix }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a String> + use<'a> {
        self.parameters.keys()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters.contains_key(name)
    }

    /// The name in a file of whole networks.
    pub(super) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Shape and numbers of a parameter.
    pub(super) fn get(&self, name: &str) -> Result<(Vec<usize>, &'a [f32]), String> {
        let data = self.parameters.get(name).ok_or_else(|| format!("`{name}` is missing"))?;
        let values = data.as_slice::<f32>().map_err(|_| format!("`{name}` is not of 32-bit floats"))?;
        Ok((data.shape().to_vec(), values))
    }

    /// The sizes of a parameter that has `D` axes.
    pub(super) fn sizes<const D: usize>(&self, name: &str) -> Result<[usize; D], String> {
        let (shape, _) = self.get(name)?;
        shape.try_into().map_err(|shape| format!("`{name}` has an unknown shape {shape:?}"))
    }
}

/// Where the values of an array of shape `[shape[axes[0]], shape[axes[1]], ...]` lie in one of `shape`.
pub(super) fn permuted(shape: [usize; 4], axes: [usize; 4]) -> Vec<usize> {
    let strides = [shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1];
    let [a, b, c, d] = axes.map(|axis| (shape[axis], strides[axis]));
    let mut order = Vec::with_capacity(shape.iter().product());
    for i in 0..a.0 {
        for j in 0..b.0 {
            for k in 0..c.0 {
                order.extend((0..d.0).map(|l| i * a.1 + j * b.1 + k * c.1 + l * d.1));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_change_places() {
        // [1, 1, 2, 3] to [3, 2, 1, 1]: a transposed matrix.
        assert_eq!(permuted([1, 1, 2, 3], [3, 2, 0, 1]), [0, 3, 1, 4, 2, 5]);
        // Two places of two channels to one output: channels first.
        assert_eq!(permuted([1, 2, 2, 1], [3, 2, 1, 0]), [0, 2, 1, 3]);
    }
}
