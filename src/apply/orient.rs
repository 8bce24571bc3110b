//! Which way up images are, and upright copies of those that are not.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Failure;
use super::files::{ImageFile, READ_AT_ONCE, read};
use super::predict::preparation;
use super::run::pretrained;
use super::turns::Turns;
use crate::data::read_photo;
use crate::device::{self, DeviceName};
use crate::error::{Error, Result};
use crate::files::create_directory;
use crate::run_directory::RunDirectory;

/// What to do about images that are not upright.
#[derive(Clone, Debug)]
pub struct OrientRequest {
    /// The folder to write upright copies into; absent: none are written.
    pub fix: Option<PathBuf>,
    /// Turn only images whose turn is at least so likely, in 0..=1.
    pub sure: f64,
    /// Write over copies that are already there.
    pub force: bool,
}

/// What `rotnet orient` shows.
#[derive(Debug, Serialize)]
pub struct Orientations {
    /// The run.
    pub run: PathBuf,
    /// What is done to an image before it is looked at.
    pub preparation: String,
    /// The images, in the order they were named in.
    pub images: Vec<Orientation>,
    /// The files that could not be read, or whose copy could not be written.
    pub failed: Vec<Failure>,
}

/// How one image lies.
#[derive(Debug, Serialize)]
pub struct Orientation {
    /// The file.
    pub file: String,
    /// Whether it was named itself, and not found in a folder.
    #[serde(skip)]
    pub named: bool,
    /// How it lies.
    #[serde(flatten)]
    pub turns: Turns,
    /// The upright copy, where one was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<PathBuf>,
}

/// Says which way up image files are, by the rotation head of a run.
///
/// # Errors
/// Whatever [`Error`] names, of the run and the folder of the copies. What is wrong with single images is in the
/// result.
pub fn orient(
    run: &RunDirectory,
    device: &DeviceName,
    files: &[ImageFile],
    request: &OrientRequest,
) -> Result<Orientations> {
    let pretrained = pretrained(run, &device::open(device)?)?;
    let mut found = Orientations {
        run: run.root().to_path_buf(),
        preparation: preparation(pretrained.side),
        images: Vec::with_capacity(files.len()),
        failed: Vec::new(),
    };
    for files in files.chunks(READ_AT_ONCE) {
        let (images, places, failed) = read(files, pretrained.side);
        found.failed.extend(failed);
        if images.is_empty() {
            continue;
        }
        for (place, turns) in places.into_iter().zip(pretrained.finder.find(&images)) {
            let file = &files[place];
            let fixed = fix(file, turns, request).unwrap_or_else(|error| {
                found.failed.push(Failure::new(file, error));
                None
            });
            let name = file.path.display().to_string();
            found.images.push(Orientation { file: name, named: file.named, turns, fixed });
        }
    }
    Ok(found)
}

/// Writes the upright copy of an image that is surely turned.
fn fix(file: &ImageFile, turns: Turns, request: &OrientRequest) -> Result<Option<PathBuf>> {
    let Some(folder) = request.fix.as_ref().filter(|_| turns.turns != 0 && turns.probability >= request.sure)
    else {
        return Ok(None);
    };
    let path = folder.join(&file.name);
    if path.exists() && !request.force {
        return Err(Error::OutputExists { path });
    }
    create_directory(path.parent().unwrap_or(Path::new(".")))?;
    read_photo(&file.path)?.turned_back(turns.rotation()).write(&path)?;
    Ok(Some(path))
}
