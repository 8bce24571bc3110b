//! What the commands on image files have in common.

use std::path::PathBuf;

use clap::Args;

use super::options::TableArguments;
use crate::config::{self, Overrides};
use crate::device::DeviceName;
use crate::error::Result;
use crate::store::run_directory::RunDirectory;
use crate::tools::apply::Failure;

/// Options of the commands on image files.
#[derive(Args, Debug)]
pub struct ImageArguments {
    /// The run directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Image files (PNG, JPEG, WebP, BMP, GIF), or folders that contain some at any depth
    #[arg(value_name = "IMAGE", required = true)]
    pub paths: Vec<PathBuf>,
    /// Device to compute on (default: as in the run's config)
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Number of threads (default: one per processor); results do not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub output: TableArguments,
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

/// Prints one line for each file that failed; the last error becomes the command's own.
pub(super) fn finish(mut failures: Vec<Failure>) -> Result<()> {
    let Some(last) = failures.pop() else {
        return Ok(());
    };
    for Failure { error, .. } in failures {
        eprintln!("error: {error}; {}", error.hint());
    }
    Err(last.error)
}
