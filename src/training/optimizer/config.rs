//! The `optimizer` sections of the config: each rule has its own keys, and a key of another rule is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An optimizer and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct OptimizerConfig {
    /// Step size before the schedule changes it, over 0 and at most 10.
    pub learning_rate: f64,
    /// How a gradient becomes an update.
    pub rule: Rule,
}

/// The rules there are. Weight decay is applied to weights (rank 2 and over), never to biases or norm parameters.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Adam (Kingma and Ba 2015), without weight decay.
    Adam(Moments),
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019).
    Adamw {
        /// As Adam's.
        moments: Moments,
        /// Share of a weight that is lost in a step, divided by the learning rate.
        weight_decay: f64,
    },
    /// Gradient descent with momentum, in PyTorch's form.
    Sgd {
        /// Decay of the velocity and whether it looks ahead.
        momentum: Momentum,
        /// Share of a weight that is added to its gradient.
        weight_decay: f64,
    },
    /// Muon (Jordan et al. 2024) for the weights except those of the last layer.
    Muon {
        /// Decay of the velocity and whether it looks ahead.
        momentum: Momentum,
        /// Share of a weight that is lost in a step, divided by the learning rate.
        weight_decay: f64,
        /// The rule of biases, norm parameters and the last layer, with its own learning rate.
        others: Box<OptimizerConfig>,
    },
}

/// Constants of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// Decay of the mean of gradients, in 0..1.
    pub beta_1: f64,
    /// Decay of the mean of squared gradients, in 0..1.
    pub beta_2: f64,
    /// Added to the root of that mean, over 0 and at most 1.
    pub epsilon: f64,
}

/// How gradients of earlier steps go on to count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// Decay of the velocity in a step, in 0..1.
    pub decay: f64,
    /// Whether the update takes the velocity as it will be after the next step (Sutskever et al. 2013).
    pub nesterov: bool,
}

/// The optimizers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OptimizerKind {
    /// Adam (Kingma and Ba 2015): `beta_1`, `beta_2`, `epsilon`.
    #[default]
    Adam,
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019): the keys of adam and `weight_decay`.
    Adamw,
    /// Gradient descent: `momentum`, `nesterov`, `weight_decay`.
    Sgd,
    /// Orthogonalised momentum (Jordan et al. 2024): `momentum`, `nesterov`, `weight_decay`, `others`.
    Muon,
}

impl OptimizerKind {
    fn name(self) -> &'static str {
        match self {
            Self::Adam => "adam",
            Self::Adamw => "adamw",
            Self::Sgd => "sgd",
            Self::Muon => "muon",
        }
    }
}

/// The keys as written. What is absent takes the rule's default; a key that the rule does not have is refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    /// Optimizer: `adam`, `adamw`, `sgd` or `muon`.
    kind: OptimizerKind,
    /// Learning rate, before the schedule changes it. Default: 0.001 (adam, adamw), 0.1 (sgd), 0.02 (muon).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10), extend("exclusiveMinimum" = 0))]
    learning_rate: Option<f64>,
    /// adam, adamw: decay of the mean of gradients. Default: 0.9.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    beta_1: Option<f64>,
    /// adam, adamw: decay of the mean of squared gradients. Default: 0.999.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    beta_2: Option<f64>,
    /// adam, adamw: added to the square root of that mean. Default: 1e-7 (Keras').
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    epsilon: Option<f64>,
    /// sgd, muon: momentum. Default: 0.9 (sgd), 0.95 (muon).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    momentum: Option<f64>,
    /// sgd, muon: whether to use Nesterov momentum. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    nesterov: Option<bool>,
    /// adamw, sgd, muon: weight decay, never applied to biases and norm parameters. sgd adds it to the gradient; in the
    /// others it is decoupled and scaled by the learning rate. Default: 0.01 (adamw), 0.0005 (sgd), 0 (muon).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    weight_decay: Option<f64>,
    /// muon: the optimizer for biases, norm parameters and the last layer; any kind but muon. Default: adam.
    #[serde(skip_serializing_if = "Option::is_none")]
    others: Option<Box<OptimizerConfig>>,
}

