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
    started: SystemTime,
    /// Whether the replacement was to be made before this work began.
    announced: bool,
    /// Whether it began as a copy of the finished result, which has a summary from the start.
    copied: bool,
    finished: bool,
}

impl Work {
    /// Creates the directory that a stage writes into; a result in `place` stays untouched. The caller holds the run's
    /// lock.
    ///
    /// # Errors
    /// [`Error::OutputExists`] if results exist and `existing` is [`Existing::Refuse`]; [`Error::Io`].
    pub fn begin(place: StageDirectory, existing: Existing) -> Result<Self> {
        let new = place.sibling(NEW);
        let announced = place.is_announced();
        let mut copied = existing == Existing::Resume && new.is_finished();
        let beside = match existing {
            Existing::Refuse if place.holds_results() => {
                return Err(Error::OutputExists { path: place.path });
            }
            Existing::Refuse => false,
            Existing::Overwrite => {
                place.discard_new()?;
                place.holds_results()
            }
            Existing::Resume if new.holds_results() || announced => true,
            Existing::Resume => {
                place.discard_new()?;
                copied = place.is_finished();
                if copied {
                    let part = place.sibling(PART);
                    part.clone_from(&place)?;
                    fs::rename(&part.path, &new.path).map_err(Error::io("create", &new.path))?;
                }
                copied
            }
        };
        let directory = if beside { new } else { place.clone() };
        create_directory(&directory.path)?;
        Ok(Self { place, directory, started: SystemTime::now(), announced, copied, finished: false })
    }

    /// Work whose files appear in `place` all at once; a result there is replaced. The caller holds the run's lock.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin_aside(place: StageDirectory) -> Result<Self> {
        place.discard_new()?;
        let directory = place.sibling(PART);
        create_directory(&directory.path)?;
        let started = SystemTime::now();
        Ok(Self { place, directory, started, announced: false, copied: false, finished: false })
    }

    /// Where the stage writes.
    pub fn directory(&self) -> &StageDirectory {
        &self.directory
    }

    /// Whether this result takes the place of another one, and did not begin as that.
    pub fn replaces(&self) -> bool {
        self.directory != self.place && self.place.holds_results() && !self.copied
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
        if self.directory == self.place {
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
        let whole = self.directory == self.place.sibling(PART);
        let came_to_nothing = !self.finished
            && self.directory != self.place
            && (whole || !self.announced && !self.directory.holds_results());
        if came_to_nothing {
            let _ = remove(&self.directory.path);
        }
    }
}
