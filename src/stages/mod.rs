//! The stages of the pipeline. Each reads top to bottom as its recipe; they hand over files, never values.

mod extract;
mod finetune;
mod pretrain;
mod training_stage;

use std::path::PathBuf;

use burn::tensor::Device;

use crate::checkpoint::DatasetLabel;
use crate::config::Config;
use crate::data::Dataset;
use crate::environment::Environment;
use crate::error::Result;
use crate::run_directory::{Existing, RunDirectory};

pub use extract::{ExtractSummary, extract};
pub use finetune::{FinetuneSummary, Sources, finetune};
pub use pretrain::{PretrainSummary, pretrain};

/// What a stage needs to know besides its section of the config.
pub struct Context {
    /// Where the run's files are.
    pub run: RunDirectory,
    /// As resolved.
    pub config: Config,
    /// Without automatic differentiation.
    pub device: Device,
    /// Where generated and downloaded data sets lie by default.
    pub data_home: PathBuf,
    /// What to do about results that are already there.
    pub existing: Existing,
}

impl Context {
    /// A context on the device that the config names.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if the device cannot be used.
    pub fn new(run: RunDirectory, config: Config, data_home: PathBuf, existing: Existing) -> Result<Self> {
        Ok(Self { device: config.device.open()?, run, config, data_home, existing })
    }

    fn environment(&self) -> Environment {
        Environment::current(self.config.device)
    }
}

fn label(dataset: &Dataset) -> DatasetLabel {
    DatasetLabel { name: dataset.name.clone(), fingerprint: dataset.fingerprint.clone() }
}
