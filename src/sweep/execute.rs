//! Makes the runs of a sweep that are not there yet.

use std::path::PathBuf;

use super::plan::Planned;
use super::results::{self, Row, SweepSummary};
use super::shared::{pretraining, shared};
use crate::config::{Config, FinetuneMode};
use crate::error::{Error, Result};
use crate::files::create_directory;
use crate::progress::{Event, Reporter, Stage};
use crate::run_directory::{Existing, RunDirectory};
use crate::stages::{self, Context, Sources};

/// What is to be run, and where.
pub struct Sweep {
    /// In words, from the file.
    pub description: String,
    /// All runs.
    pub planned: Vec<Planned>,
    /// The directory of the sweep.
    pub out: PathBuf,
    /// Where data sets lie by default.
    pub data_home: PathBuf,
}

/// Makes every run that is not finished, and leaves `sweep.csv` and `summary.json` in the sweep's directory, both up to
/// date after each run. A run whose training diverges is noted as failed, and the others go on.
///
/// # Errors
/// Whatever [`crate::Error`] names besides: data, disk, a wish to end. What is finished is skipped the next time.
pub fn execute(sweep: &Sweep, reporter: &mut dyn Reporter) -> Result<SweepSummary> {
    create_directory(&sweep.out)?;
    let _lock = RunDirectory::new(&sweep.out).lock()?;
    let total = sweep.planned.len();
    let mut rows: Vec<Row> = Vec::with_capacity(total);
    for (index, planned) in sweep.planned.iter().enumerate() {
        let run = RunDirectory::new(sweep.out.join(&planned.name));
        let place = format!("run {} of {total}, {}", index + 1, planned.name);
        let failure = match run.summary(Stage::Finetune).exists() {
            true => {
                reporter.report(Event::Note(&format!("sweep: {place}: finished already")));
                None
            }
            false => {
                reporter.report(Event::Note(&format!("sweep: {place}")));
                failure(make(sweep, planned, &run, reporter))?
            }
        };
        if let Some(failure) = &failure {
            reporter.report(Event::Warning(&format!("sweep: {place}: {failure}")));
        }
        let shared = (!planned.config.finetune.from_scratch).then(|| shared(&sweep.out, &planned.config));
        rows.push(Row::read(planned, &run, shared.as_ref(), failure)?);
        results::write(&sweep.out, &SweepSummary::new(&sweep.description, total, &rows))?;
    }
    Ok(SweepSummary::new(&sweep.description, total, &rows))
}

/// A training that did not work out is a result; everything else is an error.
fn failure(outcome: Result<()>) -> Result<Option<String>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(error @ (Error::Diverged { .. } | Error::NotFinite { .. })) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

fn make(sweep: &Sweep, planned: &Planned, run: &RunDirectory, reporter: &mut dyn Reporter) -> Result<()> {
    let config = &planned.config;
    let shared = shared(&sweep.out, config);
    if config.finetune.from_scratch {
        stages::finetune(&context(sweep, run, config.clone())?, &Sources::default(), reporter)?;
        return Ok(());
    }
    if !shared.pretrain.summary(Stage::Pretrain).exists() {
        let context = context(sweep, &shared.pretrain, pretraining(config))?;
        stages::pretrain(&context, reporter)?;
    }
    let mut sources =
        Sources { checkpoint: Some(shared.pretrain.stage(Stage::Pretrain)), features: None, split: None };
    if config.finetune.mode == FinetuneMode::Frozen {
        if !shared.features.summary(Stage::Extract).exists() {
            let context = context(sweep, &shared.features, pretraining(config))?;
            stages::extract(&context, sources.checkpoint.clone(), reporter)?;
        }
        sources.features = Some(shared.features.stage(Stage::Extract));
    }
    stages::finetune(&context(sweep, run, config.clone())?, &sources, reporter)?;
    Ok(())
}

fn context(sweep: &Sweep, run: &RunDirectory, config: Config) -> Result<Context> {
    Context::new(run.clone(), config, sweep.data_home.clone(), Existing::Resume)
}
