//! `rotnet verify ...`: checks on this machine what rotnet promises.

mod device;
mod resume;
mod run;

use clap::Subcommand;

use crate::error::Result;

#[derive(Subcommand, Debug)]
pub enum VerifyCommand {
    /// Show that neither kills nor threads nor ranks change a byte of the results
    #[command(after_help = "\
Runs a shortened training again and again, in a temporary directory: left alone, killed (SIGKILL) at random moments \
and resumed, with other numbers of threads, shared by ranks. Then the golden line, the digest of two tiny trainings, which \
is the same on every processor. Exit status 1 if any result differs.

Examples:
  rotnet verify resume
  rotnet verify resume --config keras-scaled --data ~/cifar --kills 50")]
    Resume(resume::ResumeArguments),
    /// Repeat a finished run in a temporary directory, and compare the results
    #[command(after_help = "\
Exit status 1 if a result differs; then the first stage that differs and what has changed are named.

Example:
  rotnet verify run runs/quickstart")]
    Run(run::VerifyRunArguments),
    /// Check that a device computes what this machine's processors compute
    #[command(after_help = "\
Makes one training step on that device and on flex, and compares loss and gradients. Exit status 1 if they differ by \
more than rounding. The network is that of the config.

Examples:
  rotnet verify device cuda:0
  rotnet verify device ws://10.0.0.2:3000 --config compact")]
    Device(device::DeviceArguments),
}

pub(super) fn execute(command: &VerifyCommand) -> Result<()> {
    match command {
        VerifyCommand::Resume(arguments) => resume::execute(arguments),
        VerifyCommand::Run(arguments) => run::execute(arguments),
        VerifyCommand::Device(arguments) => device::execute(arguments),
    }
}
