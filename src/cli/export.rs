//! `rotnet export`: a run's networks and features for other programs.

use std::path::PathBuf;

use clap::Args;

use super::{display, print_json, print_line};
use crate::error::Result;
use crate::store::run_directory::RunDirectory;
use crate::tools::export::{self, Format, Request, What};

/// Options of `export`.
#[derive(Args, Debug)]
#[command(after_help = "\
encoder, classifier, rotation: {encoder,classifier,rotation}.safetensors with PyTorch's names and layout, which the \
Python package loads (rotnet.load), or .onnx: input images, bytes [batch, height, width, 3]; outputs features, or logits \
and probabilities; names of the classes in the metadata.
features: {train,test}.npy (float32, a row an image) or .csv, and {train,test}-images.csv with number, name and \
class of each image.

Examples:
  rotnet export runs/a
  rotnet export runs/a --what encoder,classifier --format onnx
  rotnet export runs/a --what encoder,features --format npy,csv --out exported")]
pub struct ExportArguments {
    /// The run directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// What to write
    #[arg(long, value_enum, value_delimiter = ',', default_value = "encoder")]
    pub what: Vec<What>,
    /// File formats: safetensors and onnx are for networks, npy and csv for features [default: safetensors and npy]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub format: Vec<Format>,
    /// Checkpoint of the encoder, or the directory that holds it, instead of RUN/pretrain
    #[arg(long, value_name = "PATH")]
    pub checkpoint: Option<PathBuf>,
    /// Folder to write into (default: RUN/export)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace files that are already there
    #[arg(long)]
    pub force: bool,
    /// Print nothing but errors and the result
    #[arg(long, short)]
    pub quiet: bool,
    /// Print the list of files as one JSON document
    #[arg(long)]
    pub json: bool,
}

pub(super) fn execute(arguments: &ExportArguments) -> Result<()> {
    let run = RunDirectory::new(&arguments.run);
    run.settle();
    let request = Request {
        run,
        what: arguments.what.clone(),
        formats: arguments.format.clone(),
        checkpoint: arguments.checkpoint.clone(),
        to: arguments.out.clone().unwrap_or_else(|| arguments.run.join("export")),
        force: arguments.force,
    };
    let report = export::export(&request, display::reporter(arguments.quiet).as_mut())?;
    if arguments.json {
        return print_json(&report);
    }
    report.files.iter().try_for_each(|file| print_line(&format!("{}: {}", file.path.display(), file.content)))
}
