//! A moving average of the parameters, better than the last ones where the learning rate is still large
//! (Polyak and Juditsky 1992).

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Tensor, TensorData};

use crate::model::{Network, Parameters, Path};

/// Averages by parameter name, flattened.
pub(super) struct Average {
    decay: f64,
    parameters: BTreeMap<String, Tensor<1>>,
}

impl Average {
    pub(super) fn new(decay: f64) -> Self {
        Self { decay, parameters: BTreeMap::new() }
    }

    /// Adds a parameter's value after step `step`, counted from 1.
    pub(super) fn add(&mut self, name: &str, parameter: Tensor<1>, step: u64) {
        // Short memory at first, as in TensorFlow's ExponentialMovingAverage with `num_updates`.
        let early = (1.0 + step as f64) / (10.0 + step as f64);
        let decay = self.decay.min(early) as f32;
        let average = match self.parameters.remove(name) {
            Some(average) => average * decay + parameter * (1.0 - decay),
            None => parameter,
        };
        self.parameters.insert(name.to_owned(), average);
    }

    /// The network with its parameters replaced by their averages, where there are any.
    pub(super) fn put_into<N: Network>(&self, network: N) -> N {
        put_into(network, &self.parameters)
    }

    /// Resumes from saved averages; parameters that are not `averaged` (running statistics) are left out.
    pub(super) fn restore(&mut self, saved: Parameters, averaged: impl Fn(&str) -> bool, device: &Device) {
        let flat = |(name, data): (String, TensorData)| {
            let numbers: Vec<f32> = data.iter::<f32>().collect();
            let length = numbers.len();
            let data = TensorData::new(numbers, [length]);
            (name, Tensor::from_data(data, device))
        };
        self.parameters = saved.into_iter().filter(|(name, _)| averaged(name)).map(flat).collect();
    }
}

/// The network with its parameters replaced by those in `parameters` (flattened, by name), where there are any.
pub(in crate::training) fn put_into<N: Network>(network: N, parameters: &BTreeMap<String, Tensor<1>>) -> N {
    network.map(&mut Replace { path: Path::default(), parameters })
}

struct Replace<'a> {
    path: Path,
    parameters: &'a BTreeMap<String, Tensor<1>>,
}

impl ModuleMapper for Replace<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.parameters.get(&self.path.name()) {
            Some(average) => param.map(|old| average.clone().reshape(old.dims())),
            None => param,
        }
    }
}
