//! From paths on the command line to images in memory, a few at a time.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use walkdir::{DirEntry, WalkDir};

use super::Failure;
use crate::data::{Images, Photo, is_image, read_photo};
use crate::error::{Error, Result};

/// Images read at once: enough for all threads and a batch of the network.
pub const READ_AT_ONCE: usize = 64;

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

/// The files that `paths` name: files as they are, of folders all image files at any depth, sorted by name. The folder
/// `output`, where it lies below one of these, is passed over: what was written there are copies of the others.
///
/// # Errors
/// [`Error::Data`] for a folder without images; [`Error::Io`] for one that cannot be read. A path that does not exist
/// is taken for a file, and fails where it is read.
pub fn list(paths: &[PathBuf], output: Option<&Path>) -> Result<Vec<ImageFile>> {
    let output = output.and_then(|output| output.canonicalize().ok());
    let is_output = |entry: &DirEntry| {
        let folder = entry.depth() > 0 && entry.file_type().is_dir();
        folder && output.is_some() && entry.path().canonicalize().ok() == output
    };
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            let name = path.file_name().map_or_else(|| path.clone(), PathBuf::from);
            files.push(ImageFile { path: path.clone(), name, named: true });
            continue;
        }
        let before = files.len();
        let entries = WalkDir::new(path).follow_links(true).sort_by_file_name().into_iter();
        for entry in entries.filter_entry(|entry| !is_output(entry)) {
            let entry = entry.map_err(|error| Error::io("read", path)(error.into()))?;
            if entry.file_type().is_file() && is_image(entry.path()) {
                files.push(in_folder(path, entry.into_path()));
            }
        }
        if files.len() == before {
            return Err(Error::data(
                path,
                "holds no image (png, jpg, jpeg, webp, bmp, gif)",
                "name image files, or a folder with some",
            ));
        }
    }
    Ok(files)
}

fn in_folder(folder: &Path, path: PathBuf) -> ImageFile {
    let name = path.strip_prefix(folder).unwrap_or(&path).to_path_buf();
    ImageFile { path, name, named: false }
}

/// Reads files with all threads. Gives the images, as squares of `side`, with the places of their files in `files`;
/// and those that cannot be read.
pub fn read(files: &[ImageFile], side: usize) -> (Images, Vec<usize>, Vec<Failure>) {
    let read = |file: &ImageFile| read_photo(&file.path).map(|photo: Photo| photo.square(side));
    let squares: Vec<Result<Vec<u8>>> = files.par_iter().map(read).collect();
    let (mut pixels, mut places, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for (place, square) in squares.into_iter().enumerate() {
        match square {
            Ok(square) => {
                pixels.extend(square);
                places.push(place);
            }
            Err(error) => failures.push(Failure::new(&files[place], error)),
        }
    }
    let labels = vec![0; places.len()];
    (Images { pixels: pixels.into(), labels, height: side, width: side }, places, failures)
}
