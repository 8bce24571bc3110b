//! `rotnet reproduce`: runs a finished run again and says whether it ends with the same results, and if not, why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::options::ReadArguments;
use super::pipeline::data_home;
use super::signals::Stoppable;
use super::{display, on_threads, print_json, print_line};
use crate::checkpoint::Checkpoint;
use crate::config::{self, Config, Overrides};
use crate::device::guarded;
use crate::error::{Error, Result};
use crate::files::read_json;
use crate::progress::{Reporter, Stage};
use crate::run_directory::{Existing, RunDirectory, RunRecord};
use crate::run_results::{ResultFile, differences, results};
use crate::stages::{self, Context, Sources};

/// What `reproduce` found.
#[derive(Serialize)]
struct Reproduction {
    /// Results, stage by stage.
    stages: Vec<StageReproduction>,
    /// What is otherwise than it was, where results differ.
    reasons: Vec<String>,
}

#[derive(Serialize)]
struct StageReproduction {
    stage: Stage,
    results: usize,
    /// Results that are not the same.
    differing: Vec<String>,
}

/// Options of `reproduce`.
#[derive(Args, Debug)]
pub struct ReproduceArguments {
    /// The run directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    #[command(flatten)]
    pub read: ReadArguments,
}

pub(super) fn execute(arguments: &ReproduceArguments) -> Result<()> {
    let original = RunDirectory::new(&arguments.run);
    let expected = results(&original)?;
    let stages: BTreeSet<&str> = expected.iter().map(|file| file.stage.name()).collect();
    if !stages.contains(Stage::Pretrain.name()) {
        return Err(Error::checkpoint(
            &arguments.run,
            "holds no finished pretraining to do again",
            "name the directory of a run that began with `rotnet run` or `rotnet pretrain`",
        ));
    }
    let config = config::load(&original.config(), &overrides(arguments))?;
    let directory = tempfile::Builder::new()
        .prefix("rotnet-reproduce-")
        .tempdir()
        .map_err(Error::io("create", std::env::temp_dir()))?;
    let again = RunDirectory::new(directory.path());
    on_threads(config.threads, || {
        let mut reporter = Stoppable::new(display::reporter(arguments.read.output.quiet))?;
        let tested = expected.iter().any(|file| original.root().join(&file.file) == original.predictions());
        guarded(&config.all_devices(), || run_stages(&again, &config, &stages, tested, &mut reporter))
    })??;
    let found = results(&again)?;
    let reproduction = compare(&original, &again, &expected, &found)?;
    match arguments.read.output.json {
        true => print_json(&reproduction)?,
        false => show(&reproduction)?,
    }
    judge(&arguments.run, &reproduction)
}

fn overrides(arguments: &ReproduceArguments) -> Overrides {
    let mut overrides = Overrides::default();
    if let Some(data) = &arguments.read.data {
        overrides.set("data.directory", data.display().to_string());
    }
    if let Some(threads) = arguments.read.threads {
        overrides.set("threads", threads);
    }
    overrides
}

fn run_stages(
    run: &RunDirectory,
    config: &Config,
    wanted: &BTreeSet<&str>,
    tested: bool,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let context = Context::new(run.clone(), config.clone(), data_home(), Existing::Refuse)?;
    stages::pretrain(&context, reporter)?;
    if wanted.contains(Stage::Extract.name()) {
        stages::extract(&context, None, reporter)?;
    }
    if wanted.contains(Stage::Finetune.name()) {
        match tested {
            true => stages::finetune(&context, &Sources::default(), reporter)?,
            false => stages::train_classifier(&context, &Sources::default(), reporter)?,
        };
    }
    Ok(())
}

fn compare(
    original: &RunDirectory,
    again: &RunDirectory,
    expected: &[ResultFile],
    found: &[ResultFile],
) -> Result<Reproduction> {
    let differing = differences(expected, found);
    let stages: Vec<StageReproduction> = [Stage::Pretrain, Stage::Extract, Stage::Finetune]
        .into_iter()
        .map(|stage| StageReproduction {
            stage,
            results: expected.iter().filter(|file| file.stage == stage).count(),
            differing: differing
                .iter()
                .filter(|file| file.stage == stage)
                .map(|file| file.file.clone())
                .collect(),
        })
        .filter(|stage| stage.results > 0)
        .collect();
    let reasons = match stages.iter().find(|stage| !stage.differing.is_empty()) {
        None => Vec::new(),
        Some(first) => reasons(original, again, first.stage)?,
    };
    Ok(Reproduction { stages, reasons })
}

/// What is recorded otherwise of the two runs, beginning with the first stage that differs.
fn reasons(original: &RunDirectory, again: &RunDirectory, stage: Stage) -> Result<Vec<String>> {
    let mut reasons = Vec::new();
    if stage != Stage::Extract {
        let [was, is] = [original, again].map(|run| Checkpoint::load(&run.checkpoint(stage)));
        reasons.extend(was?.header.difference(&is?.header));
    }
    let [was, is] = [original, again].map(|run| read_json::<RunRecord>(&run.record()));
    let (was, is) = (was?.environment, is?.environment);
    let devices = ("device", was.devices(), is.devices());
    for (what, was, is) in [
        ("rotnet", was.rotnet, is.rotnet),
        ("processor", was.processor, is.processor),
        ("kernels", was.kernels, is.kernels),
        devices,
    ] {
        if was != is {
            reasons.push(format!("{what} was {was}, is {is}"));
        }
    }
    Ok(reasons)
}

fn show(reproduction: &Reproduction) -> Result<()> {
    for stage in &reproduction.stages {
        let name = stage.stage.name();
        print_line(&match stage.differing.len() {
            0 => format!("{name}: all {} results are the same", stage.results),
            _ => format!("{name}: other results in {}", stage.differing.join(", ")),
        })?;
    }
    reproduction.reasons.iter().try_for_each(|reason| print_line(&format!("otherwise than then: {reason}")))
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
