//! `rotnet verify resume`: neither kills nor threads nor ranks change a byte of the results.

use clap::Args;

use crate::cli::options::Settings;
use crate::cli::pipeline::data_home;
use crate::cli::{print_json, print_line, resolve};
use crate::error::{Error, Result};
use crate::tools::verify::resume::{Verification, verify_resume};

/// Options of `verify resume`.
#[derive(Args, Debug)]
pub struct ResumeArguments {
    #[command(flatten)]
    settings: Settings,
    /// Number of kills
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    kills: u32,
    /// Train as long, on as many images and saving as often as the config says
    #[arg(long)]
    whole: bool,
}

pub(super) fn execute(arguments: &ResumeArguments) -> Result<()> {
    let config = resolve(&arguments.settings)?;
    let verification = verify_resume(config, &data_home(), arguments.kills, arguments.whole)?;
    match arguments.settings.output.json() {
        true => print_json(&verification)?,
        false => show(&verification)?,
    }
    judge(&verification)
}

fn show(verification: &Verification) -> Result<()> {
    print_line(&format!(
        "uninterrupted: {} results in {:.1} s",
        verification.results.len(),
        verification.seconds
    ))?;
    print_line("                      runs   kills   of them while writing   differing results")?;
    for comparison in &verification.comparisons {
        print_line(&format!(
            "{:<20} {:>5} {:>7} {:>23} {:>19}",
            comparison.name,
            comparison.runs,
            comparison.kills,
            comparison.kills_while_writing,
            comparison.differing.len()
        ))?;
    }
    print_line(&format!("golden line here:     {}", verification.golden))?;
    print_line(&format!("golden line shipped:  {}", verification.golden_shipped))
}

fn judge(verification: &Verification) -> Result<()> {
    let mut all = verification.comparisons.iter();
    match all.find_map(|comparison| comparison.differing.first()) {
        None if verification.golden != verification.golden_shipped => Err(Error::Verification {
            problem:
                "this processor makes other bytes of two tiny trainings than those this version was tested on"
                    .into(),
            hint: "what is computed here is not what others get; report this, with the name of the processor"
                .into(),
        }),
        None => Ok(()),
        Some(file) => Err(Error::Verification {
            problem: format!("{file} differs from that of the uninterrupted run"),
            hint: "results of this machine cannot be relied on: check its memory, and report this".into(),
        }),
    }
}
