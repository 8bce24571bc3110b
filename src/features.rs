//! Feature files: what `extract` hands to `finetune`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};

use crate::checkpoint::DatasetLabel;
use crate::error::{Error, Result};
use crate::files::{read_json, write_json};
use crate::model::{FeatureMap, FeatureMoments, Parameters};
use crate::samples::Samples;
use crate::tensor_file::{self, Format};

const FORMAT: Format = Format { name: "rotnet-features", version: 2, hint: "run `rotnet extract` again" };

/// Stands between the names of images: no name of a file holds one.
const SEPARATOR: &str = "\0";

/// Features and labels of a set of images, in the order of the images.
pub struct Features {
    values: Vec<f32>,
    labels: Vec<u8>,
    names: Vec<String>,
    width: usize,
}

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

impl Features {
    /// `values` holds `width` numbers for each label.
    pub fn new(values: Vec<f32>, labels: Vec<u8>, width: usize) -> Self {
        debug_assert_eq!(values.len(), labels.len() * width);
        Self { values, labels, names: Vec::new(), width }
    }

    /// With the name of each image; none where the number of an image is all there is.
    pub fn with_names(self, names: &[String]) -> Self {
        debug_assert!(names.is_empty() || names.len() == self.labels.len());
        Self { names: names.to_vec(), ..self }
    }

    /// Images, and numbers an image.
    pub fn shape(&self) -> [usize; 2] {
        [self.labels.len(), self.width]
    }

    /// Labels in the order of the images.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Names in the order of the images; none where they have none.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The features of some of the images.
    pub fn subset(&self, indices: &[u32]) -> Self {
        let rows = indices.iter().flat_map(|&index| self.row(index as usize));
        Self {
            values: rows.copied().collect(),
            labels: indices.iter().map(|&index| self.labels[index as usize]).collect(),
            names: indices.iter().filter_map(|&index| self.names.get(index as usize).cloned()).collect(),
            width: self.width,
        }
    }

    /// All numbers, `[images, width]`, row by row.
    pub fn numbers(&self) -> &[f32] {
        &self.values
    }

    /// Some of the columns, in the order of the ranges.
    pub fn columns(&self, ranges: &[Range<usize>]) -> Self {
        let rows = self.values.chunks_exact(self.width);
        let parts = rows.flat_map(|row| ranges.iter().flat_map(|range| &row[range.clone()]));
        Self {
            values: parts.copied().collect(),
            labels: self.labels.clone(),
            names: self.names.clone(),
            width: ranges.iter().map(Range::len).sum(),
        }
    }

    /// Mean and standard deviation of each feature over the images.
    pub fn moments(&self) -> FeatureMoments {
        FeatureMoments::of(&self.values, self.width)
    }

    /// The features of one image.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// Writes `features` (f32 `[images, features]`), `labels` (u8 `[images]`) and, where images have names, `names`
    /// (u8, UTF-8, with a zero between them), whole or not at all.
    pub fn save(&self, path: &Path, origin: &Origin) -> Result<()> {
        let mut tensors = Parameters::from([
            ("features".to_owned(), TensorData::new(self.values.clone(), self.shape())),
            ("labels".to_owned(), TensorData::new(self.labels.clone(), [self.labels.len()])),
        ]);
        if !self.names.is_empty() {
            let names = self.names.join(SEPARATOR).into_bytes();
            let length = names.len();
            tensors.insert("names".to_owned(), TensorData::new(names, [length]));
        }
        tensor_file::write(path, &FORMAT, origin, &tensors)
    }

    /// Reads features that must come from `origin` and have labels under `classes`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if the file is damaged or comes from somewhere else.
    pub fn load(path: &Path, origin: &Origin, classes: usize) -> Result<Self> {
        let refuse = |problem: String| Error::checkpoint(path, problem, FORMAT.hint);
        let (found, mut tensors): (Origin, _) = tensor_file::read(path, &FORMAT)?;
        if found != *origin {
            return Err(refuse("does not belong to the manifest beside it".into()));
        }
        let names = tensors.remove("names");
        let mut take = |name: &str| {
            let missing = || refuse(format!("holds no tensor `{name}`"));
            tensors.remove(name).ok_or_else(missing)
        };
        let (values, labels) = (take("features")?, take("labels")?);
        let [images, width] = values.shape()[..] else {
            return Err(refuse("its features are not a matrix".into()));
        };
        let wrong_type = |_| refuse("its tensors are of another type".into());
        let values = values.try_into_vec::<f32>().map_err(wrong_type)?;
        let labels = labels.try_into_vec::<u8>().map_err(wrong_type)?;
        if labels.len() != images || width == 0 {
            return Err(refuse(format!("{images} rows of features, {} labels", labels.len())));
        }
        if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
            return Err(refuse(format!("holds label {label}, there are {classes} classes")));
        }
        let names = match names {
            Some(names) => names.try_into_vec::<u8>().map_err(wrong_type)?,
            None => Vec::new(),
        };
        let names = match (names.is_empty(), String::from_utf8(names)) {
            (true, _) => Vec::new(),
            (false, Ok(names)) => names.split(SEPARATOR).map(str::to_owned).collect(),
            (false, Err(_)) => return Err(refuse("its names are not text".into())),
        };
        if !names.is_empty() && names.len() != labels.len() {
            return Err(refuse(format!("{} names, {} images", names.len(), labels.len())));
        }
        Ok(Self { names, ..Self::new(values, labels, width) })
    }
}

impl Samples for Features {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn values(&self) -> usize {
        self.width
    }

    fn fill(&self, _: u64, indices: &[u32], inputs: &mut [f32], labels: &mut [u8]) {
        let rows = inputs.chunks_exact_mut(self.width);
        for ((row, label), &index) in rows.zip(labels).zip(indices) {
            row.copy_from_slice(self.row(index as usize));
            *label = self.labels[index as usize];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_with_their_images_and_only_where_there_are_some() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("features");
        let dataset = DatasetLabel { name: "a".into(), fingerprint: "b".into() };
        let origin = Origin { checkpoint: "c".into(), dataset, layer: "d".into() };
        let plain = || Features::new(vec![1.0, 2.0, 3.0], vec![0, 1, 2], 1);
        plain().save(&path, &origin).unwrap();
        assert!(Features::load(&path, &origin, 3).unwrap().names().is_empty());
        let names = ["a/1.png", "a/\n2.png", "b/ü.png"].map(str::to_owned);
        plain().with_names(&names).save(&path, &origin).unwrap();
        let loaded = Features::load(&path, &origin, 3).unwrap();
        assert_eq!(loaded.names(), names);
        assert_eq!(loaded.subset(&[2, 0]).names(), ["b/ü.png", "a/1.png"]);
    }
}
