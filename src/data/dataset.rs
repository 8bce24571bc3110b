//! An opened data set: its training images, how they are split, and the way to its test images.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::config::DataConfig;
use super::images::{CHANNELS, Images};
use super::split::{Split, labeled_split, split};
use crate::error::{Error, Result};

/// An opened data set with its training images.
pub struct Dataset {
    /// Which data set this is, to be shown with every number measured on it.
    pub name: String,
    /// SHA-256 over the SHA-256 of the training files in order (of a folder, with their labels), in lower-case
    /// hexadecimal.
    pub fingerprint: String,
    /// By label; none in a folder without classes.
    pub class_names: Vec<String>,
    /// The folder of the files.
    pub directory: PathBuf,
    /// The training images with labels, validation images included; none in a folder without classes.
    pub train: Images,
    /// Of a folder: the paths of its image files.
    pub names: Names,
    /// Image files that are left out because they cannot be read.
    pub skipped: Vec<Skipped>,
    /// Of a folder: number of training files without an orientation tag (EXIF), tagged upright, tagged turned.
    pub tags: Option<[usize; 3]>,
    /// Whether the images lie in a mapped file, which takes no memory of its own.
    pub mapped: bool,
    /// All images to pretrain on.
    pub(super) pool: Images,
    /// Which of them have no labels.
    pub(super) unlabeled: Range<usize>,
    /// `None` if there are no labels to test on.
    pub(super) test: Option<Box<dyn TestImages>>,
}

/// Paths of image files relative to their folder, separated by `/`; none if the images are records of a file.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of the images in [`Dataset::train`], in the same order.
    pub train: Vec<String>,
    /// Of the test images, in the same order.
    pub test: Vec<String>,
}

/// An image file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path relative to the folder.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The test images of a data set, closed until they are asked for.
pub trait TestImages: Send + Sync {
    /// How many there are, without looking at them.
    fn count(&self) -> usize;

    /// Loads them.
    ///
    /// # Errors
    /// Those of [`Dataset::open_test`].
    fn open(&self) -> Result<Images>;
}

impl Dataset {
    /// A data set read from records: every image has a label and can be read.
    pub(super) fn of_records(
        name: String,
        fingerprint: String,
        class_names: Vec<String>,
        directory: PathBuf,
        train: Images,
        test: Box<dyn TestImages>,
    ) -> Self {
        let unlabeled = train.len()..train.len();
        Self {
            name,
            fingerprint,
            class_names,
            directory,
            names: Names::default(),
            skipped: Vec::new(),
            tags: None,
            mapped: false,
            pool: train.clone(),
            train,
            unlabeled,
            test: Some(test),
        }
    }

    /// For tests: images of one class, in no file and without a test set.
    #[cfg(test)]
    pub(crate) fn made_up(train: Images) -> Self {
        Self {
            name: "made up".into(),
            fingerprint: "f".repeat(64),
            class_names: vec!["one".to_owned()],
            directory: PathBuf::new(),
            names: Names::default(),
            skipped: Vec::new(),
            tags: None,
            mapped: false,
            pool: train.clone(),
            unlabeled: train.len()..train.len(),
            train,
            test: None,
        }
    }

    /// Number of test images, by the size of their file, which stays closed.
    pub fn test_count(&self) -> usize {
        self.test.as_ref().map_or(0, |test| test.count())
    }

    /// Height, width and channels of an image.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.pool.height, self.pool.width, CHANNELS]
    }

    /// Number of images without labels, which are used in pretraining only.
    pub fn unlabeled(&self) -> usize {
        self.unlabeled.len()
    }

    /// Loads the test images.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is missing, damaged, or not of the data set that the training files are, or if
    /// there are no labels to test on.
    pub fn open_test(&self) -> Result<Images> {
        match &self.test {
            Some(test) => test.open(),
            None => Err(self.no_labels()),
        }
    }

    /// The images to pretrain on, with labels and without: all of them, and which are trained on and which held out.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing would be left to train on.
    pub fn pretraining(&self, config: &DataConfig, seed: u64) -> Result<(&Images, Split)> {
        let unlabeled = self.unlabeled.clone().map(|index| index as u32);
        if self.train.is_empty() {
            // Only the number of images counts.
            let split = split(&vec![0; self.unlabeled.len()], 1, config, seed)?;
            return Ok((&self.pool, split));
        }
        let mut split = self.split(config, seed)?;
        split.train.extend(unlabeled);
        Ok((&self.pool, split))
    }

    /// [`split`] of the training images with labels.
    pub fn split(&self, config: &DataConfig, seed: u64) -> Result<Split> {
        self.refuse_no_labels()?;
        split(&self.train.labels, self.class_names.len(), config, seed)
    }

    /// [`labeled_split`] of the training images with labels.
    pub fn labeled_split(&self, config: &DataConfig, seed: u64) -> Result<Split> {
        self.refuse_no_labels()?;
        labeled_split(&self.train.labels, &self.class_names, config, seed)
    }

    /// # Errors
    /// [`Error::Data`] if there are no labels to train or test a classifier with.
    pub fn refuse_no_labels(&self) -> Result<()> {
        if self.train.is_empty() { Err(self.no_labels()) } else { Ok(()) }
    }

    fn no_labels(&self) -> Error {
        Error::data(
            &self.directory,
            "holds no images with labels, so that only `rotnet pretrain` can use it",
            "put images with labels into train/CLASS/, and those without into unlabeled/",
        )
    }
}
