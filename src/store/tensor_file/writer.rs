//! Writing in pieces, whole or not at all.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::tensor::Dtype;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{CHUNK, Envelope, Format, Layout, NO_DIGEST, begin_digest, front, in_order, lay_out};
use crate::error::{Error, Result};
use crate::files::{AtomicFile, hexadecimal};
use crate::model::Parameters;

/// Writes tensors and header, whole or not at all. The same content gives the same bytes.
pub fn write(path: &Path, format: &Format, header: &impl Serialize, tensors: &Parameters) -> Result<()> {
    let unusable = |problem: String| Error::checkpoint(path, problem, format.hint);
    let entry =
        |(name, data): (&String, &TensorData)| Ok((name.clone(), dtype(data)?, data.shape().to_vec()));
    let entries = tensors.iter().map(entry).collect::<Result<_, String>>().map_err(unusable)?;
    let mut writer = Writer::create(path, format, header, entries)?;
    for name in writer.order() {
        match tensors[&name].as_slice::<f32>() {
            Ok(numbers) => writer.put_numbers(numbers)?,
            Err(_) => writer.put(tensors[&name].as_bytes())?,
        }
    }
    writer.finish()
}

/// A file of tensors that is written in pieces, whole or not at all.
pub struct Writer {
    out: AtomicFile,
    envelope: Envelope,
    layout: Layout,
    hasher: Sha256,
    /// Bytes of tensors still to come.
    left: u64,
    hint: &'static str,
}

impl Writer {
    /// Begins a file of tensors with these names, types and shapes.
    pub fn create(
        path: &Path,
        format: &Format,
        header: &impl Serialize,
        entries: Vec<(String, Dtype, Vec<usize>)>,
    ) -> Result<Self> {
        let unusable = |problem: String| Error::checkpoint(path, problem, format.hint);
        let header = serde_json::to_value(header).map_err(|error| unusable(error.to_string()))?;
        let (layout, length) = lay_out(entries);
        let hasher = begin_digest(&header, &layout);
        let envelope = Envelope {
            format: format.name.into(),
            version: format.version,
            digest: NO_DIGEST.into(),
            header,
        };
        let front = front(&envelope, &layout).map_err(unusable)?;
        let mut out = AtomicFile::create(path)?;
        out.write_all(&front).map_err(Error::io("write", path))?;
        Ok(Self { out, envelope, layout, hasher, left: length as u64, hint: format.hint })
    }

    /// The names of the tensors in the order in which their bytes must come.
    fn order(&self) -> Vec<String> {
        in_order(&self.layout).into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// Writes the next bytes of the tensors, which are ordered by type (F32 before U16 before U8), then by name.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => left,
            None => return Err(self.misfit("was given more bytes than its tensors have")),
        };
        self.hasher.update(bytes);
        let written = self.out.write_all(bytes);
        written.map_err(Error::io("write", self.out.path()))
    }

    /// [`put`](Self::put) of numbers. What is no number is written as one and the same NaN: processors differ in its bits.
    pub fn put_numbers(&mut self, numbers: &[f32]) -> Result<()> {
        let mut bytes = Vec::with_capacity(CHUNK.min(4 * numbers.len()));
        for numbers in numbers.chunks(CHUNK / 4) {
            bytes.clear();
            bytes.extend(numbers.iter().flat_map(|&number| canonical(number).to_le_bytes()));
            self.put(&bytes)?;
        }
        Ok(())
    }

    /// Fills in the digest and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if bytes are missing. An existing file stays as it is.
    pub fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            return Err(self.misfit("was given fewer bytes than its tensors have"));
        }
        let Self { mut out, mut envelope, layout, hasher, hint, .. } = self;
        envelope.digest = hexadecimal(&hasher.finalize());
        let front = front(&envelope, &layout);
        let front = front.map_err(|problem| Error::checkpoint(out.path(), problem, hint))?;
        let written = out.seek(SeekFrom::Start(0)).and_then(|_| out.write_all(&front));
        written.map_err(Error::io("write", out.path()))?;
        out.commit()
    }

    fn misfit(&mut self, problem: &str) -> Error {
        Error::checkpoint(self.out.path(), problem, self.hint)
    }
}

fn canonical(number: f32) -> f32 {
    if number.is_nan() { f32::NAN } else { number }
}

/// How a tensor is stored.
///
/// # Errors
/// That tensors of its type are not.
pub fn dtype(data: &TensorData) -> Result<Dtype, String> {
    match data.dtype() {
        DType::F32 => Ok(Dtype::F32),
        DType::U8 => Ok(Dtype::U8),
        DType::U16 => Ok(Dtype::U16),
        other => Err(format!("tensors of type {other:?} are not stored")),
    }
}
