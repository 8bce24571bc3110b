//! The time left for a whole run or sweep, from the forecast and the speed so far.

use std::time::{Duration, Instant};

use crate::progress::{Event, Forecast, Stage};

/// Follows the events of a run, or of the runs of a sweep.
#[derive(Default)]
pub(super) struct TimeLeft {
    forecast: Vec<Forecast>,
    stage: Option<Stage>,
    /// Cost of each epoch of the stage: in seconds if it was forecast, else in epochs. Of several networks that of all.
    epochs: Vec<f64>,
    in_seconds: bool,
    /// Of several networks that the stage trains, the share before the current one, and its own.
    network: Option<[f64; 2]>,
    /// Cost of the finished epochs, cost of the current one, and the share of it that is done.
    before: f64,
    epoch: f64,
    share: f64,
    samples: usize,
    /// When this process started the stage, and how much of it was done by then.
    began: Option<(Instant, f64)>,
    sweep: Pieces,
}

/// The stages of a sweep's runs, each as often as it is to be done.
#[derive(Default)]
struct Pieces {
    left: [usize; 3],
    /// How many of each stage are done, and their wall time.
    finished: [(u32, Duration); 3],
    current: Option<(Stage, Instant)>,
}

impl TimeLeft {
    /// Records an event.
    pub(super) fn note(&mut self, event: &Event<'_>) {
        match *event {
            Event::Forecast(forecast) => self.forecast = forecast.to_vec(),
            Event::PieceStarted { stage, left } => self.sweep.start(stage, left),
            Event::StageStarted(stage, _) => {
                let forecast = self.forecast.iter().find(|forecast| forecast.stage == stage);
                let epochs = forecast.map(|forecast| forecast.epochs.clone()).unwrap_or_default();
                let (forecast, sweep) = (std::mem::take(&mut self.forecast), std::mem::take(&mut self.sweep));
                *self = Self {
                    forecast,
                    stage: Some(stage),
                    in_seconds: !epochs.is_empty(),
                    epochs,
                    sweep,
                    ..Self::default()
                };
            }
            Event::NetworkStarted { before, share } => self.network = Some([before, share]),
            Event::EpochStarted { epoch, epochs, samples, done } => {
                self.start_epoch(epoch, epochs, samples, done)
            }
            Event::StepFinished { samples, .. } => self.share += self.share_of(samples),
            Event::EpochFinished(_) => self.share = 1.0,
            _ => {}
        }
    }

    fn start_epoch(&mut self, epoch: usize, epochs: usize, samples: usize, done: usize) {
        let known = match self.network {
            Some(_) => self.in_seconds,
            None => self.epochs.len() == epochs,
        };
        if !known {
            (self.epochs, self.in_seconds) = (vec![1.0; epochs], false);
        }
        let index = epoch.saturating_sub(1);
        if let Some([before, share]) = self.network {
            let (all, each): (f64, f64) = (self.epochs.iter().sum(), share / epochs as f64);
            (self.before, self.epoch) = (all * (before + each * index as f64), all * each);
        } else {
            self.before = self.epochs.iter().take(index).sum();
            self.epoch = self.epochs.get(index).copied().unwrap_or(0.0);
        }
        self.samples = samples;
        self.share = self.share_of(done);
        self.began.get_or_insert((Instant::now(), self.done()));
    }

    fn share_of(&self, samples: usize) -> f64 {
        samples as f64 / self.samples.max(1) as f64
    }

    /// Cost of what is done of the stage.
    fn done(&self) -> f64 {
        self.before + self.share.min(1.0) * self.epoch
    }

    /// Time left for all stages and runs; `None` while nothing is known.
    pub(super) fn left(&self) -> Option<Duration> {
        let own = self.left_of_stage()?;
        self.with_later(own)
    }

    /// The same during a task without epochs, which itself has `task` left.
    pub(super) fn left_after(&self, task: Duration) -> Option<Duration> {
        self.with_later(task.checked_add(self.left_of_stage().unwrap_or_default())?)
    }

