//! Means over an epoch, and their way into `metrics.jsonl`.

use std::path::PathBuf;
use std::time::Duration;

use burn::tensor::Tensor;

use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::progress::{EpochMetrics, Event, Reporter, Stage};

/// Steps between two readings of the loss from the device.
const READ_EVERY: usize = 32;

/// Sums losses and right answers; keeps them on the device between readings.
pub(super) struct Meter {
    stage: Stage,
    epoch: usize,
    learning_rate: f64,
    pending: Vec<(Tensor<1>, Tensor<1>, usize)>,
    steps: usize,
    samples: usize,
    loss_sum: f64,
    correct: f64,
}

impl Meter {
    pub(super) fn new(stage: Stage, epoch: usize, learning_rate: f64) -> Self {
        Self {
            stage,
            epoch,
            learning_rate,
            pending: Vec::with_capacity(READ_EVERY),
            steps: 0,
            samples: 0,
            loss_sum: 0.0,
            correct: 0.0,
        }
    }

    /// Takes a step's mean loss and number of right answers; gives mean loss and accuracy so far when they were read.
    pub(super) fn add(
        &mut self,
        loss: Tensor<1>,
        correct: Tensor<1>,
        samples: usize,
    ) -> Result<Option<(f64, f64)>> {
        self.pending.push((loss, correct, samples));
        if self.pending.len() < READ_EVERY {
            return Ok(None);
        }
        self.read()?;
        Ok(Some(self.means()))
    }

    fn read(&mut self) -> Result<()> {
        for (loss, correct, samples) in self.pending.drain(..) {
            let loss = f64::from(loss.into_scalar::<f32>());
            self.steps += 1;
            if !loss.is_finite() {
                return Err(Error::Diverged {
                    stage: self.stage.name(),
                    loss,
                    epoch: self.epoch,
                    step: self.steps,
                    learning_rate: self.learning_rate,
                });
            }
            self.samples += samples;
            self.loss_sum += loss * samples as f64;
            self.correct += f64::from(correct.into_scalar::<f32>());
        }
        Ok(())
    }

    fn means(&self) -> (f64, f64) {
        let samples = self.samples.max(1) as f64;
        (self.loss_sum / samples, self.correct / samples)
    }

    pub(super) fn finish(mut self, elapsed: Duration) -> Result<EpochMetrics> {
        self.read()?;
        let (loss, accuracy) = self.means();
        let seconds = elapsed.as_secs_f64();
        Ok(EpochMetrics {
            epoch: self.epoch,
            loss,
            accuracy,
            validation_loss: None,
            validation_accuracy: None,
            images_per_second: self.samples as f64 / seconds,
            seconds,
        })
    }
}

/// Writes a line an epoch; the file is whole at any moment.
pub struct JsonLines {
    path: PathBuf,
    lines: Vec<EpochMetrics>,
    failure: Option<Error>,
}

impl JsonLines {
    /// Goes on after the epochs in `lines`.
    pub fn new(path: PathBuf, lines: Vec<EpochMetrics>) -> Self {
        Self { path, lines, failure: None }
    }

    /// All epochs so far.
    ///
    /// # Errors
    /// The first failure to write the file.
    pub fn finish(self) -> Result<Vec<EpochMetrics>> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.lines),
        }
    }

    fn write(&self) -> Result<()> {
        write_atomically(&self.path, |out| {
            self.lines.iter().try_for_each(|line| {
                serde_json::to_writer(&mut *out, line)?;
                out.write_all(b"\n")
            })
        })
    }
}

impl Reporter for JsonLines {
    fn report(&mut self, event: Event<'_>) {
        if let Event::EpochFinished(metrics) = event {
            self.lines.push(metrics.clone());
            if let Err(error) = self.write() {
                self.failure.get_or_insert(error);
            }
        }
    }
}

/// Tells two reporters.
pub struct Tee<'a>(pub &'a mut dyn Reporter, pub &'a mut dyn Reporter);

impl Reporter for Tee<'_> {
    fn report(&mut self, event: Event<'_>) {
        self.0.report(event);
        self.1.report(event);
    }
}
