//! A run's networks and features in formats of other programs.

mod description;
mod features;
mod networks;
mod onnx;
mod tensors;
mod torch;

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Serialize;
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::files::{create_directory, sync_directory, temporary_directory_in};
use crate::progress::{Event, Reporter};
use crate::store::run_directory::RunDirectory;
use crate::tools::paths::shown;
use networks::Network;

/// What to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// The network that pretraining left, without its head
    Encoder,
    /// Encoder and classifier
    Classifier,
    /// Encoder and rotation head
    Rotation,
    /// The features of every image, as `extract` wrote them
    Features,
    /// What pretraining left, without what only training needs: for `--from` and `--checkpoint` of this program
    Checkpoint,
}

/// How to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For networks: weights with PyTorch's names and layout
    Safetensors,
    /// For networks: ONNX, which takes images as bytes
    Onnx,
    /// For features: NumPy arrays
    Npy,
    /// For features: text, one line per image
    Csv,
}

impl What {
    /// The name of its files, without their ending.
    fn stem(self) -> &'static str {
        match self {
            Self::Encoder => "encoder",
            Self::Classifier => "classifier",
            Self::Rotation => "rotation",
            Self::Features => "features",
            Self::Checkpoint => "checkpoint",
        }
    }

    /// The formats it can be written in; the first where none is asked for.
    fn formats(self) -> &'static [Format] {
        match self {
            Self::Features => &[Format::Npy, Format::Csv],
            Self::Encoder | Self::Classifier | Self::Rotation => &[Format::Safetensors, Format::Onnx],
            Self::Checkpoint => &[Format::Safetensors],
        }
    }
}

/// What [`export`] is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The run.
    pub run: RunDirectory,
    /// Kinds of files.
    pub what: Vec<What>,
    /// Formats, each for what it is a format of; what none is for is written in the first that it has.
    pub formats: Vec<Format>,
    /// A checkpoint of an encoder, or its directory, other than the run's own.
    pub checkpoint: Option<PathBuf>,
    /// The folder to write into.
    pub to: PathBuf,
    /// Write over files that are there.
    pub force: bool,
}

impl Request {
    /// The formats to write `what` in.
    fn formats(&self, what: What) -> Vec<Format> {
        let possible = what.formats();
        let asked: Vec<Format> =
            possible.iter().copied().filter(|format| self.formats.contains(format)).collect();
        if asked.is_empty() { possible[..1].to_vec() } else { asked }
    }

    /// A format that nothing asked for can be written in.
    fn idle_format(&self) -> Option<Format> {
        let fits = |format: &Format| self.what.iter().any(|what| what.formats().contains(format));
        self.formats.iter().copied().find(|format| !fits(format))
    }
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
    #[serde(serialize_with = "shown")]
    pub path: PathBuf,
    /// What it holds, in words.
    pub content: String,
}

/// Writes what is asked for.
///
/// # Errors
/// [`Error::OutputExists`] for a file that is there and not to be written over, [`Error::Usage`] for a folder in its place;
/// [`Error::Checkpoint`] if the run has no such part, it is damaged or cannot be written so; [`Error::Config`] if the encoder
/// lacks what is read of it; [`Error::Io`].
pub fn export(request: &Request, reporter: &mut dyn Reporter) -> Result<ExportReport> {
    let was_there = request.to.exists();
    let report = write(request, reporter);
    if report.is_err() && !was_there {
        // Only an empty folder goes.
        let _ = fs::remove_dir(&request.to);
    }
    report
}

fn write(request: &Request, reporter: &mut dyn Reporter) -> Result<ExportReport> {
    if let Some(format) = request.idle_format() {
        let name = format.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        reporter.report(Event::Warning(&format!(
            "nothing is written as {name}, which {} take: --what names none",
            match format {
                Format::Npy | Format::Csv => "features",
                Format::Safetensors | Format::Onnx => "networks (encoder, classifier, rotation)",
            }
        )));
    }
    let mut files = Files { request, aside: None, written: Vec::new() };
    let kinds = [What::Checkpoint, What::Encoder, What::Classifier, What::Rotation, What::Features];
    for what in kinds.into_iter().filter(|what| request.what.contains(what)) {
        let formats = request.formats(what);
        match Network::load(request, what)? {
            None if what == What::Checkpoint => networks::write_checkpoint(request, &mut files)?,
            None => features::write(&request.run.features(), &formats, &mut files, reporter)?,
            Some(network) => {
                if formats.contains(&Format::Safetensors) {
                    torch::write(&network, what, &mut files)?;
                }
                if formats.contains(&Format::Onnx) {
                    onnx::write(&network, what, &mut files)?;
                }
            }
        }
    }
    files.put_in_place()
}

/// The files of an export, which are put in their place together when all of them are written.
struct Files<'a> {
    request: &'a Request,
    /// Made with the first of them, so that a run that is not there leaves nothing.
    aside: Option<TempDir>,
    written: Vec<(String, ExportedFile)>,
}

impl Files<'_> {
    /// Writes one file by `write`.
    fn add(&mut self, name: &str, content: String, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let path = self.request.to.join(name);
        if path.exists() && !self.request.force {
            return Err(Error::OutputExists { path });
        }
        if path.is_dir() {
            return Err(Error::Usage {
                problem: format!("{} is a folder, where a file is to be written", path.display()),
                hint: "remove it, or name another folder with --out".into(),
            });
        }
        let aside = match self.aside.take() {
            Some(aside) => aside,
            None => {
                create_directory(&self.request.to)?;
                temporary_directory_in(&self.request.to)?
            }
        };
        write(&self.aside.insert(aside).path().join(name))?;
        self.written.push((name.to_owned(), ExportedFile { path, content }));
        Ok(())
    }

    fn put_in_place(self) -> Result<ExportReport> {
        for (aside, (name, file)) in self.aside.iter().cycle().zip(&self.written) {
            fs::rename(aside.path().join(name), &file.path).map_err(Error::io("write", &file.path))?;
        }
        sync_directory(&self.request.to).map_err(Error::io("write", &self.request.to))?;
        Ok(ExportReport { files: self.written.into_iter().map(|(_, file)| file).collect() })
    }
}
