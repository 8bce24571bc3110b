//! What the commands that look at image files have in common.

use std::path::PathBuf;

use clap::Args;

use super::options::OutputArguments;
use super::print_line;
use crate::config::{self, Overrides};
use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::store::run_directory::RunDirectory;
use crate::tools::apply::Failure;

/// Options of the commands that look at image files.
#[derive(Args, Debug)]
pub struct ImageArguments {
    /// The run directory
    #[arg(long, value_name = "DIR")]
    pub run: PathBuf,
    /// Image files (PNG, JPEG, WebP, BMP, GIF), or folders with some at any depth
    #[arg(value_name = "IMAGE|FOLDER", required = true)]
    pub paths: Vec<PathBuf>,
    /// Print comma-separated values, a line an image
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// Device to compute on (default: as in the run's config)
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Threads to compute with (default: one a processor); results do not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub output: OutputArguments,
}

impl ImageArguments {
    /// The device asked for, or the run's own.
    pub fn device(&self) -> Result<DeviceName> {
        let mut overrides = Overrides::default();
        if let Some(device) = &self.device {
            overrides.set("device", device.as_str());
            overrides.set("devices", Vec::<String>::new());
        }
        let run = RunDirectory::new(&self.run);
        run.settle();
        let config = config::load(&run.any_config()?, &overrides)?;
        Ok(config.devices.into_iter().next().unwrap_or(config.device))
    }
}

/// Prints a table as comma-separated values.
pub(super) fn csv(header: Vec<String>, rows: impl Iterator<Item = Vec<String>>) -> Result<()> {
    let failed = |error: csv::Error| Error::io("write", "standard output")(error.into());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).map_err(failed)?;
    for row in rows {
        writer.write_record(row).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.into_error().into()))?;
    print_line(String::from_utf8_lossy(&bytes).trim_end())
}

/// One line of error a file that failed; the last one becomes the command's own.
pub(super) fn finish(mut failures: Vec<Failure>) -> Result<()> {
    let Some(last) = failures.pop() else {
        return Ok(());
    };
    for Failure { error, .. } in failures {
        eprintln!("error: {error}; {}", error.hint());
    }
    Err(last.error)
}
