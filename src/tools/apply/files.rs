//! From paths on the command line to images in memory, a few at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use walkdir::{DirEntry, WalkDir};

use super::Failure;
use crate::data::{Images, Photo, is_image, read_photo};
use crate::error::{Error, Result};

/// Images read at once: enough for all threads and a batch of the network.
pub const READ_AT_ONCE: usize = 64;

/// Endings of photographs that are not read, by kind, in lower case.
const NOT_READ: [(&str, &[&str]); 5] = [
    ("HEIC", &["heic", "heif", "hif"]),
    ("AVIF", &["avif"]),
    ("JPEG XL", &["jxl"]),
    ("TIFF", &["tif", "tiff"]),
    ("RAW", &["dng", "cr2", "cr3", "nef", "arw", "raf", "orf", "rw2", "pef", "srw", "raw"]),
];

/// An image file to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the folder that was named, or its name where it was named itself.
    pub name: PathBuf,
    /// Whether it was named itself.
    pub named: bool,
}

/// What lies where the command line points.
#[derive(Debug, Default)]
pub struct Listing {
    /// The files to look at.
    pub files: Vec<ImageFile>,
    /// Photographs in folders that this program cannot read, with their kind.
    pub unread: Vec<(PathBuf, &'static str)>,
    /// What could not be listed.
    pub failed: Vec<Failure>,
}

impl Listing {
    /// How many photographs of each kind are not read.
    pub fn unread_kinds(&self) -> BTreeMap<&'static str, usize> {
        let mut kinds = BTreeMap::new();
        self.unread.iter().for_each(|(_, kind)| *kinds.entry(*kind).or_default() += 1);
        kinds
    }
}

/// The files that `paths` name: files as they are, of folders all image files at any depth, sorted by name. The folder
/// `output`, where it lies below one of these, is passed over: what was written there are copies of the others. A part of
/// a folder that cannot be read, or a link that leads back to a folder above it, costs only that part.
///
/// # Errors
/// [`Error::Data`] for a folder without images. A path that does not exist is taken for a file, and fails where it is
/// read.
pub fn list(paths: &[PathBuf], output: Option<&Path>) -> Result<Listing> {
    let output = output.and_then(|output| output.canonicalize().ok());
    let is_output = |entry: &DirEntry| {
        let folder = entry.depth() > 0 && entry.file_type().is_dir();
        folder && output.is_some() && entry.path().canonicalize().ok() == output
    };
    let mut found = Listing::default();
    for path in paths {
        if !path.is_dir() {
            let name = path.file_name().map_or_else(|| path.clone(), PathBuf::from);
            found.files.push(ImageFile { path: path.clone(), name, named: true });
            continue;
        }
        let before = found.count();
        let entries = WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter();
        for entry in entries.filter_entry(|entry| !is_output(entry)) {
            match entry {
                Ok(entry) if entry.file_type().is_file() => found.take(path, entry.into_path()),
                Ok(_) => {}
                Err(error) => found.failed.push(unlisted(path, error)),
            }
        }
        if found.count() == before {
            return Err(Error::data(
                path,
                "holds no image (png, jpg, jpeg, webp, bmp, gif)",
                "name image files, or a folder with some",
            ));
        }
    }
    Ok(found)
}

impl Listing {
    fn count(&self) -> usize {
        self.files.len() + self.unread.len() + self.failed.len()
    }

    fn take(&mut self, folder: &Path, path: PathBuf) {
        if is_image(&path) {
            let name = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
            self.files.push(ImageFile { path, name, named: false });
        } else if let Some(kind) = not_read(&path) {
            self.unread.push((path, kind));
        }
    }
}

fn not_read(path: &Path) -> Option<&'static str> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    NOT_READ.iter().find(|(_, endings)| endings.contains(&ending.as_str())).map(|(kind, _)| *kind)
}

fn unlisted(folder: &Path, error: walkdir::Error) -> Failure {
    let path = error.path().unwrap_or(folder).to_path_buf();
    let error = match error.loop_ancestor() {
        Some(above) => Error::data(
            &path,
            format!("is a link back to {}, in which it lies", above.display()),
            "what is there is read once; remove the link",
        ),
        None => Error::io("read", &path)(error.into()),
    };
    Failure::new(&path, error)
}

/// Files that were read.
pub struct Read {
    /// The images, as squares; those of one image follow each other.
    pub images: Images,
    /// How many squares each image has.
    pub squares: Vec<usize>,
    /// Where the file of each lies among those asked for.
    pub places: Vec<usize>,
    /// SHA-256 of the file of each.
    pub digests: Vec<String>,
    /// The files that cannot be read.
    pub failed: Vec<Failure>,
}

/// Reads files with all threads; `cut` makes squares of `side` of each.
pub fn read(files: &[ImageFile], side: usize, cut: impl Fn(Photo) -> Vec<Vec<u8>> + Sync) -> Read {
    let read = |file: &ImageFile| {
        let mut photo = read_photo(&file.path, Some(side))?;
        let digest = std::mem::take(&mut photo.digest);
        Ok((cut(photo), digest))
    };
    let cut: Vec<Result<(Vec<Vec<u8>>, String)>> = files.par_iter().map(read).collect();
    let mut pixels = Vec::new();
    let (mut squares, mut places, mut digests, mut failed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (place, image) in cut.into_iter().enumerate() {
        match image {
            Ok((of_image, digest)) => {
                squares.push(of_image.len());
                pixels.extend(of_image.into_iter().flatten());
                places.push(place);
                digests.push(digest);
            }
            Err(error) => failed.push(Failure::new(&files[place].path, error)),
        }
    }
    let labels = vec![0; squares.iter().sum()];
    let images = Images { pixels: pixels.into(), labels, height: side, width: side };
    Read { images, squares, places, digests, failed }
}
