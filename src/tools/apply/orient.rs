//! Which way up images are, and upright versions of those that are not.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::Failure;
use super::files::{ImageFile, Listing, READ_AT_ONCE, Read, read};
use super::fix::{Old, fix};
use super::log::Log;
use super::lossless::{self, How, Way};
use super::plan::{Action, VERSION};
use super::review::Review;
use super::run::{Pretrained, pretrained};
use super::targets::{Fix, Targets, Written, refuse_image};
use super::turns::Turns;
use crate::data::decode_photo;
use crate::device::{self, DeviceName};
use crate::error::{Error, Result};
use crate::files::AtomicFile;
use crate::judge::turns::{self, EVEN, TURNS};
use crate::math::logits::argmax;
use crate::progress::{Event, Reporter, Silent, Unit};
use crate::store::encoder_source::EncoderSource;
use crate::tools::paths::{PathText, shown, shown_if_there};

/// No rotation is ruled out before an image is looked at.
const LEAST_SHARE: f64 = 1e-6;

/// What to do about images that are not upright.
#[derive(Clone, Debug)]
pub struct OrientRequest {
    /// Where upright versions go; absent: nothing is written.
    pub fix: Option<Fix>,
    /// Turn only images whose turn is at least so likely, in 0..=1.
    pub sure: f64,
    /// The page of pictures before and after; absent: none.
    pub review: Option<PathBuf>,
    /// The share of images that are expected not to be upright, in 0..=1; absent: as the images themselves say.
    pub expect: Option<f64>,
}

/// What `rotnet orient` shows; as JSON, a plan.
#[derive(Debug, Serialize)]
pub struct Orientations {
    /// The version of the plan's format.
    pub plan: u32,
    /// Where relative paths begin.
    pub directory: PathText,
    /// The run, or the name of the network that comes with the program.
    #[serde(serialize_with = "shown")]
    pub run: PathBuf,
    /// What is done to an image before it is looked at.
    pub preparation: String,
    /// Images are turned if that is at least so likely.
    pub sure: f64,
    /// What is expected of images and turns.
    pub expected: Expected,
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

/// What is expected of images before they are looked at one by one, and of the turns that follow.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// Share of images that are not upright, in 0..=1.
    pub not_upright: f64,
    /// Share of images in each rotation: what probabilities count with.
    pub shares: [f64; TURNS],
    /// Who says so.
    pub told_by: ToldBy,
    /// How many images are turned, or to be turned.
    pub turns: usize,
    /// How many of these turns are mistakes, by their probabilities.
    pub mistakes: f64,
}

/// Who says how many images are not upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ToldBy {
    /// The images themselves.
    Images,
    /// `--expect`.
    Option,
    /// Nobody: every rotation counts as likely as another.
    Nobody,
}

impl Expected {
    /// Before any image is turned. A share that is given is spread evenly over the three wrong rotations; the images
    /// themselves are asked only by a network that knows how sure it may be.
    fn new(likelihoods: &[[f64; TURNS]], given: Option<f64>, calibrated: bool) -> Self {
        let (shares, told_by) = match given {
            Some(wrong) => {
                let wrong = wrong.clamp(LEAST_SHARE, 1.0 - LEAST_SHARE);
                ([1.0 - wrong, wrong / 3.0, wrong / 3.0, wrong / 3.0], ToldBy::Option)
            }
            None if calibrated => (turns::shares(likelihoods), ToldBy::Images),
            None => (EVEN, ToldBy::Nobody),
        };
        Self { not_upright: 1.0 - shares[0], shares, told_by, turns: 0, mistakes: 0.0 }
    }

