//! Parameter updates. The state is kept by parameter name, so that a checkpoint can hold it.

mod muon;

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::ScheduleConfig;
use crate::error::{Error, Result};
use crate::kernels::{self, AdamStep};
use crate::model::{Network, Parameters, Path};

/// An `optimizer` section of the config. The defaults are those of Keras' Adam.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The rule.
    pub kind: OptimizerKind,
    /// Step size, over 0 and at most 10.
    pub learning_rate: f64,
    /// Adam: decay of the mean of gradients, in 0..1.
    pub beta_1: f64,
    /// Adam: decay of the mean of squared gradients, in 0..1.
    pub beta_2: f64,
    /// Adam: added to the root of that mean, over 0 and at most 1.
    pub epsilon: f64,
    /// SGD and Muon: share of the past gradients kept, in 0..1 (Nesterov's form).
    #[serde(skip_serializing_if = "is_default_momentum")]
    pub momentum: f64,
    /// Muon: step size of Adam for what is no hidden weight (biases, norms, the last layer), over 0 and at most 10.
    #[serde(skip_serializing_if = "is_default_rest")]
    pub rest_learning_rate: f64,
    /// Share of the weights (not of biases and norms) taken off a step, times the step size; 0 to 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub weight_decay: f64,
}

/// The rules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Adam (Kingma and Ba 2015); with weight decay it is AdamW (Loshchilov and Hutter 2019).
    Adam,
    /// Stochastic gradient descent with Nesterov momentum (Sutskever and others 2013).
    Sgd,
    /// Orthogonalised momentum for hidden weights (Jordan 2024), Adam for the rest.
    Muon,
}

/// Nesterov momentum of RotNet (Gidaris, Singh, Komodakis 2018).
const MOMENTUM: f64 = 0.9;
/// Keras' default for Adam.
const ADAM_RATE: f64 = 1e-3;

fn is_default_momentum(momentum: &f64) -> bool {
    *momentum == MOMENTUM
}

fn is_default_rest(rate: &f64) -> bool {
    *rate == ADAM_RATE
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Adam,
            learning_rate: ADAM_RATE,
            beta_1: 0.9,
            beta_2: 0.999,
            epsilon: 1e-7,
            momentum: MOMENTUM,
            rest_learning_rate: ADAM_RATE,
            weight_decay: 0.0,
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
        for (key, rate) in
            [("learning_rate", self.learning_rate), ("rest_learning_rate", self.rest_learning_rate)]
        {
            check(key, rate, rate > 0.0 && rate <= 10.0, "over 0 and at most 10")?;
        }
        for (key, share) in [("beta_1", self.beta_1), ("beta_2", self.beta_2), ("momentum", self.momentum)] {
            check(key, share, (0.0..1.0).contains(&share), "at least 0 and under 1")?;
        }
        let decay = self.weight_decay;
        check("weight_decay", decay, (0.0..=1.0).contains(&decay), "at least 0 and at most 1")?;
        let epsilon = self.epsilon;
        check("epsilon", epsilon, epsilon > 0.0 && epsilon <= 1.0, "over 0 and at most 1")
    }
}

/// What is remembered of one parameter's gradients, flattened.
#[derive(Clone)]
struct Moments {
    /// Mean of gradients (Adam) or momentum (SGD, Muon).
    first: Tensor<1>,
    /// Mean of squared gradients (Adam).
    second: Option<Tensor<1>>,
}

/// An optimizer and its state.
pub struct Optimizer {
    config: OptimizerConfig,
    schedule: ScheduleConfig,
    total_steps: u64,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

impl Optimizer {
    /// An optimizer that has not made a step, at a constant learning rate.
    pub fn new(config: &OptimizerConfig) -> Self {
        Self::with_schedule(config, ScheduleConfig::default(), 0)
    }

