//! The stages of the pipeline. Each reads top to bottom as a recipe; they pass on files, never values.

mod budget;
mod calibration;
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
mod record;
mod resume;
mod take_over;
mod training_stage;
mod warnings;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use burn::tensor::Device;
use serde::{Serialize, de::DeserializeOwned};

use crate::config::{Config, FinetuneMode};
use crate::data::{self, Dataset};
use crate::device;
use crate::device::environment::Environment;
use crate::error::{Error, Result};
use crate::model::{ROTATIONS, Views};
use crate::progress::{Reporter, Stage};
use crate::ranks::{Alone, Ranks, barrier, refuse_too_many};
use crate::samples::Rotations;
use crate::store::checkpoint::DatasetLabel;
use crate::store::replacement::Work;
use crate::store::run_directory::{Existing, RunDirectory, RunLock};
use crate::store::run_record::Execution;
use crate::store::stage_directory::StageDirectory;

pub use budget::within_budget;
pub use calibration::Calibration;
pub use dry_run::{DryRun, Part, dry_run, forecast};
pub(crate) use encode::features;
pub use evaluate::{
    Arm, EvaluateSummary, LabelCount, LeftOut, ProbeResult, RotationAccuracy, RotationReport, Verdict,
    evaluate,
};
pub(crate) use extract::describe;
pub use extract::{ExtractSummary, extract};
pub use finetune::{
    FinetuneSummary, Round, RoundClass, Sources, finetune, test_classifier, train_classifier,
};
pub(crate) use held_out::pretraining_split;
pub use pretrain::{PretrainSummary, pretrain};
pub use take_over::{take_over, taken_over};

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
    /// Whether the stages behind one that is finished are run, too, so that what they left before is replaced.
    pub whole_run: bool,
    /// Accept a data set other than the one the checkpoint was trained on.
    pub allow_data_mismatch: bool,
    /// Those that do the same work together; the first one alone writes.
    pub ranks: Arc<dyn Ranks>,
    /// This is a part of a run whose encoder was taken over from elsewhere.
    part_of_taken_over: bool,
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
            whole_run: false,
            allow_data_mismatch: false,
            ranks: Arc::new(Alone),
            part_of_taken_over: false,
            lock: Arc::default(),
        })
    }

    /// Whether the encoder was trained elsewhere, and so on other data than the run's.
    fn encoder_is_taken_over(&self) -> bool {
        self.part_of_taken_over || taken_over(&self.run).is_some()
    }

    /// Whether this rank writes, logs and shows how far the work is.
    pub(crate) fn leads(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Locks the run for this process, as long as the context lives; the first rank does it for all.
    fn take(&self) -> Result<()> {
        if self.lock.get().is_none() && self.leads() {
            let lock = self.run.lock()?;
            self.run.remove_leftovers();
            self.lock.get_or_init(|| lock);
        }
        Ok(())
    }

    /// Checks before any work whether a stage may write its results; writes nothing but the lock of an existing run.
    ///
    /// # Errors
    /// [`Error::OutputExists`], [`Error::RunInUse`]; [`Error::Checkpoint`] for a damaged `run.json`.
    fn check(&self, place: &StageDirectory) -> Result<()> {
        if self.leads() && self.run.root().exists() {
            self.take()?;
        }
        if self.leads() {
            self.run.read_record()?;
        }
        // What the first one puts in order is not looked at before.
        barrier(&*self.ranks);
        match self.existing {
            Existing::Refuse if place.holds_results() => {
                Err(Error::OutputExists { path: place.path().to_path_buf() })
            }
            _ => Ok(()),
        }
    }

    /// Opens the run's data set, on one rank of each machine after the other: what has to be made or fetched is so once. What a
    /// later stage of the run will not find there is noticed here.
    fn open_data(&self, reporter: &mut dyn Reporter) -> Result<Dataset> {
        let mut open = || data::open(&self.config.data, &self.data_home, reporter);
        let first = self.ranks.local()[0] == 0;
        let opened = first.then(&mut open).transpose()?;
        barrier(&*self.ranks);
        let dataset = opened.map_or_else(open, Ok)?;
        if self.whole_run {
            dataset.labeled_split(&self.config.data, self.config.seed)?;
        }
        Ok(dataset)
    }

    /// What the first rank makes of the finished work, alone; the others wait for it and get the same.
    fn conclude<T: Serialize + DeserializeOwned>(
        &self,
        work: Option<Work>,
        conclude: impl FnOnce(Work) -> Result<T>,
    ) -> Result<T> {
        self.lead(work.map(|work| || conclude(work)))
    }

    /// What the first rank makes, alone; the others have no `make`, wait for it and get the same.
    fn lead<T: Serialize + DeserializeOwned>(&self, make: Option<impl FnOnce() -> Result<T>>) -> Result<T> {
        let Some(make) = make else {
            return serde_json::from_slice(&self.ranks.broadcast(Vec::new())).map_err(|error| Error::Usage {
                problem: format!("cannot read what rank 0 has found: {error}"),
                hint: "give every rank the same program".into(),
            });
        };
        let made = make()?;
        if self.ranks.size() > 1 {
            self.ranks.broadcast(serde_json::to_vec(&made).unwrap_or_default());
        }
        Ok(made)
    }

    /// Locks the run and makes room for a stage's results, after all checks; writes the config first.
    fn begin(&self, stage: Stage) -> Result<Work> {
        self.begin_with(|| Work::begin(self.run.files(stage), self.existing))
    }

    /// Locks the run and makes room by `begin`; writes the config first.
    fn begin_with(&self, begin: impl FnOnce() -> Result<Work>) -> Result<Work> {
        self.take()?;
        check_lock(&self.lock)?;
        let work = begin()?;
        self.config.write(&work.directory().config())?;
        Ok(work)
    }

    /// The directory to resume the stage in, if it is to be resumed and has a checkpoint.
    fn resumed(&self, stage: Stage) -> Option<StageDirectory> {
        let directory = self.run.files(stage).to_resume();
        (self.existing == Existing::Resume && directory.checkpoint().exists()).then_some(directory)
    }

    /// The context of a part of a stage, which has a directory of its own and goes on where it was stopped.
    fn within(&self, run: RunDirectory) -> Self {
        Self { run, existing: Existing::Resume, whole_run: false, lock: Arc::default(), ..self.clone() }
    }

    /// Moves a finished stage into place and records it as the latest. Where another encoder is replaced and the whole run is
    /// made, what was made with that one is to be replaced, too, even if this process is stopped before it comes to it.
    fn finish(&self, stage: Stage, work: Work) -> Result<()> {
        check_lock(&self.lock)?;
        if self.whole_run && stage == Stage::Pretrain && work.replaces() {
            let evaluation = self.config.evaluate.after_run.then(|| self.run.evaluation());
            for place in [self.run.files(Stage::Finetune)].into_iter().chain(evaluation) {
                place.announce_replacement(|path| self.config.write(path))?;
            }
        }
        let execution = Execution::ending_now(stage.name(), work.started(), self.environment());
        self.run.record_finished(execution, Some(stage))?;
        work.finish()
    }

    fn environment(&self) -> Environment {
        self.config.environment()
    }
}

