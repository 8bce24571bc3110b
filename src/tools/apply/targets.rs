//! Where upright versions of images go. All places are checked before the first one is written to, so that no image
//! that was named is ever lost.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::files::ImageFile;
use super::fix::{New, Old};
use super::log::{Entry, Log, Undo, written};
use super::lossless::How;
use crate::error::{Error, Result};
use crate::files::{Replacement, create_directory, replace, sha256, write_copy};
use crate::tools::paths::PathText;

/// What becomes of images that are not upright.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Upright copies.
    Copies {
        /// The folder that takes them.
        folder: PathBuf,
        /// Write over copies that are already there.
        force: bool,
    },
    /// They are turned where they are. Where a turn changes more than a few bytes, the original stays beside, as
    /// `NAME.orig`.
    InPlace {
        /// The file that says how to undo it.
        log: PathBuf,
    },
}

impl Fix {
    /// Begins the log, where there is one.
    ///
    /// # Errors
    /// Those of [`Log::create`].
    pub(super) fn log(&self) -> Result<Option<Log>> {
        match self {
            Self::Copies { .. } => Ok(None),
            Self::InPlace { log } => Log::create(log).map(Some),
        }
    }
}

/// Ending of the originals that are kept; no ending of an image, so that they are not taken for one.
const KEPT: &str = "orig";

/// An upright version that was written, or was not because it was made before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The upright file.
    pub fixed: Option<PathBuf>,
    /// The original, where it is kept under another name.
    pub original: Option<PathBuf>,
}

/// The place of each image's upright version.
pub(super) struct Targets<'a> {
    fix: &'a Fix,
    paths: Vec<PathBuf>,
    sources: HashSet<Identity>,
}

/// Refuses a folder behind one that is not there yet: once that is made, the path may lead to the images themselves.
fn refuse_detour(folder: &Path) -> Result<()> {
    let mut above = PathBuf::new();
    for part in folder.components() {
        if part == Component::ParentDir && !above.as_os_str().is_empty() && !above.exists() {
            return Err(Error::Usage {
                problem: format!(
                    "{} leads through {}, which is not there",
                    folder.display(),
                    above.display()
                ),
                hint: "name the folder for --out without `..`".into(),
            });
        }
        above.push(part);
    }
    Ok(())
}

impl<'a> Targets<'a> {
    /// Decides on all places; `named` are further images, which are not turned. Nothing is written.
    ///
    /// # Errors
    /// [`Error::Usage`] if a place is one of the images, lies below a file, or is that of two images;
    /// [`Error::OutputExists`] if it is taken.
    pub fn plan(files: &[ImageFile], named: &[PathBuf], fix: &'a Fix) -> Result<Self> {
        let paths: Vec<PathBuf> = match fix {
            Fix::Copies { folder, .. } => {
                refuse_detour(folder)?;
                files.iter().map(|file| folder.join(&file.name)).collect()
            }
            // A symbolic link stays one: what it leads to is turned.
            Fix::InPlace { .. } => {
                let place = |path: &PathBuf| if path.is_symlink() { resolved(path) } else { path.clone() };
                files.iter().map(|file| place(&file.path)).collect()
            }
        };
        let sources =
            files.iter().map(|file| &file.path).chain(named).filter_map(|path| identity(path)).collect();
        let targets = Self { fix, paths, sources };
        targets.refuse_twins(files)?;
        match fix {
            Fix::Copies { folder, force } => {
                targets.paths.iter().try_for_each(|path| targets.check_copy(path, folder, *force))?;
            }
            Fix::InPlace { .. } => targets.paths.iter().try_for_each(|path| refuse_kept(path))?,
        }
        Ok(targets)
    }

    fn refuse_twins(&self, files: &[ImageFile]) -> Result<()> {
        let mut seen: HashMap<PathBuf, &Path> = HashMap::new();
        for (path, file) in self.paths.iter().zip(files) {
            let Some(one) = seen.insert(resolved(path), &file.path) else { continue };
            let (one, other) = (one.display(), file.path.display());
            return Err(match self.fix {
                Fix::Copies { .. } => Error::Usage {
                    problem: format!("{one} and {other} would both be written to {}", path.display()),
                    hint: "name them in two commands, with a folder each".into(),
                },
                Fix::InPlace { .. } => Error::Usage {
                    problem: format!("{one} and {other} are one file"),
                    hint: "name it once".into(),
                },
            });
        }
        Ok(())
    }

