//! The learning rate over a run, as a pure function of the step and the number of steps in all.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::math::functions;

/// How the learning rate changes during training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct ScheduleConfig {
    /// Share of all steps in which the learning rate rises, in 0..1.
    pub warmup: f64,
    /// What it does then.
    pub course: Course,
}

/// The courses there are. `start` and `end` are shares of the optimizer's learning rate.
#[derive(Clone, Debug, PartialEq)]
pub enum Course {
    /// Stays.
    Constant,
    /// Falls in a straight line.
    Linear {
        /// Reached after the last step.
        end: f64,
    },
    /// Falls along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts).
    Cosine {
        /// Reached after the last step.
        end: f64,
    },
    /// Rises and falls along half a cosine each (Smith and Topin 2019; PyTorch's `OneCycleLR`).
    OneCycle {
        /// At the first step.
        start: f64,
        /// At the last step.
        end: f64,
    },
    /// Falls at once at certain times.
    Steps {
        /// The times, as shares of all steps, ascending.
        milestones: Vec<f64>,
        /// What the learning rate is multiplied by at each.
        decay: f64,
    },
}

/// The shapes of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum ScheduleKind {
    /// Stays at the optimizer's learning rate.
    #[default]
    Constant,
    /// Falls in a straight line to `end`.
    Linear,
    /// Falls along half a cosine to `end` (Loshchilov and Hutter 2017).
    Cosine,
    /// Rises from `start` along half a cosine while `warmup` lasts, then falls to `end` (Smith and Topin 2019).
    OneCycle,
    /// Is multiplied by `decay` at each of the `milestones`.
    Steps,
}

impl ScheduleKind {
    fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::OneCycle => "one-cycle",
            Self::Steps => "steps",
        }
    }
}

/// The keys as written. What is absent takes the kind's default; a key that the kind does not have is refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    /// Shape: `constant`, `linear`, `cosine`, `one-cycle` or `steps`.
    kind: ScheduleKind,
    /// Length of the warm-up, as a share of all steps. The learning rate rises linearly from 0; with one-cycle from
    /// `start`, along half a cosine. Default: 0 (one-cycle: 0.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    warmup: Option<f64>,
    /// one-cycle: learning rate at the first step, as a share of the optimizer's. Default: 0.04.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    start: Option<f64>,
    /// linear, cosine, one-cycle: learning rate at the end, as a share of the optimizer's. Default: 0
    /// (one-cycle: 0.000004).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    end: Option<f64>,
    /// steps: when the learning rate falls, as ascending shares of all steps. Default: 0.3, 0.6, 0.8.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1),
        extend("items" = { "type": "number", "minimum": 0, "exclusiveMaximum": 1 })
    )]
    milestones: Option<Vec<f64>>,
    /// steps: what the learning rate is multiplied by at each milestone. Default: 0.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    decay: Option<f64>,
}

impl Keys {
    /// The first key that no one has taken.
    fn left_over(&self) -> Option<&'static str> {
        let keys = [
            ("start", self.start.is_some()),
            ("end", self.end.is_some()),
            ("milestones", self.milestones.is_some()),
            ("decay", self.decay.is_some()),
        ];
        keys.into_iter().find_map(|(key, left)| left.then_some(key))
    }
}

impl TryFrom<Keys> for ScheduleConfig {
    type Error = String;

    fn try_from(mut keys: Keys) -> Result<Self, String> {
        let course = match keys.kind {
            ScheduleKind::Constant => Course::Constant,
            ScheduleKind::Linear => Course::Linear { end: keys.end.take().unwrap_or(0.0) },
            ScheduleKind::Cosine => Course::Cosine { end: keys.end.take().unwrap_or(0.0) },
            // PyTorch's: pct_start 0.3, div_factor 25, final_div_factor 10,000.
            ScheduleKind::OneCycle => Course::OneCycle {
                start: keys.start.take().unwrap_or(0.04),
                end: keys.end.take().unwrap_or(4e-6),
            },
            // Gidaris, Singh, Komodakis 2018, section 4.1: times 0.2 after 60, 120 and 160 of 200 epochs.
            ScheduleKind::Steps => Course::Steps {
                milestones: keys.milestones.take().unwrap_or(vec![0.3, 0.6, 0.8]),
                decay: keys.decay.take().unwrap_or(0.2),
            },
        };
        let rising = if keys.kind == ScheduleKind::OneCycle { 0.3 } else { 0.0 };
        let kind = keys.kind.name();
        match keys.left_over() {
            Some(key) => Err(format!("`{key}` is not a key of {kind}")),
            None => Ok(Self { warmup: keys.warmup.unwrap_or(rising), course }),
        }
    }
}