    /// An optimizer that has not made a step of `total_steps`.
    pub fn with_schedule(config: &OptimizerConfig, schedule: ScheduleConfig, total_steps: u64) -> Self {
        Self { config: config.clone(), schedule, total_steps, steps: 0, moments: BTreeMap::new() }
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.config.learning_rate * self.schedule.factor(self.steps, self.total_steps)
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates every parameter that has a gradient.
    pub fn step<N: Network>(&mut self, network: N, gradients: &mut Gradients) -> N {
        let factor = self.schedule.factor(self.steps, self.total_steps);
        self.steps += 1;
        network.map(&mut Update {
            path: Path::default(),
            config: &self.config,
            factor,
            steps: self.steps,
            moments: &mut self.moments,
            gradients,
        })
    }

    /// The state as named tensors: `first.NAME` and `second.NAME`.
    pub fn state(&self) -> Parameters {
        let mut state = Parameters::new();
        for (name, moments) in &self.moments {
            state.insert(format!("first.{name}"), moments.first.clone().into_data());
            if let Some(second) = &moments.second {
                state.insert(format!("second.{name}"), second.clone().into_data());
            }
        }
        state
    }

    /// Goes on from a saved state.
    ///
    /// # Errors
    /// What is left over in it.
    pub fn restore(&mut self, steps: u64, state: Parameters, device: &Device) -> Result<(), String> {
        self.steps = steps;
        let mut seconds = BTreeMap::new();
        let tensor = |data: TensorData| Tensor::<1>::from_data(data, device);
        for (key, data) in state {
            match (key.strip_prefix("first."), key.strip_prefix("second.")) {
                (Some(name), _) => {
                    let moments = Moments { first: tensor(data), second: None };
                    self.moments.insert(name.to_owned(), moments);
                }
                (None, Some(name)) => {
                    seconds.insert(name.to_owned(), tensor(data));
                }
                (None, None) => return Err(format!("`{key}` is no state of an optimizer")),
            }
        }
        for (name, second) in seconds {
            match self.moments.get_mut(&name) {
                Some(moments) => moments.second = Some(second),
                None => return Err(format!("`second.{name}` is without `first.{name}`")),
            }
        }
        Ok(())
    }
}

struct Update<'a> {
    path: Path,
    config: &'a OptimizerConfig,
    /// Of the schedule.
    factor: f64,
    /// This one included.
    steps: u64,
    moments: &'a mut BTreeMap<String, Moments>,
    gradients: &'a mut Gradients,
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
        let name = self.path.name();
        let moments = self.moments.remove(&name);
        let rate = self.config.learning_rate * self.factor;
        let (updated, moments) = match self.config.kind {
            OptimizerKind::Adam => self.adam(self.decayed(tensor, rate), gradient, moments, rate),
            OptimizerKind::Sgd => self.sgd(tensor, gradient, moments, rate),
            OptimizerKind::Muon if D >= 2 && !is_last_layer(&name) => {
                let (direction, moments) = self.momentum(gradient, moments);
                let change = muon::orthogonalised(direction).mul_scalar(rate);
                (self.decayed(tensor, rate) - change, moments)
            }
            OptimizerKind::Muon => {
                let rate = self.config.rest_learning_rate * self.factor;
                self.adam(self.decayed(tensor, rate), gradient, moments, rate)
            }
        };
        self.moments.insert(name, moments);
        updated
    }

    /// Weight decay apart from the gradient (Loshchilov and Hutter 2019), of weights only.
    fn decayed<const D: usize>(&self, tensor: Tensor<D>, rate: f64) -> Tensor<D> {
        match D >= 2 && self.config.weight_decay > 0.0 {
            true => tensor.mul_scalar(1.0 - rate * self.config.weight_decay),
            false => tensor,
        }
    }

    fn adam<const D: usize>(
        &self,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        moments: Option<Moments>,
        rate: f64,
    ) -> (Tensor<D>, Moments) {
        let shape = tensor.dims();
        let length = shape.iter().product::<usize>();
        let zeros = || Tensor::zeros([length], &tensor.device());
        let (first, second) = match moments {
            Some(moments) => (moments.first, moments.second.unwrap_or_else(zeros)),
            None => (zeros(), zeros()),
        };
        let (beta_1, beta_2) = (self.config.beta_1, self.config.beta_2);
        let steps = self.steps as f64;
        let correction = (1.0 - beta_2.powf(steps)).sqrt() / (1.0 - beta_1.powf(steps));
        let step = AdamStep {
            step_size: (rate * correction) as f32,
            beta_1: beta_1 as f32,
            beta_2: beta_2 as f32,
            epsilon: self.config.epsilon as f32,
        };
        let (tensor, gradient) = (tensor.reshape([length]), gradient.reshape([length]));
        let (parameter, first, second) = kernels::adam(tensor, gradient, first, second, step);
        let second = Some(second);
        (parameter.reshape(shape), Moments { first, second })
    }

    fn sgd<const D: usize>(
        &self,
        tensor: Tensor<D>,
        gradient: Tensor<D>,
        moments: Option<Moments>,
        rate: f64,
    ) -> (Tensor<D>, Moments) {
        let gradient = match D >= 2 && self.config.weight_decay > 0.0 {
            true => gradient + tensor.clone().mul_scalar(self.config.weight_decay),
            false => gradient,
        };
        let (direction, moments) = self.momentum(gradient, moments);
        (tensor - direction.mul_scalar(rate), moments)
    }

    /// `v = m v + g`; gives `g + m v` (Nesterov).
    fn momentum<const D: usize>(
        &self,
        gradient: Tensor<D>,
        moments: Option<Moments>,
    ) -> (Tensor<D>, Moments) {
        let shape = gradient.dims();
        let length = shape.iter().product::<usize>();
        let flat = gradient.reshape([length]);
        let kept = self.config.momentum;
        let first = match moments {
            Some(moments) => moments.first.mul_scalar(kept) + flat.clone(),
            None => flat.clone(),
        };
        let direction = flat + first.clone().mul_scalar(kept);
        let second = None;
        (direction.reshape(shape), Moments { first, second })
    }
}

/// The layer whose outputs are logits, which Muon leaves to Adam.
fn is_last_layer(name: &str) -> bool {
    ["head.", "output.", "classifier.output."].iter().any(|layer| name.starts_with(layer))
}
