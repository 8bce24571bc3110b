//! A finished run done again: whether it ends with the same results, and if not, why.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use crate::config::{self, Config, Overrides};
use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::files::{read_json, sha256_file};
use crate::progress::{Reporter, Stage};
use crate::stages::{self, Context, Sources};
use crate::store::checkpoint::Checkpoint;
use crate::store::encoder_source::EncoderSource;
use crate::store::run_directory::{Existing, RunDirectory};
use crate::store::run_record::RunRecord;
use crate::store::run_results::{ResultFile, differences, results};

/// What `rotnet verify run` found.
#[derive(Serialize)]
pub struct Reproduction {
    /// Results, stage by stage.
    pub stages: Vec<StageReproduction>,
    /// Results that were not made from what the run holds now, and are not made again.
    pub left_out: Vec<String>,
    /// What has changed, where results differ.
    pub reasons: Vec<String>,
}

/// What was found of a stage.
#[derive(Serialize)]
pub struct StageReproduction {
    /// The stage.
    pub stage: Stage,
    /// How many results it has.
    pub results: usize,
    /// Results that are not the same.
    pub differing: Vec<String>,
}

/// A run that is to be done again.
pub struct Repetition {
    original: RunDirectory,
    expected: Vec<ResultFile>,
    configs: Vec<(Stage, Config)>,
    left_out: Vec<String>,
}

impl Repetition {
    /// Finds out what of a run can be done again, with these settings in place of the recorded ones.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a run without a finished training, or with a damaged result; [`Error::Io`].
    pub fn plan(original: RunDirectory, overrides: &Overrides) -> Result<Self> {
        original.settle();
        let mut expected = results(&original)?;
        let (stages, left_out) = stages_to_repeat(&original, &expected)?;
        expected.retain(|file| stages.contains(&file.stage));
        if stages.is_empty() {
            return Err(Error::checkpoint(
                original.root(),
                "holds no finished training to do again",
                "name the directory of a run that began with `rotnet run` or `rotnet pretrain`",
            ));
        }
        let configs =
            stages.iter().map(|&stage| Ok((stage, config::load(&original.config(stage), overrides)?)));
        let configs = configs.collect::<Result<_>>()?;
        Ok(Self { original, expected, configs, left_out })
    }

    /// The devices that its stages compute on.
    pub fn devices(&self) -> Vec<DeviceName> {
        let devices: BTreeSet<_> = self.configs.iter().flat_map(|(_, config)| config.all_devices()).collect();
        devices.into_iter().collect()
    }

    /// The number of threads that its config asks for.
    pub fn threads(&self) -> Option<usize> {
        self.configs.iter().find_map(|(_, config)| config.threads)
    }

    /// Does the run again in a temporary directory, and compares.
    ///
    /// # Errors
    /// What the stages may end with. Results that differ are no error, see [`StageReproduction::differing`].
    pub fn perform(&self, data_home: &Path, reporter: &mut dyn Reporter) -> Result<Reproduction> {
        let directory = tempfile::Builder::new()
            .prefix("rotnet-verify-")
            .tempdir()
            .map_err(Error::io("create", std::env::temp_dir()))?;
        let again = RunDirectory::new(directory.path());
        let predictions = self.original.predictions();
        let tested = self.expected.iter().any(|file| self.original.root().join(&file.file) == predictions);
        run_stages(&self.original, &again, &self.configs, tested, data_home, reporter)?;
        let found = results(&again)?;
        compare(&self.original, &again, &self.expected, &found, self.left_out.clone())
    }
}

/// The finished stages that follow from each other and from nothing outside the run; and the others, in words.
fn stages_to_repeat(run: &RunDirectory, results: &[ResultFile]) -> Result<(Vec<Stage>, Vec<String>)> {
    let finished = |stage: Stage| results.iter().any(|file| file.stage == stage);
    let (mut stages, mut left_out) = (Vec::new(), Vec::new());
    let mut encoder = None;
    if finished(Stage::Pretrain) {
        encoder = Some(sha256_file(&run.result(Stage::Pretrain))?);
        stages.push(Stage::Pretrain);
        if stages::taken_over(run).is_some() {
            left_out.push("pretrain: its encoder was taken over, and is here as it was".to_owned());
        }
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

/// Runs the stages; the test set is opened where it was.
fn run_stages(
    original: &RunDirectory,
    run: &RunDirectory,
    configs: &[(Stage, Config)],
    tested: bool,
    data_home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let sources = Sources::default();
    for (stage, config) in configs {
        let mut context = Context::new(run.clone(), config.clone(), data_home.into(), Existing::Refuse)?;
        // Other data shows in the results, with the reason.
        context.allow_data_mismatch = true;
        match stage {
            Stage::Pretrain if stages::taken_over(original).is_some() => {
                stages::take_over(&context, &EncoderSource::Run(original.clone()), reporter)?;
            }
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
    let [was_computed, is_computed] = [&was, &is].map(|record| record.kernels.clone() + record.rounding());
    let kernels = ("kernels", was_computed, is_computed);
    for (what, was, is) in
        [("rotnet", was.rotnet, is.rotnet), ("processor", was.processor, is.processor), kernels, devices]
    {
        if was != is {
            reasons.push(format!("{what} was {was}, is {is}"));
        }
    }
    Ok(reasons)
}
