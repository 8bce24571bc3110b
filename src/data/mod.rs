//! The data set: images and labels from files, its splits, and the samples made from it.
//!
//! [`open`] is the one way to the images: it finds the folder (and generates the scenes where they are wanted
//! and not there yet), checks every training file, and says which data set they are. The test file stays closed
//! until [`Dataset::open_test`].

mod augment;
mod batch;
mod cifar;
mod config;
mod describe;
mod digests;
mod download;
mod fetch;
mod images;
mod pixels;
mod resize;
mod rotation;
mod scenes;
mod split;
mod staging;
mod unpack;

use std::path::{Path, PathBuf};

use rand::Rng;

use crate::error::{Error, Result};
use crate::progress::{Event, Reporter};
use crate::random::{Purpose, generator};

pub use augment::{AugmentConfig, Flip, Padding};
pub use batch::{PlainImages, RotatedImages, Rotations};
pub use config::{DataConfig, DataKind};
pub use describe::{DatasetInfo, FileReport, PartInfo, VerifyReport, info, verify};
pub use digests::Known;
pub use fetch::{FetchReport, FetchRequest, fetch};
pub use images::{CHANNELS, Images};
pub use pixels::{PixelTable, Pixels};
pub use rotation::{Rotation, rotate, write_rotated};
pub use scenes::{SCENES_SEED, SCENES_VERSION, SynthReport, generate};
pub use split::{Split, labeled_split, split};
#[cfg(test)]
pub(crate) use unpack::tests::good_archive as unpack_seed;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {cifar::RECORD, cifar::TEST_FILE, cifar::load_test, unpack::unpack};

use digests::{DatasetRecord, Origin};

/// A data set with its training images in memory.
pub struct Dataset {
    /// Which data set this is, for every place where a number from it is shown.
    pub name: String,
    /// SHA-256 over the SHA-256 of the training files in order, in lower-case hexadecimal.
    pub fingerprint: String,
    /// By label.
    pub class_names: Vec<String>,
    /// The folder of the files.
    pub directory: PathBuf,
    /// The training images, validation images included.
    pub train: Images,
}

/// Opens the data set that the config names; `data_home` is where data sets lie unless it says otherwise.
///
/// # Errors
/// [`Error::Data`] for files that are missing, damaged or changed; [`Error::Config`] if they are too few;
/// [`Error::Io`].
pub fn open(config: &DataConfig, data_home: &Path, reporter: &mut dyn Reporter) -> Result<Dataset> {
    config.validate()?;
    let directory = match config.kind {
        DataKind::Cifar10 => cifar::find_folder(config.directory.as_deref().unwrap_or(data_home))?,
        DataKind::Scenes => find_or_generate(config.directory.as_deref(), data_home, reporter)?,
    };
    let (train, files) = cifar::load_train(&directory, config.train_images)?;
    Ok(Dataset {
        name: digests::identify(&directory, &files)?,
        fingerprint: digests::fingerprint(&files),
        class_names: cifar::class_names(&directory)?,
        directory,
        train,
    })
}

/// [`open`], but with noise in place of the generated scenes where these are not there yet: for measuring, without
/// writing anything.
///
/// # Errors
/// As those of [`open`].
pub fn open_or_stand_in(
    config: &DataConfig,
    data_home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Dataset> {
    let directory = config.directory.clone().unwrap_or_else(|| data_home.join("scenes"));
    if config.kind == DataKind::Cifar10 || cifar::find_folder(&directory).is_ok() {
        return open(config, data_home, reporter);
    }
    let count = scenes::TRAIN_IMAGES.min(config.train_images.unwrap_or(usize::MAX));
    let mut pixels = vec![0; count * cifar::IMAGE];
    generator(SCENES_SEED, Purpose::Scenes, 0, 0).fill_bytes(&mut pixels);
    Ok(Dataset {
        name: "noise in place of the generated scenes, which are not there yet".into(),
        fingerprint: String::new(),
        class_names: cifar::class_names(&directory)?,
        directory,
        train: Images {
            pixels,
            labels: (0..count).map(|index| (index % cifar::CLASSES) as u8).collect(),
            height: cifar::SIDE,
            width: cifar::SIDE,
        },
    })
}

impl Dataset {
    /// Number of test images, by the size of their file, which stays closed.
    pub fn test_count(&self) -> usize {
        let file = std::fs::metadata(self.directory.join(cifar::TEST_FILE));
        file.map_or(scenes::TEST_IMAGES, |file| file.len() as usize / cifar::RECORD)
    }

    /// Height, width and channels of an image.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.train.height, self.train.width, CHANNELS]
    }

    /// Loads the test images.
    ///
    /// # Errors
    /// [`Error::Data`] if the file is missing, damaged, or not of the data set that the training files are.
    pub fn open_test(&self) -> Result<Images> {
        let (images, facts) = cifar::load_test(&self.directory)?;
        let name = digests::identify(&self.directory, std::slice::from_ref(&facts))?;
        if name != self.name {
            return Err(Error::data(
                self.directory.join(&facts.name),
                format!("is of another data set ({name}) than the training files ({})", self.name),
                "put the files of one data set into the folder",
            ));
        }
        Ok(images)
    }

    /// [`split`] of the training images.
    pub fn split(&self, config: &DataConfig, seed: u64) -> Result<Split> {
        split(&self.train.labels, self.class_names.len(), config, seed)
    }

    /// [`labeled_split`] of the training images.
    pub fn labeled_split(&self, config: &DataConfig, seed: u64) -> Result<Split> {
        labeled_split(&self.train.labels, self.class_names.len(), config, seed)
    }
}

/// The folder of generated scenes; writes them where there is no data set yet.
fn find_or_generate(
    directory: Option<&Path>,
    data_home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<PathBuf> {
    let directory = directory.map_or_else(|| data_home.join("scenes"), Path::to_path_buf);
    let Ok(folder) = cifar::find_folder(&directory) else {
        return match generate(&directory, SCENES_SEED, false, reporter) {
            // Another process was faster.
            Ok(_) | Err(Error::OutputExists { .. }) => cifar::find_folder(&directory),
            Err(error) => Err(error),
        };
    };
    match DatasetRecord::read(&folder)?.map(|record| record.origin) {
        Some(Origin::Scenes { version, .. }) => {
            if version != SCENES_VERSION {
                reporter.report(Event::Warning(&format!(
                    "the scenes in {} are of version {version} of the generator, this program's is \
                     {SCENES_VERSION}; `rotnet data synth --force` writes them anew",
                    folder.display()
                )));
            }
            Ok(folder)
        }
        _ => Err(Error::data(
            folder,
            "holds another data set than the generated scenes",
            "set data.kind=cifar10 (--set data.kind=cifar10, or --config with a CIFAR-10 config), or name \
             another folder with --data",
        )),
    }
}
