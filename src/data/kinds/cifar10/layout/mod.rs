//! CIFAR-10's binary layout: files of records of 3,073 bytes, each a label and the red, green and blue planes.
//!
//! cifar-ten reads the records. It panics on short files and on labels over 9, and keeps three copies of what it reads;
//! so each file is checked first, and read on its own.

use std::panic;
use std::path::{Path, PathBuf};

use cifar_ten::Cifar10;
use rayon::prelude::*;

use crate::data::images::Images;
use crate::data::kinds::records::{FileFacts, IMAGE, Layout, SIDE, append_channels_last, limited};
use crate::error::{Error, Result};

/// The folder that the official archive unpacks to.
pub const FOLDER: &str = "cifar-10-batches-bin";
/// The training files in order, then the test file.
pub const FILES: &[&str] = &[
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    TEST_FILE,
];
/// The training files, in order.
pub const TRAIN_FILES: &[&str] = FILES.split_at(5).0;
/// The test file.
pub const TEST_FILE: &str = "test_batch.bin";
/// The file of class names, one per line.
pub const NAMES_FILE: &str = "batches.meta.txt";
/// Number of classes.
pub const CLASSES: usize = 10;
/// CIFAR-10's class names, by label.
const CLASS_NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Bytes of a record: the label, then the image.
pub const RECORD: usize = 1 + IMAGE;
const HINT: &str = "run `rotnet data fetch`, or name another folder with --data";

/// All that there is to know of it.
pub const LAYOUT: Layout = Layout { folder: FOLDER, files: FILES, classes: &[CLASSES], hint: HINT };

/// The folder with the files: `cifar-10-batches-bin` in `path`, or `path` itself.
///
/// # Errors
/// [`Error::Data`] if neither holds a file of the layout.
pub fn find_folder(path: &Path) -> Result<PathBuf> {
    LAYOUT.find_folder(path)
}

/// Reads a file through: its size must be a positive multiple of 3,073, every label at most 9.
///
/// # Errors
/// [`Error::Data`] naming the file and the record, or [`Error::Io`].
pub fn check_file(folder: &Path, name: &str) -> Result<FileFacts> {
    LAYOUT.check_file(folder, name)
}

/// Checks all training files and loads their images, or only the first `limit`.
///
/// # Errors
/// Those of [`check_file`]; [`Error::Config`] if there are fewer images than `limit`.
pub fn load_train(folder: &Path, limit: Option<usize>) -> Result<(Images, Vec<FileFacts>)> {
    let facts: Vec<FileFacts> =
        TRAIN_FILES.par_iter().map(|name| check_file(folder, name)).collect::<Result<_>>()?;
    let available = facts.iter().map(|file| file.records).sum();
    let wanted = limited(limit, available, folder)?;
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

/// The names in `batches.meta.txt`, or CIFAR-10's if there is no such file.
///
/// # Errors
/// [`Error::Data`] if the file does not hold ten lines.
pub fn class_names(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(NAMES_FILE);
    match path.exists() {
        true => LAYOUT.read_names(&path, CLASSES),
        false => Ok(CLASS_NAMES.map(str::to_owned).to_vec()),
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
            all_labels.extend(labels.into_iter().map(u16::from));
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
    // It was checked, but may have changed since.
    match panic::catch_unwind(|| source.build().map_err(|error| error.to_string())) {
        Ok(Ok(read)) => Ok((read.0, read.1)),
        Ok(Err(problem)) => Err(refuse(problem)),
        Err(_) => Err(refuse("was changed while it was read".into())),
    }
}

#[cfg(test)]
mod tests;
