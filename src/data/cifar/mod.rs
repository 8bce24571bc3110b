//! CIFAR-10's binary layout: files of records of 3,073 bytes, a label and the red, green and blue planes.
//!
//! cifar-ten reads the records. It panics on short files and on labels over 9, and keeps three copies of what
//! it reads; so every file is checked first, and read on its own.

use std::fs::File;
use std::io::Read;
use std::panic;
use std::path::{Path, PathBuf};

use cifar_ten::Cifar10;
use md5::Md5;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::images::{CHANNELS, Images};
use crate::error::{Error, Result};
use crate::files::hexadecimal;

/// The folder that the official archive unpacks to.
pub const FOLDER: &str = "cifar-10-batches-bin";
/// The training files, in order.
pub const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
/// The test file.
pub const TEST_FILE: &str = "test_batch.bin";
/// The file of class names, one a line.
pub const NAMES_FILE: &str = "batches.meta.txt";
/// Rows and columns of an image.
pub const SIDE: usize = 32;
/// Number of classes.
pub const CLASSES: usize = 10;
/// CIFAR-10's class names, by label.
const CLASS_NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const PLANE: usize = SIDE * SIDE;
/// Bytes of an image.
pub const IMAGE: usize = CHANNELS * PLANE;
/// Bytes of a record: the label, then the image.
pub const RECORD: usize = 1 + IMAGE;
/// Records read at once while checking.
const CHECKED_AT_ONCE: usize = 64;
const HINT: &str = "run `rotnet data fetch`, or name another folder with --data";

/// Which labels a record holds before its image.
pub struct Layout {
    /// Number of classes of each label, in the order of the bytes.
    pub classes: &'static [usize],
    /// What to do about a file that is not of this layout.
    pub hint: &'static str,
}

const LAYOUT: Layout = Layout { classes: &[CLASSES], hint: HINT };

impl Layout {
    /// Bytes of a record.
    pub fn record(&self) -> usize {
        self.classes.len() + IMAGE
    }

    /// The first label in a chunk of records that is none, with the number of its record from 0.
    fn wrong_label(&self, chunk: &[u8]) -> Option<(usize, u8, usize)> {
        chunk.chunks_exact(self.record()).enumerate().find_map(|(record, bytes)| {
            let mut labels = bytes.iter().zip(self.classes);
            labels.find_map(|(&label, &classes)| {
                (usize::from(label) >= classes).then_some((record, label, classes - 1))
            })
        })
    }
}

/// What is known of a file after reading it through once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Images in it.
    pub records: usize,
    /// SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// MD5, in lower-case hexadecimal, since only that is published of the official files.
    #[serde(skip)]
    pub md5: String,
}

/// The folder with the files: `cifar-10-batches-bin` in `path`, or `path` itself.
///
/// # Errors
/// [`Error::Data`] if neither holds a file of the layout.
pub fn find_folder(path: &Path) -> Result<PathBuf> {
    let inner = path.join(FOLDER);
    let mut names = TRAIN_FILES.iter().chain([&TEST_FILE]);
    if inner.is_dir() {
        Ok(inner)
    } else if names.any(|name| path.join(name).exists()) {
        Ok(path.to_path_buf())
    } else if path.is_dir() {
        Err(Error::data(path, format!("holds neither {FOLDER} nor {}", TRAIN_FILES[0]), HINT))
    } else {
        Err(Error::data(path, "there is no such folder", HINT))
    }
}

/// Reads a file through: its size must be a positive multiple of 3,073, every label at most 9.
///
/// # Errors
/// [`Error::Data`] naming the file and the record, or [`Error::Io`].
pub fn check_file(folder: &Path, name: &str) -> Result<FileFacts> {
    check_records(folder, name, &LAYOUT)
}

/// [`check_file`] of any layout.
pub fn check_records(folder: &Path, name: &str, layout: &Layout) -> Result<FileFacts> {
    let path = folder.join(name);
    let record_bytes = layout.record();
    let refuse = |problem: String| Error::data(&path, problem, layout.hint);
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
        if let Some((record, label, last)) = layout.wrong_label(chunk) {
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

/// Checks all training files and loads their images, or the first `limit` of them.
///
/// # Errors
/// Those of [`check_file`]; [`Error::Config`] if there are fewer images than `limit`.
pub fn load_train(folder: &Path, limit: Option<usize>) -> Result<(Images, Vec<FileFacts>)> {
    let facts: Vec<FileFacts> =
        TRAIN_FILES.par_iter().map(|name| check_file(folder, name)).collect::<Result<_>>()?;
    let available = facts.iter().map(|file| file.records).sum();
    let wanted = limit.unwrap_or(available);
    if wanted > available {
        return Err(Error::config(
            "data.train_images",
            format!("wants {wanted} images, {} has {available}", folder.display()),
        ));
    }
    Ok((load(folder, &facts, wanted)?, facts))
}

/// Checks the test file and loads its images.
///
/// # Errors
/// Those of [`check_file`].
pub fn load_test(folder: &Path) -> Result<(Images, FileFacts)> {
    let facts = check_file(folder, TEST_FILE)?;
    Ok((load(folder, std::slice::from_ref(&facts), facts.records)?, facts))
}

/// The names in `batches.meta.txt`, or CIFAR-10's where there is no such file.
///
/// # Errors
/// [`Error::Data`] if the file does not hold ten lines.
pub fn class_names(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(NAMES_FILE);
    match path.exists() {
        true => read_names(&path, CLASSES, HINT),
        false => Ok(CLASS_NAMES.map(str::to_owned).to_vec()),
    }
}

/// A file of so many class names, one a line.
pub fn read_names(path: &Path, classes: usize, hint: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let names: Vec<String> = lines.map(str::to_owned).collect();
    match names.len() == classes {
        true => Ok(names),
        false => Err(Error::data(path, format!("names {} classes, expected {classes}", names.len()), hint)),
    }
}

/// The first `wanted` images of checked files, one file at a time.
fn load(folder: &Path, facts: &[FileFacts], wanted: usize) -> Result<Images> {
    let mut pixels = Vec::with_capacity(wanted * IMAGE);
    let mut all_labels = Vec::with_capacity(wanted);
    for file in facts {
        let records = file.records.min(wanted - all_labels.len());
        if records > 0 {
            let (planes, labels) = read_records(folder, &file.name, records)?;
            append_channels_last(&mut pixels, &planes);
            all_labels.extend(labels);
        }
    }
    Ok(Images { pixels: pixels.into(), labels: all_labels, height: SIDE, width: SIDE })
}

/// The first `records` images (planes) and labels of one file, read by cifar-ten.
fn read_records(folder: &Path, name: &str, records: usize) -> Result<(Vec<u8>, Vec<u8>)> {
    let refuse = |problem: String| Error::data(folder.join(name), problem, HINT);
    let Some(base) = folder.to_str() else {
        return Err(refuse("the path is not valid UTF-8, which the reader needs".into()));
    };
    let source = Cifar10::default()
        .base_path(base)
        .cifar_data_path("")
        .encode_one_hot(false)
        .training_bin_paths(vec![name.to_owned()])
        .num_records_train(records)
        .testing_bin_paths(Vec::new())
        .num_records_test(0);
    // It was checked, but may have been changed since.
    match panic::catch_unwind(|| source.build().map_err(|error| error.to_string())) {
        Ok(Ok(read)) => Ok((read.0, read.1)),
        Ok(Err(problem)) => Err(refuse(problem)),
        Err(_) => Err(refuse("was changed while it was read".into())),
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

#[cfg(test)]
mod tests;
