//! When to save within an epoch.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Section `save`: how often to save within an epoch. Results do not depend on it; every epoch ends with a save.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SaveConfig {
    /// Save after every this many steps; null: do not count steps.
    #[schemars(range(min = 1))]
    pub every_steps: Option<usize>,
    /// Save when this many minutes have passed since the last save; null: do not go by time.
    #[schemars(range(max = MAX_MINUTES), extend("exclusiveMinimum" = 0))]
    pub every_minutes: Option<f64>,
}

impl Default for SaveConfig {
    fn default() -> Self {
        Self { every_steps: None, every_minutes: Some(10.0) }
    }
}

impl SaveConfig {
    /// Checks every value against its range.
    pub fn validate(&self) -> Result<()> {
        if self.every_steps == Some(0) {
            return Err(Error::config("save.every_steps", "must be at least 1, got 0"));
        }
        match self.every_minutes {
            Some(minutes) if !(minutes > 0.0 && minutes <= MAX_MINUTES) => Err(Error::config(
                "save.every_minutes",
                format!("must be over 0 and at most {MAX_MINUTES}, got {minutes}"),
            )),
            _ => Ok(()),
        }
    }
}

/// A week.
const MAX_MINUTES: f64 = 10_080.0;

/// Says when a save is due.
pub(super) struct SaveClock<'a> {
    config: &'a SaveConfig,
    last: Instant,
}

impl<'a> SaveClock<'a> {
    /// A clock that starts now.
    pub(super) fn new(config: &'a SaveConfig) -> Self {
        Self { config, last: Instant::now() }
    }

    /// Whether to save now, after so many steps of the epoch; if so, the clock restarts.
    pub(super) fn due(&mut self, steps: usize) -> bool {
        let by_steps = self.config.every_steps.is_some_and(|every| steps.is_multiple_of(every));
        let by_time = self
            .config
            .every_minutes
            .is_some_and(|minutes| self.last.elapsed() >= Duration::from_secs_f64(60.0 * minutes));
        if by_steps || by_time {
            self.last = Instant::now();
        }
        by_steps || by_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_is_due_by_steps_or_by_time() {
        let by_steps = SaveConfig { every_steps: Some(3), every_minutes: None };
        let mut clock = SaveClock::new(&by_steps);
        assert_eq!(
            [1, 2, 3, 4, 5, 6].map(|steps| clock.due(steps)),
            [false, false, true, false, false, true]
        );
        let by_time = SaveConfig { every_steps: None, every_minutes: Some(1e-12) };
        assert!(SaveClock::new(&by_time).due(1));
        assert!(!SaveClock::new(&SaveConfig::default()).due(1));
    }

    #[test]
    fn intervals_of_nothing_are_refused() {
        let steps = SaveConfig { every_steps: Some(0), ..SaveConfig::default() };
        assert!(steps.validate().is_err());
        for minutes in [0.0, -1.0, f64::NAN, 1e9] {
            let config = SaveConfig { every_minutes: Some(minutes), ..SaveConfig::default() };
            assert!(config.validate().is_err(), "{minutes}");
        }
    }
}
