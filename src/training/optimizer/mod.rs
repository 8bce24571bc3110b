//! Parameter updates. The state is kept by parameter name, so that a checkpoint can hold it.

mod average;
mod clip;
mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor};

use crate::kernels::{self, AdamStep, SgdStep};
use crate::math::functions;
use crate::model::{Network, Parameters, Path, collect};
use crate::training::ScheduleConfig;

use average::Average;
pub(super) use average::put_into;

pub use config::{Moments, Momentum, OptimizerConfig, Rule};

/// Running sums of one parameter by name, each flattened.
type Sums = BTreeMap<&'static str, Tensor<1>>;

/// Mean of gradients (Adam).
const FIRST: &str = "first";
/// Mean of squared gradients (Adam).
const SECOND: &str = "second";
/// Decaying sum of gradients (SGD, Muon).
const VELOCITY: &str = "velocity";
/// Prefix of the names of parameters that are saved beside their average.
const RAW: &str = "raw.";

/// An optimizer and its state.
pub struct Optimizer {
    config: OptimizerConfig,
    schedule: ScheduleConfig,
    total_steps: u64,
    steps: u64,
    sums: BTreeMap<String, Sums>,
    clip_norm: Option<f64>,
    average: Option<Average>,
    part: Option<(&'static str, f64)>,
}

impl Optimizer {
    /// A fresh optimizer with a constant learning rate.
    pub fn new(config: &OptimizerConfig) -> Self {
        Self {
            config: config.clone(),
            schedule: ScheduleConfig::default(),
            total_steps: 0,
            steps: 0,
            sums: BTreeMap::new(),
            clip_norm: None,
            average: None,
            part: None,
        }
    }

    /// Scales all gradients down together if their norm exceeds `norm`.
    pub fn with_clipping(self, norm: Option<f64>) -> Self {
        Self { clip_norm: norm, ..self }
    }

    /// Multiplies the learning rate of the parameters whose names begin with `part` by `factor`.
    pub fn with_rate_of(self, part: &'static str, factor: f64) -> Self {
        Self { part: Some((part, factor)), ..self }
    }

    /// Keeps a moving average of the parameters, with `decay` per step.
    pub fn with_average(self, decay: Option<f64>) -> Self {
        Self { average: decay.map(Average::new), ..self }
    }

    /// Follows `schedule` over `total_steps`, including those already made.
    pub fn with_schedule(self, schedule: &ScheduleConfig, total_steps: u64) -> Self {
        Self { schedule: schedule.clone(), total_steps, ..self }
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.config.learning_rate * self.factor()
    }

    fn factor(&self) -> f64 {
        self.schedule.factor(self.steps, self.total_steps)
    }

    /// Steps made so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Updates every parameter that has a gradient.
    pub fn step<N: Network>(&mut self, network: N, gradients: &mut Gradients) -> N {
        let factor = self.factor();
        let shrink = self.clip_norm.map_or(1.0, |norm| clip::factor(&network, gradients, norm));
        self.steps += 1;
        network.map(&mut Update {
            path: Path::default(),
            last_layers: N::LAST_LAYERS,
            config: &self.config,
            factor,
            steps: self.steps,
            sums: &mut self.sums,
            average: self.average.as_mut(),
            gradients,
            shrink,
            part: self.part,
        })
    }

    /// Whether it averages the parameters.
    pub fn averages(&self) -> bool {
        self.average.is_some()
    }

    /// The network without automatic differentiation: with the averaged parameters, where an average is kept, and the
    /// running statistics of `network` itself.
    pub fn evaluated<N: Network>(&self, network: &N) -> N {
        let network = network.valid();
        match &self.average {
            Some(average) => average.put_into(network),
            None => network,
        }
    }

    /// What resuming needs besides [`Self::evaluated`], as named tensors: `first.NAME` and `second.NAME`, or
    /// `velocity.NAME`, and where an average is kept, `raw.NAME`, the parameters of `network` themselves.
    pub fn state<N: Network>(&self, network: &N) -> Parameters {
        let named = |name: &String, (sum, tensor): (&&'static str, &Tensor<1>)| {
            (format!("{sum}.{name}"), tensor.clone().into_data())
        };
        let sums = self.sums.iter();
        let mut state: Parameters =
            sums.flat_map(|(name, sums)| sums.iter().map(move |sum| named(name, sum))).collect();
        if self.average.is_some() {
            let raw = collect(network).into_iter();
            state.extend(raw.map(|(name, data)| (format!("{RAW}{name}"), data)));
        }
        state
    }

