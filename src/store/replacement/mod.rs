//! How a stage's new result replaces its old one.
//!
//! An existing result is never written into. Its replacement is made beside it, in `STAGE.rotnet-new`, and takes its place
//! when finished; until then every reader finds the old one, whatever happens to the work. These directories have suffixes
//! that nobody gives to a copy of their own: those that are found are removed.

#[cfg(test)]
mod tests;
mod work;

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use walkdir::WalkDir;

use crate::error::{Error, Result};
use crate::files::{create_directory, is_temporary};
use crate::store::stage_directory::StageDirectory;
pub use work::Work;

/// Suffix of the directory of a replacement.
const NEW: &str = "rotnet-new";
/// Suffix of a result that is about to be removed.
const OLD: &str = "rotnet-old";
/// Suffix of an incomplete directory: being copied or removed.
const PART: &str = "rotnet-part";

impl StageDirectory {
    /// The directory to resume work in: an unfinished replacement if there is one, begun or announced, else this one.
    pub fn to_resume(&self) -> Self {
        self.replacement().unwrap_or_else(|| self.clone())
    }

    fn replacement(&self) -> Option<Self> {
        let new = self.sibling(NEW);
        (new.config().is_file() || new.holds_results()).then_some(new)
    }

    /// Says that this result, if it is one, is to be replaced, since what it was made from has been: whoever resumes it then
    /// begins anew, with the config that is written.
    ///
    /// # Errors
    /// [`Error::Io`], those of `write_config`.
    pub fn announce_replacement(&self, write_config: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if !self.holds_results() || self.sibling(NEW).holds_results() {
            return Ok(());
        }
        self.discard_new()?;
        let (new, part) = (self.sibling(NEW).path, self.sibling(PART));
        create_directory(&part.path)?;
        write_config(&part.config())?;
        fs::rename(&part.path, &new).map_err(Error::io("create", &new))
    }

    /// Whether a process was killed while replacing this result.
    pub fn is_between(&self) -> bool {
        self.sibling(OLD).path.exists()
    }

    /// Undoes or completes a replacement that was cut short by a kill, and removes an empty one.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn recover(&self) -> Result<()> {
        let (old, new) = (self.sibling(OLD), self.sibling(NEW));
        remove(&self.sibling(PART).path)?;
        if self.replacement().is_none() {
            remove(&new.path)?;
        }
        if !old.path.exists() {
            return Ok(());
        }
        if !self.path.exists() {
            let whole = if new.is_finished() { &new } else { &old };
            fs::rename(&whole.path, &self.path).map_err(Error::io("restore", &self.path))?;
        }
        remove(&old.path)
    }

    /// The directory beside this one with `end` as the suffix of its name.
    fn sibling(&self, end: &str) -> Self {
        let mut name = self.path.file_name().map_or_else(OsString::new, OsString::from);
        name.push(".");
        name.push(end);
        Self::new(self.path.with_file_name(name))
    }

    /// Removes temporary files left by killed processes and [recovers](Self::recover) the stages inside an evaluation,
    /// as far as the system allows.
    pub fn remove_leftovers(&self) {
        let entries =
            [self.clone(), self.sibling(NEW)].into_iter().flat_map(|place| WalkDir::new(place.path));
        for entry in entries.filter_map(Result::ok) {
            let interrupted = entry.path().extension().is_some_and(|end| end == OLD || end == PART);
            if is_temporary(entry.file_name()) {
                let _ = fs::remove_file(entry.path());
            } else if interrupted && entry.file_type().is_dir() {
                let _ = Self::new(entry.path().with_extension("")).recover();
            }
        }
    }

    /// Removes an unfinished replacement in one atomic step.
    fn discard_new(&self) -> Result<()> {
        let (new, part) = (self.sibling(NEW).path, self.sibling(PART).path);
        if new.exists() {
            remove(&part)?;
            fs::rename(&new, &part).map_err(Error::io("remove", &new))?;
        }
        remove(&part)
    }

    /// Links every file of `other` here. Files are only ever replaced whole, so a link is as good as a copy, except for
    /// event files, which grow.
    fn clone_from(&self, other: &Self) -> Result<()> {
        create_directory(&self.path)?;
        for entry in fs::read_dir(&other.path).map_err(Error::io("read", &other.path))? {
            let from = entry.map_err(Error::io("read", &other.path))?.path();
            let to = self.path.join(from.file_name().unwrap_or_default());
            if from.is_dir() {
                Self::new(to).clone_from(&Self::new(from))?;
                continue;
            }
            let linked = from != other.events() && fs::hard_link(&from, &to).is_ok();
            if !linked {
                fs::copy(&from, &to).map_err(Error::io("write", &to))?;
            }
        }
        Ok(())
    }
}

fn remove(directory: &Path) -> Result<()> {
    match directory.exists() {
        true => fs::remove_dir_all(directory).map_err(Error::io("remove", directory)),
        false => Ok(()),
    }
}