    fn with_later(&self, own: Duration) -> Option<Duration> {
        if let Some((stage, began)) = self.sweep.current {
            return self.sweep.left(stage, began, own, &self.forecast);
        }
        let stages = self.forecast.iter().skip_while(|forecast| Some(forecast.stage) != self.stage).skip(1);
        let later: f64 = stages.flat_map(|forecast| &forecast.epochs).sum();
        own.checked_add(Duration::try_from_secs_f64(later).ok()?)
    }

    fn left_of_stage(&self) -> Option<Duration> {
        let (began, first) = self.began?;
        let done = self.done();
        let left = self.epochs.iter().sum::<f64>() - done;
        let (took, made) = (began.elapsed().as_secs_f64(), done - first);
        // A forecast counts as much as a second of work: the first steps say little.
        let pace = match self.in_seconds {
            true => (took + 1.0) / (made + 1.0),
            false if made > 0.0 => took / made,
            false => return None,
        };
        Duration::try_from_secs_f64((left * pace).max(0.0)).ok()
    }
}

impl Pieces {
    fn start(&mut self, stage: Stage, left: [usize; 3]) {
        if let Some((stage, began)) = self.current.replace((stage, Instant::now())) {
            let (count, took) = &mut self.finished[stage as usize];
            *count += 1;
            *took += began.elapsed();
        }
        self.left = left;
    }

    /// Time left of all: of the current one, which itself has `own` left, and of those after it.
    fn left(&self, stage: Stage, began: Instant, own: Duration, forecast: &[Forecast]) -> Option<Duration> {
        let each = |index: usize| match self.finished[index] {
            (0, _) if index == stage as usize => Some(began.elapsed() + own),
            (0, _) => {
                let found = forecast.iter().find(|forecast| forecast.stage as usize == index);
                let seconds = found.map_or(0.0, |forecast| forecast.epochs.iter().sum());
                Duration::try_from_secs_f64(seconds).ok()
            }
            (count, took) => Some(took / count),
        };
        (0..self.left.len()).try_fold(own, |sum, index| {
            sum.checked_add(each(index)?.checked_mul(self.left[index].try_into().ok()?)?)
        })
    }
}

