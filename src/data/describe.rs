//! What a data set holds, and whether its files are what they should be.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::config::DataConfig;
use super::dataset::{Dataset, Skipped};
use super::images::{CHANNELS, Images};
use super::kinds::{self, FileReport, Sizes, Verification};
use crate::error::Result;
use crate::progress::Reporter;

/// What `rotnet data info` shows.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetInfo {
    /// Which data set this is; absent if it is too damaged to tell.
    pub name: Option<String>,
    /// The folder of the files.
    pub directory: PathBuf,
    /// Whether every file is there, whole, and as it was recorded.
    pub ok: bool,
    /// Number of files read.
    pub checked: usize,
    /// The files, training files first; of a folder of images only those that cannot be read.
    pub files: Vec<FileReport>,
    /// Test images that are also among the training images, byte for byte; absent if there are none to compare.
    pub test_images_in_train: Option<usize>,
    /// What it holds; absent if it is too damaged to be opened.
    #[serde(flatten)]
    pub description: Option<Description>,
    /// How to mend a damaged file.
    #[serde(skip)]
    pub hint: &'static str,
}

/// What a data set holds.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// SHA-256 over the SHA-256 of the training files.
    pub fingerprint: String,
    /// Height, width and channels of an image, as it is described here.
    pub image_shape: [usize; 3],
    /// Of image files: how large they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_sizes: Option<Sizes>,
    /// By label; none in a folder without classes.
    pub classes: Vec<String>,
    /// The training images with labels.
    pub train: PartInfo,
    /// Number of training images without labels.
    pub unlabeled: usize,
    /// The test images.
    pub test: PartInfo,
    /// Image files that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
    /// Mean of the training pixels by channel (red, green, blue), with black 0 and white 1.
    pub mean: [f64; CHANNELS],
    /// Standard deviation of the training pixels by channel, over all images and places.
    pub deviation: [f64; CHANNELS],
}

/// Numbers of images in a part of a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartInfo {
    /// All of them.
    pub images: usize,
    /// Those of each class, by label.
    pub per_class: Vec<usize>,
}

/// Verifies and describes the data set in `path` (the folder that holds `cifar-10-batches-bin` or the like, or that
/// folder itself, or a folder of images); `data_home` is where decoded images are kept.
///
/// # Errors
/// [`crate::Error::Data`] if there is no data set at all, or its record is damaged; [`crate::Error::Stopped`];
/// [`crate::Error::Io`]. What is wrong with single files is part of the result.
pub fn info(path: &Path, data_home: &Path, reporter: &mut dyn Reporter) -> Result<DatasetInfo> {
    let config = found(path);
    let Verification { directory, checked, files, opens, sizes, hint } =
        kinds::verify(&config, data_home, reporter)?;
    let ok = files.iter().all(|file| file.problem.is_none());
    let mut info = DatasetInfo {
        name: None,
        directory,
        ok,
        checked,
        files,
        test_images_in_train: None,
        description: None,
        hint,
    };
    if opens {
        let dataset = kinds::open(&config, data_home, reporter)?;
        let test = if dataset.train.is_empty() { None } else { Some(dataset.open_test()?) };
        info.test_images_in_train = test.as_ref().map(|test| shared(&dataset.pool, test));
        info.name = Some(dataset.name.clone());
        info.description = Some(describe(dataset, &test.unwrap_or_default(), sizes));
    }
    Ok(info)
}

/// The config of the data set in a folder, whatever its kind.
pub(super) fn found(path: &Path) -> DataConfig {
    let kind = kinds::detect(path).unwrap_or_default();
    DataConfig { kind, directory: Some(path.to_path_buf()), ..DataConfig::default() }
}

fn describe(dataset: Dataset, test: &Images, file_sizes: Option<Sizes>) -> Description {
    let classes = dataset.class_names.len();
    let [mean, deviation] = moments(&dataset.pool);
    Description {
        image_shape: dataset.image_shape(),
        file_sizes,
        train: part(&dataset.train, classes),
        unlabeled: dataset.unlabeled(),
        test: part(test, classes),
        mean,
        deviation,
        fingerprint: dataset.fingerprint,
        classes: dataset.class_names,
        skipped: dataset.skipped,
    }
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

/// Mean and standard deviation of each channel, from exact integer sums.
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
    use crate::data::kinds::{Known, RECORD_FILE, TEST_FILE, TRAIN_FILES};
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
        let look = || info(home.path(), home.path(), &mut Silent).unwrap();
        let found = look();
        let holds = found.description.unwrap();
        assert_eq!((holds.train.per_class, holds.test.per_class), (vec![500; 10], vec![100; 10]));
        assert!(found.ok && found.files.iter().all(|file| file.known == Some(Known::Recorded)));
        assert_eq!(found.test_images_in_train, Some(0));

        let train = folder.join(TRAIN_FILES[1]);
        std::fs::copy(folder.join(TEST_FILE), &train).unwrap();
        let changed = look();
        assert!(!changed.ok && changed.files[1].known == Some(Known::Changed));
        assert!(changed.name.is_none() && changed.description.is_none());
        std::fs::remove_file(folder.join(RECORD_FILE)).unwrap();
        let copied = look();
        assert_eq!((copied.ok, copied.test_images_in_train), (true, Some(1_000)));
        std::fs::write(&train, [0; 5]).unwrap();
        let cut = look();
        assert!(!cut.ok && cut.files[1].problem.as_ref().unwrap().contains("5 bytes"));
    }
}
