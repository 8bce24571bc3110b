//! Files that were turned in place, back to the byte.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Failure;
use super::log::{Entry, Undo, entries, time};
use super::lossless::apply;
use crate::error::{Error, Result};
use crate::files::{Replacement, replace, sha256, sha256_file, sync_parent};

/// What `rotnet orient --undo` shows.
#[derive(Debug, Default, Serialize)]
pub struct Undone {
    /// The files that are as they were, because they were brought back.
    pub restored: Vec<String>,
    /// The files that were as they were already.
    pub unchanged: Vec<String>,
    /// Those that stay as they are, with the reason.
    pub failed: Vec<Failure>,
}

enum Outcome {
    Restored,
    Unchanged,
}

/// Undoes what a log tells of, the last first. A file that was changed since is left alone.
///
/// # Errors
/// [`Error::Io`] and [`Error::Data`] of the log. What is wrong with single files is in the result.
pub fn undo(log: &Path) -> Result<Undone> {
    let mut undone = Undone::default();
    for (line, entry) in entries(log)?.into_iter().rev() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(problem) => {
                let hint = "the other lines are undone; mend this one and undo again";
                let error = Error::data(log, format!("line {line} is damaged: {problem}"), hint);
                undone.failed.push(Failure::new(log, error));
                continue;
            }
        };
        let name = entry.file.text().to_owned();
        let path = entry.file.path();
        let outcome = path
            .clone()
            .map_err(|problem| refuse(Path::new(&name), problem))
            .and_then(|path| back(&path, &entry));
        match outcome {
            Ok(Outcome::Restored) => undone.restored.push(name),
            Ok(Outcome::Unchanged) => undone.unchanged.push(name),
            Err(error) => {
                undone.failed.push(Failure::new(&path.unwrap_or_else(|_| PathBuf::from(name)), error));
            }
        }
    }
    Ok(undone)
}

fn refuse(path: &Path, problem: impl Into<String>) -> Error {
    Error::data(path, problem, "it is left as it is; the log says what its old bytes were")
}

fn back(path: &Path, entry: &Entry) -> Result<Outcome> {
    let facts = fs::metadata(path).map_err(Error::io("read", path))?;
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let digest = sha256(&bytes);
    let original = match &entry.undo {
        Undo::Original(original) => Some(original.path().map_err(|problem| refuse(path, problem))?),
        Undo::Edits(_) => None,
    };
    if digest == entry.before {
        // A process that was killed in between left two names of one content.
        if let Some(original) = original.filter(|original| is(original, &entry.before)) {
            fs::remove_file(&original).map_err(Error::io("remove", &original))?;
        }
        return Ok(Outcome::Unchanged);
    }
    if digest != entry.after {
        return Err(refuse(path, "was changed after it was turned, and is not undone"));
    }
    match (&entry.undo, original) {
        (Undo::Edits(edits), _) => {
            let old = apply(&bytes, edits).filter(|old| sha256(old) == entry.before);
            let old = old.ok_or_else(|| refuse(path, "cannot be undone: the log does not fit it"))?;
            let modified = entry.modified.and_then(time);
            replace(path, &Replacement { content: &old, read: &facts, modified, original: None })?;
        }
        (_, Some(original)) if is(&original, &entry.before) => {
            fs::rename(&original, path).map_err(Error::io("replace", path))?;
            sync_parent(path).map_err(Error::io("replace", path))?;
        }
        (_, original) => {
            let original = original.unwrap_or_default();
            let problem = format!("cannot be undone: {} is not its original any more", original.display());
            return Err(refuse(path, problem));
        }
    }
    Ok(Outcome::Restored)
}

/// Whether a file has this content.
fn is(path: &Path, digest: &str) -> bool {
    sha256_file(path).is_ok_and(|found| found == digest)
}