/// Hours, minutes and seconds.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORECAST: [(Stage, &[f64]); 3] =
        [(Stage::Pretrain, &[100.0, 200.0]), (Stage::Extract, &[50.0]), (Stage::Finetune, &[10.0; 3])];

    fn forecast() -> TimeLeft {
        let forecast = FORECAST.map(|(stage, epochs)| Forecast { stage, epochs: epochs.to_vec() });
        let mut time = TimeLeft::default();
        time.note(&Event::Forecast(&forecast));
        time
    }

    fn seconds(left: Option<Duration>) -> f64 {
        left.unwrap().as_secs_f64()
    }

    #[test]
    fn all_stages_that_are_to_come_count() {
        let mut time = forecast();
        time.note(&Event::StageStarted(Stage::Pretrain, ""));
        time.note(&Event::EpochStarted { epoch: 1, epochs: 2, samples: 100, done: 0 });
        assert!((seconds(time.left()) - 380.0).abs() < 1.0);
        // Resuming a stage halfway forecasts only the rest.
        time.note(&Event::StageStarted(Stage::Pretrain, ""));
        time.note(&Event::EpochStarted { epoch: 2, epochs: 2, samples: 100, done: 0 });
        assert!((seconds(time.left()) - 280.0).abs() < 1.0);
        time.note(&Event::StageStarted(Stage::Extract, ""));
        assert_eq!(seconds(time.left_after(Duration::from_secs(5))), 35.0);
    }

    #[test]
    fn work_that_goes_faster_than_forecast_ends_earlier() {
        let mut time = forecast();
        time.note(&Event::StageStarted(Stage::Finetune, ""));
        time.note(&Event::EpochStarted { epoch: 1, epochs: 3, samples: 10, done: 0 });
        // Ten seconds' worth in no time.
        time.note(&Event::StepFinished { samples: 10, loss: None, accuracy: None });
        assert!(seconds(time.left()) < 3.0);
    }

    #[test]
    fn without_a_forecast_the_epochs_done_say_it() {
        let mut time = TimeLeft::default();
        time.note(&Event::StageStarted(Stage::Pretrain, ""));
        time.note(&Event::EpochStarted { epoch: 1, epochs: 4, samples: 10, done: 0 });
        assert_eq!(time.left(), None);
        time.began = time.began.map(|(began, first)| (began - Duration::from_secs(60), first));
        time.note(&Event::StepFinished { samples: 5, loss: None, accuracy: None });
        // Half an epoch a minute, three and a half to go.
        assert!((seconds(time.left()) - 420.0).abs() < 1.0);
    }

    #[test]
    fn an_epoch_resumed_halfway_has_half_of_it_left() {
        let mut time = TimeLeft::default();
        time.note(&Event::StageStarted(Stage::Pretrain, ""));
        time.note(&Event::EpochStarted { epoch: 2, epochs: 3, samples: 100, done: 50 });
        time.began = time.began.map(|(began, first)| (began - Duration::from_secs(60), first));
        time.note(&Event::StepFinished { samples: 25, loss: None, accuracy: None });
        // A quarter of an epoch a minute, one and a quarter to go.
        assert!((seconds(time.left()) - 300.0).abs() < 1.0);
    }

    #[test]
    fn networks_to_come_count_and_so_do_tasks_between_them() {
        let mut time = TimeLeft::default();
        time.note(&Event::StageStarted(Stage::Finetune, ""));
        time.note(&Event::NetworkStarted { before: 0.0, share: 0.25 });
        time.note(&Event::EpochStarted { epoch: 1, epochs: 1, samples: 10, done: 0 });
        time.began = time.began.map(|(began, first)| (began - Duration::from_secs(60), first));
        time.note(&Event::StepFinished { samples: 10, loss: None, accuracy: None });
        assert!((seconds(time.left()) - 180.0).abs() < 1.0);
        assert!((seconds(time.left_after(Duration::from_secs(5))) - 185.0).abs() < 1.0);
        time.note(&Event::NetworkStarted { before: 0.25, share: 0.75 });
        time.note(&Event::EpochStarted { epoch: 2, epochs: 3, samples: 10, done: 0 });
        // Half of all in a minute.
        assert!((seconds(time.left()) - 60.0).abs() < 1.0);
    }

    #[test]
    fn the_stages_of_a_sweep_count_as_often_as_they_are_to_be_done() {
        let mut time = forecast();
        time.note(&Event::PieceStarted { stage: Stage::Pretrain, left: [1, 0, 3] });
        let begin = |time: &mut TimeLeft, stage, epochs| {
            time.note(&Event::StageStarted(stage, ""));
            time.note(&Event::EpochStarted { epoch: 1, epochs, samples: 10, done: 0 });
        };
        begin(&mut time, Stage::Pretrain, 2);
        // Two encoders of 300 s, three classifiers of 30 s: as forecast.
        assert!((seconds(time.left()) - 690.0).abs() < 1.0);
        time.sweep.current =
            time.sweep.current.map(|(stage, began)| (stage, began - Duration::from_secs(200)));
        time.note(&Event::PieceStarted { stage: Stage::Finetune, left: [1, 0, 2] });
        begin(&mut time, Stage::Finetune, 3);
        // The first encoder took 200 s.
        assert!((seconds(time.left()) - 290.0).abs() < 1.0);
        time.sweep.current =
            time.sweep.current.map(|(stage, began)| (stage, began - Duration::from_secs(40)));
        time.note(&Event::PieceStarted { stage: Stage::Finetune, left: [1, 0, 1] });
        begin(&mut time, Stage::Finetune, 3);
        assert!((seconds(time.left()) - 270.0).abs() < 1.0);
        assert_eq!(clock(time.left().unwrap()), "0:04:30");
    }
}