impl From<ScheduleConfig> for Keys {
    fn from(config: ScheduleConfig) -> Self {
        let mut keys = Self { warmup: Some(config.warmup), ..Self::default() };
        match config.course {
            Course::Constant => {}
            Course::Linear { end } => (keys.kind, keys.end) = (ScheduleKind::Linear, Some(end)),
            Course::Cosine { end } => (keys.kind, keys.end) = (ScheduleKind::Cosine, Some(end)),
            Course::OneCycle { start, end } => {
                (keys.kind, keys.start, keys.end) = (ScheduleKind::OneCycle, Some(start), Some(end));
            }
            Course::Steps { milestones, decay } => {
                keys.kind = ScheduleKind::Steps;
                (keys.milestones, keys.decay) = (Some(milestones), Some(decay));
            }
        }
        keys
    }
}

impl Default for ScheduleConfig {
    /// The optimizer's learning rate throughout.
    fn default() -> Self {
        Self { warmup: 0.0, course: Course::Constant }
    }
}

impl ScheduleConfig {
    /// What the optimizer's learning rate is multiplied by in step `step` (from 0) of `total`.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        let (step, total) = (step as f64, total as f64);
        let warm = self.warmup * total;
        if let Course::OneCycle { start, end } = self.course {
            let peak = (self.warmup * total - 1.0).max(0.0);
            return match step < peak {
                true => half_cosine(start, 1.0, progress(step, peak)),
                false => half_cosine(1.0, end, progress(step - peak, total - 1.0 - peak)),
            };
        }
        if step < warm {
            // Goyal et al. 2017, section 2.2, with the step after the last of the warm-up at the full rate.
            return (step + 1.0) / (warm + 1.0);
        }
        let progress = progress(step - warm, total - warm);
        match &self.course {
            Course::Constant | Course::OneCycle { .. } => 1.0,
            Course::Linear { end } => 1.0 + (end - 1.0) * progress,
            Course::Cosine { end } => half_cosine(1.0, *end, progress),
            Course::Steps { milestones, decay } => {
                let passed = |share: &&f64| step >= (**share * total).round();
                milestones.iter().filter(passed).fold(1.0, |factor, _| factor * decay)
            }
        }
    }

    /// Checks every value against its range; `section` names it in the message.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key, the range and the value.
    pub fn validate(&self, section: &str) -> Result<()> {
        let refuse = |key: &str, range: &str, value: &dyn std::fmt::Debug| {
            let problem = format!("must be {range}, got {value:?}");
            Err(Error::config(format!("{section}.{key}"), problem))
        };
        if !(0.0..1.0).contains(&self.warmup) {
            return refuse("warmup", "at least 0 and under 1", &self.warmup);
        }
        let shares: &[(&str, f64)] = match &self.course {
            Course::Constant => &[],
            Course::Linear { end } | Course::Cosine { end } => &[("end", *end)],
            Course::OneCycle { start, end } => &[("start", *start), ("end", *end)],
            Course::Steps { milestones, decay } => {
                let inside = milestones.iter().all(|share| (0.0..1.0).contains(share));
                if !inside || !milestones.is_sorted() || milestones.is_empty() {
                    let range = "at least one share of the steps, each at least 0 and under 1, ascending";
                    return refuse("milestones", range, milestones);
                }
                &[("decay", *decay)]
            }
        };
        let outside = |(_, share): &&(&str, f64)| !(0.0..=1.0).contains(share);
        match shares.iter().find(outside) {
            Some((key, share)) => refuse(key, "at least 0 and at most 1", share),
            None => Ok(()),
        }
    }
}

