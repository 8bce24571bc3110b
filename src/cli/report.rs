//! `rotnet report`: runs as an HTML page.

use std::path::PathBuf;

use clap::Args;

use super::options::{ReadArguments, data_folder};
use super::pipeline::data_home;
use super::{display, on_threads, print_json, print_line};
use crate::error::{Error, Result};
use crate::tools::report::{self, Request};

/// Options of `report`.
#[derive(Args, Debug)]
#[command(after_help = "\
The page is one file and works offline. Each drawing can be saved as SVG, the data of each figure as CSV. An unfinished run \
is shown as far as it has come. Of a sweep, the page shows accuracy over what was varied. Nothing is trained, and no number \
on the page is chosen on the test set.

Examples:
  rotnet report runs/quickstart --open
  rotnet report runs/a runs/b --out both.html
  rotnet report runs/labels")]
pub struct ReportArguments {
    /// Directories of runs, or of a sweep; several runs are shown side by side
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The file to write (default: RUN/report.html; report.html here for several runs)
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Open it in the browser
    #[arg(long)]
    pub open: bool,
    #[command(flatten)]
    pub read: ReadArguments,
}

pub(super) fn execute(arguments: &ReportArguments) -> Result<()> {
    arguments.read.data.as_deref().map(data_folder).transpose()?;
    let request = Request {
        runs: arguments.runs.clone(),
        out: arguments.out.clone(),
        data: arguments.read.data.clone(),
        data_home: data_home(),
    };
    let report = on_threads(arguments.read.threads, || {
        report::report(&request, display::reporter(arguments.read.output.quiet).as_mut())
    })??;
    match arguments.read.output.json() {
        true => print_json(&report)?,
        false => print_line(&format!("{} ({} kB)", report.file.display(), report.bytes / 1000))?,
    }
    match arguments.open {
        true => open::that_detached(&report.file).map_err(Error::io("open", &report.file)),
        false => Ok(()),
    }
}
