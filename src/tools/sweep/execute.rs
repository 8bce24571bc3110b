//! Carries out the runs of a sweep that are not finished yet, alone or beside other processes that do the same.

use std::thread;
use std::time::Duration;

use super::claim::Claims;
use super::piece::{Piece, context, sources};
use super::plan::Planned;
use super::results::{self, Row, SweepSummary};
use super::shared::shared;
use super::task::{Sweep, Tested};
use crate::error::{Error, Result};
use crate::files::create_directory;
use crate::progress::{Event, Reporter, Stage};
use crate::stages;

/// Time between two looks at what other processes have done.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Carries out every run that is not finished, then evaluates the chosen ones on the test set. Leaves `sweep.csv` and
/// `summary.json` in the sweep's directory, both up to date after each run. A run whose training diverges is noted as
/// failed, and not tried again; the others go on.
///
/// Any number of processes may work in one directory, also on several machines that share it: each piece (an encoder,
/// its features, a classifier) is done by the process that claims it.
///
/// # Errors
/// [`Error::Config`] for a run without validation images where they are what is reported or chosen by;
/// [`Error::Usage`] for a part that is none of the sweep's, or cannot be tested; whatever [`crate::Error`] names besides:
/// data, disk, a wish to end. What is finished is skipped the next time.
pub fn execute(sweep: &Sweep, reporter: &mut dyn Reporter) -> Result<SweepSummary> {
    check_validation(sweep)?;
    let mine = sweep.mine()?;
    create_directory(&sweep.out)?;
    let mut claims = Claims::new(&sweep.out);
    train(sweep, &mine, &mut claims, reporter)?;

    // Everything is trained: from here on the test set is open for the runs to be tested.
    let chosen = match sweep.tested {
        Tested::None => Vec::new(),
        Tested::All => sweep.planned.iter().collect(),
        Tested::Best => sweep.summary()?.best().into_iter().map(|index| &sweep.planned[index]).collect(),
    };
    test(sweep, &chosen, &mut claims, reporter)?;
    let summary = sweep.summary()?;
    results::write(&sweep.out, &summary)?;
    claims.tidy();
    Ok(summary)
}

/// Does pieces that nobody has claimed until all runs of `mine` are trained, by this process or another.
fn train(sweep: &Sweep, mine: &[&Planned], claims: &mut Claims, reporter: &mut dyn Reporter) -> Result<()> {
    for planned in mine.iter().filter(|planned| sweep.is_trained(planned)) {
        reporter.report(Event::Note(&format!("sweep: {}: finished already", sweep.place(planned))));
    }
    let mut forecast = false;
    loop {
        let mut waiting = false;
        let mut found = None;
        for planned in mine {
            let Some(piece) = Piece::next(sweep, planned)? else { continue };
            waiting = true;
            if found.is_none()
                && let Some(claim) = claims.take(&piece.name(sweep))?
            {
                found = Some((planned, piece, claim));
            }
        }
        let Some((planned, piece, claim)) = found else {
            match waiting {
                false => return Ok(()),
                true => wait(reporter)?,
            }
            continue;
        };
        // Another process may have done it just before the claim.
        if piece.is_done() {
            continue;
        }
        reporter.report(Event::Note(&format!("sweep: {}", sweep.place(planned))));
        reporter.report(Event::PieceStarted { stage: piece.stage(), left: piece.left_after(sweep, mine) });
        // The first piece is forecast; those after it are expected to take as long as those before them.
        if !std::mem::replace(&mut forecast, true) {
            let context = context(sweep, &sweep.run(planned), planned.config.clone())?;
            stages::forecast(&context, &[Stage::Pretrain, Stage::Finetune], reporter);
        }
        if let Some(failure) = piece.perform(sweep, reporter)? {
            reporter.report(Event::Warning(&format!("sweep: {}: {failure}", sweep.place(planned))));
        }
        drop(claim);
        results::write(&sweep.out, &sweep.summary()?)?;
    }
}

/// Evaluates the classifiers of `chosen` on the test set, each once.
fn test(sweep: &Sweep, chosen: &[&Planned], claims: &mut Claims, reporter: &mut dyn Reporter) -> Result<()> {
    loop {
        let mut waiting = false;
        for planned in chosen {
            let open = |row: Row| row.failure.is_none() && row.test_accuracy.is_none();
            if !open(sweep.row(planned)?) {
                continue;
            }
            let Some(_claim) = claims.take(&format!("test-{}", planned.name))? else {
                waiting = true;
                continue;
            };
            if !open(sweep.row(planned)?) {
                continue;
            }
            reporter.report(Event::Note(&format!("sweep: testing {}", planned.name)));
            let context = context(sweep, &sweep.run(planned), planned.config.clone())?;
            let sources = sources(&sweep.out, &planned.config);
            stages::test_classifier(
                &context,
                &sources,
                None,
                "sweep: after all runs were trained",
                reporter,
            )?;
            results::write(&sweep.out, &sweep.summary()?)?;
        }
        match waiting {
            false => return Ok(()),
            true => wait(reporter)?,
        }
    }
}

/// Waits for other processes, a moment at a time.
fn wait(reporter: &dyn Reporter) -> Result<()> {
    match reporter.stop() {
        Some(stop) => {
            Err(Error::Stopped { stage: "sweep", stop, state: "while other processes were at work".into() })
        }
        None => {
            thread::sleep(LOOK_AGAIN);
            Ok(())
        }
    }
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
    fn row(&self, planned: &Planned) -> Result<Row> {
        let shared = (!planned.config.finetune.from_scratch).then(|| shared(&self.out, &planned.config));
        let failure = Piece::failure(self, planned)?;
        Row::read(planned, &self.run(planned), shared.as_ref(), failure)
    }

    /// What there is by now, by whichever process.
    fn summary(&self) -> Result<SweepSummary> {
        let rows = self.planned.iter().map(|planned| self.row(planned));
        let done = |row: &Result<Row>| row.as_ref().map_or(true, Row::is_done);
        let rows = rows.filter(done).collect::<Result<Vec<_>>>()?;
        Ok(SweepSummary::new(&self.description, self.planned.len(), &rows))
    }
}
