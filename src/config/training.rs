//! The keys that `pretrain` and `finetune` share, and their ranges.

use super::{MAX_EPOCHS, in_range};
use crate::data::DataConfig;
use crate::error::{Error, Result};
use crate::training::{Keep, OptimizerConfig, ScheduleConfig};

/// One section's values of them.
pub(crate) struct Common<'a> {
    pub section: &'static str,
    pub optimizer: &'a OptimizerConfig,
    pub schedule: &'a ScheduleConfig,
    pub label_smoothing: f64,
    pub clip_norm: Option<f64>,
    pub weight_average: Option<f64>,
    pub keep: Keep,
    pub patience: Option<usize>,
}

impl Common<'_> {
    pub(super) fn validate(&self, data: &DataConfig) -> Result<()> {
        self.optimizer.validate(&self.key("optimizer"))?;
        self.schedule.validate(&self.key("schedule"))?;
        let smooth = (0.0..1.0).contains(&self.label_smoothing);
        self.check("label_smoothing", self.label_smoothing, smooth, "at least 0 and under 1")?;
        if let Some(norm) = self.clip_norm {
            self.check("clip_norm", norm, norm > 0.0 && norm.is_finite(), "over 0")?;
        }
        if let Some(decay) = self.weight_average {
            self.check("weight_average", decay, decay > 0.0 && decay < 1.0, "over 0 and under 1")?;
        }
        self.selection(data)
    }

    /// Choices by validation accuracy need a validation split.
    fn selection(&self, data: &DataConfig) -> Result<()> {
        if let Some(patience) = self.patience {
            in_range(&self.key("patience"), patience, 1, MAX_EPOCHS)?;
        }
        let chosen = match (self.keep, self.patience) {
            (Keep::Best, _) => "keep",
            (_, Some(_)) => "patience",
            _ => return Ok(()),
        };
        if data.validation_images > 0 {
            return Ok(());
        }
        let problem = "goes by a validation split, but data.validation_images is 0";
        Err(Error::config(self.key(chosen), problem))
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.section)
    }

    fn check(&self, key: &str, value: f64, fits: bool, range: &str) -> Result<()> {
        match fits {
            true => Ok(()),
            false => Err(Error::config(self.key(key), format!("must be {range}, got {value}"))),
        }
    }
}
