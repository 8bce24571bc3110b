//! What a data set holds, and whether its files are what they should be.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cifar::{self, FileFacts, TEST_FILE, TRAIN_FILES};
use super::digests::{self, DatasetRecord, Known};
use super::images::{CHANNELS, Images};
use crate::error::Result;

/// What `rotnet data info` shows.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetInfo {
    /// Which data set this is.
    pub name: String,
    /// SHA-256 over the SHA-256 of the training files.
    pub fingerprint: String,
    /// The folder of the files.
    pub directory: PathBuf,
    /// Height, width and channels of an image.
    pub image_shape: [usize; 3],
    /// By label.
    pub classes: Vec<String>,
    /// The training images.
    pub train: PartInfo,
    /// The test images, which are counted and not looked at.
    pub test: PartInfo,
    /// Mean of the training pixels by channel (red, green, blue), black 0 and white 1.
    pub mean: [f64; CHANNELS],
    /// Standard deviation of the training pixels by channel, over all images and places.
    pub deviation: [f64; CHANNELS],
}

/// Counts of a part of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartInfo {
    /// Images in it.
    pub images: usize,
    /// Images of each class, by label.
    pub per_class: Vec<usize>,
}

/// What `rotnet data verify` shows.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyReport {
    /// Whether every file is there, whole, and as it was recorded.
    pub ok: bool,
    /// Which data set this is; absent unless `ok`.
    pub name: Option<String>,
    /// The folder of the files.
    pub directory: PathBuf,
    /// The files, training files first.
    pub files: Vec<FileReport>,
    /// Test images that are also among the training images, byte for byte; absent unless `ok`.
    pub test_images_in_train: Option<usize>,
}

