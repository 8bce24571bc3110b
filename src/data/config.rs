//! Section `data` of the config.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Which data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Files in CIFAR-10's binary layout, which must be there (`rotnet data fetch`).
    #[default]
    Cifar10,
    /// The generated scenes, which are written first where they are not there yet.
    Scenes,
}

/// Section `data`: which images, how many, and how they are scaled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// `cifar10` (files in CIFAR-10's binary layout) or `scenes` (generated where they are not there yet).
    pub kind: DataKind,
    /// The folder that holds `cifar-10-batches-bin`, or that folder itself; absent or null: the data folder of the
    /// program for `cifar10`, `scenes` in it for `scenes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Use only so many training images, the first ones; absent or null: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_images: Option<usize>,
    /// Show the classifier only so many labels of each class, drawn by the seed; absent or null: all. Pretraining
    /// needs no labels and uses all training images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_per_class: Option<usize>,
    /// Which draw of those labels: every number is another one, of the same seed; 0 is the first.
    #[serde(skip_serializing_if = "is_zero")]
    pub label_draw: u64,
    /// Hold out so many training images for validation, drawn by the seed with every class in its share; 0: none.
    pub validation_images: usize,
    /// Divide pixels (0 to 255) by 255. The original Keras program does not.
    pub scale_pixels: bool,
    /// Take off the mean of each channel and divide by its standard deviation, both over the images trained on. Then
    /// `scale_pixels` makes no difference.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub normalise: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Default for DataConfig {
    /// The original Keras program's: all of CIFAR-10, no validation, raw pixels.
    fn default() -> Self {
        Self {
            kind: DataKind::default(),
            directory: None,
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
    /// Checks what can be checked without the files.
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
        assert!(DataConfig::default().validate().is_ok());
        assert!(serde_json::from_str::<DataConfig>(r#"{"train_image": 1}"#).is_err());
    }
}
