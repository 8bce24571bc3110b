//! What training says and leaves as it goes: metrics, checkpoints, whether to go on.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::training_stage::LoopConfig;
use super::{Context, check_lock};
use crate::error::Result;
use crate::progress::EpochMetrics;
use crate::store::checkpoint::Checkpoint;
use crate::store::replacement::Work;
use crate::store::run_directory::RunLock;
use crate::store::tensorboard::EventFile;
use crate::training::{JsonLines, Keep, Selection};

/// The epochs so far, what they say about going on, and what training leaves of them.
pub(super) struct Record {
    pub history: Vec<EpochMetrics>,
    pub selection: Selection,
    /// On the first rank.
    pub files: Option<Files>,
}

/// What training leaves in the stage's directory as it goes.
pub(super) struct Files {
    pub work: Work,
    lock: Arc<OnceLock<RunLock>>,
    /// The checkpoint to resume from.
    latest: PathBuf,
    /// The checkpoint of the best epoch, if that one is kept.
    best: Option<PathBuf>,
    lines: JsonLines,
    events: Option<EventFile>,
}

impl Files {
    /// Continues the files of `work` after the epochs in `history`.
    pub fn open(
        work: Work,
        context: &Context,
        loop_config: &LoopConfig<'_>,
        history: &[EpochMetrics],
    ) -> Result<Self> {
        let directory = work.directory();
        let open_events = || EventFile::open(directory.events(), history);
        Ok(Self {
            latest: directory.checkpoint(),
            best: (loop_config.common.keep == Keep::Best).then(|| directory.best()),
            events: context.config.tensorboard.then(open_events).transpose()?,
            lines: JsonLines::new(directory.metrics(), history.to_vec())?,
            lock: context.lock.clone(),
            work,
        })
    }
}

impl Record {
    /// Continues after the epochs in `history`.
    pub fn new(files: Option<Files>, loop_config: &LoopConfig<'_>, history: Vec<EpochMetrics>) -> Self {
        let selection = Selection::new(loop_config.keep_by, loop_config.common.patience, &history);
        Self { history, selection, files }
    }

    /// Saves a checkpoint, with the metrics if an epoch ends there; returns whether to continue training.
    pub fn save(
        &mut self,
        metrics: Option<&EpochMetrics>,
        checkpoint: impl FnOnce() -> Result<Checkpoint>,
    ) -> Result<bool> {
        let better = metrics.is_some_and(|metrics| self.selection.add(metrics));
        if let Some(files) = &mut self.files {
            let checkpoint = checkpoint()?;
            check_lock(&files.lock)?;
            if let Some(metrics) = metrics {
                files.lines.push(metrics)?;
                files.events.as_mut().map_or(Ok(()), |events| events.push(metrics))?;
            }
            // Before the latest one, so that a run killed in between makes the same choice when it is resumed.
            if let Some(best) = files.best.as_ref().filter(|_| better) {
                checkpoint.save_alone(best)?;
            }
            checkpoint.save(&files.latest)?;
        }
        self.history.extend(metrics.cloned());
        Ok(metrics.is_none_or(|metrics| self.selection.goes_on(metrics.epoch)))
    }
}
