//! `rotnet devices`: lists what there is, or checks one device against `flex`.

use clap::Args;

use super::options::Settings;
use super::{on_threads, print_json, print_line, resolve};
use crate::device::{DeviceName, guarded, offers};
use crate::error::{Error, Result};
use crate::tools::device_check::{DeviceCheck, check};

pub(super) const HELP: &str = "\
--check makes one training step on that device and on flex, and compares loss and gradients; exit status 1 if they \
differ by more than rounding. The network is that of the config.

Examples:
  rotnet devices
  rotnet devices --check cuda:0
  rotnet devices --check ws://10.0.0.2:3000 --config compact";

/// Options of `devices`.
#[derive(Args, Debug)]
pub struct DevicesArguments {
    /// Make a training step on this device and on flex, and compare
    #[arg(long, value_name = "DEVICE")]
    check: Option<String>,
    #[command(flatten)]
    settings: Settings,
}

pub(super) fn execute(arguments: &DevicesArguments) -> Result<()> {
    match &arguments.check {
        None => list(arguments.settings.json),
        Some(device) => check_device(&arguments.settings, device),
    }
}

fn list(json: bool) -> Result<()> {
    let offers = offers();
    if json {
        return print_json(&offers);
    }
    offers.iter().try_for_each(|offer| {
        let mark = if offer.available { "yes" } else { "no" };
        print_line(&format!("{:<24} {mark:<4} {}", offer.device, offer.what))
    })
}

fn check_device(settings: &Settings, device: &str) -> Result<()> {
    let usage = |problem| Error::Usage { problem, hint: "`rotnet devices` lists what there is".into() };
    let device: DeviceName = device.parse().map_err(|problem| usage(format!("--check: {problem}")))?;
    let config = resolve(settings)?;
    let work = || guarded(std::slice::from_ref(&device), || check(&config, &device));
    let result = on_threads(config.threads, work)??;
    match settings.json {
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
        check.tolerance
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
        problem: format!("{} computes something else than flex", check.device),
        hint: "do not train on it; another driver or another engine (vulkan, cuda) may do better".into(),
    })
}
