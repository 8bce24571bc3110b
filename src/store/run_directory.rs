//! The run directory: where each stage leaves its files, and who may write over them.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::device::environment::Environment;
use crate::error::{Error, Result};
use crate::files::{create_directory, is_temporary, read_json, write_json};
use crate::progress::Stage;
use crate::store::checkpoint::DatasetLabel;
use crate::store::features::FeatureFiles;
use crate::store::stage_directory::StageDirectory;

/// The stages, in the order in which they are run.
const STAGES: [Stage; 3] = [Stage::Pretrain, Stage::Extract, Stage::Finetune];

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
    /// How many numbers of this run were taken on the test set.
    pub test_evaluations: u32,
    /// What they were.
    #[serde(default, deserialize_with = "openings", skip_serializing_if = "Vec::is_empty")]
    pub tested: Vec<Opening>,
    /// The stage that was finished last; its config is what a later command begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Stage>,
}

/// An opening of the test set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// SHA-256 of the checkpoint that was evaluated (or of what else decided the number).
    pub digest: String,
    /// What it was for, in words.
    pub purpose: String,
}

/// A list of openings; as earlier versions wrote it, digests alone or a single one.
fn openings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Opening>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Digest(String),
        Opening(Opening),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Several(Vec<Entry>),
    }
    let opening = |entry| match entry {
        Entry::Digest(digest) => Opening { digest, purpose: "not recorded".into() },
        Entry::Opening(opening) => opening,
    };
    Ok(match Either::deserialize(deserializer)? {
        Either::One(digest) => vec![opening(Entry::Digest(digest))],
        Either::Several(entries) => entries.into_iter().map(opening).collect(),
    })
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

    /// The files of a stage's result.
    pub fn files(&self, stage: Stage) -> StageDirectory {
        StageDirectory::new(self.stage(stage))
    }

    /// The files of `evaluate`, which lie in it as those of a run do.
    pub fn evaluation(&self) -> StageDirectory {
        StageDirectory::new(self.root.join("evaluate"))
    }

    /// The config that a stage was run with; where the stage has none, that of the run, as version 0.1.0 wrote it.
    pub fn config(&self, stage: Stage) -> PathBuf {
        let own = self.files(stage).config();
        if own.exists() { own } else { self.root.join("config.json") }
    }

    /// The config that a later command begins with: that of the stage finished last. Absent where there is none.
    pub fn latest_config(&self) -> Option<PathBuf> {
        let record: Option<RunRecord> = read_json(&self.record()).ok();
        let latest = record.and_then(|record| record.latest);
        let stages = latest.into_iter().chain(STAGES.into_iter().rev());
        stages.map(|stage| self.config(stage)).find(|path| path.is_file())
    }

    /// [`latest_config`](Self::latest_config) of a run that must be there.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a directory that holds no run.
    pub fn any_config(&self) -> Result<PathBuf> {
        self.latest_config().ok_or_else(|| {
            Error::checkpoint(
                &self.root,
                "is no run: no stage in it has a config.json",
                "name the directory of a run, as given with --out",
            )
        })
    }

    /// The settings of all stages as one document: the config of the first, with the sections of later stages as these
    /// were run. Where a later stage had another seed or other data, that is added to its section. Null where there is
    /// no stage.
    ///
    /// # Errors
    /// Those of [`read_json`].
    pub fn settings(&self) -> Result<Value> {
        let configs = STAGES.map(|stage| (stage.name(), self.config(stage)));
        let evaluation = ("evaluate", self.evaluation().config());
        let mut settings = Value::Null;
        for (section, path) in configs.into_iter().chain([evaluation]).filter(|(_, path)| path.is_file()) {
            let config: Value = read_json(&path)?;
            if settings.is_null() {
                settings = config;
                continue;
            }
            settings[section] = config[section].clone();
            for shared in ["seed", "data"] {
                if config[shared] != settings[shared] && settings[section].is_object() {
                    settings[section][shared] = config[shared].clone();
                }
            }
        }
        Ok(settings)
    }

    /// Whether a stage of a run lies here, begun or finished.
    pub fn exists(&self) -> bool {
        self.record().is_file() || STAGES.iter().any(|&stage| self.stage(stage).is_dir())
    }

    /// The checkpoint of a stage from which it goes on training.
    pub fn checkpoint(&self, stage: Stage) -> PathBuf {
        self.files(stage).checkpoint()
    }

    /// The checkpoint of a stage's best epoch, if it keeps that one.
    pub fn best(&self, stage: Stage) -> PathBuf {
        self.files(stage).best()
    }

    /// The checkpoint that is a stage's result: the best one where it is kept, else the last.
    pub fn result(&self, stage: Stage) -> PathBuf {
        self.files(stage).result()
    }

    /// The features that `extract` writes.
    pub fn features(&self) -> FeatureFiles {
        self.files(Stage::Extract).features()
    }

    /// The result of a stage.
    pub fn summary(&self, stage: Stage) -> PathBuf {
        self.files(stage).summary()
    }

    /// What the classifier answered to every test image.
    pub fn predictions(&self) -> PathBuf {
        self.files(Stage::Finetune).predictions()
    }

    /// The lines of a stage's epochs.
    pub fn metrics(&self, stage: Stage) -> PathBuf {
        self.files(stage).metrics()
    }

    /// Removes the temporary files of processes that were killed while they wrote, as far as the system lets it; the
    /// caller has the run's [lock](Self::lock).
    pub fn remove_leftovers(&self) {
        self.places().for_each(|place| place.remove_leftovers());
        let here = fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
        for entry in here.filter(|entry| is_temporary(&entry.file_name())) {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// The directories that results are replaced in.
    fn places(&self) -> impl Iterator<Item = StageDirectory> {
        STAGES.map(|stage| self.files(stage)).into_iter().chain([self.evaluation()])
    }

    /// Updates `run.json`; `tested` is an opening of the test set, which counts once by its digest, however often a run
    /// that was cut short then does it.
    pub fn record_run(
        &self,
        environment: Environment,
        dataset: DatasetLabel,
        tested: Option<Opening>,
    ) -> Result<()> {
        let (mut test_evaluations, mut all, latest) = match self.record().exists() {
            true => {
                let record = read_json::<RunRecord>(&self.record())?;
                (record.test_evaluations, record.tested, record.latest)
            }
            false => (0, Vec::new(), None),
        };
        if let Some(tested) = tested.filter(|tested| all.iter().all(|known| known.digest != tested.digest)) {
            test_evaluations += 1;
            all.push(tested);
        }
        let record = RunRecord { environment, dataset, test_evaluations, tested: all, latest };
        write_json(&self.record(), &record)
    }

    /// Notes in `run.json` which stage was finished last.
    pub fn record_latest(&self, stage: Stage) -> Result<()> {
        let record: RunRecord = read_json(&self.record())?;
        write_json(&self.record(), &RunRecord { latest: Some(stage), ..record })
    }

    /// Makes this process the only one that writes into the run, until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// [`Error::RunInUse`] if another process has it.
    pub fn lock(&self) -> Result<RunLock> {
        create_directory(&self.root)?;
        let path = self.root.join(".lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("write", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                return Err(Error::RunInUse { path: self.root.clone(), owner: owner.trim().to_owned() });
            }
            // Some network file systems know no locks; a run there is better than none.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        let named = file.set_len(0);
        named.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(Error::io("write", &path))?;
        self.places().try_for_each(|place| place.recover())?;
        Ok(RunLock { _file: file })
    }

    /// Completes what a process that was killed left between an old result and its replacement, for commands that read
    /// the run. Where another process is at work, or nothing may be written, that is left to the next.
    pub fn settle(&self) {
        let interrupted = self.places().any(|place| place.is_between());
        if interrupted {
            let _ = self.lock();
        }
    }
}

/// Held by the one process that writes into a run; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_read_as_every_version_wrote_them() {
        let read = |tested: &str| -> Vec<Opening> {
            let document = format!(r#"{{"tested": {tested}}}"#);
            #[derive(Deserialize)]
            struct Tested {
                #[serde(deserialize_with = "openings")]
                tested: Vec<Opening>,
            }
            serde_json::from_str::<Tested>(&document).unwrap().tested
        };
        let old = |digest: &str| Opening { digest: digest.into(), purpose: "not recorded".into() };
        assert_eq!(read(r#""a""#), [old("a")]);
        assert_eq!(read(r#"["a", "b"]"#), [old("a"), old("b")]);
        let new = Opening { digest: "b".into(), purpose: "finetune: frozen".into() };
        assert_eq!(read(r#"["a", {"digest": "b", "purpose": "finetune: frozen"}]"#), [old("a"), new]);
    }
}