impl Keys {
    fn moments(&mut self) -> Moments {
        let default = Moments::default();
        Moments {
            beta_1: self.beta_1.take().unwrap_or(default.beta_1),
            beta_2: self.beta_2.take().unwrap_or(default.beta_2),
            epsilon: self.epsilon.take().unwrap_or(default.epsilon),
        }
    }

    fn momentum(&mut self, default: f64) -> Momentum {
        Momentum {
            decay: self.momentum.take().unwrap_or(default),
            nesterov: self.nesterov.take().unwrap_or(true),
        }
    }

    fn weight_decay(&mut self, default: f64) -> f64 {
        self.weight_decay.take().unwrap_or(default)
    }

    /// The first key that no one has taken.
    fn left_over(&self) -> Option<&'static str> {
        let keys = [
            ("learning_rate", self.learning_rate.is_some()),
            ("beta_1", self.beta_1.is_some()),
            ("beta_2", self.beta_2.is_some()),
            ("epsilon", self.epsilon.is_some()),
            ("momentum", self.momentum.is_some()),
            ("nesterov", self.nesterov.is_some()),
            ("weight_decay", self.weight_decay.is_some()),
            ("others", self.others.is_some()),
        ];
        keys.into_iter().find_map(|(key, left)| left.then_some(key))
    }
}

impl TryFrom<Keys> for OptimizerConfig {
    type Error = String;

    fn try_from(mut keys: Keys) -> Result<Self, String> {
        let (learning_rate, rule) = match keys.kind {
            OptimizerKind::Adam => (1e-3, Rule::Adam(keys.moments())),
            OptimizerKind::Adamw => {
                let moments = keys.moments();
                // PyTorch's default.
                let weight_decay = keys.weight_decay(0.01);
                (1e-3, Rule::Adamw { moments, weight_decay })
            }
            OptimizerKind::Sgd => {
                let momentum = keys.momentum(0.9);
                // Step size, momentum and decay of Gidaris, Singh, Komodakis 2018, section 4.1.
                let weight_decay = keys.weight_decay(5e-4);
                (0.1, Rule::Sgd { momentum, weight_decay })
            }
            OptimizerKind::Muon => {
                // Step size and momentum of <https://github.com/KellerJordan/Muon>.
                let rule = Rule::Muon {
                    momentum: keys.momentum(0.95),
                    weight_decay: keys.weight_decay(0.0),
                    others: keys.others.take().unwrap_or_default(),
                };
                (0.02, rule)
            }
        };
        let learning_rate = keys.learning_rate.take().unwrap_or(learning_rate);
        let kind = keys.kind.name();
        match keys.left_over() {
            Some(key) => Err(format!("`{key}` is not a key of {kind}")),
            None => Ok(Self { learning_rate, rule }),
        }
    }
}

impl From<OptimizerConfig> for Keys {
    fn from(config: OptimizerConfig) -> Self {
        let mut keys = Self { learning_rate: Some(config.learning_rate), ..Self::default() };
        match config.rule {
            Rule::Adam(moments) => keys.put_moments(OptimizerKind::Adam, moments),
            Rule::Adamw { moments, weight_decay } => {
                keys.put_moments(OptimizerKind::Adamw, moments);
                keys.weight_decay = Some(weight_decay);
            }
            Rule::Sgd { momentum, weight_decay } => {
                keys.put_momentum(OptimizerKind::Sgd, momentum, weight_decay)
            }
            Rule::Muon { momentum, weight_decay, others } => {
                keys.put_momentum(OptimizerKind::Muon, momentum, weight_decay);
                keys.others = Some(others);
            }
        }
        keys
    }
}

impl Keys {
    fn put_moments(&mut self, kind: OptimizerKind, moments: Moments) {
        self.kind = kind;
        self.beta_1 = Some(moments.beta_1);
        self.beta_2 = Some(moments.beta_2);
        self.epsilon = Some(moments.epsilon);
    }

    fn put_momentum(&mut self, kind: OptimizerKind, momentum: Momentum, weight_decay: f64) {
        self.kind = kind;
        self.momentum = Some(momentum.decay);
        self.nesterov = Some(momentum.nesterov);
        self.weight_decay = Some(weight_decay);
    }
}

