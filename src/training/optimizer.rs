//! Parameter updates. The state is kept by parameter name, so that a checkpoint can hold it.

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::{self, AdamStep};
use crate::model::Path;
use crate::model::{Network, Parameters};

/// An `optimizer` section of the config. The defaults are those of Keras.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The rule.
    pub kind: OptimizerKind,
    /// Step size, over 0 and at most 10.
    pub learning_rate: f64,
    /// Decay of the mean of gradients, in 0..1.
    pub beta_1: f64,
    /// Decay of the mean of squared gradients, in 0..1.
    pub beta_2: f64,
    /// Added to the root of that mean, over 0 and at most 1.
    pub epsilon: f64,
}

/// The rules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam (Kingma and Ba 2015).
    Adam,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adam,
            learning_rate: 1e-3,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
        }
    }
}

impl OptimizerConfig {
    /// Checks every value against its range; `section` names it in the message.
    pub fn validate(&self, section: &str) -> Result<()> {
        let check = |key: &str, value: f64, fits: bool, range: &str| {
            if fits {
                return Ok(());
            }
            let problem = format!("must be {range}, got {value}");
            Err(Error::config(format!("{section}.{key}"), problem))
        };
        let rate = self.learning_rate;
        check(
            "learning_rate",
            rate,
            rate > 0.0 && rate <= 10.0,
            "over 0 and at most 10",
        )?;
        for (key, beta) in [("beta_1", self.beta_1), ("beta_2", self.beta_2)] {
            check(
                key,
                beta,
                (0.0..1.0).contains(&beta),
                "at least 0 and under 1",
            )?;
        }
        let epsilon = self.epsilon;
        check(
            "epsilon",
            epsilon,
            epsilon > 0.0 && epsilon <= 1.0,
            "over 0 and at most 1",
        )
    }
}

/// Both moments of one parameter, flattened.
#[derive(Clone)]
struct Moments {
    first: Tensor<1>,
    second: Tensor<1>,
}

/// An optimizer and its state.
pub struct Optimizer {
    config: OptimizerConfig,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

impl Optimizer {
    /// An optimizer that has not made a step.
    pub fn new(config: &OptimizerConfig) -> Self {
        Self {
            config: config.clone(),
            steps: 0,
            moments: BTreeMap::new(),
        }
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.config.learning_rate
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates every parameter that has a gradient.
    pub fn step<N: Network>(&mut self, network: N, gradients: &mut Gradients) -> N {
        self.steps += 1;
        let (beta_1, beta_2) = (self.config.beta_1, self.config.beta_2);
        let steps = self.steps as f64;
        let correction = (1.0 - beta_2.powf(steps)).sqrt() / (1.0 - beta_1.powf(steps));
        let step = AdamStep {
            step_size: (self.config.learning_rate * correction) as f32,
            beta_1: beta_1 as f32,
            beta_2: beta_2 as f32,
            epsilon: self.config.epsilon as f32,
        };
        network.map(&mut Update {
            path: Path::default(),
            moments: &mut self.moments,
            gradients,
            step,
        })
    }

    /// The state as named tensors: `first.NAME` and `second.NAME`.
    pub fn state(&self) -> Parameters {
        let mut state = Parameters::new();
        for (name, moments) in &self.moments {
            state.insert(format!("first.{name}"), moments.first.clone().into_data());
            state.insert(format!("second.{name}"), moments.second.clone().into_data());
        }
        state
    }

    /// Goes on from a saved state.
    ///
    /// # Errors
    /// What is missing or left over in it.
    pub fn restore(
        &mut self,
        steps: u64,
        mut state: Parameters,
        device: &Device,
    ) -> Result<(), String> {
        self.steps = steps;
        let names: Vec<String> = state
            .keys()
            .filter_map(|key| key.strip_prefix("first.").map(str::to_owned))
            .collect();
        for name in names {
            let mut take = |prefix: &str| -> Result<Tensor<1>, String> {
                let key = format!("{prefix}.{name}");
                let data: TensorData = state.remove(&key).ok_or(format!("`{key}` is missing"))?;
                Ok(Tensor::from_data(data, device))
            };
            let moments = Moments {
                first: take("first")?,
                second: take("second")?,
            };
            self.moments.insert(name, moments);
        }
        match state.keys().next() {
            Some(key) => Err(format!("`{key}` belongs to no parameter")),
            None => Ok(()),
        }
    }
}

struct Update<'a> {
    path: Path,
    moments: &'a mut BTreeMap<String, Moments>,
    gradients: &'a mut Gradients,
    step: AdamStep,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let tensor = match tensor.grad_remove(self.gradients) {
            None => tensor,
            Some(gradient) => {
                let updated = self.update(tensor.inner(), gradient);
                Tensor::from_inner(updated).require_grad()
            }
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

impl Update<'_> {
    fn update<const D: usize>(&mut self, tensor: Tensor<D>, gradient: Tensor<D>) -> Tensor<D> {
        let shape = tensor.dims();
        let length = shape.iter().product::<usize>();
        let moments = self.moments.remove(&self.path.name()).unwrap_or_else(|| {
            let zeros = || Tensor::zeros([length], &tensor.device());
            Moments {
                first: zeros(),
                second: zeros(),
            }
        });
        let (parameter, first, second) = kernels::adam(
            tensor.reshape([length]),
            gradient.reshape([length]),
            moments.first,
            moments.second,
            self.step,
        );
        self.moments
            .insert(self.path.name(), Moments { first, second });
        parameter.reshape(shape)
    }
}
