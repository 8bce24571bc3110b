//! The run directory: where each stage leaves its files, and who may write over them.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::checkpoint::{self, DatasetLabel};
use crate::config::Config;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::features::FeatureFiles;
use crate::files::{create_directory, is_temporary, read_json, write_json};
use crate::progress::{EpochMetrics, Stage};
use crate::tensorboard::event_file_in;

/// The name of the checkpoint to train on from.
const CHECKPOINT: &str = "checkpoint.safetensors";
/// The name of the checkpoint of the best epoch.
const BEST: &str = "best.safetensors";

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

    /// The checkpoint from which a stage goes on training.
    pub fn checkpoint(&self, stage: Stage) -> PathBuf {
        self.stage(stage).join(CHECKPOINT)
    }

    /// The checkpoint of a stage's best epoch, if it keeps that one.
    pub fn best(&self, stage: Stage) -> PathBuf {
        self.stage(stage).join(BEST)
    }

    /// The checkpoint that is a stage's result: the best one where it is kept, else the last.
    pub fn result(&self, stage: Stage) -> PathBuf {
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

    /// What the classifier answered to every test image.
    pub fn predictions(&self) -> PathBuf {
        self.stage(Stage::Finetune).join("predictions.safetensors")
    }

    /// The lines of a stage's epochs.
    pub fn metrics(&self, stage: Stage) -> PathBuf {
        self.stage(stage).join("metrics.jsonl")
    }

    /// The same for TensorBoard.
    pub fn events(&self, stage: Stage) -> PathBuf {
        event_file_in(&self.stage(stage))
    }

    /// Makes room for a stage's results and writes the config it runs with; the caller has the run's [lock](Self::lock).
    ///
    /// # Errors
    /// [`Error::OutputExists`] if there are results and `existing` is [`Existing::Refuse`].
    pub fn begin(&self, stage: Stage, existing: Existing, config: &Config) -> Result<()> {
        let results = [
            checkpoint::previous(&self.checkpoint(stage)),
            self.checkpoint(stage),
            self.best(stage),
            self.metrics(stage),
            self.events(stage),
            self.stage(stage).join("manifest.json"),
            self.stage(stage).join("predictions.safetensors"),
            self.summary(stage),
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
        remove_leftovers(&self.root)?;
        remove_leftovers(&self.stage(stage))?;
        config.write(&self.config())
    }

    /// Updates `run.json`; `tested` is an opening of the test set, which counts once by its digest, however often a run
    /// that was cut short then does it.
    pub fn record_run(
        &self,
        environment: Environment,
        dataset: DatasetLabel,
        tested: Option<Opening>,
    ) -> Result<()> {
        let (mut test_evaluations, mut all) = match self.record().exists() {
            true => {
                let record = read_json::<RunRecord>(&self.record())?;
                (record.test_evaluations, record.tested)
            }
            false => (0, Vec::new()),
        };
        if let Some(tested) = tested.filter(|tested| all.iter().all(|known| known.digest != tested.digest)) {
            test_evaluations += 1;
            all.push(tested);
        }
        let record = RunRecord { environment, dataset, test_evaluations, tested: all };
        write_json(&self.record(), &record)
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
        Ok(RunLock { _file: file })
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

/// Held by the one process that writes into a run; the system releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

/// Removes the temporary files of a process that was killed while it wrote.
fn remove_leftovers(directory: &Path) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(Error::io("read", directory))?;
    for entry in entries.filter_map(Result::ok) {
        if is_temporary(&entry.file_name()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// The checkpoint that is the result in a stage's directory; a path that is a file already is taken as it is.
pub fn checkpoint_in(place: &Path) -> PathBuf {
    if place.is_file() {
        return place.to_path_buf();
    }
    let best = place.join(BEST);
    match best.exists() {
        true => best,
        false => place.join(CHECKPOINT),
    }
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
