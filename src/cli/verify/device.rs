//! `rotnet verify device`: one device against `flex`.

use clap::Args;

use crate::cli::options::Settings;
use crate::cli::{on_threads, print_json, print_line, resolve};
use crate::device::{DeviceName, guarded};
use crate::error::{Error, Result};
use crate::tools::verify::device::{DeviceCheck, check};

/// Options of `verify device`.
#[derive(Args, Debug)]
pub struct DeviceArguments {
    /// The device; `rotnet devices` lists them
    #[arg(value_name = "NAME")]
    device: String,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn execute(arguments: &DeviceArguments) -> Result<()> {
    let usage = |problem| Error::Usage { problem, hint: "`rotnet devices` lists the devices".into() };
    let device: DeviceName =
        arguments.device.parse().map_err(|problem| usage(format!("verify device: {problem}")))?;
    let config = resolve(&arguments.settings)?;
    let work = || guarded(std::slice::from_ref(&device), || check(&config, &device));
    let result = on_threads(config.threads, work)??;
    match arguments.settings.output.json() {
        true => print_json(&result)?,
        false => show(&result)?,
    }
    judge(&result)
}

fn show(check: &DeviceCheck) -> Result<()> {
    let ([loss_flex, loss], [seconds_flex, seconds]) = (check.loss, check.seconds);
    print_line(&format!(
        "loss {loss:.6}, on flex {loss_flex:.6}: differ by {:.1e} of it (at most {:.0e})",
        check.loss_difference, check.tolerance
    ))?;
    print_line(&format!(
        "gradients of {} parameters: differ by at most {:.1e} of their length (at most {:.0e})",
        check.gradients.len(),
        check.gradient_difference,
        check.gradient_tolerance
    ))?;
    print_line(&format!(
        "step of {} samples: {:.1} ms, on flex {:.1} ms",
        check.samples,
        1e3 * seconds,
        1e3 * seconds_flex
    ))
}

fn judge(check: &DeviceCheck) -> Result<()> {
    if check.agrees {
        return Ok(());
    }
    Err(Error::Verification {
        problem: format!("{} does not compute what flex computes", check.device),
        hint: "do not train on it; another driver or another engine (vulkan, cuda) may do better".into(),
    })
}