/// How far `done` is on the way to `span`, 0 to 1.
fn progress(done: f64, span: f64) -> f64 {
    if span > 0.0 { (done / span).min(1.0) } else { 1.0 }
}

fn half_cosine(from: f64, to: f64, progress: f64) -> f64 {
    to + (from - to) * (1.0 + functions::cos(PI * progress)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> ScheduleConfig {
        let schedule: ScheduleConfig = serde_json::from_str(text).unwrap();
        schedule.validate("schedule").unwrap();
        schedule
    }

    fn assert_factors(text: &str, total: u64, expected: &[(u64, f64)]) {
        let schedule = schedule(text);
        for (step, expected) in expected {
            let found = schedule.factor(*step, total);
            assert!((found - expected).abs() < 1e-7, "{text} step {step}: {found} {expected}");
        }
    }

    #[test]
    fn steps_are_the_papers_by_default() {
        // Gidaris et al. 2018: 0.1, 0.02, 0.004, 0.0008 from epochs 0, 60, 120, 160; here 391 steps an epoch.
        let expected = [(0, 1.0), (59, 1.0), (60, 0.2), (119, 0.2), (120, 0.04), (160, 0.008), (199, 0.008)];
        let expected = expected.map(|(epoch, factor)| (epoch * 391, factor));
        assert_factors(r#"{"kind": "steps"}"#, 200 * 391, &expected);
        assert_factors(r#"{"kind": "steps"}"#, 200 * 391, &[(60 * 391 - 1, 1.0)]);
    }

    #[test]
    fn cosine_and_linear_fall_over_the_steps_after_the_warm_up() {
        assert_factors(r#"{"kind": "cosine"}"#, 100, &[(0, 1.0), (25, 0.853_553_39), (50, 0.5), (100, 0.0)]);
        assert_factors(
            r#"{"kind": "cosine", "warmup": 0.2, "end": 0.1}"#,
            100,
            &[(0, 1.0 / 21.0), (19, 20.0 / 21.0), (20, 1.0), (60, 0.55), (100, 0.1)],
        );
        assert_factors(r#"{"kind": "linear", "end": 0.5}"#, 8, &[(0, 1.0), (4, 0.75), (8, 0.5)]);
        assert_factors(r#"{"warmup": 0.5}"#, 4, &[(0, 1.0 / 3.0), (1, 2.0 / 3.0), (2, 1.0), (3, 1.0)]);
    }

    #[test]
    fn one_cycle_is_that_of_pytorch() {
        // torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1, total_steps=10), whose phases end at steps 2 and 9.
        assert_factors(
            r#"{"kind": "one-cycle"}"#,
            10,
            &[(0, 0.04), (1, 0.52), (2, 1.0), (5, 0.611_262_0), (9, 4e-6)],
        );
    }

    #[test]
    fn no_number_of_steps_gives_anything_but_a_share() {
        for kind in ["constant", "linear", "cosine", "one-cycle", "steps"] {
            let schedule = schedule(&format!(r#"{{"kind": "{kind}", "warmup": 0.9}}"#));
            for total in 0..12 {
                for step in 0..12 {
                    let factor = schedule.factor(step, total);
                    assert!((0.0..=1.0).contains(&factor), "{kind} {step} of {total}: {factor}");
                }
            }
            let text = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<ScheduleConfig>(&text).unwrap(), schedule);
        }
    }

    #[test]
    fn keys_of_another_kind_and_values_out_of_range_are_refused_by_name() {
        let problem = |text: &str| match serde_json::from_str::<ScheduleConfig>(text) {
            Ok(schedule) => schedule.validate("schedule").unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(problem(r#"{"end": 0.1}"#).contains("`end` is not a key of constant"));
        assert_eq!(problem(r#"{"warmup": 1}"#), "schedule.warmup: must be at least 0 and under 1, got 1.0");
        assert!(
            problem(r#"{"kind": "steps", "milestones": [0.6, 0.3]}"#).starts_with("schedule.milestones: ")
        );
        assert!(problem(r#"{"kind": "cosine", "end": -1}"#).starts_with("schedule.end: "));
    }
}
