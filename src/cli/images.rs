//! What the commands on image files have in common.

use clap::Args;

use super::options::TableArguments;
use super::readable::readable;
use crate::config::{self, Overrides};
use crate::device::DeviceName;
use crate::error::{Error, Result};
use crate::store::run_directory::RunDirectory;
use crate::tools::apply::Failure;

/// Options of the commands on image files, apart from those.
#[derive(Args, Debug)]
pub struct ComputeArguments {
    /// Device to compute on (default: as in the run's config; flex without a run)
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Number of threads (default: one per processor); results do not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub output: TableArguments,
}

impl ComputeArguments {
    /// The device asked for, or else that of processors: for networks that come with the program.
    pub fn device_without_run(&self) -> Result<DeviceName> {
        let Some(name) = &self.device else {
            return Ok(DeviceName::Flex);
        };
        name.parse().map_err(|problem| Error::Usage {
            problem: format!("--device: {problem}"),
            hint: "`rotnet devices` lists them".into(),
        })
    }

    /// The device asked for, or the run's own.
    pub fn device(&self, run: &RunDirectory) -> Result<DeviceName> {
        let mut overrides = Overrides::default();
        if let Some(device) = &self.device {
            overrides.set("device", device.as_str());
            overrides.set("devices", Vec::<String>::new());
        }
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
        eprintln!("{}", readable(&format!("error: {error}; {}", error.hint())));
    }
    Err(last.error)
}
