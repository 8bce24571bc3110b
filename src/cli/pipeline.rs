//! The commands of the pipeline: find the config, call the stages, show their results.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::finetune::FinetuneArguments;
use super::options::{RunArguments, config_of};
use super::plan::{self, PretrainArguments};
use super::ranks::{leads, world};
use super::signals::Stoppable;
use super::{display, encoder, evaluate, on_threads, print_json, print_line, resolve};
use crate::config::{self, Config, FinetuneMode, Overrides, PretrainConfig};
use crate::device::guarded;
use crate::error::{Error, Result};
use crate::progress::{Event, Reporter, Stage};
use crate::ranks::barrier;
use crate::stages::{
    self, Context, EvaluateSummary, ExtractSummary, FinetuneSummary, PretrainSummary, Sources,
};
use crate::store::encoder_source::EncoderSource;
use crate::store::run_directory::{Existing, RunDirectory};
use crate::store::stage_directory::StageDirectory;

/// Where `run` leaves its files if no option names anything: in the folder of the quickstart.
pub(super) const QUICKSTART_RUN: &str = "runs/quickstart";
/// Parent directory of runs without `--out`.
const RUNS: &str = "runs";

#[derive(Serialize)]
struct RunResult {
    run: PathBuf,
    pretrain: PretrainSummary,
    extract: ExtractSummary,
    finetune: FinetuneSummary,
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluate: Option<EvaluateSummary>,
}

pub(super) fn run(arguments: &PretrainArguments) -> Result<()> {
    let source = encoder::of_run(arguments)?;
    let Some(mut context) = planned(arguments, source.as_ref(), true)? else {
        return Ok(());
    };
    context.whole_run = true;
    let arguments = &arguments.run;
    let result = with_stage(arguments, &context, |reporter| {
        if context.ranks.size() == 1 {
            stages::forecast(&context, encoder::stages_with(source.as_ref(), true), reporter);
        }
        Ok(RunResult {
            run: context.run.root().to_path_buf(),
            pretrain: encoder::provide(source.as_ref(), &context, reporter)?,
            extract: stages::extract(&context, None, reporter)?,
            finetune: stages::finetune(&context, &Sources::default(), reporter)?,
            evaluate: evaluated(&context, reporter)?,
        })
    })?;
    if arguments.settings.output.json() {
        return print_json(&result);
    }
    show_pretrain(&result.pretrain)?;
    show_extract(&result.extract)?;
    show_protocol(&result.finetune)?;
    if let Some(verdict) = result.evaluate.and_then(|summary| summary.verdict) {
        evaluate::show_comparison(&verdict)?;
    }
    show_accuracy(&result.finetune)
}

/// The evaluation that the config wants behind the stages. Ranks do not share it.
fn evaluated(context: &Context, reporter: &mut dyn Reporter) -> Result<Option<EvaluateSummary>> {
    if !context.config.evaluate.after_run {
        return Ok(None);
    }
    if context.ranks.size() > 1 {
        let run = context.run.root().display();
        reporter.report(Event::Note(&format!("one process compares: `rotnet evaluate {run}` does")));
        return Ok(None);
    }
    // The forecast is of the stages alone.
    reporter.report(Event::Forecast(&[]));
    stages::evaluate(context, reporter).map(Some)
}

pub(super) fn pretrain(arguments: &PretrainArguments) -> Result<()> {
    let source = arguments.run.source()?;
    let Some(context) = planned(arguments, source.as_ref(), false)? else {
        return Ok(());
    };
    let arguments = &arguments.run;
    let summary =
        with_stage(arguments, &context, |reporter| encoder::provide(source.as_ref(), &context, reporter))?;
    match arguments.settings.output.json() {
        true => print_json(&summary),
        false => show_pretrain(&summary),
    }
}

pub(super) fn extract(arguments: &RunArguments, checkpoint: Option<PathBuf>) -> Result<()> {
    let source = arguments.source()?;
    let place = |run: &RunDirectory| run.files(Stage::Extract);
    let context = later_context(arguments, source.as_ref(), place, |_| Vec::new())?;
    let summary = with_stage(arguments, &context, |reporter| {
        if let Some(source) = &source {
            stages::take_over(&context, source, reporter)?;
        }
        stages::extract(&context, checkpoint, reporter)
    })?;
    match arguments.settings.output.json() {
        true => print_json(&summary),
        false => show_extract(&summary),
    }
}

