//! `rotnet devices`: lists the available devices.

use clap::Args;

use super::options::OutputArguments;
use super::{print_json, print_line};
use crate::device::offers;
use crate::error::Result;

/// Options of `devices`.
#[derive(Args, Debug)]
pub struct DevicesArguments {
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) fn execute(arguments: &DevicesArguments) -> Result<()> {
    let offers = offers();
    if arguments.output.json() {
        return print_json(&offers);
    }
    offers.iter().try_for_each(|offer| {
        let mark = if offer.available { "yes" } else { "no" };
        print_line(&format!("{:<24} {mark:<4} {}", offer.device, offer.what))
    })
}
