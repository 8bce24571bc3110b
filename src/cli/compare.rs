//! `rotnet compare`: runs side by side.

use std::path::PathBuf;

use clap::Args;

use super::evaluate::interval;
use super::options::{TableArguments, TableFormat};
use super::table::Table;
use super::{print_json, print_line};
use crate::error::Result;
use crate::store::run_directory::RunDirectory;
use crate::tools::comparison::{self, Comparison, RunResults};

/// Options of `compare`.
#[derive(Args, Debug)]
#[command(after_help = "\
Opens no data set: the predictions that `finetune` kept are compared image by image (paired bootstrap). Runs on \
other test images are shown side by side, without that test.

Example:
  rotnet compare runs/a runs/b")]
pub struct CompareArguments {
    /// Run directories, two or more
    #[arg(value_name = "RUN", num_args = 2.., required = true)]
    pub runs: Vec<PathBuf>,
    #[command(flatten)]
    pub output: TableArguments,
}

pub(super) fn execute(arguments: &CompareArguments) -> Result<()> {
    let runs: Vec<RunDirectory> = arguments.runs.iter().map(RunDirectory::new).collect();
    runs.iter().for_each(RunDirectory::settle);
    let comparison = comparison::compare(&runs)?;
    match arguments.output.format() {
        TableFormat::Json => print_json(&comparison),
        TableFormat::Csv => print_line(&results(&comparison.runs).csv()?),
        TableFormat::Text => show(&comparison),
    }
}

fn show(comparison: &Comparison) -> Result<()> {
    print_line(&results(&comparison.runs).to_string())?;
    match comparison.differing.is_empty() {
        true => print_line("\nthe configs are the same")?,
        false => {
            let runs = comparison.runs.iter().map(|run| run.run.display().to_string());
            let mut table = Table::new(std::iter::once("differing key".to_owned()).chain(runs));
            for key in &comparison.differing {
                let values = key.values.iter().map(ToString::to_string);
                table.row(std::iter::once(key.key.clone()).chain(values));
            }
            print_line(&format!("\n{table}"))?;
        }
    }
    print_line("")?;
    comparison.pairs.iter().try_for_each(|pair| print_line(&pair.sentence))
}

fn results(runs: &[RunResults]) -> Table {
    let mut table = Table::new([
        "run",
        "rotation",
        "labels",
        "test",
        "95 % interval",
        "ECE",
        "pretrain s",
        "extract s",
        "finetune s",
        "tested",
        "data set",
    ]);
    let share = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    let time = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for run in runs {
        let [pretrain, extract, finetune] = run.seconds.map(time);
        table.row([
            run.run.display().to_string(),
            share(run.rotation_accuracy),
            run.labels.map_or_else(|| "-".to_owned(), |labels| labels.to_string()),
            share(run.test_accuracy),
            run.test_interval.map_or_else(|| "-".to_owned(), interval),
            share(run.calibration_error),
            pretrain,
            extract,
            finetune,
            run.test_evaluations.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            run.dataset.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table
}
