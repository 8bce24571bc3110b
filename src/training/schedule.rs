//! The learning rate as a pure function of the step, so that resuming needs no state.

use std::f64::consts::PI;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A `schedule` section of the config.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// How the learning rate falls after the warm-up.
    pub kind: ScheduleKind,
    /// Share of all steps in which the learning rate rises from zero, at least 0 and under 1.
    pub warmup: f64,
}

/// Shapes of a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// It does not.
    #[default]
    Constant,
    /// In a straight line to zero.
    Linear,
    /// Along half a cosine to zero (Loshchilov and Hutter 2017, without restarts).
    Cosine,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { kind: ScheduleKind::Constant, warmup: 0.0 }
    }
}

impl ScheduleConfig {
    /// Checks every value against its range; `section` names it in the message.
    pub fn validate(&self, section: &str) -> Result<()> {
        if (0.0..1.0).contains(&self.warmup) {
            return Ok(());
        }
        let problem = format!("must be at least 0 and under 1, got {}", self.warmup);
        Err(Error::config(format!("{section}.warmup"), problem))
    }

    /// What the learning rate is multiplied by in step `step` (counted from 0) of `total`.
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        let total = total.max(1) as f64;
        let warmup = self.warmup * total;
        let step = step as f64;
        if step < warmup {
            return (step + 1.0) / (warmup + 1.0);
        }
        let passed = ((step - warmup) / (total - warmup)).clamp(0.0, 1.0);
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - passed,
            ScheduleKind::Cosine => 0.5 * (1.0 + (PI * passed).cos()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind, warmup: f64) -> ScheduleConfig {
        ScheduleConfig { kind, warmup }
    }

    #[test]
    fn values_are_those_on_paper() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(schedule(ScheduleKind::Constant, 0.0).factor(70, 100), 1.0);
        close(schedule(ScheduleKind::Linear, 0.0).factor(25, 100), 0.75);
        close(schedule(ScheduleKind::Cosine, 0.0).factor(50, 100), 0.5);
        close(schedule(ScheduleKind::Cosine, 0.0).factor(0, 100), 1.0);
        close(schedule(ScheduleKind::Cosine, 0.0).factor(100, 100), 0.0);
        close(schedule(ScheduleKind::Linear, 0.2).factor(9, 100), 10.0 / 21.0);
        close(schedule(ScheduleKind::Linear, 0.2).factor(60, 100), 0.5);
    }
}
