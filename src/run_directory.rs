//! The run directory: where each stage leaves its files, and who may write over them.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::DatasetLabel;
use crate::config::Config;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::features::FeatureFiles;
use crate::files::{create_directory, read_json, write_json};
use crate::progress::{EpochMetrics, Stage};

/// What to do about results that are already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Stop with an error.
    Refuse,
    /// Write over them.
    Overwrite,
    /// Go on where they end.
    Resume,
}

/// Kept by the one process that writes to a run.
#[must_use]
pub struct RunLock {
    _file: File,
}

/// A run, named by its directory.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    root: PathBuf,
}

/// The file `run.json`: what the config does not say.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// Program, processor, threads, kernels, device.
    pub environment: Environment,
    /// The data set of the last stage.
    pub dataset: DatasetLabel,
    /// How often a classifier of this run was evaluated on the test set.
    pub test_evaluations: u32,
}

impl RunDirectory {
    /// The run in `root`, whether it exists or not.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The config as resolved.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.json")
    }

    /// The record of program, machine and data.
    pub fn record(&self) -> PathBuf {
        self.root.join("run.json")
    }

    /// The directory of a stage.
    pub fn stage(&self, stage: Stage) -> PathBuf {
        self.root.join(match stage {
            Stage::Extract => "features",
            other => other.name(),
        })
    }

    /// The checkpoint of a stage that trains.
    pub fn checkpoint(&self, stage: Stage) -> PathBuf {
        checkpoint_in(&self.stage(stage))
    }

    /// The features that `extract` writes.
    pub fn features(&self) -> FeatureFiles {
        FeatureFiles::new(&self.stage(Stage::Extract))
    }

    /// The result of a stage.
    pub fn summary(&self, stage: Stage) -> PathBuf {
        self.stage(stage).join("summary.json")
    }

    /// The lines of a stage's epochs.
    pub fn metrics(&self, stage: Stage) -> PathBuf {
        self.stage(stage).join("metrics.jsonl")
    }

    /// Makes room for a stage's results and writes the config it runs with. The run is this process's own for as long
    /// as the lock is kept; the system takes it from a process that dies.
    ///
    /// # Errors
    /// [`Error::RunInUse`] if another process writes to this run; [`Error::OutputExists`] if there are results and
    /// `existing` is [`Existing::Refuse`].
    pub fn begin(&self, stage: Stage, existing: Existing, config: &Config) -> Result<RunLock> {
        let lock = self.lock()?;
        let results = [
            self.summary(stage),
            self.metrics(stage),
            self.checkpoint(stage),
            self.stage(stage).join("manifest.json"),
        ];
        match existing {
            Existing::Resume => {}
            Existing::Refuse => {
                if results.iter().any(|path| path.exists()) {
                    return Err(Error::OutputExists { path: self.stage(stage) });
                }
            }
            Existing::Overwrite => {
                for path in results.iter().filter(|path| path.exists()) {
                    fs::remove_file(path).map_err(Error::io("replace", path))?;
                }
            }
        }
        create_directory(&self.stage(stage))?;
        config.write(&self.config())?;
        Ok(lock)
    }

    fn lock(&self) -> Result<RunLock> {
        create_directory(&self.root)?;
        let path = self.root.join(".lock");
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Error::RunInUse { path: self.root.clone() }),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// Updates `run.json`; `test_evaluations` are added to those before.
    pub fn record_run(
        &self,
        environment: Environment,
        dataset: DatasetLabel,
        test_evaluations: u32,
    ) -> Result<()> {
        let before = match self.record().exists() {
            true => read_json::<RunRecord>(&self.record())?.test_evaluations,
            false => 0,
        };
        let record = RunRecord { environment, dataset, test_evaluations: before + test_evaluations };
        write_json(&self.record(), &record)
    }

    /// The first `epochs` lines of a stage's metrics.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there are fewer, or one is damaged.
    pub fn read_metrics(&self, stage: Stage, epochs: usize) -> Result<Vec<EpochMetrics>> {
        let path = self.metrics(stage);
        let damaged =
            |problem: String| Error::checkpoint(&path, problem, "start this stage again with --force");
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let lines = text.lines().take(epochs).map(serde_json::from_str);
        let lines: Vec<EpochMetrics> =
            lines.collect::<Result<_, _>>().map_err(|error| damaged(format!("not readable: {error}")))?;
        if lines.len() < epochs {
            let problem = format!("holds {} epochs, the checkpoint {epochs}", lines.len());
            return Err(damaged(problem));
        }
        Ok(lines)
    }
}

/// The checkpoint file in a stage's directory; a path that is a file already is taken as it is.
pub fn checkpoint_in(place: &Path) -> PathBuf {
    match place.is_file() {
        true => place.to_path_buf(),
        false => place.join("checkpoint.safetensors"),
    }
}
