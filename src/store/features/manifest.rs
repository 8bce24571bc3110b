//! The files of a directory of features, and where they come from.

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
    /// The layer whose output they are.
    pub layer: String,
}

/// The file `manifest.json` beside the features.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where they come from.
    pub origin: Origin,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// The map that the features of an image are; absent where they are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<FeatureMap>,
    /// Shape of the training features: images, numbers an image.
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
    /// The files in `directory`, whether they are there or not.
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

    /// The manifest, which is written last: where it is, the features are whole.
    pub fn manifest(&self) -> PathBuf {
        self.directory.join("manifest.json")
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there is none or it is damaged.
    pub fn read_manifest(&self) -> Result<Manifest> {
        if !self.manifest().exists() {
            return Err(Error::checkpoint(
                &self.directory,
                "holds no features",
                "run `rotnet extract` first, or name them with --features",
            ));
        }
        read_json(&self.manifest())
    }

    /// Writes the manifest.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        write_json(&self.manifest(), manifest)
    }
}
