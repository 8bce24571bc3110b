//! Which way up images are, and upright versions of those that are not.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::Failure;
use super::files::{ImageFile, Listing, READ_AT_ONCE, Read, read};
use super::fix::{Old, fix};
use super::log::Log;
use super::lossless::{self, How, Way};
use super::paths::{PathText, shown, shown_if_there};
use super::plan::{Action, VERSION};
use super::predict::preparation;
use super::review::Review;
use super::run::pretrained;
use super::targets::{Fix, Targets, Written};
use super::turns::Turns;
use crate::data::decode_photo;
use crate::device::{self, DeviceName};
use crate::error::{Error, Result};
use crate::store::run_directory::RunDirectory;

/// What to do about images that are not upright.
#[derive(Clone, Debug)]
pub struct OrientRequest {
    /// Where upright versions go; absent: nothing is written.
    pub fix: Option<Fix>,
    /// Turn only images whose turn is at least so likely, in 0..=1.
    pub sure: f64,
    /// The page of pictures before and after; absent: none.
    pub review: Option<PathBuf>,
}

/// What `rotnet orient` shows; as JSON, a plan.
#[derive(Debug, Serialize)]
pub struct Orientations {
    /// The version of the plan's format.
    pub plan: u32,
    /// Where relative paths begin.
    pub directory: PathText,
    /// The run.
    #[serde(serialize_with = "shown")]
    pub run: PathBuf,
    /// What is done to an image before it is looked at.
    pub preparation: String,
    /// Images are turned if that is at least so likely.
    pub sure: f64,
    /// The images, in the order they were named in.
    pub images: Vec<Orientation>,
    /// Photographs of kinds that are not read.
    pub unread: Vec<Unread>,
    /// The files that could not be read, or whose upright version could not be written.
    pub failed: Vec<Failure>,
    /// The log that undoes what was turned in place.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_if_there")]
    pub log: Option<PathBuf>,
}

/// A photograph of a kind that is not read.
#[derive(Debug, Serialize)]
pub struct Unread {
    /// The file.
    #[serde(flatten)]
    pub file: PathText,
    /// Why it is not turned.
    pub why: String,
}

/// How one image lies.
#[derive(Debug, Serialize)]
pub struct Orientation {
    /// The file.
    #[serde(flatten)]
    pub file: PathText,
    /// Parts of its path that are its name below the folder that was named.
    pub depth: usize,
    /// Whether it was named itself, and not found in a folder.
    #[serde(skip)]
    pub named: bool,
    /// SHA-256 of the file.
    pub sha256: String,
    /// How it lies.
    #[serde(flatten)]
    pub turns: Turns,
    /// What is done with it.
    pub action: Action,
    /// How it is turned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub how: Option<How>,
    /// Why it is left, if it is not upright.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What a user may not expect of the turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The upright file, where one was written.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_if_there")]
    pub fixed: Option<PathBuf>,
    /// The original of an image that was turned in place: now, if `fixed` is there too, else before, and the image was
    /// left as it is.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown_if_there")]
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
    listing: Listing,
    request: &OrientRequest,
) -> Result<Orientations> {
    let Listing { files, unread, failed } = listing;
    let targets = request.fix.as_ref().map(|fix| Targets::plan(&files, fix)).transpose()?;
    let pretrained = pretrained(run, &device::open(device)?)?;
    let log = request.fix.as_ref().map(Fix::log).transpose()?.flatten();
    let mut work = Work { request, targets, log, review: request.review.as_ref().map(|_| Review::default()) };
    let unread = unread
        .into_iter()
        .map(|(path, kind)| Unread { file: PathText::new(&path), why: format!("{kind} files are not read") });
    let mut found = Orientations {
        plan: VERSION,
        directory: PathText::new(&std::env::current_dir().map_err(Error::io("read", "."))?),
        run: run.root().to_path_buf(),
        preparation: preparation(pretrained.side),
        sure: request.sure,
        images: Vec::with_capacity(files.len()),
        unread: unread.collect(),
        failed,
        log: None,
    };
    for (chunk, chunk_files) in files.chunks(READ_AT_ONCE).enumerate() {
        let Read { images, places, digests, failed } = read(chunk_files, pretrained.side);
        found.failed.extend(failed);
        if images.is_empty() {
            continue;
        }
        let turns = pretrained.finder.find(&images);
        let seen: Vec<Seen> = places.into_iter().zip(digests).zip(turns).map(Seen::new).collect();
        let looked: Vec<_> = seen.par_iter().map(|seen| work.look(&chunk_files[seen.place], seen)).collect();
        for (seen, looked) in seen.into_iter().zip(looked) {
            let file = &chunk_files[seen.place];
            let index = chunk * READ_AT_ONCE + seen.place;
            match looked.and_then(|looked| work.act(file, index, seen, looked)) {
                Ok((image, error)) => {
                    found.images.push(image);
                    found.failed.extend(error.map(|error| Failure::new(&file.path, error)));
                }
                Err(error) => found.failed.push(Failure::new(&file.path, error)),
            }
        }
    }
    found.log = work.log.as_ref().and_then(Log::path).map(Path::to_path_buf);
    if let (Some(path), Some(review)) = (&request.review, work.review) {
        review.write(path, &found)?;
    }
    Ok(found)
}

