//! Turns image files into the bytes of a file of the cache, with all threads and in bounded memory.

use std::path::Path;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::format::{Record, VERSION};
use super::tree::{Entry, name};
use crate::data::dataset::Skipped;
use crate::data::decode::{self, Photo, Tag};
use crate::error::{Error, Result};
use crate::files::hexadecimal;
use crate::progress::{Event, Reporter, Stop, Unit};

/// Files decoded between two writes: enough for all threads, 7 MB at 96x96.
const DECODED_AT_ONCE: usize = 256;

/// What is known of a file of the cache while its pixels are written.
pub struct Builder {
    pixels: Sha256,
    files: Sha256,
    record: Record,
}

impl Builder {
    /// Nothing taken yet; the images are `image_size` pixels high and wide.
    pub fn new(image_size: usize, key: &str) -> Self {
        let record = Record {
            version: VERSION,
            key: key.to_owned(),
            image_size,
            labels: Vec::new(),
            unlabeled: 0,
            pixels: String::new(),
            fingerprint: String::new(),
            tags: [0; 3],
            skipped: Vec::new(),
        };
        Self { pixels: Sha256::new(), files: Sha256::new(), record }
    }

    /// Records a decoded file and returns the pixels to write, or records why it is left out.
    ///
    /// # Errors
    /// The file that cannot be read.
    pub fn take(
        &mut self,
        entry: &Entry,
        photo: Result<Decoded<Vec<u8>>, String>,
    ) -> Result<Vec<u8>, Skipped> {
        let Decoded { photo: square, tag, reduced, digest } = photo.map_err(|problem| {
            let file = Skipped { name: name(&entry.path), problem };
            self.record.skipped.push(file.clone());
            file
        })?;
        self.pixels.update(&square);
        let label = entry.label.map_or("-".to_owned(), |label| label.to_string());
        // Other pixels than the whole image gives: another data set.
        let reduced = if reduced { " reduced" } else { "" };
        self.files.update(format!("{label} {digest}{reduced}\n"));
        self.record.tags[tag as usize] += 1;
        self.record.labels.push(entry.label.unwrap_or(0));
        self.record.unlabeled += usize::from(entry.label.is_none());
        Ok(square)
    }

    /// What follows the pixels of the images of `root`.
    ///
    /// # Errors
    /// [`Error::Data`] if none of the files could be read.
    pub fn finish(mut self, root: &Path) -> Result<Vec<u8>> {
        if let (true, Some(first)) = (self.record.labels.is_empty(), self.record.skipped.first()) {
            let problem = format!("none of its image files can be read; {}: {}", first.name, first.problem);
            return Err(Error::data(root, problem, "look at the files with another program"));
        }
        self.record.pixels = hexadecimal(&self.pixels.finalize());
        self.record.fingerprint = hexadecimal(&self.files.finalize());
        self.record.ending().map_err(|error| Error::io("describe", root)(error.into()))
    }
}

/// A decoded file, or what was made of it.
pub struct Decoded<T> {
    photo: T,
    tag: Tag,
    reduced: bool,
    digest: String,
}

/// Decodes files for squares of `side` pixels, or whole, with all threads and hands them on in order, a few at a time;
/// asks in between whether to stop.
pub fn decode_all<T: Send>(
    root: &Path,
    entries: &[Entry],
    side: Option<usize>,
    reporter: &mut dyn Reporter,
    mut take: impl FnMut(&Entry, Result<Decoded<T>, String>) -> Result<()>,
    convert: impl Fn(Photo) -> T + Sync,
) -> Result<()> {
    let total = entries.len() as u64;
    reporter.report(Event::TaskStarted { label: "decode", total, unit: Unit::Images });
    for chunk in entries.chunks(DECODED_AT_ONCE) {
        let decode = |entry: &Entry| {
            let photo = decode::read(&root.join(&entry.path), side).map_err(problem)?;
            let (tag, reduced, digest) = (photo.tag, photo.reduced, photo.digest.clone());
            Ok(Decoded { photo: convert(photo), tag, reduced, digest })
        };
        let decoded: Vec<_> = chunk.par_iter().map(decode).collect();
        for (entry, photo) in chunk.iter().zip(decoded) {
            take(entry, photo)?;
        }
        reporter.report(Event::TaskAdvanced(chunk.len() as u64));
        if let Some(stop) = reporter.stop() {
            return Err(stopped(stop));
        }
    }
    reporter.report(Event::TaskFinished);
    Ok(())
}

fn stopped(stop: Stop) -> Error {
    let state = "before all images were decoded; decoding starts again".into();
    Error::Stopped { stage: "data", stop, state }
}

/// What is wrong with a file, without its name.
fn problem(error: Error) -> String {
    match error {
        Error::Data { problem, .. } => problem,
        Error::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    }
}

/// The files among `entries` that cannot be read, and height and width of the others.
///
/// # Errors
/// [`Error::Stopped`].
pub fn check(
    root: &Path,
    entries: &[Entry],
    reporter: &mut dyn Reporter,
) -> Result<(Vec<Skipped>, Vec<[u32; 2]>)> {
    let (mut broken, mut sizes) = (Vec::new(), Vec::new());
    let take = |entry: &Entry, photo: Result<Decoded<[u32; 2]>, String>| {
        match photo {
            Ok(Decoded { photo: [width, height], .. }) => sizes.push([height, width]),
            Err(problem) => broken.push(Skipped { name: name(&entry.path), problem }),
        }
        Ok(())
    };
    decode_all(root, entries, None, reporter, take, |photo| photo.size())?;
    Ok((broken, sizes))
}