    fn check_copy(&self, path: &Path, folder: &Path, force: bool) -> Result<()> {
        let above = path.ancestors().skip(1).take_while(|above| above.starts_with(folder));
        if let Some(file) = above.into_iter().find(|above| above.exists() && !above.is_dir()) {
            return Err(Error::Usage {
                problem: format!("{} is a file, no folder for copies", file.display()),
                hint: "name another folder with --out".into(),
            });
        }
        if self.is_source(path) {
            return Err(Error::Usage {
                problem: format!("{} is one of the images themselves, no place for a copy", path.display()),
                hint: "name another folder with --out, or turn the images where they are with --in-place"
                    .into(),
            });
        }
        match path.symlink_metadata() {
            Ok(found) if !force || found.is_dir() => Err(Error::OutputExists { path: path.to_path_buf() }),
            _ => Ok(()),
        }
    }

    /// Whether a file is written at a path: an upright version, an original or the log.
    fn writes(&self, path: &Path) -> bool {
        let wanted = place(path);
        let is_there = |other: &Path| place(other) == wanted;
        let log = match self.fix {
            Fix::InPlace { log } => is_there(log),
            Fix::Copies { .. } => false,
        };
        log || self.paths.iter().any(|path| is_there(path) || is_there(&kept(path)))
    }

    /// Whether a path leads to one of the images, by whatever name or link.
    fn is_source(&self, path: &Path) -> bool {
        identity(path).is_some_and(|found| self.sources.contains(&found))
    }

    /// Writes the upright version of image `index`; `log` is told before it takes the place of the old one.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::OutputExists`]; the original is then as it was.
    pub fn write(&self, index: usize, old: &Old, new: &New, log: Option<&mut Log>) -> Result<Written> {
        let path = &self.paths[index];
        let modified = old.facts.modified().ok();
        let log = match (self.fix, log) {
            (Fix::InPlace { .. }, Some(log)) => log,
            (Fix::Copies { folder, force }, _) => {
                // Again, for the time since the plan was long, and names that differ may still be one.
                self.check_copy(path, folder, *force)?;
                create_directory(path.parent().unwrap_or(Path::new(".")))?;
                write_copy(path, &new.bytes, &old.facts)?;
                return Ok(Written { fixed: Some(path.clone()), original: None });
            }
            (Fix::InPlace { log }, None) => {
                return Err(Error::io("write", log)(std::io::ErrorKind::NotFound.into()));
            }
        };
        let original = Some(kept(path)).filter(|_| new.how() == How::Pixels);
        if let Some(original) = &original
            && was_turned(path, original)?
        {
            return Ok(Written { fixed: None, original: Some(original.clone()) });
        }
        let whole = resolved(path);
        let undo = match &new.back {
            Some(edits) => Undo::Edits(edits.clone()),
            None => Undo::Original(PathText::new(&kept(&whole))),
        };
        log.record(&Entry {
            file: PathText::new(&whole),
            before: old.digest.clone(),
            after: sha256(&new.bytes),
            modified: modified.map(written),
            undo,
        })?;
        let replacement =
            Replacement { content: &new.bytes, read: &old.facts, modified, original: original.as_deref() };
        replace(path, &replacement)?;
        Ok(Written { fixed: Some(path.clone()), original })
    }
}

/// Refuses a path for something else where one of the images is, or is to be written with what belongs to it.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn refuse_image(path: &Path, files: &[ImageFile], targets: Option<&Targets>) -> Result<()> {
    let found = identity(path);
    let is_image = found.is_some() && files.iter().any(|file| identity(&file.path) == found);
    if is_image || targets.is_some_and(|targets| targets.writes(path)) {
        return Err(Error::Usage {
            problem: format!("{} is a place for an image, its original or the log", path.display()),
            hint: "name another file".into(),
        });
    }
    Ok(())
}

/// A path without links and detours, where it leads to a file.
fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// A path without links and detours in front of its name, whether or not there is a file.
fn place(path: &Path) -> PathBuf {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = above.canonicalize().unwrap_or_else(|_| above.to_path_buf());
    path.file_name().map_or_else(|| whole.clone(), |name| whole.join(name))
}

/// Where the original of an image is kept.
fn kept(path: &Path) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(format!(".{KEPT}"));
    name.into()
}

/// Whether an image was turned before: then its original is there, and is another file. The same bytes under both
/// names are what a process leaves that was killed before it turned the image.
fn was_turned(path: &Path, original: &Path) -> Result<bool> {
    if original.symlink_metadata().is_err() {
        return Ok(false);
    }
    let content = |path: &Path| fs::read(path).map_err(Error::io("read", path));
    Ok(content(path)? != content(original)?)
}

fn refuse_kept(path: &Path) -> Result<()> {
    match path.extension() {
        Some(ending) if ending == KEPT => Err(Error::Usage {
            problem: format!("{} is an original that was kept, and stays as it is", path.display()),
            hint: "rename it, or name the image beside it".into(),
        }),
        _ => Ok(()),
    }
}

/// Tells whether two paths lead to one file, whatever links lie between; absent where there is none.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity(path: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|facts| (facts.dev(), facts.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<Identity> {
    path.canonicalize().ok()
}