    fn count(&mut self, image: &Orientation) {
        if image.action == Action::Turn {
            self.turns += 1;
            self.mistakes += 1.0 - image.turns.probability;
        }
    }
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

/// Says which way up image files are, by the rotation head of a run or of the network that comes with the program. All
/// images are looked at before the first is decided upon: how most of them lie counts for each.
///
/// # Errors
/// Whatever [`crate::Error`] names, of the run and of the places to write to, which are checked before anything is
/// written. What is wrong with single images is in the result.
pub fn orient(
    source: &EncoderSource,
    device: &DeviceName,
    listing: Listing,
    request: &OrientRequest,
    reporter: &mut dyn Reporter,
) -> Result<Orientations> {
    let Listing { files, unread, failed } = listing;
    let unlooked: Vec<PathBuf> = unread.iter().map(|(path, _)| path.clone()).collect();
    let targets = request.fix.as_ref().map(|fix| Targets::plan(&files, &unlooked, fix)).transpose()?;
    let page = request.review.as_deref().map(|path| {
        refuse_image(path, &files, targets.as_ref())?;
        AtomicFile::create(path)
    });
    let page = page.transpose()?;
    let pretrained = pretrained(source, &device::open(device)?)?;
    let log = request.fix.as_ref().map(Fix::log).transpose()?.flatten();
    let mut work = Work { request, targets, log, review: request.review.as_ref().map(|_| Review::default()) };
    let Looks { seen, failed: unreadable } = look_at_all(&pretrained, &files, reporter);
    let likelihoods: Vec<_> = seen.iter().map(|seen| seen.likelihoods).collect();
    let unread = unread
        .into_iter()
        .map(|(path, kind)| Unread { file: PathText::new(&path), why: format!("{kind} files are not read") });
    let mut found = Orientations {
        plan: VERSION,
        directory: PathText::new(&std::env::current_dir().map_err(Error::io("read", "."))?),
        run: source.name(),
        preparation: format!(
            "EXIF orientation applied, squares along the longer side resized to {0}x{0}",
            pretrained.side
        ),
        sure: request.sure,
        expected: Expected::new(&likelihoods, request.expect, pretrained.finder.temperature.is_some()),
        images: Vec::with_capacity(seen.len()),
        unread: unread.collect(),
        failed,
        log: None,
    };
    found.failed.extend(unreadable);
    let shares = found.expected.shares;
    for seen in seen.chunks(READ_AT_ONCE) {
        let look = |seen: &Seen| work.look(&files[seen.index], seen, seen.turns(&shares));
        let looked: Vec<_> = seen.par_iter().map(look).collect();
        for (seen, looked) in seen.iter().zip(looked) {
            let file = &files[seen.index];
            match looked.and_then(|looked| work.act(file, seen, seen.turns(&shares), looked)) {
                Ok((image, error)) => {
                    if request.fix.is_none() || image.fixed.is_some() {
                        found.expected.count(&image);
                    }
                    found.images.push(image);
                    found.failed.extend(error.map(|error| Failure::new(&file.path, error)));
                }
                Err(error) => found.failed.push(Failure::new(&file.path, error)),
            }
        }
    }
    found.log = work.log.as_ref().and_then(Log::path).map(Path::to_path_buf);
    if let (Some(page), Some(review)) = (page, work.review) {
        // By now images may be turned: the result must tell of them.
        let path = page.path().to_path_buf();
        if let Err(error) = review.write(page, &found) {
            found.failed.push(Failure::new(&path, error));
        }
    }
    Ok(found)
}

/// What the network said of an image.
struct Seen {
    /// Which of the files it is.
    index: usize,
    digest: String,
    likelihoods: [f64; TURNS],
}

impl Seen {
    fn turns(&self, shares: &[f64; TURNS]) -> Turns {
        Turns::new(turns::probabilities(&self.likelihoods, shares))
    }
}

/// Share of these files, taken to be upright, that a network says are, in 0..=1; `None` if none of them can be read.
///
/// # Errors
/// Those of loading the network.
pub fn share_upright(source: &EncoderSource, files: &[PathBuf]) -> Result<Option<f64>> {
    let pretrained = pretrained(source, &device::open(&DeviceName::Flex)?)?;
    let named = |path: &PathBuf| ImageFile { path: path.clone(), name: path.clone(), named: true };
    let files: Vec<ImageFile> = files.iter().map(named).collect();
    let Looks { seen, .. } = look_at_all(&pretrained, &files, &mut Silent);
    let upright = seen.iter().filter(|seen| argmax(&seen.likelihoods) == 0).count();
    Ok((!seen.is_empty()).then(|| upright as f64 / seen.len() as f64))
}

/// What was seen of all files.
struct Looks {
    seen: Vec<Seen>,
    failed: Vec<Failure>,
}

fn look_at_all(pretrained: &Pretrained, files: &[ImageFile], reporter: &mut dyn Reporter) -> Looks {
    let mut looks = Looks { seen: Vec::with_capacity(files.len()), failed: Vec::new() };
    reporter.report(Event::TaskStarted { label: "orient", total: files.len() as u64, unit: Unit::Images });
    for (chunk, files) in files.chunks(READ_AT_ONCE).enumerate() {
        let Read { images, squares, places, digests, failed } =
            read(files, pretrained.side, |photo| photo.squares(pretrained.side));
        looks.failed.extend(failed);
        if !images.is_empty() {
            let likelihoods = pretrained.finder.likelihoods(&images, &squares);
            let seen = places.into_iter().zip(digests).zip(likelihoods);
            looks.seen.extend(seen.map(|((place, digest), likelihoods)| Seen {
                index: chunk * READ_AT_ONCE + place,
                digest,
                likelihoods,
            }));
        }
        reporter.report(Event::TaskAdvanced(files.len() as u64));
    }
    reporter.report(Event::TaskFinished);
    looks
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
    fn look(&self, file: &ImageFile, seen: &Seen, turns: Turns) -> Result<Looked> {
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
        seen: &Seen,
        turns: Turns,
        looked: Looked,
    ) -> Result<(Orientation, Option<Error>)> {
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
            sha256: seen.digest.clone(),
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
            let place = (seen.index, self.log.as_mut());
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