/// What the network said of an image.
struct Seen {
    place: usize,
    digest: String,
    turns: Turns,
}

impl Seen {
    fn new(((place, digest), turns): ((usize, String), Turns)) -> Self {
        Self { place, digest, turns }
    }
}

/// What the file of an image that is not upright allows.
#[derive(Default)]
struct Looked {
    way: Option<Result<Way, String>>,
    /// Small pictures before and after, as JPEG files.
    pictures: Option<[Vec<u8>; 2]>,
}

struct Work<'a> {
    request: &'a OrientRequest,
    targets: Option<Targets<'a>>,
    log: Option<Log>,
    review: Option<Review>,
}

impl Work<'_> {
    /// Whether an image is to be turned, as far as the network decides.
    fn sure(&self, turns: Turns) -> bool {
        turns.turns != 0 && turns.probability >= self.request.sure
    }

    /// Looks at the file of an image that is not upright once more.
    fn look(&self, file: &ImageFile, seen: &Seen) -> Result<Looked> {
        let turns = seen.turns;
        let shown = self.review.is_some() && turns.turns != 0;
        if !shown && !self.sure(turns) {
            return Ok(Looked::default());
        }
        let old = Old::read(&file.path, &seen.digest)?;
        let way = self.sure(turns).then(|| lossless::way(&old.bytes));
        let pictures = match shown {
            true => {
                decode_photo(&old.bytes).ok().map(|photo| photo.thumbnails(Review::SIDE, turns.rotation()))
            }
            false => None,
        };
        Ok(Looked { way, pictures })
    }

    /// Decides on an image and, where that is asked for, turns it; gives the error if that failed.
    fn act(
        &mut self,
        file: &ImageFile,
        index: usize,
        seen: Seen,
        looked: Looked,
    ) -> Result<(Orientation, Option<Error>)> {
        let Seen { digest, turns, .. } = seen;
        let (how, why, warning) = match looked.way {
            Some(Ok(Way { how, warning })) => (Some(how), None, warning),
            Some(Err(why)) => (None, Some(why), None),
            None if turns.turns == 0 => (None, None, None),
            None => (None, Some(format!("less sure than {}", self.request.sure)), None),
        };
        let mut image = Orientation {
            file: PathText::new(&file.path),
            depth: file.name.components().count(),
            named: file.named,
            sha256: digest,
            turns,
            action: if how.is_some() { Action::Turn } else { Action::Leave },
            how,
            why,
            warning,
            fixed: None,
            original: None,
        };
        let mut failure = None;
        if let Some(targets) = self.targets.as_ref().filter(|_| how.is_some()) {
            let place = (index, self.log.as_mut());
            match fix(file, &image.sha256, turns.rotation(), targets, place) {
                Ok(Written { fixed, original }) => (image.fixed, image.original) = (fixed, original),
                Err(error) => failure = Some(error),
            }
        }
        if let (Some(review), Some(pictures)) = (&mut self.review, looked.pictures) {
            review.add(&image, pictures);
        }
        Ok((image, failure))
    }
}
