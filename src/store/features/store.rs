//! Storage of features, and how a row is read.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::error::Error;
use crate::files::PositionedFile;

/// Numbers of images, row by row.
pub(super) struct Store {
    pub numbers: Numbers,
    pub width: usize,
    /// Why a batch could not be read.
    pub failure: OnceLock<io::Error>,
}

pub(super) enum Numbers {
    Memory(Vec<f32>),
    File { path: PathBuf, file: PositionedFile, start: u64 },
}

impl Store {
    pub fn memory(values: Vec<f32>, width: usize) -> Self {
        Self { numbers: Numbers::Memory(values), width, failure: OnceLock::new() }
    }

    /// Writes some columns of a row to `target`.
    pub fn read(
        &self,
        row: usize,
        columns: &[Range<usize>],
        mut target: &mut [f32],
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        let first = row * self.width;
        for range in columns {
            let part;
            (part, target) = target.split_at_mut(range.len());
            match &self.numbers {
                Numbers::Memory(values) => part.copy_from_slice(&values[first..][range.clone()]),
                Numbers::File { file, start, .. } => {
                    scratch.resize(size_of_val(part), 0);
                    let place = (first + range.start) as u64 * size_of::<f32>() as u64;
                    file.read_exact_at(scratch, start + place)?;
                    let (numbers, _) = scratch.as_chunks();
                    part.iter_mut().zip(numbers).for_each(|(part, bytes)| *part = f32::from_le_bytes(*bytes));
                }
            }
        }
        Ok(())
    }

    pub fn error(&self, error: io::Error) -> Error {
        match &self.numbers {
            Numbers::File { path, .. } => Error::io("read", path)(error),
            Numbers::Memory(_) => Error::io("read", "")(error),
        }
    }
}
