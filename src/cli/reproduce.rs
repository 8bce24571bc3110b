//! `rotnet reproduce`: runs a finished run again and says whether it ends with the same results, and if not, why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::options::{ReadArguments, data_folder};
use super::pipeline::data_home;
use super::signals::Stoppable;
use super::{display, on_threads, print_json, print_line};
use crate::config::{self, Config, Overrides};
use crate::device::{DeviceName, guarded};
use crate::error::{Error, Result};
use crate::files::{read_json, sha256_file};
use crate::progress::{Reporter, Stage};
use crate::stages::{self, Context, Sources};
use crate::store::checkpoint::Checkpoint;
use crate::store::run_directory::{Existing, RunDirectory, RunRecord};
use crate::store::run_results::{ResultFile, differences, results};

/// What `reproduce` found.
#[derive(Serialize)]
struct Reproduction {
    /// Results, stage by stage.
    stages: Vec<StageReproduction>,
    /// Results that were not made from what the run holds now, and are not made again.
    left_out: Vec<String>,
    /// What has changed, where results differ.
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
    original.settle();
    let mut expected = results(&original)?;
    let (stages, left_out) = stages_to_repeat(&original, &expected)?;
    expected.retain(|file| stages.contains(&file.stage));
    if stages.is_empty() {
        return Err(Error::checkpoint(
            &arguments.run,
            "holds no finished training to do again",
            "name the directory of a run that began with `rotnet run` or `rotnet pretrain`",
        ));
    }
    let overrides = overrides(arguments)?;
    let configs = stages.iter().map(|&stage| Ok((stage, config::load(&original.config(stage), &overrides)?)));
    let configs = configs.collect::<Result<Vec<(Stage, Config)>>>()?;
    let directory = tempfile::Builder::new()
        .prefix("rotnet-reproduce-")
        .tempdir()
        .map_err(Error::io("create", std::env::temp_dir()))?;
    let again = RunDirectory::new(directory.path());
    let devices: BTreeSet<DeviceName> = configs.iter().flat_map(|(_, config)| config.all_devices()).collect();
    let threads = configs.iter().find_map(|(_, config)| config.threads);
    on_threads(threads, || {
        let mut reporter = Stoppable::new(display::reporter(arguments.read.output.quiet))?;
        let tested = expected.iter().any(|file| original.root().join(&file.file) == original.predictions());
        guarded(&Vec::from_iter(devices), || run_stages(&again, &configs, tested, &mut reporter))
    })??;
    let found = results(&again)?;
    let reproduction = compare(&original, &again, &expected, &found, left_out)?;
    match arguments.read.output.json {
        true => print_json(&reproduction)?,
        false => show(&reproduction)?,
    }
    judge(&arguments.run, &reproduction)
}

/// The finished stages that follow from each other and from nothing outside the run; and the others, in words.
fn stages_to_repeat(run: &RunDirectory, results: &[ResultFile]) -> Result<(Vec<Stage>, Vec<String>)> {
    let finished = |stage: Stage| results.iter().any(|file| file.stage == stage);
    let (mut stages, mut left_out) = (Vec::new(), Vec::new());
    let mut encoder = None;
    if finished(Stage::Pretrain) {
        encoder = Some(sha256_file(&run.result(Stage::Pretrain))?);
        stages.push(Stage::Pretrain);
    }
    if finished(Stage::Extract) {
        match Some(run.features().read_manifest()?.origin.checkpoint) == encoder {
            true => stages.push(Stage::Extract),
            false => left_out.push("extract: its features come from another checkpoint".to_owned()),
        }
    }
    if finished(Stage::Finetune) {
        match why_not_repeated(run, &stages, encoder)? {
            None => stages.push(Stage::Finetune),
            Some(reason) => left_out.push(format!("finetune: {reason}")),
        }
    }
    Ok((stages, left_out))
}

/// What the classifier was made from that the run no longer holds; nothing where it can be made again.
fn why_not_repeated(
    run: &RunDirectory,
    stages: &[Stage],
    encoder: Option<String>,
) -> Result<Option<&'static str>> {
    let header = Checkpoint::load(&run.result(Stage::Finetune))?.header;
    if header.input.is_some() && header.input != encoder {
        return Ok(Some("its encoder or features come from another checkpoint"));
    }
    if header.encoder.is_some() {
        return Ok(None);
    }
    let read = |stage| config::load(&run.config(stage), &Overrides::default());
    let same = stages.contains(&Stage::Extract)
        && run.features().read_manifest()?.origin.dataset == header.dataset
        && read(Stage::Extract)?.extract.readout() == read(Stage::Finetune)?.extract.readout();
    Ok((!same).then_some("its features are not those of the run any more"))
}

fn overrides(arguments: &ReproduceArguments) -> Result<Overrides> {
    let mut overrides = Overrides::default();
    if let Some(data) = &arguments.read.data {
        overrides.set("data.directory", data_folder(data)?);
    }
    if let Some(threads) = arguments.read.threads {
        overrides.set("threads", threads);
    }
    Ok(overrides)
}

/// Runs the stages; the test set is opened where it was.
fn run_stages(
    run: &RunDirectory,
    configs: &[(Stage, Config)],
    tested: bool,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let sources = Sources::default();
    for (stage, config) in configs {
        let mut context = Context::new(run.clone(), config.clone(), data_home(), Existing::Refuse)?;
        // Other data shows in the results, with the reason.
        context.allow_data_mismatch = true;
        match stage {
            Stage::Pretrain => drop(stages::pretrain(&context, reporter)?),
            Stage::Extract => drop(stages::extract(&context, None, reporter)?),
            Stage::Finetune if tested => drop(stages::finetune(&context, &sources, reporter)?),
            Stage::Finetune => drop(stages::train_classifier(&context, &sources, reporter)?),
        }
    }
    Ok(())
}

fn compare(
    original: &RunDirectory,
    again: &RunDirectory,
    expected: &[ResultFile],
    found: &[ResultFile],
    left_out: Vec<String>,
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
    Ok(Reproduction { stages, left_out, reasons })
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
    let mut left_out = reproduction.left_out.iter();
    left_out.try_for_each(|reason| print_line(&format!("{reason}: not done again")))?;
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
