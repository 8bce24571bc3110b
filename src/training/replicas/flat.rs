//! Many tensors as one flat buffer, and back.

use std::collections::BTreeMap;
use std::ops::Range;

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};

use crate::model::{Network, Path};

/// Tensors side by side in one buffer `[numbers]`, in the alphabetical order of their names: networks of one architecture
/// have one layout, in every process.
pub(super) struct Flat {
    /// Where each lies.
    pub places: BTreeMap<String, Range<usize>>,
    pub numbers: Tensor<1>,
}

impl Flat {
    /// Of `tensors`, with `more` numbers `[1]` without a name behind them; one of both is not empty.
    pub fn new(tensors: BTreeMap<String, Tensor<1>>, more: Vec<Tensor<1>>) -> Self {
        let mut end = 0;
        let places = tensors.iter().map(|(name, tensor)| {
            let start = end;
            end += tensor.dims()[0];
            (name.clone(), start..end)
        });
        let places = places.collect();
        let tensors = tensors.into_values().chain(more).collect();
        Self { places, numbers: Tensor::cat(tensors, 0) }
    }

    pub fn moved_to(self, device: &Device) -> Self {
        Self { numbers: self.numbers.to_device(device), ..self }
    }

    /// The tensor of that name, if there is one.
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Option<Tensor<D>> {
        let place = self.places.get(name)?;
        Some(self.numbers.clone().narrow(0, place.start, place.len()).reshape(shape))
    }

    /// One of the numbers without a name, `[1]`.
    pub fn more(&self, index: usize) -> Tensor<1> {
        let named = self.places.values().map(|place| place.len()).sum::<usize>();
        self.numbers.clone().narrow(0, named + index, 1)
    }
}

/// Takes the gradients of a network's parameters, flattened, by name.
pub(crate) fn gradients_by_name(
    network: &impl Network,
    gradients: &mut Gradients,
) -> BTreeMap<String, Tensor<1>> {
    gather(network, Wanted::Gradients(gradients))
}

/// The parameters of a network that have no place in `gradients`, flattened, by name.
pub(super) fn parameters_without(gradients: &Flat, network: &impl Network) -> BTreeMap<String, Tensor<1>> {
    gather(network, Wanted::ParametersWithout(&gradients.places))
}

fn gather(network: &impl Network, wanted: Wanted<'_>) -> BTreeMap<String, Tensor<1>> {
    let mut gather = Gather { path: Path::default(), wanted, found: BTreeMap::new() };
    network.visit(&mut gather);
    gather.found
}

/// What is taken of each parameter.
enum Wanted<'a> {
    Gradients(&'a mut Gradients),
    ParametersWithout(&'a BTreeMap<String, Range<usize>>),
}

struct Gather<'a> {
    path: Path,
    wanted: Wanted<'a>,
    found: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Gather<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        let tensor = match &mut self.wanted {
            Wanted::Gradients(gradients) => param.val().grad_remove(gradients),
            Wanted::ParametersWithout(places) => (!places.contains_key(&name)).then(|| param.val()),
        };
        self.found.extend(tensor.map(|tensor| (name, flat(tensor))));
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let length = tensor.shape().num_elements();
    tensor.reshape([length])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

    #[test]
    fn tensors_come_back_from_the_flat_buffer_as_they_went_in() {
        let tensor = |numbers: &[f32]| Tensor::<1>::from_floats(numbers, &Device::flex());
        let named = [("b", tensor(&[5.0, 6.0])), ("a", tensor(&[1.0, 2.0, 3.0, 4.0]))];
        let tensors = named.map(|(name, tensor)| (name.to_owned(), tensor)).into();
        let flat = Flat::new(tensors, vec![tensor(&[7.0]), tensor(&[8.0])]);
        let numbers: Vec<f32> = flat.numbers.clone().into_data().iter::<f32>().collect();
        assert_eq!(numbers, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let a = flat.tensor("a", [2, 2]).unwrap();
        assert_eq!(a.into_data(), TensorData::from([[1.0f32, 2.0], [3.0, 4.0]]));
        let b = flat.tensor("b", [2]).unwrap();
        assert_eq!(b.into_data(), TensorData::from([5.0f32, 6.0]));
        assert!(flat.tensor("c", [1]).is_none());
        assert_eq!(flat.more(1).into_scalar::<f32>(), 8.0);
    }
}
