//! `--budget` and `--dry-run`: what a run takes, before it starts.

use std::time::Duration;

use clap::Args;

use super::options::RunArguments;
use super::ranks::world;
use super::{print_json, print_line};
use crate::error::{Error, Result};
use crate::stages::{DryRun, Part};

/// Options of the commands that pretrain.
#[derive(Args, Debug)]
pub struct PretrainArguments {
    #[command(flatten)]
    pub run: RunArguments,
    /// Pretrain for about this long (90s, 12m, 1.5h) instead of the config's epochs; the number of steps is worked out
    /// from a few timed ones, and recorded in the run's config
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "from")]
    pub budget: Option<Duration>,
    /// Show what the run would take (parameters, operations, time, memory, disk), from a few timed steps, without
    /// training or writing anything
    #[arg(long)]
    pub dry_run: bool,
}

/// Longest budget: a year.
const MAX_SECONDS: f64 = 365.0 * 86_400.0;

fn duration(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let seconds = match unit {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("a number and s, m or h, for example 12m".into()),
    };
    let number: f64 = text[..text.len() - unit.len()].parse().map_err(|_| "not a number".to_owned())?;
    let seconds = number * seconds;
    match seconds > 0.0 && seconds <= MAX_SECONDS {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("must be over 0 and at most a year".into()),
    }
}

/// Refuses a budget for a dry run, and several ranks for either.
pub(super) fn check(arguments: &PretrainArguments) -> Result<()> {
    if world().size() > 1 && (arguments.budget.is_some() || arguments.dry_run) {
        return Err(Error::Usage {
            problem: "--budget and --dry-run measure the steps of one process".into(),
            hint: "start one process, or set pretrain.steps".into(),
        });
    }
    match arguments.budget.is_some() && arguments.dry_run {
        true => Err(Error::Usage {
            problem: "--budget sets how long it takes, --dry-run measures it".into(),
            hint: "give one of them".into(),
        }),
        false => Ok(()),
    }
}

/// Shows what a run would take.
pub(super) fn show(result: &DryRun, json: bool) -> Result<()> {
    if json {
        return print_json(result);
    }
    let environment = &result.environment;
    print_line(&format!(
        "{}, {} kernels{}, {} threads; {}",
        environment.processor,
        environment.kernels,
        environment.rounding(),
        environment.threads,
        result.dataset.name
    ))?;
    result.stages.iter().try_for_each(show_part)?;
    let memory = result.memory_bytes.map_or("unknown".into(), |bytes| format!("{:.0} MB", mega(bytes)));
    print_line(&format!(
        "in all: {}, memory {memory}, disk {:.1} MB; nothing was trained or written",
        time(result.seconds),
        mega(result.disk_bytes)
    ))
}

fn show_part(part: &Part) -> Result<()> {
    let training = match part.steps {
        0 => String::new(),
        steps => format!("{} parameters, {steps} steps in {:.4} epochs, ", part.parameters, part.epochs),
    };
    print_line(&format!(
        "{}: {training}{:.2} MFLOP per sample forward, {:.3} TFLOP in all, {}, disk {:.1} MB",
        part.stage.name(),
        part.flop_a_sample as f64 / 1e6,
        part.flop as f64 / 1e12,
        time(part.seconds),
        mega(part.disk_bytes)
    ))
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.1} s"),
        seconds if seconds < 7_200.0 => format!("{:.1} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_number_and_a_unit() {
        assert_eq!(duration("12m"), Ok(Duration::from_secs(720)));
        assert_eq!(duration("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("0.25s"), Ok(Duration::from_millis(250)));
        for text in ["12", "m", "-1m", "12 m", "0s", "1e3s", "1.2.3s", "99999h", ""] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