/// Refuses to write where another run took the place of the one that this process holds, if it holds one.
fn check_lock(lock: &OnceLock<RunLock>) -> Result<()> {
    lock.get().map_or(Ok(()), RunLock::check)
}

/// Refuses ranks that could not share the steps of these stages.
///
/// # Errors
/// [`Error::Usage`].
pub fn refuse_too_many_ranks(context: &Context, stages: &[Stage]) -> Result<()> {
    let Config { pretrain, extract, finetune, .. } = &context.config;
    for stage in stages {
        let copies = if pretrain.rotations == Rotations::All { ROTATIONS } else { 1 };
        match stage {
            Stage::Pretrain => {
                let samples = pretrain.batch_size * copies;
                refuse_too_many(&*context.ranks, "pretrain.batch_size", samples)?;
            }
            Stage::Finetune if finetune.mode != FinetuneMode::Frozen && extract.views == Views::One => {
                let turned = finetune.joint().map_or(0, |joint| joint.turned());
                let samples = finetune.batch_size * (1 + turned);
                refuse_too_many(&*context.ranks, "finetune.batch_size", samples)?;
            }
            // A head alone is so little work that ranks without a share may wait; several views are not shared.
            Stage::Extract | Stage::Finetune => {}
        }
    }
    Ok(())
}

fn label(dataset: &Dataset) -> DatasetLabel {
    DatasetLabel { name: dataset.name.clone(), fingerprint: dataset.fingerprint.clone() }
}
