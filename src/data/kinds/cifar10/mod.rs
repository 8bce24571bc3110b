//! CIFAR-10, or any images in its binary layout ([`layout`]): where the files come from ([`fetch`]) and which data set
//! they are ([`digests`]).

mod digests;
mod fetch;
mod layout;
mod unpack;

use std::path::{Path, PathBuf};

use super::kind::{FileReport, Kind, Verification};
use super::records::fingerprint;
use crate::data::config::DataConfig;
use crate::data::dataset::{Dataset, TestImages};
use crate::data::images::Images;
use crate::error::{Error, Result};
use crate::progress::Reporter;
use layout::load_train;

pub use digests::{DatasetRecord, Origin};
pub use fetch::{FetchReport, FetchRequest, fetch};
pub use layout::{
    CLASSES, FILES, FOLDER, NAMES_FILE, RECORD, TEST_FILE, TRAIN_FILES, class_names, find_folder,
};
#[cfg(test)]
pub(crate) use {digests::RECORD_FILE, unpack::tests::good_archive};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {layout::load_test, unpack::unpack};

/// Files in CIFAR-10's binary layout.
pub struct Cifar10;

impl Kind for Cifar10 {
    fn content(&self) -> &'static str {
        "files in CIFAR-10's layout"
    }

    fn usual_place(&self, data_home: &Path) -> Option<PathBuf> {
        Some(data_home.to_path_buf())
    }

    fn folder(&self, place: &Path) -> PathBuf {
        find_folder(place).unwrap_or_else(|_| place.to_path_buf())
    }

    fn detect(&self, place: &Path) -> bool {
        find_folder(place).is_ok()
    }

    fn open(&self, place: &Path, config: &DataConfig, _: &Path, _: &mut dyn Reporter) -> Result<Dataset> {
        open(find_folder(place)?, config)
    }

    fn verify(&self, place: &Path, _: &mut dyn Reporter) -> Result<Verification> {
        verify(place, "`rotnet data fetch --force` downloads CIFAR-10 again")
    }
}

/// Opens the training files in `directory`.
///
/// # Errors
/// Those of [`Kind::open`].
pub fn open(directory: PathBuf, config: &DataConfig) -> Result<Dataset> {
    let (train, files) = load_train(&directory, config.train_images)?;
    let name = digests::identify(&directory, &files)?;
    let class_names = class_names(&directory)?;
    let test = Test { directory: directory.clone(), name: name.clone() };
    Ok(Dataset::of_records(name, fingerprint(&files), class_names, directory, train, Box::new(test)))
}

/// Reads every file of a data set; `hint` says how to mend one.
///
/// # Errors
/// Those of [`Kind::verify`].
pub fn verify(place: &Path, hint: &'static str) -> Result<Verification> {
    let directory = find_folder(place)?;
    let record = DatasetRecord::read(&directory)?;
    let check = |name: &&str| {
        let checked = layout::check_file(&directory, name);
        FileReport::new(name, checked.map(|facts| (facts.clone(), digests::compare(record.as_ref(), &facts))))
    };
    let files = FILES.iter().map(check).collect();
    Ok(Verification::of_records(directory, files, hint))
}

/// The test file.
struct Test {
    directory: PathBuf,
    /// Which data set the training files are.
    name: String,
}

impl TestImages for Test {
    fn count(&self) -> usize {
        layout::LAYOUT.count(&self.directory, TEST_FILE)
    }

    fn open(&self) -> Result<Images> {
        let (images, facts) = layout::load_test(&self.directory)?;
        let name = digests::identify(&self.directory, std::slice::from_ref(&facts))?;
        if name != self.name {
            return Err(Error::data(
                self.directory.join(&facts.name),
                format!("belongs to another data set ({name}) than the training files ({})", self.name),
                "put the files of one data set into the folder",
            ));
        }
        Ok(images)
    }
}