    /// Resumes from a saved state and the saved parameters of [`Self::evaluated`]; returns the parameters to train.
    ///
    /// # Errors
    /// What the state lacks, or holds of another optimizer.
    pub fn restore(
        &mut self,
        steps: u64,
        mut state: Parameters,
        evaluated: Parameters,
        device: &Device,
    ) -> Result<Parameters, String> {
        let raw: Parameters = state
            .extract_if(.., |key, _| self.average.is_some() && key.starts_with(RAW))
            .map(|(key, data)| (key[RAW.len()..].to_owned(), data))
            .collect();
        let sums = self.sums_of(state, device)?;
        let parameters = match &mut self.average {
            None => evaluated,
            Some(_) if !raw.keys().eq(evaluated.keys()) => {
                return Err("a part of the weights behind the average is missing".into());
            }
            Some(average) => {
                average.restore(evaluated, |name| sums.contains_key(name), device);
                raw
            }
        };
        (self.steps, self.sums) = (steps, sums);
        Ok(parameters)
    }

    fn sums_of(&self, state: Parameters, device: &Device) -> Result<BTreeMap<String, Sums>, String> {
        let kept = self.config.rule.kept();
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        for (key, data) in state {
            let known = |sum: &&'static str| {
                let name = key.strip_prefix(*sum)?.strip_prefix('.')?;
                Some((*sum, name.to_owned()))
            };
            let Some((sum, name)) = kept.iter().flat_map(|sums| *sums).find_map(known) else {
                return Err(format!("`{key}` belongs to another optimizer"));
            };
            let tensor = Tensor::from_data(data, device);
            sums.entry(name).or_default().insert(sum, tensor);
        }
        for (name, found) in &sums {
            let whole = |sums: &&[&'static str]| sums.iter().eq(found.keys());
            if !kept.iter().any(whole) {
                return Err(format!("a part of the optimizer's `{name}` is missing"));
            }
        }
        Ok(sums)
    }
}

impl Rule {
    /// The sums kept for a parameter, in alphabetical order; several lists where rules differ by parameter.
    fn kept(&self) -> Vec<&'static [&'static str]> {
        match self {
            Self::Adam(_) | Self::Adamw { .. } => vec![&[FIRST, SECOND]],
            Self::Sgd { .. } => vec![&[VELOCITY]],
            Self::Muon { others, .. } => {
                let mut kept = others.rule.kept();
                kept.push(&[VELOCITY]);
                kept
            }
        }
    }
}

struct Update<'a> {
    path: Path,
    last_layers: &'static [&'static str],
    config: &'a OptimizerConfig,
    /// The schedule's, on every learning rate.
    factor: f64,
    /// Including this one.
    steps: u64,
    sums: &'a mut BTreeMap<String, Sums>,
    average: Option<&'a mut Average>,
    gradients: &'a mut Gradients,
    /// What gradients are multiplied by.
    shrink: f32,
    /// A prefix of parameter names, and a factor on their learning rate.
    part: Option<(&'static str, f64)>,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
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
        let shape = tensor.dims();
        let length = shape.iter().product::<usize>();
        let (tensor, mut gradient) = (tensor.reshape([length]), gradient.reshape([length]));
        if self.shrink < 1.0 {
            gradient = gradient * self.shrink;
        }
        let sums = self.sums.remove(&name).unwrap_or_default();
        let weight = D >= 2;
        let config = match &self.config.rule {
            Rule::Muon { others, .. } if !weight || self.is_last(&name) => others,
            _ => self.config,
        };
        let step = Step {
            rate: config.learning_rate * self.factor * self.share(&name),
            steps: self.steps,
            weight,
            parameter: tensor,
            gradient,
            sums,
        };
        let outputs = shape.last().copied().unwrap_or(1);
        let (tensor, sums) = match &config.rule {
            Rule::Adam(moments) => step.adam(moments, 0.0),
            Rule::Adamw { moments, weight_decay } => step.adam(moments, *weight_decay),
            Rule::Sgd { momentum, weight_decay } => step.sgd(*momentum, *weight_decay),
            Rule::Muon { momentum, weight_decay, .. } => {
                step.muon([length / outputs, outputs], *momentum, *weight_decay)
            }
        };
        if let Some(average) = &mut self.average {
            average.add(&name, tensor.clone(), self.steps);
        }
        self.sums.insert(name, sums);
        tensor.reshape(shape)
    }

    fn share(&self, name: &str) -> f64 {
        self.part.filter(|(part, _)| name.starts_with(part)).map_or(1.0, |(_, factor)| factor)
    }

    fn is_last(&self, name: &str) -> bool {
        let mut rests = self.last_layers.iter().filter_map(|layer| name.strip_prefix(layer));
        rests.any(|rest| rest.starts_with('.'))
    }
}

