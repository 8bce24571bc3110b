//! Carries out the runs of a sweep that are not finished yet.

use std::path::{Path, PathBuf};

use super::plan::Planned;
use super::results::{self, Row, SweepSummary};
use super::shared::{pretraining, shared};
use crate::config::{Config, FinetuneMode};
use crate::error::{Error, Result};
use crate::files::create_directory;
use crate::progress::{Event, Reporter, Stage};
use crate::stages::{self, Context, Sources};
use crate::store::run_directory::{Existing, RunDirectory};

/// Which runs of a sweep are evaluated on the test set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tested {
    /// None: the sweep reports validation accuracy.
    #[default]
    None,
    /// Those with the best mean validation accuracy, over seeds and label draws.
    Best,
    /// All.
    All,
}

/// What to run, and where.
pub struct Sweep {
    /// What the sweep is about, from its file.
    pub description: String,
    /// All runs.
    pub planned: Vec<Planned>,
    /// The runs that are tested, once all are trained.
    pub tested: Tested,
    /// The directory of the sweep.
    pub out: PathBuf,
    /// Where data sets lie by default.
    pub data_home: PathBuf,
}

/// Carries out every run that is not finished, then evaluates the chosen ones on the test set. Leaves `sweep.csv` and
/// `summary.json` in the sweep's directory, both up to date after each run. A run whose training diverges is noted as
/// failed; the others go on.
///
/// # Errors
/// [`Error::Config`] for a run without validation images where they are what is reported or chosen by; whatever
/// [`crate::Error`] names besides: data, disk, a wish to end. What is finished is skipped the next time.
pub fn execute(sweep: &Sweep, reporter: &mut dyn Reporter) -> Result<SweepSummary> {
    check_validation(sweep)?;
    create_directory(&sweep.out)?;
    let _lock = RunDirectory::new(&sweep.out).lock()?;
    let total = sweep.planned.len();
    let mut rows: Vec<Row> = Vec::with_capacity(total);
    // The first run is forecast; those after it are expected to take as long as those before them.
    let mut forecast = false;
    for (index, planned) in sweep.planned.iter().enumerate() {
        let run = sweep.run(planned);
        let place = format!("run {} of {total}, {}", index + 1, planned.name);
        let failure = match sweep.is_trained(planned) {
            true => {
                reporter.report(Event::Note(&format!("sweep: {place}: finished already")));
                None
            }
            false => {
                reporter.report(Event::Note(&format!("sweep: {place}")));
                let left = sweep.planned[index + 1..].iter().filter(|&planned| !sweep.is_trained(planned));
                reporter.report(Event::RunStarted { left: left.count() });
                if !std::mem::replace(&mut forecast, true) && reporter.shows_time() {
                    let forecast =
                        stages::forecast(&context(sweep, &run, planned.config.clone())?, reporter)?;
                    reporter.report(Event::Forecast(&forecast));
                }
                failure(make(sweep, planned, &run, reporter))?
            }
        };
        if let Some(failure) = &failure {
            reporter.report(Event::Warning(&format!("sweep: {place}: {failure}")));
        }
        rows.push(sweep.row(planned, failure)?);
        results::write(&sweep.out, &SweepSummary::new(&sweep.description, total, &rows))?;
    }

    // Everything is trained: from here on the test set is open for the runs to be tested.
    let chosen = match sweep.tested {
        Tested::None => Vec::new(),
        Tested::All => (0..total).collect(),
        Tested::Best => SweepSummary::new(&sweep.description, total, &rows).best(),
    };
    for index in chosen {
        let planned = &sweep.planned[index];
        if rows[index].failure.is_some() || rows[index].test_accuracy.is_some() {
            continue;
        }
        reporter.report(Event::Note(&format!("sweep: testing {}", planned.name)));
        let context = context(sweep, &sweep.run(planned), planned.config.clone())?;
        let sources = sources(&sweep.out, &planned.config);
        stages::test_classifier(&context, &sources, None, "sweep: after all runs were trained", reporter)?;
        rows[index] = sweep.row(planned, None)?;
        results::write(&sweep.out, &SweepSummary::new(&sweep.description, total, &rows))?;
    }
    Ok(SweepSummary::new(&sweep.description, total, &rows))
}

/// Refuses runs that hold nothing out if the sweep goes by validation accuracy.
fn check_validation(sweep: &Sweep) -> Result<()> {
    let lacks = |planned: &&Planned| planned.config.data.validation_images == 0;
    match sweep.planned.iter().find(lacks).filter(|_| sweep.tested != Tested::All) {
        None => Ok(()),
        Some(planned) => Err(Error::config(
            "data.validation_images",
            format!(
                "is 0 in the run {}, but a sweep goes by validation accuracy: hold images out, or open the test set \
                 for all runs with --test",
                planned.name
            ),
        )),
    }
}

impl Sweep {
    fn run(&self, planned: &Planned) -> RunDirectory {
        RunDirectory::new(self.out.join(&planned.name))
    }

    fn is_trained(&self, planned: &Planned) -> bool {
        self.run(planned).summary(Stage::Finetune).exists()
    }

    fn row(&self, planned: &Planned, failure: Option<String>) -> Result<Row> {
        let shared = (!planned.config.finetune.from_scratch).then(|| shared(&self.out, &planned.config));
        Row::read(planned, &self.run(planned), shared.as_ref(), failure)
    }
}

/// Where the classifier of a run reads from.
fn sources(out: &Path, config: &Config) -> Sources {
    if config.finetune.from_scratch {
        return Sources::default();
    }
    let shared = shared(out, config);
    let frozen = config.finetune.mode == FinetuneMode::Frozen;
    Sources {
        checkpoint: Some(shared.pretrain.stage(Stage::Pretrain)),
        features: frozen.then(|| shared.features.stage(Stage::Extract)),
        split: None,
    }
}

/// Training that diverged is a result; everything else is an error.
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
    let sources = sources(&sweep.out, config);
    if sources.checkpoint.is_some() && !shared.pretrain.summary(Stage::Pretrain).exists() {
        let context = context(sweep, &shared.pretrain, pretraining(config))?;
        stages::pretrain(&context, reporter)?;
    }
    if sources.features.is_some() && !shared.features.summary(Stage::Extract).exists() {
        let context = context(sweep, &shared.features, pretraining(config))?;
        stages::extract(&context, sources.checkpoint.clone(), reporter)?;
    }
    stages::train_classifier(&context(sweep, run, config.clone())?, &sources, reporter)?;
    Ok(())
}

fn context(sweep: &Sweep, run: &RunDirectory, config: Config) -> Result<Context> {
    Context::new(run.clone(), config, sweep.data_home.clone(), Existing::Resume)
}
