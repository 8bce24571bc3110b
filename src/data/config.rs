//! Section `data` of the config.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which kind of data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Files in CIFAR-10's binary layout (`rotnet data fetch` downloads them).
    #[default]
    Cifar10,
    /// Files in CIFAR-100's binary layout.
    Cifar100,
    /// The generated scenes, which are written when they are first needed.
    Scenes,
    /// A folder of image files: `train/CLASS/`, `test/CLASS/` and `unlabeled/`, or images without classes.
    Folder,
}

impl DataKind {
    /// Its name in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cifar10 => "cifar10",
            Self::Cifar100 => "cifar100",
            Self::Scenes => "scenes",
            Self::Folder => "folder",
        }
    }
}

/// Section `data`: which images, how many, and how they are scaled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `cifar10` or `cifar100` (files in their binary layouts), `scenes` (generated when they are first needed) or
    /// `folder` (image files).
    pub kind: DataKind,
    /// Folder of the data set; for CIFAR's binary files also the folder that holds it (`cifar-10-batches-bin`,
    /// `cifar-100-binary`). Absent or null: the program's data folder, or `scenes` in it for kind `scenes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// For `cifar100`: use its 20 coarse classes in place of the 100 fine ones.
    #[serde(skip_serializing_if = "is_false")]
    pub coarse_labels: bool,
    /// For `folder`: height and width that the middle square of an image is resized to.
    #[serde(skip_serializing_if = "is_default_size")]
    #[schemars(range(min = *SIZES.start(), max = *SIZES.end()), extend("default" = DEFAULT_SIZE))]
    pub image_size: usize,
    /// For `folder`: a table of the images' classes (`file,label`), used instead of the names of subfolders. Absent or
    /// null: `labels.csv` in the folder, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// For `folder`: stop at the first image file that cannot be read. Otherwise such files are named and skipped.
    #[serde(skip_serializing_if = "is_false")]
    pub strict: bool,
    /// For `folder`: folder for the cache of decoded images. Absent or null: `cache` in the program's data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Use at most this many training images (the first ones), and at most this many unlabeled ones. Absent or null:
    /// all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub train_images: Option<usize>,
    /// Train the classifier on only this many labels per class, drawn by the seed. Absent or null: all. Pretraining
    /// needs no labels and always uses all training images.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub labels_per_class: Option<usize>,
    /// Which random draw of those labels to use: each number gives a different draw for the same seed.
    #[serde(skip_serializing_if = "is_zero")]
    pub label_draw: u64,
    /// Number of training images to hold out for validation, drawn by the seed, the same share of each class. 0: none.
    pub validation_images: usize,
    /// Divide pixels (0 to 255) by 255. The original Keras program does not.
    pub scale_pixels: bool,
    /// Standardise each colour channel: subtract its mean over the training images, divide by its standard deviation.
    /// `scale_pixels` then makes no difference.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub normalise: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Rows and columns of CIFAR's images, for which the recipes are made.
const DEFAULT_SIZE: usize = 32;
/// Sides of images that the networks are built for.
const SIZES: RangeInclusive<usize> = 32..=256;

fn is_false(yes: &bool) -> bool {
    !yes
}

fn is_default_size(size: &usize) -> bool {
    *size == DEFAULT_SIZE
}

impl Default for DataConfig {
    /// The original Keras program's: all of CIFAR-10, no validation, raw pixels.
    fn default() -> Self {
        Self {
            kind: DataKind::default(),
            directory: None,
            coarse_labels: false,
            image_size: DEFAULT_SIZE,
            labels: None,
            strict: false,
            cache: None,
            train_images: None,
            labels_per_class: None,
            label_draw: 0,
            validation_images: 0,
            scale_pixels: false,
            normalise: false,
        }
    }
}

impl DataConfig {
    /// The part that decides what is learned from the files: without folders, and without what ends a run early.
    pub fn recipe(&self) -> Self {
        Self { directory: None, labels: None, cache: None, strict: false, ..self.clone() }
    }

    /// The part that decides which images are used, and in what size.
    pub fn images(&self) -> impl PartialEq + use<> {
        (self.kind, self.coarse_labels, self.image_size, self.train_images)
    }

    /// Checks what can be checked without reading the files.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key.
    pub fn validate(&self) -> Result<()> {
        let counts =
            [("data.train_images", self.train_images), ("data.labels_per_class", self.labels_per_class)];
        for (path, count) in counts {
            if count == Some(0) {
                return Err(Error::config(path, "must be at least 1, got 0"));
            }
        }
        if !SIZES.contains(&self.image_size) {
            let problem = format!("must be {} to {}, got {}", SIZES.start(), SIZES.end(), self.image_size);
            return Err(Error::config("data.image_size", problem));
        }
        let belongs = [
            ("data.image_size", is_default_size(&self.image_size), DataKind::Folder),
            ("data.labels", self.labels.is_none(), DataKind::Folder),
            ("data.strict", !self.strict, DataKind::Folder),
            ("data.coarse_labels", !self.coarse_labels, DataKind::Cifar100),
        ];
        for (path, absent, kind) in belongs {
            if !absent && self.kind != kind {
                return Err(Error::config(path, format!("goes with data.kind `{}` only", kind.name())));
            }
        }
        match self.train_images {
            Some(train) if self.validation_images >= train => Err(Error::config(
                "data.validation_images",
                format!("must be less than data.train_images ({train}), got {}", self.validation_images),
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_zero_and_a_validation_split_that_takes_all_are_refused() {
        let problem = |text| {
            let config: DataConfig = serde_json::from_str(text).unwrap();
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(problem(r#"{"train_images": 0}"#), "data.train_images: must be at least 1, got 0");
        assert_eq!(problem(r#"{"labels_per_class": 0}"#), "data.labels_per_class: must be at least 1, got 0");
        assert_eq!(
            problem(r#"{"train_images": 9, "validation_images": 9}"#),
            "data.validation_images: must be less than data.train_images (9), got 9"
        );
        assert_eq!(problem(r#"{"image_size": 8}"#), "data.image_size: must be 32 to 256, got 8");
        let other_kind = problem(r#"{"image_size": 48}"#);
        assert_eq!(other_kind, "data.image_size: goes with data.kind `folder` only");
        assert!(DataConfig::default().validate().is_ok());
        assert!(serde_json::from_str::<DataConfig>(r#"{"train_image": 1}"#).is_err());
    }
}