/// What a rule needs to update one parameter.
struct Step {
    /// Learning rate.
    rate: f64,
    /// Steps made, including this one.
    steps: u64,
    /// Whether weight decay applies.
    weight: bool,
    parameter: Tensor<1>,
    gradient: Tensor<1>,
    sums: Sums,
}

impl Step {
    /// A sum as the step before left it; zeros at the first step.
    fn sum(&mut self, name: &str) -> Tensor<1> {
        let zeros = || Tensor::zeros(self.gradient.shape(), &self.gradient.device());
        self.sums.remove(name).unwrap_or_else(zeros)
    }

    fn decay(&self, weight_decay: f64) -> f64 {
        if self.weight { weight_decay } else { 0.0 }
    }

    fn adam(mut self, moments: &Moments, weight_decay: f64) -> (Tensor<1>, Sums) {
        let steps = self.steps as f64;
        let [first, second] = [moments.beta_1, moments.beta_2].map(|beta| 1.0 - functions::pow(beta, steps));
        let step = AdamStep {
            step_size: (self.rate * (second.sqrt() / first)) as f32,
            beta_1: moments.beta_1 as f32,
            beta_2: moments.beta_2 as f32,
            epsilon: moments.epsilon as f32,
            keep: (1.0 - self.rate * self.decay(weight_decay)) as f32,
        };
        let (first, second) = (self.sum(FIRST), self.sum(SECOND));
        let (parameter, first, second) = kernels::adam(self.parameter, self.gradient, first, second, step);
        (parameter, Sums::from([(FIRST, first), (SECOND, second)]))
    }

    fn sgd(mut self, momentum: Momentum, weight_decay: f64) -> (Tensor<1>, Sums) {
        let step = SgdStep {
            learning_rate: self.rate as f32,
            momentum: momentum.decay as f32,
            nesterov: momentum.nesterov,
            weight_decay: self.decay(weight_decay) as f32,
        };
        let velocity = self.sum(VELOCITY);
        let (parameter, velocity) = kernels::sgd(self.parameter, self.gradient, velocity, step);
        (parameter, Sums::from([(VELOCITY, velocity)]))
    }

    /// `shape` is that of the parameter as a matrix of inputs and outputs: a convolution kernel
    /// `[kernel, kernel, in, out]` has kernel · kernel · in inputs.
    fn muon(mut self, shape: [usize; 2], momentum: Momentum, weight_decay: f64) -> (Tensor<1>, Sums) {
        let decay = momentum.decay as f32;
        let velocity = self.sum(VELOCITY) * decay + self.gradient.clone();
        let direction = match momentum.nesterov {
            true => velocity.clone() * decay + self.gradient,
            false => velocity.clone(),
        };
        let change = kernels::orthogonalise(direction.reshape(shape)).reshape([-1]);
        let change = change.mul_scalar(muon_scale(shape)).mul_scalar(self.rate);
        let kept = self.parameter.mul_scalar(1.0 - self.rate * weight_decay);
        (kept - change, Sums::from([(VELOCITY, velocity)]))
    }
}

/// Factor on Muon's learning rate for a matrix of `inputs` rows and `outputs` columns: sqrt(max(1, outputs / inputs)), as
/// in <https://github.com/KellerJordan/Muon>, whose matrices are the transposed.
fn muon_scale([inputs, outputs]: [usize; 2]) -> f32 {
    (outputs as f32 / inputs as f32).max(1.0).sqrt()
}