pub(super) fn finetune(finetune: FinetuneArguments) -> Result<()> {
    let FinetuneArguments { run: arguments, checkpoint, features, from_scratch, no_test } = finetune;
    let sources = Sources { checkpoint, features, split: None };
    let more = |mode: &dyn Fn() -> Option<FinetuneMode>| {
        let mut more = Vec::new();
        if !from_scratch {
            return more;
        }
        if mode() != Some(FinetuneMode::Joint) {
            more.push("finetune.mode=full");
        }
        more.push("finetune.from_scratch=true");
        // A recipe's rate is meant for a pretrained encoder; one set on the command line is refused by the config.
        if !arguments.settings.set.iter().any(|set| set.starts_with("finetune.encoder_rate=")) {
            more.push("finetune.encoder_rate=1");
        }
        more
    };
    let source = arguments.source()?;
    let place = |run: &RunDirectory| run.files(Stage::Finetune);
    let context = later_context(&arguments, source.as_ref(), place, more)?;
    stages::refuse_too_many_ranks(&context, &[Stage::Finetune])?;
    let summary = with_stage(&arguments, &context, |reporter| {
        if let Some(source) = &source {
            stages::take_over(&context, source, reporter)?;
        }
        match no_test {
            true => stages::train_classifier(&context, &sources, reporter),
            false => stages::finetune(&context, &sources, reporter),
        }
    })?;
    match arguments.settings.output.json() {
        true => print_json(&summary),
        false => show_finetune(&summary),
    }
}

/// The context of a command that reads what an earlier one wrote: without `--config`, the run's own config applies:
/// that of the stage to resume, or else of the stage finished last, or else what goes with the encoder of `source`.
///
/// `more` is set in addition to what the arguments set.
pub(super) fn later_context(
    arguments: &RunArguments,
    source: Option<&EncoderSource>,
    place: impl FnOnce(&RunDirectory) -> StageDirectory,
    more: impl FnOnce(&dyn Fn() -> Option<FinetuneMode>) -> Vec<&'static str>,
) -> Result<Context> {
    let run = settled(arguments)?;
    let mut overrides = arguments.settings.overrides()?;
    let path = arguments.settings.config.clone();
    let path = path.or_else(|| config_to_resume(arguments, &place(&run))).or_else(|| run.latest_config());
    let path = path.or_else(|| source.map(config_of));
    // Without what is added it may be no config yet.
    let mode =
        || Some(arguments.settings.load_saying(path.as_deref(), overrides.clone(), true).ok()?.finetune.mode);
    let more = more(&mode);
    more.into_iter().try_for_each(|assignment| overrides.parse(assignment))?;
    context(arguments, arguments.settings.load(path.as_deref(), overrides)?)
}

/// The run's directory, as no command that was cut short left it.
fn settled(arguments: &RunArguments) -> Result<RunDirectory> {
    let run = run_directory(arguments)?;
    if leads() {
        run.settle();
    }
    barrier(&*world());
    Ok(run)
}

/// The config of the stage in `place`, if the arguments resume it.
fn config_to_resume(arguments: &RunArguments, place: &StageDirectory) -> Option<PathBuf> {
    arguments.existing.resume.then(|| place.to_resume().config()).filter(|path| path.is_file())
}

/// The context of a run, with its budget as steps; `None` after a dry run.
fn planned(
    arguments: &PretrainArguments,
    source: Option<&EncoderSource>,
    all_stages: bool,
) -> Result<Option<Context>> {
    plan::check(arguments)?;
    let PretrainArguments { run, budget, dry_run } = arguments;
    let recorded = config_to_resume(run, &settled(run)?.files(Stage::Pretrain));
    let path = run.settings.config.clone().or_else(|| recorded.clone()).or_else(|| source.map(config_of));
    let config = match path.as_deref() {
        None => resolve(&run.settings)?,
        path => run.settings.load(path, run.settings.overrides()?)?,
    };
    let mut context = context(run, config)?;
    let stages = encoder::stages_with(source, all_stages);
    stages::refuse_too_many_ranks(&context, stages)?;
    if *dry_run {
        let result = with_stage(run, &context, |reporter| stages::dry_run(&context, stages, reporter))?;
        plan::show(&result, run.settings.output.json())?;
        return Ok(None);
    }
    let pretrain = &context.config.pretrain;
    let overrides = run.settings.overrides()?;
    let says_epochs = overrides.names("pretrain.epochs");
    if budget.is_none() && says_epochs && !overrides.names("pretrain.steps") && pretrain.steps.is_some() {
        let problem =
            "has no effect beside pretrain.steps, which the config sets; set pretrain.steps=null, too";
        return Err(Error::config("pretrain.epochs", problem));
    }
    let begun = recorded.as_deref().map(of_budget).transpose()?.flatten();
    // The run knows its steps: the same command goes on, with its budget or without.
    let goes_on = budget.is_some() || pretrain.steps.is_none() && !says_epochs;
    if let Some(begun) = begun.filter(|_| goes_on) {
        let pretrain = context.config.pretrain;
        context.config.pretrain = PretrainConfig { steps: begun.steps, epochs: begun.epochs, ..pretrain };
    } else if let Some(budget) = budget {
        context.config.pretrain =
            with_stage(run, &context, |reporter| stages::within_budget(&context, *budget, reporter))?;
    }
    Ok(Some(context))
}

