//! What a data set holds, and whether its files are what they should be.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::cifar::{self, FileFacts, TEST_FILE, TRAIN_FILES};
use super::digests::{self, DatasetRecord, Known};
use super::folder::{self, Skipped};
use super::images::{CHANNELS, Images};
use super::sources::{cifar100_name, detect};
use super::{DataConfig, DataKind, cifar100};
use crate::error::Result;
use crate::progress::Reporter;

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
    /// By label; none in a folder without classes.
    pub classes: Vec<String>,
    /// The training images with labels.
    pub train: PartInfo,
    /// Training images without labels.
    pub unlabeled: usize,
    /// The test images, which are counted and not looked at.
    pub test: PartInfo,
    /// Image files that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
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
    /// Which data set this is; absent where it is too damaged to tell.
    pub name: Option<String>,
    /// The folder of the files.
    pub directory: PathBuf,
    /// Number of files read.
    pub checked: usize,
    /// The files, training files first; of a folder of images those alone that cannot be read.
    pub files: Vec<FileReport>,
    /// Test images that are also among the training images, byte for byte; absent where that was not counted.
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

/// Describes the data set in `path` (the folder that holds `cifar-10-batches-bin` or the like, or that folder
/// itself, or a folder of images); `data_home` is where decoded images are kept.
///
/// # Errors
/// [`crate::Error::Data`] for files that are missing, damaged or changed; [`crate::Error::Io`].
pub fn info(path: &Path, data_home: &Path, reporter: &mut dyn Reporter) -> Result<DatasetInfo> {
    let dataset = super::open(&found(path), data_home, reporter)?;
    let classes = dataset.class_names.len();
    let test = if dataset.train.is_empty() { Images::default() } else { dataset.open_test()? };
    let [mean, deviation] = moments(&dataset.pool);
    Ok(DatasetInfo {
        image_shape: dataset.image_shape(),
        train: part(&dataset.train, classes),
        unlabeled: dataset.unlabeled(),
        test: part(&test, classes),
        mean,
        deviation,
        name: dataset.name,
        fingerprint: dataset.fingerprint,
        classes: dataset.class_names,
        directory: dataset.directory,
        skipped: dataset.skipped,
    })
}

/// The config of the data set in a folder, whatever kind it is.
pub(super) fn found(path: &Path) -> DataConfig {
    let kind = detect(path).unwrap_or_default();
    DataConfig { kind, directory: Some(path.to_path_buf()), ..DataConfig::default() }
}

/// Checks the files in `path`, and counts test images that are among the training images.
///
/// # Errors
/// [`crate::Error::Data`] if there is no data set at all, or its record is damaged; [`crate::Error::Io`]. What is
/// wrong with single files is in the report.
pub fn verify(path: &Path, data_home: &Path, reporter: &mut dyn Reporter) -> Result<VerifyReport> {
    let mut report = match detect(path) {
        Some(DataKind::Folder) => verify_folder(path, reporter)?,
        Some(DataKind::Cifar100) => verify_cifar100(path)?,
        _ => verify_cifar10(path)?,
    };
    let folder = matches!(detect(path), Some(DataKind::Folder));
    if report.ok || folder && report.files.len() < report.checked {
        let dataset = super::open(&found(path), data_home, reporter)?;
        if !dataset.train.is_empty() {
            report.test_images_in_train = Some(shared(&dataset.pool, &dataset.open_test()?));
        }
        report.name = report.name.or(Some(dataset.name));
    }
    Ok(report)
}

fn verify_cifar10(path: &Path) -> Result<VerifyReport> {
    let directory = cifar::find_folder(path)?;
    let record = DatasetRecord::read(&directory)?;
    let names = TRAIN_FILES.into_iter().chain([TEST_FILE]);
    let files: Vec<FileReport> =
        names.map(|name| report(record.as_ref(), name, cifar::check_file(&directory, name))).collect();
    let mut verified = VerifyReport::of(directory, files);
    if verified.ok {
        let facts: Vec<FileFacts> = verified.files.iter().filter_map(|file| file.facts.clone()).collect();
        verified.name = Some(digests::identify(&verified.directory, &facts)?);
    }
    Ok(verified)
}

fn verify_cifar100(path: &Path) -> Result<VerifyReport> {
    let directory = cifar100::find_folder(path)?;
    let names = [cifar100::TRAIN_FILE, cifar100::TEST_FILE];
    let files = names.map(|name| report(None, name, cifar100::check_file(&directory, name)));
    let mut verified = VerifyReport::of(directory, files.into());
    verified.name = verified.ok.then(|| cifar100_name(cifar100::Labels::Fine));
    Ok(verified)
}

fn verify_folder(path: &Path, reporter: &mut dyn Reporter) -> Result<VerifyReport> {
    let found = folder::check(path, reporter)?;
    let broken = found.broken.into_iter().map(|file| FileReport {
        name: file.name,
        facts: None,
        known: None,
        problem: Some(file.problem),
    });
    Ok(VerifyReport { checked: found.files, ..VerifyReport::of(path.to_path_buf(), broken.collect()) })
}

impl VerifyReport {
    fn of(directory: PathBuf, files: Vec<FileReport>) -> Self {
        let ok = files.iter().all(|file| file.problem.is_none());
        Self { ok, name: None, directory, checked: files.len(), files, test_images_in_train: None }
    }
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

fn part(images: &Images, classes: usize) -> PartInfo {
    let mut per_class = vec![0; classes];
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
        let images =
            Images { pixels: vec![0, 255, 51, 255, 255, 153].into(), labels: vec![0], height: 1, width: 2 };
        let [mean, deviation] = moments(&images);
        assert_eq!(mean, [0.5, 1.0, 0.4]);
        assert_eq!(deviation, [0.5, 0.0, 0.2]);
    }

    #[test]
    fn generated_scenes_are_balanced_whole_and_new_in_the_test_set() {
        let home = tempfile::tempdir().unwrap();
        let folder = generate(home.path(), SCENES_SEED, false, &mut Silent).unwrap().directory;
        let info = info(home.path(), home.path(), &mut Silent).unwrap();
        assert_eq!((info.train.per_class, info.test.per_class), (vec![500; 10], vec![100; 10]));
        let report = verify(home.path(), home.path(), &mut Silent).unwrap();
        assert!(report.ok && report.files.iter().all(|file| file.known == Some(Known::Recorded)));
        assert_eq!(report.test_images_in_train, Some(0));

        let train = folder.join(TRAIN_FILES[1]);
        std::fs::copy(folder.join(TEST_FILE), &train).unwrap();
        let changed = verify(home.path(), home.path(), &mut Silent).unwrap();
        assert!(!changed.ok && changed.files[1].known == Some(Known::Changed));
        std::fs::remove_file(folder.join(digests::RECORD_FILE)).unwrap();
        let copied = verify(home.path(), home.path(), &mut Silent).unwrap();
        assert_eq!((copied.ok, copied.test_images_in_train), (true, Some(1_000)));
        std::fs::write(&train, [0; 5]).unwrap();
        let cut = verify(home.path(), home.path(), &mut Silent).unwrap();
        assert!(!cut.ok && cut.files[1].problem.as_ref().unwrap().contains("5 bytes"));
    }
}
