//! A run's encoder and features in formats of other programs.

mod encoder;
mod features;

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::files::{create_directory, sync_directory, temporary_directory_in};
use crate::progress::{Reporter, Stage};
use crate::store::run_directory::RunDirectory;
use crate::store::stage_directory::checkpoint_in;

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The network, for PyTorch
    Encoder,
    /// The features of every image, as `extract` wrote them
    Features,
}

/// How to write features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// NumPy's
    Npy,
    /// Text, a line an image
    Csv,
}

/// What [`export`] is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The run.
    pub run: RunDirectory,
    /// Kinds of files.
    pub what: Vec<What>,
    /// Formats of the features.
    pub formats: Vec<Format>,
    /// A checkpoint, or its directory, other than the run's own.
    pub checkpoint: Option<PathBuf>,
    /// The folder to write into.
    pub to: PathBuf,
    /// Write over files that are there.
    pub force: bool,
}

/// What [`export`] wrote.
#[derive(Clone, Debug, Serialize)]
pub struct ExportReport {
    /// The files, in the order of writing.
    pub files: Vec<ExportedFile>,
}

/// A file that [`export`] wrote.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds, in words.
    pub content: String,
}

/// Writes what is asked for.
///
/// # Errors
/// [`Error::OutputExists`] for a file that is there and not to be written over; [`Error::Checkpoint`] if the run has
/// no such part or it is damaged; [`Error::Io`].
pub fn export(request: &Request, reporter: &mut dyn Reporter) -> Result<ExportReport> {
    let mut files = Files::new(request)?;
    if request.what.contains(&What::Encoder) {
        let place = request.checkpoint.clone();
        let place = place.unwrap_or_else(|| request.run.stage(Stage::Pretrain));
        encoder::write(&checkpoint_in(&place), &mut files)?;
    }
    if request.what.contains(&What::Features) {
        features::write(&request.run.features(), &mut files, reporter)?;
    }
    files.put_in_place()
}

/// The files of an export, which are put in their place together when all of them are written.
struct Files<'a> {
    request: &'a Request,
    aside: TempDir,
    written: Vec<(String, ExportedFile)>,
}

impl<'a> Files<'a> {
    fn new(request: &'a Request) -> Result<Self> {
        create_directory(&request.to)?;
        let aside = temporary_directory_in(&request.to)?;
        Ok(Self { request, aside, written: Vec::new() })
    }

    /// Writes one file by `write`.
    fn add(&mut self, name: &str, content: String, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.request.to.join(name);
        if path.exists() && !self.request.force {
            return Err(Error::OutputExists { path });
        }
        write(&self.aside.path().join(name))?;
        self.written.push((name.to_owned(), ExportedFile { path, content }));
        Ok(())
    }

    fn put_in_place(self) -> Result<ExportReport> {
        for (name, file) in &self.written {
            fs::rename(self.aside.path().join(name), &file.path).map_err(Error::io("write", &file.path))?;
        }
        sync_directory(&self.request.to).map_err(Error::io("write", &self.request.to))?;
        Ok(ExportReport { files: self.written.into_iter().map(|(_, file)| file).collect() })
    }
}
