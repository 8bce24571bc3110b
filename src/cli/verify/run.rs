//! `rotnet verify run`: repeats a finished run.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::options::{ReadArguments, data_folder};
use crate::cli::pipeline::data_home;
use crate::cli::signals::Stoppable;
use crate::cli::{display, on_threads, print_json, print_line};
use crate::config::Overrides;
use crate::device::guarded;
use crate::error::{Error, Result};
use crate::store::run_directory::RunDirectory;
use crate::tools::verify::run::{Repetition, Reproduction};

/// Options of `verify run`.
#[derive(Args, Debug)]
pub struct VerifyRunArguments {
    /// The run directory
    #[arg(value_name = "RUN")]
    run: PathBuf,
    #[command(flatten)]
    read: ReadArguments,
}

pub(super) fn execute(arguments: &VerifyRunArguments) -> Result<()> {
    let repetition = Repetition::plan(RunDirectory::new(&arguments.run), &overrides(arguments)?)?;
    let output = &arguments.read.output;
    let reproduction = on_threads(repetition.threads(), || {
        let mut reporter = Stoppable::new(display::reporter(output.quiet))?;
        guarded(&repetition.devices(), || repetition.perform(&data_home(), &mut reporter))
    })??;
    match output.json() {
        true => print_json(&reproduction)?,
        false => show(&reproduction)?,
    }
    judge(&arguments.run, &reproduction)
}

fn overrides(arguments: &VerifyRunArguments) -> Result<Overrides> {
    let mut overrides = Overrides::default();
    if let Some(data) = &arguments.read.data {
        overrides.set("data.directory", data_folder(data)?);
    }
    if let Some(threads) = arguments.read.threads {
        overrides.set("threads", threads);
    }
    Ok(overrides)
}

fn show(reproduction: &Reproduction) -> Result<()> {
    for stage in &reproduction.stages {
        let name = stage.stage.name();
        print_line(&match stage.differing.len() {
            0 => format!("{name}: all {} results are the same", stage.results),
            _ => format!("{name}: results differ in {}", stage.differing.join(", ")),
        })?;
    }
    let mut left_out = reproduction.left_out.iter();
    left_out.try_for_each(|reason| print_line(&format!("{reason}: not repeated")))?;
    reproduction.reasons.iter().try_for_each(|reason| print_line(&format!("changed since then: {reason}")))
}

fn judge(run: &Path, reproduction: &Reproduction) -> Result<()> {
    let mut stages = reproduction.stages.iter();
    let Some(first) = stages.find(|stage| !stage.differing.is_empty()) else {
        return Ok(());
    };
    let reason = match reproduction.reasons.first() {
        Some(reason) => reason.clone(),
        None => "nothing that is recorded has changed".into(),
    };
    Err(Error::Verification {
        problem: format!(
            "{} does not come out the same, from {} on: {reason}",
            run.display(),
            first.stage.name()
        ),
        hint: "see docs/reliability.md for what is promised across machines".into(),
    })
}
