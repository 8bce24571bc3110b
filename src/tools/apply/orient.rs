//! Which way up images are, and upright copies of those that are not.

use std::path::PathBuf;

use serde::Serialize;

use super::Failure;
use super::files::{ImageFile, READ_AT_ONCE, read};
use super::predict::preparation;
use super::run::pretrained;
use super::targets::{Fix, Targets, Written};
use super::turns::Turns;
use crate::data::read_photo;
use crate::device::{self, DeviceName};
use crate::error::Result;
use crate::store::run_directory::RunDirectory;

/// What to do about images that are not upright.
#[derive(Clone, Debug)]
pub struct OrientRequest {
    /// Where upright versions go; absent: nothing is written.
    pub fix: Option<Fix>,
    /// Turn only images whose turn is at least so likely, in 0..=1.
    pub sure: f64,
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
    /// The upright file, where one was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<PathBuf>,
    /// The original of an image that was turned in place: now, if `fixed` is there too, else before, and the image was
    /// left as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<PathBuf>,
}

/// Says which way up image files are, by the rotation head of a run.
///
/// # Errors
/// Whatever [`crate::Error`] names, of the run and of the places to write to, which are checked before anything is
/// written. What is wrong with single images is in the result.
pub fn orient(
    run: &RunDirectory,
    device: &DeviceName,
    files: &[ImageFile],
    request: &OrientRequest,
) -> Result<Orientations> {
    let targets = request.fix.as_ref().map(|fix| Targets::plan(files, fix)).transpose()?;
    let pretrained = pretrained(run, &device::open(device)?)?;
    let mut found = Orientations {
        run: run.root().to_path_buf(),
        preparation: preparation(pretrained.side),
        images: Vec::with_capacity(files.len()),
        failed: Vec::new(),
    };
    for (chunk, chunk_files) in files.chunks(READ_AT_ONCE).enumerate() {
        let (images, places, failed) = read(chunk_files, pretrained.side);
        found.failed.extend(failed);
        if images.is_empty() {
            continue;
        }
        for (place, turns) in places.into_iter().zip(pretrained.finder.find(&images)) {
            let file = &chunk_files[place];
            let sideways = turns.turns != 0 && turns.probability >= request.sure;
            let written = match targets.as_ref().filter(|_| sideways) {
                Some(targets) => fix(file, turns, targets, chunk * READ_AT_ONCE + place),
                None => Ok(Written::default()),
            };
            let Written { fixed, original } = written.unwrap_or_else(|error| {
                found.failed.push(Failure::new(file, error));
                Written::default()
            });
            let name = file.path.display().to_string();
            found.images.push(Orientation { file: name, named: file.named, turns, fixed, original });
        }
    }
    Ok(found)
}

fn fix(file: &ImageFile, turns: Turns, targets: &Targets, index: usize) -> Result<Written> {
    targets.write(index, &read_photo(&file.path)?.turned_back(turns.rotation()))
}