/// What was found of one file.
#[derive(Clone, Debug, Serialize)]
pub struct FileReport {
    /// Its name in the folder.
    pub name: String,
    /// Size, images and digest; absent if the file is missing or damaged.
    pub facts: Option<FileFacts>,
    /// What is known of it; absent if the file is missing or damaged.
    pub known: Option<Known>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Describes the data set in `path` (the folder that holds `cifar-10-batches-bin`, or that folder itself).
///
/// # Errors
/// [`crate::Error::Data`] for files that are missing, damaged or changed; [`crate::Error::Io`].
pub fn info(path: &Path) -> Result<DatasetInfo> {
    let directory = cifar::find_folder(path)?;
    let (train, mut files) = cifar::load_train(&directory, None)?;
    let fingerprint = digests::fingerprint(&files);
    let (test, test_file) = cifar::load_test(&directory)?;
    files.push(test_file);
    let [mean, deviation] = moments(&train);
    Ok(DatasetInfo {
        name: digests::identify(&directory, &files)?,
        fingerprint,
        classes: cifar::class_names(&directory)?,
        directory,
        image_shape: [train.height, train.width, CHANNELS],
        train: part(&train),
        test: part(&test),
        mean,
        deviation,
    })
}

/// Checks the files in `path`, and counts test images that are among the training images.
///
/// # Errors
/// [`crate::Error::Data`] if there is no data set at all, or its record is damaged; [`crate::Error::Io`]. What is
/// wrong with single files is in the report.
pub fn verify(path: &Path) -> Result<VerifyReport> {
    let directory = cifar::find_folder(path)?;
    let record = DatasetRecord::read(&directory)?;
    let names = TRAIN_FILES.into_iter().chain([TEST_FILE]);
    let files: Vec<FileReport> =
        names.map(|name| report(record.as_ref(), name, cifar::check_file(&directory, name))).collect();
    let ok = files.iter().all(|file| file.problem.is_none());
    let mut name = None;
    let mut test_images_in_train = None;
    if ok {
        let facts: Vec<FileFacts> = files.iter().filter_map(|file| file.facts.clone()).collect();
        name = Some(digests::identify(&directory, &facts)?);
        let (train, _) = cifar::load_train(&directory, None)?;
        let (test, _) = cifar::load_test(&directory)?;
        test_images_in_train = Some(shared(&train, &test));
    }
    Ok(VerifyReport { ok, name, directory, files, test_images_in_train })
}

fn report(record: Option<&DatasetRecord>, name: &str, checked: Result<FileFacts>) -> FileReport {
    let (facts, known, problem) = match checked {
        Ok(facts) => match digests::compare(record, &facts) {
            Known::Changed => {
                (Some(facts), Some(Known::Changed), Some("differs from what was recorded".into()))
            }
            known => (Some(facts), Some(known), None),
        },
        Err(error) => (None, None, Some(error.to_string())),
    };
    FileReport { name: name.to_owned(), facts, known, problem }
}

/// How many of the test images are also training images, byte for byte.
fn shared(train: &Images, test: &Images) -> usize {
    let test_images: HashSet<&[u8]> = (0..test.len()).map(|index| test.image(index)).collect();
    let train_images = (0..train.len()).map(|index| train.image(index));
    let found: HashSet<&[u8]> = train_images.filter(|image| test_images.contains(image)).collect();
    (0..test.len()).filter(|&index| found.contains(test.image(index))).count()
}

fn part(images: &Images) -> PartInfo {
    let mut per_class = vec![0; cifar::CLASSES];
    for &label in &images.labels {
        per_class[usize::from(label)] += 1;
    }
    PartInfo { images: images.len(), per_class }
}

/// Mean and standard deviation by channel, from exact integer sums.
fn moments(images: &Images) -> [[f64; CHANNELS]; 2] {
    let mut sums = [[0_u64; CHANNELS]; 2];
    for pixel in images.pixels.chunks_exact(CHANNELS) {
        for (channel, &byte) in pixel.iter().enumerate() {
            sums[0][channel] += u64::from(byte);
            sums[1][channel] += u64::from(byte) * u64::from(byte);
        }
    }
    let count = (images.pixels.len() / CHANNELS).max(1) as f64;
    let mean = sums[0].map(|sum| sum as f64 / count);
    let deviation = std::array::from_fn(|channel| {
        (sums[1][channel] as f64 / count - mean[channel] * mean[channel]).sqrt() / 255.0
    });
    [mean.map(|mean| mean / 255.0), deviation]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{SCENES_SEED, generate};
    use crate::progress::Silent;

    #[test]
    fn moments_are_those_of_the_pixels() {
        let images = Images { pixels: vec![0, 255, 51, 255, 255, 153], labels: vec![0], height: 1, width: 2 };
        let [mean, deviation] = moments(&images);
        assert_eq!(mean, [0.5, 1.0, 0.4]);
        assert_eq!(deviation, [0.5, 0.0, 0.2]);
    }

    #[test]
    fn generated_scenes_are_balanced_whole_and_new_in_the_test_set() {
        let home = tempfile::tempdir().unwrap();
        let folder = generate(home.path(), SCENES_SEED, false, &mut Silent).unwrap().directory;
        let info = info(home.path()).unwrap();
        assert_eq!((info.train.per_class, info.test.per_class), (vec![500; 10], vec![100; 10]));
        let report = verify(home.path()).unwrap();
        assert!(report.ok && report.files.iter().all(|file| file.known == Some(Known::Recorded)));
        assert_eq!(report.test_images_in_train, Some(0));

        let train = folder.join(TRAIN_FILES[1]);
        std::fs::copy(folder.join(TEST_FILE), &train).unwrap();
        let changed = verify(home.path()).unwrap();
        assert!(!changed.ok && changed.files[1].known == Some(Known::Changed));
        std::fs::remove_file(folder.join(digests::RECORD_FILE)).unwrap();
        let copied = verify(home.path()).unwrap();
        assert_eq!((copied.ok, copied.test_images_in_train), (true, Some(1_000)));
        std::fs::write(&train, [0; 5]).unwrap();
        let cut = verify(home.path()).unwrap();
        assert!(!cut.ok && cut.files[1].problem.as_ref().unwrap().contains("5 bytes"));
    }
}
