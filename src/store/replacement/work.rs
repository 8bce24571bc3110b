//! A stage at work, and how its result comes into place.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use super::{NEW, OLD, PART, remove};
use crate::error::{Error, Result};
use crate::files::{create_directory, sync_directory};
use crate::store::run_directory::Existing;
use crate::store::stage_directory::StageDirectory;

/// A running stage: where it writes, and where its result belongs.
#[derive(Debug)]
pub struct Work {
    place: StageDirectory,
    directory: StageDirectory,
    began: Began,
    started: SystemTime,
    finished: bool,
}

/// How a stage's work began.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Began {
    /// In the place of the result.
    InPlace,
    /// Beside it, with nothing or with what an earlier process left unfinished.
    Beside,
    /// Beside it, where this replacement had been announced: it is to be made, whatever becomes of this process.
    Announced,
    /// Beside it, with a copy of the finished result, which has a summary from the start.
    WithCopy,
    /// In a directory that is nothing until it is whole.
    Aside,
}

impl Work {
    /// Creates the directory that a stage writes into; a result in `place` stays untouched. The caller holds the run's
    /// lock.
    ///
    /// # Errors
    /// [`Error::OutputExists`] if results exist and `existing` is [`Existing::Refuse`]; [`Error::Io`].
    pub fn begin(place: StageDirectory, existing: Existing) -> Result<Self> {
        let began = match existing {
            Existing::Refuse if place.holds_results() => {
                return Err(Error::OutputExists { path: place.path });
            }
            Existing::Refuse => Began::InPlace,
            Existing::Overwrite => {
                let announced = place.replacement().as_ref().is_some_and(is_announced);
                place.discard_new()?;
                match (place.holds_results(), announced) {
                    (false, _) => Began::InPlace,
                    (true, true) => Began::Announced,
                    (true, false) => Began::Beside,
                }
            }
            Existing::Resume => resume(&place)?,
        };
        let directory = if began == Began::InPlace { place.clone() } else { place.sibling(NEW) };
        Self::start(place, directory, began)
    }

    /// Work whose files appear in `place` all at once; a result there is replaced. The caller holds the run's lock.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_aside(place: StageDirectory) -> Result<Self> {
        place.discard_new()?;
        let directory = place.sibling(PART);
        Self::start(place, directory, Began::Aside)
    }

    fn start(place: StageDirectory, directory: StageDirectory, began: Began) -> Result<Self> {
        create_directory(&directory.path)?;
        Ok(Self { place, directory, began, started: SystemTime::now(), finished: false })
    }

    /// Where the stage writes.
    pub fn directory(&self) -> &StageDirectory {
        &self.directory
    }

    /// Whether this result takes the place of another one, and did not begin as that.
    pub fn replaces(&self) -> bool {
        !matches!(self.began, Began::InPlace | Began::WithCopy) && self.place.holds_results()
    }

    /// When this process started it.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Moves the new result into place, and removes the old one.
    ///
    /// # Errors
    /// [`Error::Io`]; the old result is then still there, or comes back through [`StageDirectory::recover`].
    pub fn finish(mut self) -> Result<()> {
        self.finished = true;
        if self.began == Began::InPlace {
            return Ok(());
        }
        let (place, old) = (&self.place.path, self.place.sibling(OLD).path);
        let swap = || -> std::io::Result<()> {
            if place.exists() {
                fs::rename(place, &old)?;
            }
            fs::rename(&self.directory.path, place)?;
            sync_directory(place.parent().unwrap_or(Path::new(".")))
        };
        swap().map_err(Error::io("replace", place))?;
        // A failed removal does not make the result a failure; the next start tries again.
        let _ = remove(&old);
        Ok(())
    }
}

impl Drop for Work {
    /// A failed replacement leaves nothing behind, unless it was to be made anyway.
    fn drop(&mut self) {
        let came_to_nothing = match self.began {
            Began::InPlace | Began::Announced => false,
            Began::Beside | Began::WithCopy => !self.directory.holds_results(),
            Began::Aside => true,
        };
        if came_to_nothing && !self.finished {
            let _ = remove(&self.directory.path);
        }
    }
}

/// Whether a replacement was only announced: nothing of it is there.
fn is_announced(new: &StageDirectory) -> bool {
    !new.holds_results()
}

/// Makes ready what a resumed stage goes on with: its unfinished replacement, or a copy of its finished result.
fn resume(place: &StageDirectory) -> Result<Began> {
    if let Some(new) = place.replacement() {
        return Ok(match new.is_finished() {
            true => Began::WithCopy,
            false if is_announced(&new) => Began::Announced,
            false => Began::Beside,
        });
    }
    place.discard_new()?;
    if !place.is_finished() {
        return Ok(Began::InPlace);
    }
    let (new, part) = (place.sibling(NEW).path, place.sibling(PART));
    part.clone_from(place)?;
    fs::rename(&part.path, &new).map_err(Error::io("create", &new))?;
    Ok(Began::WithCopy)
}
