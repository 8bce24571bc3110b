//! How a stage's new result replaces its old one.
//!
//! An existing result is never written into. Its replacement is made beside it, in `STAGE.new`, and takes its place
//! when finished; until then every reader finds the old one, whatever happens to the work.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use walkdir::WalkDir;

use crate::error::{Error, Result};
use crate::files::{create_directory, is_temporary, sync_directory};
use crate::store::run_directory::Existing;
use crate::store::stage_directory::StageDirectory;

/// Suffix of the directory of a replacement.
const NEW: &str = "new";
/// Suffix of a result that is about to be removed.
const OLD: &str = "old";
/// Suffix of an incomplete directory: being copied or removed.
const PART: &str = "part";

impl StageDirectory {
    /// The directory to resume work in: an unfinished replacement if there is one, else this one.
    pub fn to_resume(&self) -> Self {
        let new = self.sibling(NEW);
        if new.holds_results() { new } else { self.clone() }
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
        if !new.holds_results() {
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

/// A running stage: where it writes, and where its result belongs.
#[derive(Debug)]
pub struct Work {
    place: StageDirectory,
    directory: StageDirectory,
    started: SystemTime,
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
        let beside = match existing {
            Existing::Refuse if place.holds_results() => {
                return Err(Error::OutputExists { path: place.path });
            }
            Existing::Refuse => false,
            Existing::Overwrite => {
                place.discard_new()?;
                place.holds_results()
            }
            Existing::Resume if new.holds_results() => true,
            Existing::Resume => {
                place.discard_new()?;
                if place.is_finished() {
                    let part = place.sibling(PART);
                    part.clone_from(&place)?;
                    fs::rename(&part.path, &new.path).map_err(Error::io("create", &new.path))?;
                }
                place.is_finished()
            }
        };
        let directory = if beside { new } else { place.clone() };
        create_directory(&directory.path)?;
        Ok(Self { place, directory, started: SystemTime::now(), finished: false })
    }

    /// Where the stage writes.
    pub fn directory(&self) -> &StageDirectory {
        &self.directory
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
    /// A failed replacement leaves nothing behind.
    fn drop(&mut self) {
        let came_to_nothing =
            !self.finished && self.directory != self.place && !self.directory.holds_results();
        if came_to_nothing {
            let _ = remove(&self.directory.path);
        }
    }
}

fn remove(directory: &Path) -> Result<()> {
    match directory.exists() {
        true => fs::remove_dir_all(directory).map_err(Error::io("remove", directory)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(home: &Path, name: &str, text: &str) -> StageDirectory {
        let directory = StageDirectory::new(home.join(name));
        create_directory(directory.path()).unwrap();
        for file in [directory.checkpoint(), directory.summary(), directory.events()] {
            fs::write(file, text).unwrap();
        }
        directory
    }

    fn text(directory: &StageDirectory) -> String {
        fs::read_to_string(directory.checkpoint()).unwrap()
    }

    #[test]
    fn a_result_stays_until_its_replacement_is_finished() {
        let home = tempfile::tempdir().unwrap();
        let place = finished(home.path(), "pretrain", "old");
        let refused = Work::begin(place.clone(), Existing::Refuse);
        assert!(matches!(refused, Err(Error::OutputExists { .. })));

        let work = Work::begin(place.clone(), Existing::Overwrite).unwrap();
        assert!(!work.directory().holds_results());
        fs::write(work.directory().checkpoint(), "half").unwrap();
        drop(work);
        assert_eq!(text(&place), "old");
        assert_eq!(text(&place.to_resume()), "half");

        let work = Work::begin(place.clone(), Existing::Resume).unwrap();
        assert_eq!(text(work.directory()), "half");
        fs::write(work.directory().checkpoint(), "new").unwrap();
        fs::write(work.directory().summary(), "new").unwrap();
        work.finish().unwrap();
        assert_eq!(text(&place), "new");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_replacement_that_came_to_nothing_leaves_nothing() {
        let home = tempfile::tempdir().unwrap();
        let place = finished(home.path(), "features", "old");
        let work = Work::begin(place.clone(), Existing::Overwrite).unwrap();
        fs::write(work.directory().config(), "{}").unwrap();
        drop(work);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
        assert_eq!(place.to_resume(), place);
    }

    #[test]
    fn resuming_a_finished_stage_works_on_a_copy() {
        let home = tempfile::tempdir().unwrap();
        let place = finished(home.path(), "pretrain", "old");
        let work = Work::begin(place.clone(), Existing::Resume).unwrap();
        assert_eq!(text(work.directory()), "old");
        use std::io::Write;
        let mut events = fs::File::options().append(true).open(work.directory().events()).unwrap();
        events.write_all(b" and more").unwrap();
        assert_eq!(fs::read_to_string(place.events()).unwrap(), "old");
    }

    #[test]
    fn what_a_kill_left_inside_an_evaluation_is_recovered_with_it() {
        let home = tempfile::tempdir().unwrap();
        let evaluation = StageDirectory::new(home.path().join("evaluate"));
        let inner = home.path().join("evaluate/verdict/scratch");
        let place = finished(&inner, "finetune", "new");
        finished(&inner, "finetune.old", "old");
        fs::create_dir(inner.join("finetune.part")).unwrap();
        evaluation.remove_leftovers();
        assert_eq!((text(&place).as_str(), fs::read_dir(inner).unwrap().count()), ("new", 1));
    }

    #[test]
    fn a_kill_between_the_two_renames_is_mended_at_the_next_start() {
        for new_is_finished in [true, false] {
            let home = tempfile::tempdir().unwrap();
            let place = StageDirectory::new(home.path().join("pretrain"));
            finished(home.path(), "pretrain.old", "old");
            let new = finished(home.path(), "pretrain.new", "new");
            if !new_is_finished {
                fs::remove_file(new.summary()).unwrap();
            }
            place.recover().unwrap();
            assert_eq!(text(&place), if new_is_finished { "new" } else { "old" });
            assert!(!home.path().join("pretrain.old").exists());
        }
        let home = tempfile::tempdir().unwrap();
        let place = finished(home.path(), "pretrain", "new");
        finished(home.path(), "pretrain.old", "old");
        place.recover().unwrap();
        assert_eq!(text(&place), "new");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
