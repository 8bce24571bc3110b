//! Decoded images, kept from run to run in files of [`super::format`].
//!
//! A file is named after the folder, and after everything that determines its content: the size of the images, and path,
//! size and time of every file. It is written whole or not at all, and checked whenever it is opened; one that is damaged
//! or out of date is made again.

use std::fs;
use std::path::Path;
#[cfg(test)]
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::build::{Builder, decode_all};
use super::format::{Cached, VERSION, read};
use super::tree::{Entry, name};
use crate::data::dataset::Skipped;
use crate::error::{Error, Result};
use crate::files::{create_directory, hexadecimal, is_temporary, sha256, write_atomically};
use crate::progress::{Event, Reporter};

const ENDING: &str = "images";
/// Age from which on a temporary file is taken for one left by a killed process: no data set takes that long.
const LEFT_OVER: Duration = Duration::from_secs(24 * 3_600);

/// Which images a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// To train on.
    Train,
    /// To test on.
    Test,
}

/// Where decoded images are kept, and how they are decoded.
pub struct Cache<'a> {
    /// The folder of the image files.
    pub root: &'a Path,
    /// The folder of the cache.
    pub directory: &'a Path,
    /// Rows and columns of an image.
    pub image_size: usize,
    /// Whether a broken image file is an error.
    pub strict: bool,
}

impl Cache<'_> {
    /// The images of `entries`, from the cache if they are there.
    ///
    /// # Errors
    /// [`Error::Data`] if no file can be read, or in strict mode if one cannot; [`Error::Stopped`]; [`Error::Io`].
    pub fn open(&self, part: Part, entries: &[Entry], reporter: &mut dyn Reporter) -> Result<Cached> {
        let place = self.place(part);
        let key = self.key(entries);
        let path = self.directory.join(format!("{place}-{}.{ENDING}", &key[..16]));
        let cached = match path.exists().then(|| read(&path, &key)) {
            Some(Ok(cached)) => cached,
            other => {
                if let Some(Err(problem)) = other {
                    let text = format!("{}: {problem}; the images are decoded again", path.display());
                    reporter.report(Event::Warning(&text));
                }
                self.build(&path, &key, entries, reporter)?;
                self.remove_older(&place, &path);
                read(&path, &key).map_err(|problem| {
                    Error::data(&path, problem, "remove the file and run the command again")
                })?
            }
        };
        match (self.strict, cached.skipped.first()) {
            (true, Some(file)) => Err(self.broken(file)),
            _ => Ok(cached),
        }
    }

    /// What the names of all files made from this part of the folder begin with, however the folder changes.
    fn place(&self, part: Part) -> String {
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.to_path_buf());
        let place = format!("{}\n{part:?}\n{}", root.display(), self.image_size);
        sha256(place.as_bytes())[..16].to_owned()
    }

    fn key(&self, entries: &[Entry]) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!("{VERSION} {}\n", self.image_size));
        for Entry { path, label, size, modified } in entries {
            hasher.update(format!("{label:?} {size} {modified} {}\n", name(path)));
        }
        hexadecimal(&hasher.finalize())
    }

    /// The error that a broken file is in strict mode.
    pub fn broken(&self, file: &Skipped) -> Error {
        Error::data(
            self.root.join(&file.name),
            &file.problem,
            "mend or remove the file, or leave out --strict",
        )
    }

    fn build(&self, path: &Path, key: &str, entries: &[Entry], reporter: &mut dyn Reporter) -> Result<()> {
        create_directory(self.directory)?;
        let mut failure = None;
        let written = write_atomically(path, |out| {
            let mut builder = Builder::new(self.image_size, key);
            let take = |entry: &Entry, photo| match builder.take(entry, photo) {
                Ok(square) => out.write_all(&square).map_err(Error::io("write", path)),
                Err(file) if self.strict => Err(self.broken(&file)),
                Err(_) => Ok(()),
            };
            let side = self.image_size;
            let result =
                decode_all(self.root, entries, Some(side), reporter, take, |photo| photo.square(side));
            match result.and_then(|()| builder.finish(self.root)) {
                Ok(ending) => out.write_all(&ending),
                Err(error) => {
                    failure = Some(error);
                    Err(std::io::ErrorKind::Interrupted.into())
                }
            }
        });
        match failure {
            Some(error) => Err(error),
            None => written,
        }
    }

    /// Removes what was made from an earlier state of the same folder, and what a killed process left at least a day ago;
    /// what cannot be removed stays.
    fn remove_older(&self, place: &str, newest: &Path) {
        let Ok(entries) = fs::read_dir(self.directory) else {
            return;
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().unwrap_or_default();
            let older = path.extension().is_some_and(|ending| ending == ENDING)
                && path != newest
                && name.to_string_lossy().starts_with(place);
            let age = fs::metadata(&path).and_then(|facts| facts.modified()).ok();
            let age = age.and_then(|time| time.elapsed().ok()).unwrap_or_default();
            if older || is_temporary(name) && age > LEFT_OVER {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Files of the cache in a folder.
#[cfg(test)]
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)).collect()
}
