//! The interface behind which every kind of data set lives; one implementor each.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::records::FileFacts;
use crate::data::config::DataConfig;
use crate::data::dataset::Dataset;
use crate::error::Result;
use crate::progress::Reporter;

/// A kind of data set: how to recognise, open and verify it.
pub trait Kind: Sync {
    /// What lies in its folder, as a message puts it.
    fn content(&self) -> &'static str;

    /// Where to look if the config names no folder; `None` if there is no such place.
    fn usual_place(&self, data_home: &Path) -> Option<PathBuf>;

    /// The folder with the files at `place`: itself, or one within; itself if there are none.
    fn folder(&self, place: &Path) -> PathBuf {
        place.to_path_buf()
    }

    /// Whether data of this kind lies at `place`, be it damaged.
    fn detect(&self, place: &Path) -> bool;

    /// Opens the training images, and leaves the test images closed.
    ///
    /// # Errors
    /// Those of [`super::open`].
    fn open(
        &self,
        place: &Path,
        config: &DataConfig,
        data_home: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Dataset>;

    /// Reads every file through, test files included.
    ///
    /// # Errors
    /// [`crate::Error::Data`] if there is no data set, or its record is damaged; [`crate::Error::Stopped`];
    /// [`crate::Error::Io`]. What is wrong with single files is part of the result.
    fn verify(&self, place: &Path, reporter: &mut dyn Reporter) -> Result<Verification>;

    /// What takes the place of a data set that is made only when it is first needed; `None` if it is there already, or
    /// is never made.
    ///
    /// # Errors
    /// [`crate::Error::Data`].
    fn stand_in(&self, _place: &Path, _config: &DataConfig) -> Result<Option<Dataset>> {
        Ok(None)
    }
}

/// What reading every file of a data set found.
pub struct Verification {
    /// The folder of the files.
    pub directory: PathBuf,
    /// Number of files read.
    pub checked: usize,
    /// The files, training files first; of a folder of images only those that cannot be read.
    pub files: Vec<FileReport>,
    /// Whether it can be opened in spite of its damaged files.
    pub opens: bool,
    /// How large the images are; absent where all have one size by definition.
    pub sizes: Option<Sizes>,
    /// How to mend a damaged file.
    pub hint: &'static str,
}

/// Sizes of image files: height and width in pixels, upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Of the fewest pixels.
    pub smallest: [u32; 2],
    /// With as many images of more pixels as of fewer.
    pub median: [u32; 2],
    /// Of the most pixels.
    pub largest: [u32; 2],
}

impl Sizes {
    /// Of images of these sizes; `None` without any.
    pub fn of(mut sizes: Vec<[u32; 2]>) -> Option<Self> {
        sizes.sort_unstable_by_key(|&[height, width]| (u64::from(height) * u64::from(width), height));
        let [smallest, .., largest] = sizes[..] else {
            return sizes.first().map(|&one| Self { smallest: one, median: one, largest: one });
        };
        Some(Self { smallest, median: sizes[sizes.len() / 2], largest })
    }
}

/// What was found out about one file.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Its name in the folder.
    pub name: String,
    /// Size, images and digest; absent if the file is missing or damaged.
    pub facts: Option<FileFacts>,
    /// How far it is known; absent if the file is missing or damaged.
    pub known: Option<Known>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// How far a file is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// It is the published file.
    Official,
    /// It is as it was unpacked or generated.
    Recorded,
    /// It differs from what was unpacked or generated.
    Changed,
    /// Only its layout is right.
    Layout,
}

impl Verification {
    /// Of a data set that opens only if all of its files are as they should be.
    pub fn of_records(directory: PathBuf, files: Vec<FileReport>, hint: &'static str) -> Self {
        let opens = files.iter().all(|file| file.problem.is_none());
        Self { directory, checked: files.len(), files, opens, sizes: None, hint }
    }
}

impl FileReport {
    /// What was found out about the file of this name.
    pub fn new(name: &str, checked: Result<(FileFacts, Known)>) -> Self {
        let name = name.to_owned();
        match checked {
            Ok((facts, known)) => {
                let changed = known == Known::Changed;
                let problem = changed.then(|| "differs from what was recorded".to_owned());
                Self { name, facts: Some(facts), known: Some(known), problem }
            }
            Err(error) => Self { name, facts: None, known: None, problem: Some(error.to_string()) },
        }
    }
}
