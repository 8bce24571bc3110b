//! The stages of the pipeline. Each reads top to bottom as a recipe; they pass on files, never values.

mod budget;
mod dry_run;
mod encode;
mod evaluate;
mod extract;
mod finetune;
mod held_out;
mod measure;
mod memory;
mod pretext;
mod pretrain;
mod probe;
mod resume;
mod training_stage;
mod warnings;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use burn::tensor::Device;

use crate::config::Config;
use crate::data::Dataset;
use crate::device;
use crate::device::environment::Environment;
use crate::error::{Error, Result};
use crate::progress::Stage;
use crate::store::checkpoint::DatasetLabel;
use crate::store::replacement::Work;
use crate::store::run_directory::{Existing, RunDirectory, RunLock};
use crate::store::run_record::Execution;
use crate::store::stage_directory::StageDirectory;

pub use budget::within_budget;
pub use dry_run::{DryRun, Part, dry_run, forecast};
pub(crate) use encode::features;
pub use evaluate::{
    Arm, EvaluateSummary, LabelCount, LeftOut, ProbeResult, RotationAccuracy, RotationReport, Verdict,
    evaluate,
};
pub(crate) use extract::describe;
pub use extract::{ExtractSummary, extract};
pub use finetune::{FinetuneSummary, Sources, finetune, test_classifier, train_classifier};
pub(crate) use held_out::pretraining_split;
pub use pretrain::{PretrainSummary, pretrain};

/// What a stage needs to know besides its section of the config.
#[derive(Clone)]
pub struct Context {
    /// The run directory.
    pub run: RunDirectory,
    /// The resolved config.
    pub config: Config,
    /// The device that keeps the parameters, without automatic differentiation.
    pub device: Device,
    /// All devices that training is spread over, `device` first.
    pub devices: Vec<Device>,
    /// Default directory of generated and downloaded data sets.
    pub data_home: PathBuf,
    /// What to do about existing results.
    pub existing: Existing,
    /// Accept a data set other than the one the checkpoint was trained on.
    pub allow_data_mismatch: bool,
    lock: Arc<OnceLock<RunLock>>,
}

impl Context {
    /// A context on the devices that the config names.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if one of them cannot be used.
    pub fn new(run: RunDirectory, config: Config, data_home: PathBuf, existing: Existing) -> Result<Self> {
        let devices = config.all_devices().iter().map(device::open).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            device: devices[0].clone(),
            devices,
            run,
            config,
            data_home,
            existing,
            allow_data_mismatch: false,
            lock: Arc::default(),
        })
    }

    /// Locks the run for this process, as long as the context lives.
    fn take(&self) -> Result<()> {
        if self.lock.get().is_none() {
            let lock = self.run.lock()?;
            self.run.remove_leftovers();
            self.lock.get_or_init(|| lock);
        }
        Ok(())
    }

    /// Checks before any work whether a stage may write its results; writes nothing but the lock of an existing run.
    ///
    /// # Errors
    /// [`Error::OutputExists`], [`Error::RunInUse`].
    fn check(&self, place: &StageDirectory) -> Result<()> {
        if self.run.root().exists() {
            self.take()?;
        }
        match self.existing {
            Existing::Refuse if place.holds_results() => {
                Err(Error::OutputExists { path: place.path().to_path_buf() })
            }
            _ => Ok(()),
        }
    }

    /// Locks the run and makes room for a stage's results, after all checks; writes the config first.
    fn begin(&self, stage: Stage) -> Result<Work> {
        self.take()?;
        let work = Work::begin(self.run.files(stage), self.existing)?;
        self.config.write(&work.directory().config())?;
        Ok(work)
    }

    /// The directory to resume the stage in, if it is to be resumed and has a checkpoint.
    fn resumed(&self, stage: Stage) -> Option<StageDirectory> {
        let directory = self.run.files(stage).to_resume();
        (self.existing == Existing::Resume && directory.checkpoint().exists()).then_some(directory)
    }

    /// Moves a finished stage into place and records it as the latest.
    fn finish(&self, stage: Stage, work: Work) -> Result<()> {
        let execution = Execution::ending_now(stage.name(), work.started(), self.environment());
        self.run.record_finished(execution, Some(stage))?;
        work.finish()
    }

    fn environment(&self) -> Environment {
        self.config.environment()
    }
}

fn label(dataset: &Dataset) -> DatasetLabel {
    DatasetLabel { name: dataset.name.clone(), fingerprint: dataset.fingerprint.clone() }
}
