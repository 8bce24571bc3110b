//! How progress looks: bars on a terminal, lines elsewhere, nothing when asked to be quiet. All on stderr.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::ranks::leads;
use super::readable::readable;
use super::time_left::{TimeLeft, clock};
use crate::progress::{EpochMetrics, Event, Reporter, Silent, Unit};

/// The reporter for this terminal.
pub fn reporter(quiet: bool) -> Box<dyn Reporter> {
    match (quiet || !leads(), stderr().is_terminal()) {
        (true, _) => Box::new(Silent),
        (false, true) => Box::new(Bars::default()),
        (false, false) => Box::new(Lines::default()),
    }
}

const EPOCH_BAR: &str = "{prefix} [{bar:30}] {percent:>3}%  {per_sec}  {msg}";
const IMAGES_BAR: &str = "{prefix} [{bar:30}] {human_pos}/{human_len} images  {per_sec}  {msg}";
const BYTES_BAR: &str = "{prefix} [{bar:30}] {bytes}/{total_bytes}  {bytes_per_sec}  {msg}";

/// Bars that are redrawn in place.
#[derive(Default)]
struct Bars {
    bar: Option<ProgressBar>,
    time: TimeLeft,
    /// Results of the previous epoch, shown while the next one runs.
    found: String,
}

impl Bars {
    /// Some of the total may be done before.
    fn start(&mut self, template: &str, total: u64, done: u64, prefix: String) {
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("per_sec", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = write!(out, "{:.0} images/s", state.per_sec());
            })
            .progress_chars("=> ");
        let bar = ProgressBar::new(total).with_style(style).with_prefix(prefix);
        bar.set_position(done);
        // So that the speed is that from here on.
        bar.reset_eta();
        bar.enable_steady_tick(Duration::from_millis(250));
        self.bar = Some(bar);
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn print(&self, line: &str) {
        let line = readable(line);
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Reporter for Bars {
    fn shows_time(&self) -> bool {
        true
    }

    fn report(&mut self, event: Event<'_>) {
        self.time.note(&event);
        match event {
            Event::EpochStarted { epoch, epochs, samples, done } => {
                self.start(EPOCH_BAR, samples as u64, done as u64, format!("epoch {epoch}/{epochs}"))
            }
            Event::StepFinished { samples, loss, accuracy } => {
                if let Some(bar) = &self.bar {
                    bar.inc(samples as u64);
                    if let (Some(loss), Some(accuracy)) = (loss, accuracy) {
                        let left = left(self.time.left());
                        bar.set_message(format!(
                            "loss {loss:.4}  accuracy {accuracy:.4}{}{left}",
                            self.found
                        ));
                    }
                }
            }
            Event::TaskStarted { label, total, unit } => {
                let template = match unit {
                    Unit::Images => IMAGES_BAR,
                    Unit::Bytes => BYTES_BAR,
                };
                self.start(template, total, 0, label.to_owned());
            }
            Event::TaskAdvanced(count) => {
                if let Some(bar) = &self.bar {
                    bar.inc(count);
                    bar.set_message(left(self.time.left_after(bar.eta())));
                }
            }
            Event::TaskFinished => self.finish(),
            Event::EpochFinished(metrics) => {
                self.finish();
                self.print(&epoch_line(metrics));
                self.found =
                    probes(metrics).map(|(name, accuracy)| format!("  {name} {accuracy:.4}")).collect();
            }
            other => {
                if let Some(line) = text_line(other) {
                    self.print(&line);
                }
            }
        }
    }
}

/// One line per epoch, and one every few seconds in between.
#[derive(Default)]
struct Lines {
    time: TimeLeft,
    label: String,
    total: u64,
    done: u64,
    began: Option<Instant>,
    last: Option<Instant>,
}

/// Seconds between two lines of the same epoch or task.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Lines {
    fn start(&mut self, label: String, total: u64, done: u64) {
        let time = std::mem::take(&mut self.time);
        let now = Some(Instant::now());
        *self = Self { time, label, total, done, began: now, last: now };
    }

    /// Time left of a task, at its speed so far.
    fn left_of_task(&self) -> Duration {
        let took = self.began.map_or(Duration::ZERO, |began| began.elapsed()).as_secs_f64();
        let left = self.total.saturating_sub(self.done) as f64 / self.done.max(1) as f64;
        Duration::try_from_secs_f64(took * left).unwrap_or_default()
    }

    fn advance(&mut self, count: u64, detail: impl FnOnce(&Self) -> String) {
        self.done += count;
        if self.last.is_some_and(|last| last.elapsed() >= LINE_EVERY) {
            self.last = Some(Instant::now());
            let share = 100 * self.done / self.total.max(1);
            eprintln!("{} {share}%{}", self.label, detail(self));
        }
    }
}

impl Reporter for Lines {
    fn shows_time(&self) -> bool {
        true
    }

    fn report(&mut self, event: Event<'_>) {
        self.time.note(&event);
        match event {
            Event::EpochStarted { epoch, epochs, samples, done } => {
                self.start(format!("epoch {epoch}/{epochs}"), samples as u64, done as u64)
            }
            Event::StepFinished { samples, loss, accuracy } => self.advance(samples as u64, |lines| {
                let left = left(lines.time.left());
                match (loss, accuracy) {
                    (Some(loss), Some(accuracy)) => {
                        format!("  loss {loss:.4}  accuracy {accuracy:.4}{left}")
                    }
                    _ => left,
                }
            }),
            Event::TaskStarted { label, total, .. } => self.start(label.to_owned(), total, 0),
            Event::TaskAdvanced(count) => {
                self.advance(count, |lines| left(lines.time.left_after(lines.left_of_task())))
            }
            Event::EpochFinished(metrics) => eprintln!("{}", epoch_line(metrics)),
            other => {
                if let Some(line) = text_line(other) {
                    eprintln!("{}", readable(&line));
                }
            }
        }
    }
}

/// The end of a line: the time left of the whole run.
fn left(time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| format!("  {} left", clock(time)))
}

fn epoch_line(metrics: &EpochMetrics) -> String {
    let mut line = format!(
        "epoch {}: loss {:.4}, accuracy {:.4}, learning rate {:.2e}, {:.0} images/s, {:.1} s",
        metrics.epoch,
        metrics.loss,
        metrics.accuracy,
        metrics.learning_rate,
        metrics.images_per_second,
        metrics.seconds
    );
    if let (Some(loss), Some(accuracy)) = (metrics.rotation_loss, metrics.rotation_accuracy) {
        line += &format!(", rotation loss {loss:.4}, accuracy {accuracy:.4}");
    }
    if let (Some(loss), Some(accuracy)) = (metrics.validation_loss, metrics.validation_accuracy) {
        line += &format!(", validation loss {loss:.4}, accuracy {accuracy:.4}");
    }
    line.extend(probes(metrics).map(|(name, accuracy)| format!(", {name} {accuracy:.4}")));
    line
}

/// What `pretrain.probe` found after the epoch.
fn probes(metrics: &EpochMetrics) -> impl Iterator<Item = (&'static str, f64)> {
    let probes = [("nearest neighbours", metrics.knn_accuracy), ("ridge", metrics.ridge_accuracy)];
    probes.into_iter().filter_map(|(name, accuracy)| Some((name, accuracy?)))
}

fn text_line(event: Event<'_>) -> Option<String> {
    match event {
        Event::StageStarted(stage, what) => Some(format!("{}: {what}", stage.name())),
        Event::Note(text) => Some(format!("note: {text}")),
        Event::Warning(text) => Some(format!("warning: {text}")),
        _ => None,
    }
}
