//! A pretrained encoder from elsewhere in place of pretraining: the run then holds a copy, and depends on nothing outside.

use super::Context;
use super::pretrain::PretrainSummary;
use crate::error::{Error, Result};
use crate::files::{read_json, sha256, sha256_file, write_atomically, write_json};
use crate::progress::{Event, Reporter, Stage};
use crate::store::checkpoint::Checkpoint;
use crate::store::encoder_source::{EncoderFiles, EncoderSource};
use crate::store::replacement::Work;
use crate::store::run_directory::{Existing, RunDirectory};

/// Puts the encoder of `source` where [`pretrain`](super::pretrain()) would leave one; if it is there already, nothing is
/// written.
///
/// # Errors
/// [`Error::Checkpoint`] if it is damaged or its pretraining is not finished; [`Error::OutputExists`] if another encoder is
/// there and not to be replaced; [`Error::RunInUse`]; [`Error::Io`].
pub fn take_over(
    context: &Context,
    source: &EncoderSource,
    reporter: &mut dyn Reporter,
) -> Result<PretrainSummary> {
    let files = source.files()?;
    let digest = sha256(&files.checkpoint);
    let place = context.run.files(Stage::Pretrain);
    let there = place.is_finished() && sha256_file(&place.result())? == digest;
    let summary = summary(&files, source, digest)?;
    if there {
        return Ok(summary);
    }
    context.check(&place)?;
    if context.existing == Existing::Resume && place.holds_results() {
        return Err(Error::OutputExists { path: place.path().to_path_buf() });
    }
    reporter.report(Event::Note(&format!(
        "encoder taken over from {}, trained on {} images",
        source.name().display(),
        summary.images
    )));
    let work = context.leads().then(|| context.begin_with(|| Work::begin_aside(place))).transpose()?;
    context.conclude(work, |work| {
        let directory = work.directory();
        write_atomically(&directory.metrics(), |out| out.write_all(files.metrics.as_bytes()))?;
        write_atomically(&directory.checkpoint(), |out| out.write_all(&files.checkpoint))?;
        context.run.record_run(context.environment(), summary.dataset.clone(), None)?;
        write_json(&directory.summary(), &summary)?;
        context.finish(Stage::Pretrain, work)?;
        Ok(summary)
    })
}

/// The summary that the encoder came with, and where it came from; checks the checkpoint.
fn summary(files: &EncoderFiles, source: &EncoderSource, checkpoint: String) -> Result<PretrainSummary> {
    files.load()?;
    let Some(summary) = PretrainSummary::of(files)? else {
        return Err(Checkpoint::refuse(&files.place, "its pretraining is not finished"));
    };
    let from = summary.from.clone().unwrap_or_else(|| source.name());
    Ok(PretrainSummary { from: Some(from), checkpoint, ..summary })
}

impl PretrainSummary {
    /// What an encoder came with; `None` if its pretraining is not finished.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is damaged.
    pub fn of(files: &EncoderFiles) -> Result<Option<Self>> {
        let summary = files.summary.as_deref().map(serde_json::from_str).transpose();
        let damaged = |error| Checkpoint::refuse(&files.place, format!("its summary is damaged: {error}"));
        summary.map_err(damaged)
    }
}

/// The summary of the run's encoder, if that was taken over.
pub fn taken_over(run: &RunDirectory) -> Option<PretrainSummary> {
    let summary: PretrainSummary = read_json(&run.summary(Stage::Pretrain)).ok()?;
    summary.from.is_some().then_some(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_included_network_is_whole_small_calibrated_and_the_one_on_its_card() {
        let files = EncoderSource::named("photos").unwrap().files().unwrap();
        let checkpoint = files.load().unwrap();
        assert!(checkpoint.optimizer.is_empty() && files.checkpoint.len() < 4_000_000);
        assert!(include_str!("../../models/photos/README.md").contains(&sha256(&files.checkpoint)));
        let summary = PretrainSummary::of(&files).unwrap().unwrap();
        assert_eq!(summary.epochs, files.metrics.lines().count());
        let calibration = summary.calibration.unwrap();
        assert!(calibration.temperature > 0.1 && calibration.error_after <= calibration.error_before);
    }
}
