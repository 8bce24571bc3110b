//! A file of features, written image by image.

use std::path::Path;

use burn::tensor::TensorData;
use safetensors::Dtype;

use super::{FEATURES, FORMAT, LABELS, NAMES, Origin, SEPARATOR};
use crate::error::{Error, Result};
use crate::store::labels::to_tensor;
use crate::store::tensor_file::{Writer, dtype};

/// Writes a file of features image by image: `features` (f32 `[images, features]`), `labels` (u8 `[images]`, u16 where
/// one is above 255) and, if images have names, `names` (u8, UTF-8, with a zero between them).
pub struct FeatureWriter {
    writer: Writer,
    labels: TensorData,
    names: Vec<u8>,
}

impl FeatureWriter {
    /// Begins a file for images with these labels and names (if any), `width` features per image.
    ///
    /// # Errors
    /// [`crate::Error::Io`] if it cannot be written.
    pub fn create(
        path: &Path,
        origin: &Origin,
        labels: &[u16],
        names: &[String],
        width: usize,
    ) -> Result<Self> {
        let names = names.join(SEPARATOR).into_bytes();
        let stored = to_tensor(labels);
        let dtype = dtype(&stored).map_err(|problem| Error::checkpoint(path, problem, FORMAT.hint))?;
        let mut tensors = vec![
            (FEATURES.to_owned(), Dtype::F32, vec![labels.len(), width]),
            (LABELS.to_owned(), dtype, vec![labels.len()]),
        ];
        if !names.is_empty() {
            tensors.push((NAMES.to_owned(), Dtype::U8, vec![names.len()]));
        }
        let writer = Writer::create(path, &FORMAT, origin, tensors)?;
        Ok(Self { writer, labels: stored, names })
    }

    /// Writes the features of the next images.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; [`crate::Error::Checkpoint`] if there are more images than labels.
    pub fn push(&mut self, rows: &[f32]) -> Result<()> {
        self.writer.put_numbers(rows)
    }

    /// Gives the file its name; without this, it never existed.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; [`crate::Error::Checkpoint`] if images are missing. An existing file stays as it is.
    pub fn finish(mut self) -> Result<()> {
        self.writer.put(self.labels.as_bytes())?;
        self.writer.put(&self.names)?;
        self.writer.finish()
    }
}
