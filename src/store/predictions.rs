//! A classifier's predictions for every test image: kept with the run, so that `compare` and `report` need not open the
//! test set again.
//!
//! `finetune/predictions.safetensors` (format `rotnet-predictions`, version 2) holds `probabilities` (f32
//! `[images, classes]`, each row adding up to 1) and `labels` (u8 `[images]`, u16 where one is above 255), both in the order of the test set.

use std::path::Path;

use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::judge::statistics::{Statistics, predicted};
use crate::model::Parameters;
use crate::store::checkpoint::DatasetLabel;
use crate::store::labels::{from_tensor, to_tensor};
use crate::store::tensor_file::{self, Format};

const FORMAT: Format =
    Format { name: "rotnet-predictions", version: 2, hint: "run `rotnet finetune --force` again" };

/// Where predictions come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The data set of the test images.
    pub dataset: DatasetLabel,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// SHA-256 of the classifier's checkpoint.
    pub checkpoint: String,
}

/// Probabilities of the classes of every test image.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// Their source.
    pub source: Source,
    /// `[images, classes]`, row by row.
    pub probabilities: Vec<f32>,
    /// One per image.
    pub labels: Vec<u16>,
}

impl Predictions {
    /// Writes the file, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let (images, classes) = (self.labels.len(), self.source.classes.len());
        let tensors = Parameters::from([
            ("probabilities".to_owned(), TensorData::new(self.probabilities.clone(), [images, classes])),
            ("labels".to_owned(), to_tensor(&self.labels)),
        ]);
        tensor_file::write(path, &FORMAT, &self.source, &tensors)
    }

    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if the file is damaged or its parts do not fit together.
    pub fn load(path: &Path) -> Result<Self> {
        let refuse = |problem: String| Error::checkpoint(path, problem, FORMAT.hint);
        let (source, mut tensors): (Source, _) = tensor_file::read(path, &FORMAT)?;
        let mut take =
            |name: &str| tensors.remove(name).ok_or_else(|| refuse(format!("holds no tensor `{name}`")));
        let (probabilities, labels) = (take("probabilities")?, take("labels")?);
        let classes = source.classes.len();
        let shape = probabilities.shape().to_vec();
        let (Ok(probabilities), Some(labels)) = (probabilities.try_into_vec::<f32>(), from_tensor(labels))
        else {
            return Err(refuse("its tensors are of another type".into()));
        };
        if shape != [labels.len(), classes] || classes == 0 {
            let problem = format!("probabilities {shape:?}, {} labels, {classes} classes", labels.len());
            return Err(refuse(problem));
        }
        if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
            return Err(refuse(format!("holds label {label}, there are {classes} classes")));
        }
        Ok(Self { source, probabilities, labels })
    }

    /// Accuracy with its interval, calibration, confusion and mistakes.
    pub fn statistics(&self) -> Statistics {
        Statistics::new(&self.probabilities, &self.labels, self.source.classes.len())
    }

    /// The most probable class of each image.
    pub fn predicted(&self) -> Vec<u16> {
        predicted(&self.probabilities, self.source.classes.len())
    }

    /// Why two classifiers cannot be compared image by image; `None` if they can.
    pub fn mismatch(&self, other: &Self) -> Option<String> {
        let (one, two) = (&self.source.dataset, &other.source.dataset);
        if one.fingerprint != two.fingerprint {
            return Some(format!(
                "the data sets differ: {} (fingerprint {:.12}) and {} (fingerprint {:.12})",
                one.name, one.fingerprint, two.name, two.fingerprint
            ));
        }
        (self.labels != other.labels).then(|| "the test images differ".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Predictions {
        let dataset = DatasetLabel { name: "drawn".into(), fingerprint: "f".repeat(64) };
        let classes = vec!["cat".to_owned(), "dog".to_owned()];
        let source = Source { dataset, classes, checkpoint: "c".repeat(64) };
        Predictions { source, probabilities: vec![0.75, 0.25, 0.5, 0.5, 0.0, 1.0], labels: vec![0, 1, 1] }
    }

    #[test]
    fn what_is_written_is_read_and_wrong_labels_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("predictions.safetensors");
        sample().save(&path).unwrap();
        assert_eq!(Predictions::load(&path).unwrap(), sample());
        assert_eq!(sample().predicted(), [0, 0, 1]);
        Predictions { labels: vec![0, 1, 2], ..sample() }.save(&path).unwrap();
        let error = Predictions::load(&path).unwrap_err().to_string();
        assert!(error.contains("label 2"), "{error}");
    }

    #[test]
    fn predictions_of_other_data_do_not_compare() {
        let mut other = sample();
        assert_eq!(sample().mismatch(&other), None);
        other.labels[0] = 1;
        assert!(sample().mismatch(&other).unwrap().contains("test images"));
        other.source.dataset.fingerprint = "e".repeat(64);
        assert!(sample().mismatch(&other).unwrap().contains("data sets differ"));
    }
}