impl Default for Moments {
    /// Keras' constants.
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }
    }
}

impl Default for OptimizerConfig {
    /// Keras' Adam.
    fn default() -> Self {
        Self { learning_rate: 1e-3, rule: Rule::Adam(Moments::default()) }
    }
}

impl OptimizerConfig {
    /// Checks every value against its range; `section` names it in the message.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key, the range and the value.
    pub fn validate(&self, section: &str) -> Result<()> {
        let check = Check { section };
        let rate = self.learning_rate;
        check.that("learning_rate", rate, rate > 0.0 && rate <= 10.0, "over 0 and at most 10")?;
        match &self.rule {
            Rule::Adam(moments) => check.moments(moments),
            Rule::Adamw { moments, weight_decay } => {
                check.moments(moments)?;
                check.weight_decay(*weight_decay)
            }
            Rule::Sgd { momentum, weight_decay } => {
                check.below_one("momentum", momentum.decay)?;
                check.weight_decay(*weight_decay)
            }
            Rule::Muon { momentum, weight_decay, others } => {
                check.below_one("momentum", momentum.decay)?;
                check.weight_decay(*weight_decay)?;
                let section = format!("{section}.others");
                if matches!(others.rule, Rule::Muon { .. }) {
                    let problem = "must be adam, adamw or sgd, got muon";
                    return Err(Error::config(format!("{section}.kind"), problem));
                }
                others.validate(&section)
            }
        }
    }
}

struct Check<'a> {
    section: &'a str,
}

impl Check<'_> {
    fn that(&self, key: &str, value: f64, fits: bool, range: &str) -> Result<()> {
        if fits {
            return Ok(());
        }
        let problem = format!("must be {range}, got {value}");
        Err(Error::config(format!("{}.{key}", self.section), problem))
    }

    fn below_one(&self, key: &str, value: f64) -> Result<()> {
        self.that(key, value, (0.0..1.0).contains(&value), "at least 0 and under 1")
    }

    fn weight_decay(&self, value: f64) -> Result<()> {
        let fits = (0.0..=1.0).contains(&value);
        self.that("weight_decay", value, fits, "at least 0 and at most 1")
    }

    fn moments(&self, moments: &Moments) -> Result<()> {
        self.below_one("beta_1", moments.beta_1)?;
        self.below_one("beta_2", moments.beta_2)?;
        let epsilon = moments.epsilon;
        self.that("epsilon", epsilon, epsilon > 0.0 && epsilon <= 1.0, "over 0 and at most 1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<OptimizerConfig, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn a_rule_writes_its_own_keys_and_reads_them_back() {
        for kind in ["adam", "adamw", "sgd", "muon"] {
            let config = parse(&format!(r#"{{"kind": "{kind}"}}"#)).unwrap();
            config.validate("optimizer").unwrap();
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(parse(&text).unwrap(), config, "{text}");
            assert_eq!(text.contains("beta_1"), kind != "sgd", "{text}");
        }
        assert_eq!(parse("{}").unwrap(), OptimizerConfig::default());
    }

    #[test]
    fn keys_of_another_rule_and_values_out_of_range_are_refused_by_name() {
        let problem = |text: &str| match parse(text) {
            Ok(config) => config.validate("optimizer").unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(problem(r#"{"kind": "sgd", "beta_1": 0.9}"#).contains("`beta_1` is not a key of sgd"));
        assert!(problem(r#"{"weight_decay": 0.1}"#).contains("`weight_decay` is not a key of adam"));
        assert_eq!(
            problem(r#"{"kind": "sgd", "momentum": 1}"#),
            "optimizer.momentum: must be at least 0 and under 1, got 1"
        );
        assert_eq!(
            problem(r#"{"kind": "muon", "others": {"kind": "muon"}}"#),
            "optimizer.others.kind: must be adam, adamw or sgd, got muon"
        );
        assert_eq!(
            problem(r#"{"kind": "muon", "others": {"learning_rate": 0}}"#),
            "optimizer.others.learning_rate: must be over 0 and at most 10, got 0"
        );
    }
}
