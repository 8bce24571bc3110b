//! Means over an epoch, and their way into `metrics.jsonl`.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::Tally;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::progress::{EpochMetrics, PartialEpoch, Stage};

/// Steps between two readings of the loss from the device.
const READ_EVERY: usize = 32;

/// The result of a step; its tally is still on the device.
pub(super) struct StepResult {
    pub tally: Tally,
    pub samples: usize,
    pub learning_rate: f64,
}

/// Sums losses and correct answers; keeps them on the device between readings.
pub(super) struct Meter {
    stage: Stage,
    epoch: usize,
    /// Of the last step that was read.
    learning_rate: f64,
    pending: Vec<StepResult>,
    sums: PartialEpoch,
    start: Instant,
}

impl Meter {
    /// A meter for the epoch that follows `done` others, resumed from `sums`.
    pub(super) fn new(stage: Stage, done: usize, sums: PartialEpoch) -> Self {
        Self {
            stage,
            epoch: done + 1,
            learning_rate: 0.0,
            pending: Vec::with_capacity(READ_EVERY),
            sums,
            start: Instant::now(),
        }
    }

    /// Whole epochs before this one.
    pub(super) fn epochs_done(&self) -> usize {
        self.epoch - 1
    }

    /// Steps of this epoch so far.
    pub(super) fn steps(&self) -> usize {
        self.sums.steps + self.pending.len()
    }

    /// Adds a step's result; returns mean loss and accuracy so far whenever they are read.
    pub(super) fn add(&mut self, step: StepResult) -> Result<Option<(f64, f64)>> {
        self.pending.push(step);
        if self.pending.len() < READ_EVERY {
            return Ok(None);
        }
        self.read()?;
        Ok(Some(self.means()))
    }

    fn read(&mut self) -> Result<()> {
        for StepResult { tally: Tally { loss, correct, second }, samples, learning_rate } in
            self.pending.drain(..)
        {
            let loss = f64::from(loss.into_scalar::<f32>());
            self.sums.steps += 1;
            self.learning_rate = learning_rate;
            if !loss.is_finite() {
                return Err(Error::Diverged {
                    stage: self.stage.name(),
                    loss,
                    epoch: self.epoch,
                    step: self.sums.steps,
                    learning_rate: self.learning_rate,
                });
            }
            self.sums.samples += samples;
            self.sums.loss_sum += loss * samples as f64;
            self.sums.correct += f64::from(correct.into_scalar::<f32>());
            if let Some([loss, correct]) =
                second.map(|numbers| numbers.map(|number| number.into_scalar::<f32>()))
            {
                let sums = self.sums.rotation.get_or_insert_default();
                sums.loss_sum += f64::from(loss) * samples as f64;
                sums.correct += f64::from(correct);
            }
        }
        Ok(())
    }

    fn means(&self) -> (f64, f64) {
        let samples = self.sums.samples.max(1) as f64;
        // Right answers of a part of the samples are counted more than once, which is rounded.
        (self.sums.loss_sum / samples, (self.sums.correct / samples).min(1.0))
    }

    /// The sums so far, with every loss read and found finite.
    pub(super) fn sums(&mut self) -> Result<PartialEpoch> {
        self.read()?;
        Ok(PartialEpoch { seconds: self.seconds(), ..self.sums.clone() })
    }

    fn seconds(&self) -> f64 {
        self.sums.seconds + self.start.elapsed().as_secs_f64()
    }

    pub(super) fn finish(mut self) -> Result<EpochMetrics> {
        self.read()?;
        let (loss, accuracy) = self.means();
        let seconds = self.seconds();
        let samples = self.sums.samples.max(1) as f64;
        let rotation = self.sums.rotation.as_ref();
        Ok(EpochMetrics {
            epoch: self.epoch,
            loss,
            accuracy,
            rotation_loss: rotation.map(|sums| sums.loss_sum / samples),
            rotation_accuracy: rotation.map(|sums| (sums.correct / samples).min(1.0)),
            validation_loss: None,
            validation_accuracy: None,
            knn_accuracy: None,
            ridge_accuracy: None,
            learning_rate: self.learning_rate,
            images_per_second: self.sums.samples as f64 / seconds,
            seconds,
        })
    }
}

/// The file `metrics.jsonl`: one line per epoch, never half-written.
pub struct JsonLines {
    path: PathBuf,
    lines: Vec<EpochMetrics>,
}

impl JsonLines {
    /// Continues after the epochs in `lines`. Lines beyond them, by a process that was killed before it saved that epoch,
    /// are removed.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn new(path: PathBuf, lines: Vec<EpochMetrics>) -> Result<Self> {
        let lines = Self { path, lines };
        match (lines.path.exists(), lines.lines.is_empty()) {
            (false, _) => {}
            (true, true) => fs::remove_file(&lines.path).map_err(Error::io("remove", &lines.path))?,
            (true, false) => lines.write()?,
        }
        Ok(lines)
    }

    /// Adds an epoch.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be written.
    pub fn push(&mut self, metrics: &EpochMetrics) -> Result<()> {
        self.lines.push(metrics.clone());
        self.write()
    }

    fn write(&self) -> Result<()> {
        write_atomically(&self.path, |out| {
            self.lines.iter().try_for_each(|line| {
                serde_json::to_writer(&mut *out, line)?;
                out.write_all(b"\n")
            })
        })
    }

    /// All epochs so far.
    pub fn into_lines(self) -> Vec<EpochMetrics> {
        self.lines
    }
}
