//! The files of a directory of features, and their origin.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{read_json, write_json};
use crate::model::FeatureMap;
use crate::store::checkpoint::DatasetLabel;

/// Where a set of features comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// SHA-256 of the checkpoint file.
    pub checkpoint: String,
    /// The data set encoded.
    pub dataset: DatasetLabel,
    /// The layer that they are the output of.
    pub layer: String,
}

/// The file `manifest.json` beside the features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Their origin.
    pub origin: Origin,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// The shape of the features as a map; absent if they are not one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<FeatureMap>,
    /// Shape of the training features: images, features per image.
    pub train: [usize; 2],
    /// Shape of the test features.
    pub test: [usize; 2],
    /// SHA-256 of `train.safetensors`.
    pub train_digest: String,
    /// SHA-256 of `test.safetensors`.
    pub test_digest: String,
}

/// The files of a directory of features.
pub struct FeatureFiles {
    directory: PathBuf,
}

impl FeatureFiles {
    /// The files in `directory`, existing or not.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf() }
    }

    /// Training features.
    pub fn train(&self) -> PathBuf {
        self.directory.join("train.safetensors")
    }

    /// Test features.
    pub fn test(&self) -> PathBuf {
        self.directory.join("test.safetensors")
    }

    /// The manifest, which is written last: if it exists, the features are complete.
    pub fn manifest(&self) -> PathBuf {
        self.directory.join("manifest.json")
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is missing or damaged.
    pub fn read_manifest(&self) -> Result<Manifest> {
        if !self.manifest().exists() {
            return Err(Error::checkpoint(
                &self.directory,
                "holds no features",
                "run `rotnet extract` first, or name another folder of features",
            ));
        }
        read_json(&self.manifest())
    }

    /// Writes the manifest.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        write_json(&self.manifest(), manifest)
    }
}