/// The pretraining of a run's config, if its steps came from a budget.
fn of_budget(recorded: &Path) -> Result<Option<PretrainConfig>> {
    let config = config::load(recorded, &Overrides::default())?;
    Ok(Some(config.pretrain).filter(|pretrain| pretrain.steps.is_some()))
}

fn context(arguments: &RunArguments, mut config: Config) -> Result<Context> {
    let options = &arguments.existing;
    config.tensorboard |= options.tensorboard;
    let existing = match (options.resume, options.force) {
        (true, _) => Existing::Resume,
        (_, true) => Existing::Overwrite,
        _ => Existing::Refuse,
    };
    let mut context = Context::new(run_directory(arguments)?, config, data_home(), existing)?;
    context.allow_data_mismatch = options.allow_data_mismatch;
    context.ranks = world();
    Ok(context)
}

/// The directory that `--out` names, else one named after the config or the recipe in its place, so that two recipes never share one.
pub(super) fn run_directory(arguments: &RunArguments) -> Result<RunDirectory> {
    let path = match (&arguments.out, &arguments.settings.config) {
        (Some(out), _) => out.clone(),
        (None, Some(config)) => Path::new(RUNS).join(config::run_name(config)?),
        (None, None) => Path::new(RUNS).join(arguments.settings.recipe()),
    };
    Ok(RunDirectory::new(&path))
}

/// Default place of data sets: `ROTNET_DATA`, or `data` in the working directory.
pub(super) fn data_home() -> PathBuf {
    std::env::var_os("ROTNET_DATA").map_or_else(|| "data".into(), PathBuf::from)
}

pub(super) fn with_stage<T: Send>(
    arguments: &RunArguments,
    context: &Context,
    work: impl FnOnce(&mut dyn Reporter) -> Result<T> + Send,
) -> Result<T> {
    let quiet = arguments.settings.output.quiet;
    on_threads(context.config.threads, || {
        let mut reporter = Stoppable::new(display::reporter(quiet))?;
        guarded(&context.config.all_devices(), || work(&mut reporter))
    })?
}

fn show_pretrain(summary: &PretrainSummary) -> Result<()> {
    let accuracy = match &summary.last_epoch {
        Some(epoch) => format!("rotation accuracy {:.4} in epoch {}", epoch.accuracy, epoch.epoch),
        None => "not trained".into(),
    };
    show_warnings(&summary.warnings)?;
    print_line(&format!(
        "pretrain: {} images of {}, {accuracy}, {:.1} s",
        summary.images, summary.dataset.name, summary.seconds
    ))
}

fn show_warnings(warnings: &[String]) -> Result<()> {
    let mut warnings = warnings.iter();
    warnings.try_for_each(|warning| print_line(&format!("warning: {warning}")))
}

fn show_extract(summary: &ExtractSummary) -> Result<()> {
    let ([train, width], [test, _]) = (summary.train, summary.test);
    print_line(&format!(
        "extract: {train} + {test} images to {width} features, {:.0} images/s",
        summary.images_per_second
    ))
}

fn show_finetune(summary: &FinetuneSummary) -> Result<()> {
    show_protocol(summary)?;
    show_accuracy(summary)
}

fn show_protocol(summary: &FinetuneSummary) -> Result<()> {
    print_line(&format!(
        "finetune: {}; {} labels of {}",
        summary.protocol, summary.labels, summary.dataset.name
    ))?;
    show_warnings(&summary.warnings)
}

fn show_accuracy(summary: &FinetuneSummary) -> Result<()> {
    print_line(&match (summary.test_accuracy, summary.validation_accuracy) {
        (Some(accuracy), _) => format!("Test accuracy: {accuracy:.4}"),
        (None, Some(accuracy)) => format!("Validation accuracy: {accuracy:.4}"),
        (None, None) => "No accuracy: data.validation_images is 0, and the test set stays closed".into(),
    })
}
