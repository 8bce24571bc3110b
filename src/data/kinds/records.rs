//! Files of records, each one or more labels (a byte each) and the red, green and blue planes of a 32x32 image: what
//! CIFAR-10's and CIFAR-100's binary versions have in common.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use md5::Md5;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::data::images::CHANNELS;
use crate::error::{Error, Result};
use crate::files::{hexadecimal, sha256};

/// Rows and columns of an image.
pub const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
/// Bytes of an image.
pub const IMAGE: usize = CHANNELS * PLANE;
/// Records read at once while checking.
const CHECKED_AT_ONCE: usize = 64;

/// The files of a data set, and what their records hold.
pub struct Layout {
    /// The folder that the official archive unpacks to.
    pub folder: &'static str,
    /// Names of the files, training files first.
    pub files: &'static [&'static str],
    /// Number of classes of each label before the image, in the order of the bytes.
    pub classes: &'static [usize],
    /// What to do about a file that does not have this layout.
    pub hint: &'static str,
}

/// What reading a file through found out about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Number of images in it.
    pub records: usize,
    /// SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// MD5, in lower-case hexadecimal: the only digest that is published of the official files.
    #[serde(skip)]
    pub md5: String,
}

impl Layout {
    /// Bytes of a record.
    pub fn record(&self) -> usize {
        self.classes.len() + IMAGE
    }

    /// The folder with the files: `folder` in `path`, or `path` itself.
    ///
    /// # Errors
    /// [`Error::Data`] if neither holds a file of the layout.
    pub fn find_folder(&self, path: &Path) -> Result<PathBuf> {
        let inner = path.join(self.folder);
        if inner.is_dir() {
            Ok(inner)
        } else if self.files.iter().any(|name| path.join(name).exists()) {
            Ok(path.to_path_buf())
        } else if path.is_dir() {
            Err(Error::data(path, format!("holds neither {} nor {}", self.folder, self.files[0]), self.hint))
        } else {
            Err(Error::data(path, "there is no such folder", self.hint))
        }
    }

    /// Number of records in a file by its size, unread; 0 if there is none.
    pub fn count(&self, folder: &Path, name: &str) -> usize {
        fs::metadata(folder.join(name)).map_or(0, |file| file.len() as usize / self.record())
    }

    /// Reads a file through: it must be whole records, and every label one of a class.
    ///
    /// # Errors
    /// [`Error::Data`] naming the file and the record, or [`Error::Io`].
    pub fn check_file(&self, folder: &Path, name: &str) -> Result<FileFacts> {
        let path = folder.join(name);
        let record_bytes = self.record();
        let refuse = |problem: String| Error::data(&path, problem, self.hint);
        if !path.is_file() {
            return Err(refuse("there is no such file".into()));
        }
        let mut file = File::open(&path).map_err(Error::io("read", &path))?;
        let bytes = file.metadata().map_err(Error::io("read", &path))?.len();
        let rest = bytes % record_bytes as u64;
        if bytes == 0 || rest != 0 {
            return Err(refuse(match bytes {
                0 => "is empty".to_owned(),
                _ => format!(
                    "{bytes} bytes are not whole records of {record_bytes} bytes: {} records and {rest} bytes",
                    bytes / record_bytes as u64
                ),
            }));
        }
        let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
        let mut buffer = vec![0; CHECKED_AT_ONCE * record_bytes];
        let records = (bytes / record_bytes as u64) as usize;
        for first in (0..records).step_by(CHECKED_AT_ONCE) {
            let chunk = &mut buffer[..(records - first).min(CHECKED_AT_ONCE) * record_bytes];
            file.read_exact(chunk).map_err(Error::io("read", &path))?;
            if let Some((record, label, last)) = self.wrong_label(chunk) {
                let record = first + record + 1;
                return Err(refuse(format!(
                    "record {record} of {records} has label {label}, labels are 0 to {last}"
                )));
            }
            sha256.update(&*chunk);
            md5.update(&*chunk);
        }
        Ok(FileFacts {
            name: name.to_owned(),
            bytes,
            records,
            sha256: hexadecimal(&sha256.finalize()),
            md5: hexadecimal(&md5.finalize()),
        })
    }

    /// Reads a file of class names, one per line.
    ///
    /// # Errors
    /// [`Error::Data`] if it does not name that many classes.
    pub fn read_names(&self, path: &Path, classes: usize) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let names: Vec<String> = lines.map(str::to_owned).collect();
        match names.len() == classes {
            true => Ok(names),
            false => Err(Error::data(
                path,
                format!("names {} classes, expected {classes}", names.len()),
                self.hint,
            )),
        }
    }

    /// The first label in a chunk of records that stands for no class: the number of its record from 0, the label, and the
    /// last label there is.
    fn wrong_label(&self, chunk: &[u8]) -> Option<(usize, u8, usize)> {
        chunk.chunks_exact(self.record()).enumerate().find_map(|(record, bytes)| {
            let mut labels = bytes.iter().zip(self.classes);
            labels.find_map(|(&label, &classes)| {
                (usize::from(label) >= classes).then_some((record, label, classes - 1))
            })
        })
    }
}

/// A data set's fingerprint: SHA-256 over the files' digests, in order.
pub fn fingerprint(files: &[FileFacts]) -> String {
    let digests: Vec<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
    sha256(digests.join("\n").as_bytes())
}

/// How many of the `available` images in `folder` to load.
///
/// # Errors
/// [`Error::Config`] if there are fewer than `limit`.
pub fn limited(limit: Option<usize>, available: usize, folder: &Path) -> Result<usize> {
    match limit {
        Some(wanted) if wanted > available => Err(Error::config(
            "data.train_images",
            format!("wants {wanted} images, {} has {available}", folder.display()),
        )),
        _ => Ok(limit.unwrap_or(available)),
    }
}

/// Appends images that are stored as a red, a green and a blue plane.
pub fn append_channels_last(pixels: &mut Vec<u8>, planes: &[u8]) {
    let start = pixels.len();
    pixels.resize(start + planes.len(), 0);
    let images = pixels[start..].par_chunks_exact_mut(IMAGE).zip(planes.par_chunks_exact(IMAGE));
    images.for_each(|(image, planes)| {
        let (red, others) = planes.split_at(PLANE);
        let (green, blue) = others.split_at(PLANE);
        let colours = red.iter().zip(green).zip(blue);
        for (pixel, ((&red, &green), &blue)) in image.chunks_exact_mut(CHANNELS).zip(colours) {
            pixel.copy_from_slice(&[red, green, blue]);
        }
    });
}
