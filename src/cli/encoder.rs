//! Where a run's encoder comes from: trained here, or taken over.

use super::pipeline::run_directory;
use super::plan::PretrainArguments;
use super::{display, suitable};
use crate::error::Result;
use crate::progress::{Reporter, Stage};
use crate::stages::{self, Context, PretrainSummary};
use crate::store::encoder_source::EncoderSource;
use crate::store::run_directory::Existing;

/// Where `run` takes its encoder from, if it does not train one: what `--from` says, or what suits the folder.
pub(super) fn of_run(arguments: &PretrainArguments) -> Result<Option<EncoderSource>> {
    let PretrainArguments { run: arguments, budget, .. } = arguments;
    let settings = &arguments.settings;
    let (None, Some(folder)) = (&arguments.from, settings.folder()) else {
        return arguments.source();
    };
    if budget.is_some() {
        return Ok(None);
    }
    // What a run has, resumed or refused, is not chosen once more.
    let begun = run_directory(arguments)?.files(Stage::Pretrain).to_resume();
    if begun.holds_results() && !arguments.existing.force {
        return Ok(None);
    }
    suitable::encoder(folder, settings, &mut *display::reporter(settings.output.quiet))
}

/// The stages that train.
pub(super) fn stages_with(source: Option<&EncoderSource>, all: bool) -> &'static [Stage] {
    match (source, all) {
        (None, true) => &[Stage::Pretrain, Stage::Finetune],
        (None, false) => &[Stage::Pretrain],
        (Some(_), true) => &[Stage::Finetune],
        (Some(_), false) => &[],
    }
}

/// Trains the run's encoder, or takes it over; one that was taken over is not trained on.
pub(super) fn provide(
    source: Option<&EncoderSource>,
    context: &Context,
    reporter: &mut dyn Reporter,
) -> Result<PretrainSummary> {
    let there = || stages::taken_over(&context.run).filter(|_| context.existing == Existing::Resume);
    match source {
        Some(source) => stages::take_over(context, source, reporter),
        None => there().map_or_else(|| stages::pretrain(context, reporter), Ok),
    }
}
