//! The data set: images and labels from files, its splits, and the samples made from it.
//!
//! [`open()`] is the one way to the images: it finds the folder (and generates the scenes where they are wanted
//! and not there yet), checks every training file, and says which data set they are. The test images stay closed
//! until [`Dataset::open_test`].

mod augment;
mod check;
mod cifar;
mod cifar100;
mod config;
mod decode;
mod describe;
mod digests;
mod download;
mod fetch;
mod folder;
mod images;
mod mapped;
mod pixels;
mod resize;
mod rotation;
mod scenes;
mod sources;
mod split;
mod staging;
mod unpack;

use std::ops::Range;
use std::path::{Path, PathBuf};

use rand::Rng;

use crate::error::{Error, Result};
use crate::math::random::{Purpose, generator};
use crate::progress::Reporter;

pub use augment::{AugmentConfig, Flip, Padding};
pub(crate) use augment::{Augmentation, Changed};
pub use check::{CheckReport, Measures, check};
pub use config::{DataConfig, DataKind};
pub use decode::{Photo, Tag, is_image, read as read_photo};
pub use describe::{DatasetInfo, FileReport, PartInfo, VerifyReport, info, verify};
pub use digests::Known;
pub use fetch::{FetchReport, FetchRequest, fetch};
pub use folder::Skipped;
pub use images::{CHANNELS, Images, PixelBytes};
pub use pixels::{PixelTable, Pixels};
pub(crate) use resize::Shrink;
pub use rotation::{Rotation, rotate, write_rotated};
pub use scenes::{SCENES_SEED, SCENES_VERSION, SynthReport, generate};
pub use sources::detect;
pub use split::{Split, labeled_split, split};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {cifar::RECORD, cifar::TEST_FILE, cifar::load_test, decode::decode, unpack::unpack};
#[cfg(test)]
pub(crate) use {
    decode::tests::{picture, with_orientation},
    unpack::tests::good_archive as unpack_seed,
};

use cifar100::Labels;

/// A data set with its training images.
pub struct Dataset {
    /// Which data set this is, for every place where a number from it is shown.
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
    /// Of a folder: the paths of the image files in it.
    pub names: Names,
    /// Image files that cannot be read and are left out.
    pub skipped: Vec<Skipped>,
    /// Of a folder: training files without a tag of their way up (EXIF), tagged upright, tagged turned.
    pub tags: Option<[usize; 3]>,
    /// All images there are to train on.
    pool: Images,
    /// Those of them without labels.
    unlabeled: Range<usize>,
    test: Test,
}

/// Paths of image files in their folder, with `/` between their parts; none where images are records of one file.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of [`Dataset::train`], in its order.
    pub train: Vec<String>,
    /// Of the test images, in their order.
    pub test: Vec<String>,
}

/// Where the test images are.
enum Test {
    Cifar10,
    Cifar100(Labels),
    Folder(Option<Images>),
}

/// Opens the data set that the config names; `data_home` is where data sets lie unless it says otherwise.
///
/// # Errors
/// [`Error::Data`] for files that are missing, damaged or changed; [`Error::Config`] if they are too few;
/// [`Error::Stopped`] where images are decoded first; [`Error::Io`].
pub fn open(config: &DataConfig, data_home: &Path, reporter: &mut dyn Reporter) -> Result<Dataset> {
    config.validate()?;
    sources::open(config, data_home, reporter)
}

/// [`open()`], but with noise in place of the generated scenes where these are not there yet: for measuring, without
/// writing anything.
///
/// # Errors
/// As those of [`open()`].
pub fn open_or_stand_in(
    config: &DataConfig,
    data_home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Dataset> {
    let directory = config.directory.clone().unwrap_or_else(|| data_home.join("scenes"));
    if config.kind != DataKind::Scenes || cifar::find_folder(&directory).is_ok() {
        return open(config, data_home, reporter);
    }
    let count = scenes::TRAIN_IMAGES.min(config.train_images.unwrap_or(usize::MAX));
    let mut pixels = vec![0; count * cifar::IMAGE];
    generator(SCENES_SEED, Purpose::Scenes, 0, 0).fill_bytes(&mut pixels);
    let train = Images {
        pixels: pixels.into(),
        labels: (0..count).map(|index| (index % cifar::CLASSES) as u8).collect(),
        height: cifar::SIDE,
        width: cifar::SIDE,
    };
    let name = "noise in place of the generated scenes, which are not there yet";
    let class_names = cifar::class_names(&directory)?;
    Ok(Dataset::of_files(name.into(), String::new(), class_names, directory, train, Test::Cifar10))
}

impl Dataset {
    /// A data set whose images all have labels and are all readable.
    fn of_files(
        name: String,
        fingerprint: String,
        class_names: Vec<String>,
        directory: PathBuf,
        train: Images,
        test: Test,
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
            pool: train.clone(),
            train,
            unlabeled,
            test,
        }
    }

    /// For tests: images of one class, in no file.
    #[cfg(test)]
    pub(crate) fn made_up(train: Images) -> Self {
        let classes = vec!["one".to_owned()];
        Self::of_files("made up".into(), "f".repeat(64), classes, PathBuf::new(), train, Test::Cifar10)
    }

    /// Number of test images, by the size of their file where they have one, which stays closed.
    pub fn test_count(&self) -> usize {
        let (name, record) = match &self.test {
            Test::Cifar10 => (cifar::TEST_FILE, cifar::RECORD),
            Test::Cifar100(_) => (cifar100::TEST_FILE, cifar100::RECORD),
            Test::Folder(images) => return images.as_ref().map_or(0, Images::len),
        };
        let file = std::fs::metadata(self.directory.join(name));
        file.map_or(scenes::TEST_IMAGES, |file| file.len() as usize / record)
    }

    /// Height, width and channels of an image.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.pool.height, self.pool.width, CHANNELS]
    }

    /// Number of images without labels, which only pretraining uses.
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
            Test::Cifar10 => sources::open_cifar10_test(&self.directory, &self.name),
            Test::Cifar100(labels) => {
                Ok(cifar100::load(&self.directory, cifar100::TEST_FILE, *labels, None)?.0)
            }
            Test::Folder(Some(images)) => Ok(images.clone()),
            Test::Folder(None) => Err(self.no_labels()),
        }
    }

    /// The images to pretrain on, labels or not: all there are, and which of them are trained on and held out.
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
        labeled_split(&self.train.labels, self.class_names.len(), config, seed)
    }

    /// # Errors
    /// [`Error::Data`] if there are no labels to train or test a classifier with.
    pub fn refuse_no_labels(&self) -> Result<()> {
        if self.train.is_empty() { Err(self.no_labels()) } else { Ok(()) }
    }

    fn no_labels(&self) -> Error {
        Error::data(
            &self.directory,
            "holds no images with labels, only `rotnet pretrain` can use it",
            "put images with labels into train/CLASS/, and those without into unlabeled/",
        )
    }
}
