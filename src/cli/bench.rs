//! `rotnet bench`: measures, then shows a small table or JSON.

use std::time::Duration;

use clap::Args;

use super::options::Settings;
use super::{on_threads, print_json, print_line, resolve};
use crate::device::guarded;
use crate::error::{Error, Result};
use crate::kernels::Precision;
use crate::kernels::profile::GigaflopRate;
use crate::tools::bench::{BenchResult, Effort, More, Rate, bench};
use crate::tools::ranks_model::RanksModel;

/// Longest measurement, in seconds.
const MAX_SECONDS: f64 = 3_600.0;

/// Options of `bench`.
#[derive(Args, Debug)]
#[command(after_help = "\
Trains, extracts and makes batches for a while on made-up pixels; nothing is written.

Examples:
  rotnet bench --set pretrain.batch_size=128
  rotnet bench --profile
  rotnet bench --config photos --set data.image_size=96")]
pub struct BenchArguments {
    #[command(flatten)]
    settings: Settings,
    /// Measurements of each kind, after one warm-up; the median is shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeats: u32,
    /// Seconds per measurement
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
    /// Break a training step down by layer and direction
    #[arg(long, conflicts_with = "burn_operations")]
    profile: bool,
    /// Estimate images per second of 2 to 64 machines like this one that share every step (feature mpi)
    #[arg(long, conflicts_with = "burn_operations")]
    ranks_model: bool,
    /// Measure burn's own operations instead of the kernels, to see what the kernels gain
    #[arg(long)]
    burn_operations: bool,
}

pub(super) fn execute(arguments: &BenchArguments) -> Result<()> {
    let &BenchArguments { ref settings, repeats, seconds, profile, ranks_model, burn_operations } = arguments;
    crate::kernels::use_burn_operations(burn_operations);
    if !(seconds > 0.0 && seconds <= MAX_SECONDS) {
        return Err(Error::Usage {
            problem: format!("--seconds {seconds}: must be over 0 and at most {MAX_SECONDS}"),
            hint: "for example --seconds 2".into(),
        });
    }
    let config = resolve(settings)?;
    if burn_operations && config.precision != Precision::F32 {
        return Err(Error::Usage {
            problem: "--burn-operations measures burn's operations, which round nothing".into(),
            hint: "measure them with --precision f32".into(),
        });
    }
    let effort = Effort { repeats: repeats as usize, duration: Duration::from_secs_f64(seconds) };
    let work = || guarded(&config.all_devices(), || bench(&config, effort, More { profile, ranks_model }));
    let result = on_threads(config.threads, work)??;
    match settings.output.json() {
        true => print_json(&result),
        false => show(&result),
    }
}

fn show(result: &BenchResult) -> Result<()> {
    let environment = &result.environment;
    print_line(&format!(
        "{}, {} kernels{}, {} threads, batch {}",
        environment.processor,
        environment.kernels,
        environment.rounding(),
        environment.threads,
        result.batch_size
    ))?;
    print_line("             images/s (median)      min        max")?;
    for (name, rate) in [("train", &result.train), ("extract", &result.extract), ("input", &result.input)] {
        let Rate { images_per_second: spread, gflops } = rate;
        print_line(&format!(
            "{name:<10} {:>19.0} {:>8.0} {:>10.0}{}",
            spread.median,
            spread.min,
            spread.max,
            operations(gflops, result.peak_gflops)
        ))?;
    }
    print_line(&format!("peak of the threads, measured: {:.0} GFLOP/s in 32 bits", result.peak_gflops))?;
    if let Some(bytes) = result.peak_memory_bytes {
        print_line(&format!("peak memory: {:.0} MB", bytes as f64 / 1e6))?;
    }
    for entry in result.profile.iter().flatten() {
        print_line(&format!(
            "{:<44} {:>8.1} us per call, {:>5.1} % of the kernels' time{}",
            entry.operation,
            entry.microseconds,
            entry.percent,
            operations(&entry.gflops, result.peak_gflops)
        ))?;
    }
    match &result.ranks_model {
        Some(model) => show_model(model),
        None => Ok(()),
    }
}

fn show_model(model: &RanksModel) -> Result<()> {
    print_line("machines like this one, images/s (share of a step that exchanges take):")?;
    for row in &model.rows {
        let links = row.links.iter().map(|link| {
            let gigabits = link.gigabits;
            format!("  {gigabits:>2} Gbit/s {:>8.0} ({:.0} %)", link.images_per_second, 100.0 * link.exchange)
        });
        print_line(&format!(
            "{:<3} {:>5} samples each{}",
            row.machines,
            row.samples,
            links.collect::<String>()
        ))?;
    }
    print_line("an estimate: steps as measured here, gradients over the link without overlap, equal machines")
}

/// Operations as a direct computation would count them, those made, and their share of the peak; nothing where none are
/// counted.
fn operations(GigaflopRate { dense, executed }: &GigaflopRate, peak: f64) -> String {
    match *dense > 0.0 {
        true => format!(
            "  {dense:>5.0} GFLOP/s dense, {executed:>4.0} executed ({:.0} % of the peak)",
            100.0 * executed / peak
        ),
        false => String::new(),
    }
}
