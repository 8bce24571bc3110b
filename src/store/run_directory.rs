//! The run directory: where each stage leaves its files, and who may overwrite them.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{create_directory, is_temporary};
use crate::progress::Stage;
use crate::store::features::FeatureFiles;
use crate::store::stage_directory::StageDirectory;

/// The stages in the order in which they run.
pub(super) const STAGES: [Stage; 3] = [Stage::Pretrain, Stage::Extract, Stage::Finetune];

/// What to do about existing results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Fail.
    Refuse,
    /// Replace them.
    Overwrite,
    /// Resume where they end.
    Resume,
}

/// A run, named by its directory.
#[derive(Clone, Debug)]
pub struct RunDirectory {
    root: PathBuf,
}

impl RunDirectory {
    /// The run in `root`, existing or not.
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

    /// The directory of `evaluate`, which is laid out like a run.
    pub fn evaluation(&self) -> StageDirectory {
        StageDirectory::new(self.root.join("evaluate"))
    }

    /// Whether a stage was started or finished here.
    pub fn exists(&self) -> bool {
        self.record().is_file() || STAGES.iter().any(|&stage| self.stage(stage).is_dir())
    }

    /// The checkpoint from which a stage resumes training.
    pub fn checkpoint(&self, stage: Stage) -> PathBuf {
        self.files(stage).checkpoint()
    }

    /// The checkpoint of a stage's best epoch, if that is kept.
    pub fn best(&self, stage: Stage) -> PathBuf {
        self.files(stage).best()
    }

    /// The checkpoint that is a stage's result: the best one if it is kept, else the last.
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

    /// The classifier's predictions for every test image.
    pub fn predictions(&self) -> PathBuf {
        self.files(Stage::Finetune).predictions()
    }

    /// A stage's metrics, one line per epoch.
    pub fn metrics(&self, stage: Stage) -> PathBuf {
        self.files(stage).metrics()
    }

    /// Removes temporary files left by killed processes, as far as the system allows; the caller holds the run's
    /// [lock](Self::lock).
    pub fn remove_leftovers(&self) {
        self.places().for_each(|place| place.remove_leftovers());
        let here = fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
        for entry in here.filter(|entry| is_temporary(&entry.file_name())) {
            let _ = fs::remove_file(entry.path());
        }
    }

    /// The directories whose results can be replaced.
    fn places(&self) -> impl Iterator<Item = StageDirectory> {
        STAGES.map(|stage| self.files(stage)).into_iter().chain([self.evaluation()])
    }

    /// Makes this process the only one that writes into the run, until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// [`Error::RunInUse`] if another process holds it.
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
            // Some network file systems have no locks; an unlocked run is better than none.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
        }
        let named = file.set_len(0);
        named.and_then(|()| writeln!(file, "{}", std::process::id())).map_err(Error::io("write", &path))?;
        self.places().try_for_each(|place| place.recover())?;
        Ok(RunLock { file, path })
    }

    /// Completes replacements that a killed process left unfinished, for commands that read the run. If another process
    /// is at work or nothing may be written, that is left to the next command.
    pub fn settle(&self) {
        let interrupted = self.places().any(|place| place.is_between());
        if interrupted {
            let _ = self.lock();
        }
    }
}

/// Held by the one process that writes into a run; the system releases it however the process ends.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    path: PathBuf,
}

impl RunLock {
    /// Refuses to go on where the run was removed: what stands under its name now is another one.
    ///
    /// # Errors
    /// [`Error::Checkpoint`].
    pub fn check(&self) -> Result<()> {
        if self.is_in_place() {
            return Ok(());
        }
        Err(Error::checkpoint(
            self.path.parent().unwrap_or(&self.path),
            "was removed while this process worked in it",
            "what lies there now is another run; start again with another --out",
        ))
    }

    #[cfg(unix)]
    fn is_in_place(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let place = |facts: fs::Metadata| (facts.dev(), facts.ino());
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(held), Ok(named)) => place(held) == place(named),
            (_, named) => named.is_ok(),
        }
    }

    #[cfg(not(unix))]
    fn is_in_place(&self) -> bool {
        self.path.exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_knows_when_its_run_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::new(folder.path().join("run"));
        let lock = run.lock().unwrap();
        lock.check().unwrap();
        fs::remove_dir_all(run.root()).unwrap();
        assert!(matches!(lock.check(), Err(Error::Checkpoint { .. })));
        let other = run.lock().unwrap();
        other.check().unwrap();
        if cfg!(unix) {
            assert!(matches!(lock.check(), Err(Error::Checkpoint { .. })));
        }
    }
}
