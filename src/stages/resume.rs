//! Where a training that was stopped continues, and what it refuses to continue.

use std::path::Path;

use super::Context;
use crate::error::{Error, Result};
use crate::model::{self, Network};
use crate::progress::{EpochMetrics, Event, Reporter};
use crate::store::checkpoint::{Checkpoint, Header};
use crate::training::{Optimizer, Position};

/// Where training starts.
pub(super) struct Resumed<N> {
    pub network: N,
    pub from: Position,
    pub history: Vec<EpochMetrics>,
    /// Whether the latest checkpoint is damaged, so that training starts from the one before it.
    pub damaged: bool,
}

/// Restores network and optimizer from the run's checkpoint, if this run is to be resumed and has one; `steps` is the
/// total number of steps, `an_epoch` the number per epoch. Changes nothing in the run directory.
pub(super) fn resume<N: Network>(
    context: &Context,
    header: &Header,
    network: N,
    optimizer: &mut Optimizer,
    (steps, an_epoch): (u64, u64),
    reporter: &mut dyn Reporter,
) -> Result<Resumed<N>> {
    let Some(directory) = context.resumed(header.stage) else {
        return Ok(Resumed { network, from: Position::default(), history: Vec::new(), damaged: false });
    };
    let path = directory.checkpoint();
    let (checkpoint, damage) = Checkpoint::load_or_previous(&path)?;
    let found = checkpoint.header;
    refuse_other(&path, &found, header)?;
    if found.steps > steps {
        return Err(Error::checkpoint(
            &path,
            format!("was trained for {} steps, the config asks for {steps}", found.steps),
            "ask for at least as many epochs, or start over with --force",
        ));
    }
    if let Some(damage) = &damage {
        reporter.report(Event::Warning(&format!("{damage}; continuing from the checkpoint before it")));
    }
    if let Some(other) = found.other_device(header) {
        reporter.report(Event::Warning(&format!("{other}: the results are the same within rounding only")));
    }
    let refuse = |problem: String| Checkpoint::refuse(&path, problem);
    let raw = optimizer
        .restore(found.steps, checkpoint.optimizer, checkpoint.parameters, &context.device)
        .map_err(refuse)?;
    let network = model::load(network, raw).map_err(refuse)?;
    refuse_later_best(&directory.best(), steps.div_ceil(an_epoch.max(1)))?;
    let history = match found.epochs {
        0 => Vec::new(),
        epochs => directory.read_metrics(epochs)?,
    };
    let steps = found.partial.as_ref().map_or(0, |partial| partial.steps);
    reporter.report(Event::Note(&match steps {
        0 => format!("resuming after epoch {}", found.epochs),
        steps => format!("resuming after step {steps} of epoch {}", found.epochs + 1),
    }));
    let from = Position { epochs: found.epochs, partial: found.partial };
    Ok(Resumed { network, from, history, damaged: damage.is_some() })
}

/// Refuses to stop training before the epoch of the best checkpoint, which a killed process may have saved ahead of the
/// latest one; `last` is the last epoch, counted from 1.
fn refuse_later_best(best: &Path, last: u64) -> Result<()> {
    if !best.exists() {
        return Ok(());
    }
    let epochs = Checkpoint::load(best)?.header.epochs;
    match epochs as u64 > last {
        true => Err(Error::checkpoint(
            best,
            format!("is of epoch {epochs}, which the config does not reach"),
            "ask for at least as many epochs, or start over with --force",
        )),
        false => Ok(()),
    }
}

/// Refuses to resume from a checkpoint whose settings differ from those in `header`.
pub(super) fn refuse_other(path: &Path, found: &Header, header: &Header) -> Result<()> {
    found.difference(header).map_or(Ok(()), |difference| {
        Err(Error::checkpoint(
            path,
            format!("was written with another config, data set or version: {difference}"),
            "resume with the original settings, or start over with --force",
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Pixels;
    use crate::progress::Stage;
    use crate::store::checkpoint::DatasetLabel;

    #[test]
    fn a_best_checkpoint_of_the_last_epoch_can_be_resumed() {
        let directory = tempfile::tempdir().unwrap();
        let best = directory.path().join("best.safetensors");
        assert!(refuse_later_best(&best, 0).is_ok());
        let dataset = DatasetLabel { name: "none".into(), fingerprint: String::new() };
        let header = Header::untrained(Stage::Pretrain, 1, Pixels::Raw, dataset, serde_json::Value::Null);
        let header = Header { epochs: 2, ..header };
        let saved = Checkpoint { header, parameters: Default::default(), optimizer: Default::default() };
        saved.save_alone(&best).unwrap();
        // 15 steps at 10 per epoch end within the second.
        assert!(refuse_later_best(&best, 15_u64.div_ceil(10)).is_ok());
        assert!(matches!(refuse_later_best(&best, 1), Err(Error::Checkpoint { .. })));
    }
}
