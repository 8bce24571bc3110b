//! The directory of a stage: its files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::progress::EpochMetrics;
use crate::store::checkpoint;
use crate::store::features::FeatureFiles;
use crate::store::tensorboard::EVENT_FILE;

/// Name of the checkpoint to resume from.
const CHECKPOINT: &str = "checkpoint.safetensors";
/// Name of the checkpoint of the best epoch.
const BEST: &str = "best.safetensors";

/// The files of a stage, existing or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageDirectory {
    pub(crate) path: PathBuf,
}

impl StageDirectory {
    /// The stage whose files are in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The config that the stage was run with.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.json")
    }

    /// The checkpoint from which the stage resumes training.
    pub fn checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
    }

    /// The checkpoint of the best epoch, if that is kept.
    pub fn best(&self) -> PathBuf {
        self.path.join(BEST)
    }

    /// The checkpoint that is the result: the best one if it is kept, else the last.
    pub fn result(&self) -> PathBuf {
        checkpoint_in(&self.path)
    }

    /// The features that `extract` writes.
    pub fn features(&self) -> FeatureFiles {
        FeatureFiles::new(&self.path)
    }

    /// The classifier's predictions for every test image.
    pub fn predictions(&self) -> PathBuf {
        self.path.join("predictions.safetensors")
    }

    /// The metrics, one line per epoch.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// The metrics for TensorBoard.
    pub fn events(&self) -> PathBuf {
        self.path.join(EVENT_FILE)
    }

    /// The directory of the networks of self-training that came before the last one.
    pub fn rounds(&self) -> PathBuf {
        self.path.join("rounds")
    }

    /// The labels that a round of self-training (counted from 1) gave to images.
    pub fn pseudo_labels(&self, round: usize) -> PathBuf {
        self.path.join(format!("pseudo-labels-{round}.csv"))
    }

    /// What they were made from and how many they are.
    pub fn round(&self, round: usize) -> PathBuf {
        self.path.join(format!("pseudo-labels-{round}.json"))
    }

    /// The summary, written last.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// Whether the stage is finished.
    pub fn is_finished(&self) -> bool {
        self.summary().exists()
    }

    /// Whether there is anything worth keeping, finished or not.
    pub fn holds_results(&self) -> bool {
        let latest = self.checkpoint();
        [
            checkpoint::previous(&latest),
            latest,
            self.best(),
            self.metrics(),
            self.events(),
            self.features().manifest(),
            // The stages of an evaluation, which is a run of its own.
            FeatureFiles::new(&self.path.join("features")).manifest(),
            self.predictions(),
            self.rounds(),
            self.summary(),
        ]
        .iter()
        .any(|file| file.exists())
    }

    /// The first `epochs` lines of the metrics.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there are fewer, or one is damaged.
    pub fn read_metrics(&self, epochs: usize) -> Result<Vec<EpochMetrics>> {
        let path = self.metrics();
        let damaged =
            |problem: String| Error::checkpoint(&path, problem, "start this stage over with --force");
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

/// The checkpoint that is the result in a stage's directory; the path of a file is returned unchanged.
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
