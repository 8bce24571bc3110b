//! `rotnet sweep`: a grid of runs, and their means.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::options::{OutputArguments, data_folder, other_kind};
use super::pipeline::data_home;
use super::signals::Stoppable;
use super::table::Table;
use super::{display, on_threads, print_json, print_line};
use crate::config::{self, Overrides};
use crate::device::{DeviceName, guarded};
use crate::error::Result;
use crate::tools::sweep::{self, Group, Planned, Spread, Sweep, SweepPart, SweepSummary, Tested};

/// Options of `sweep`.
#[derive(Args, Debug)]
#[command(after_help = "\
FILE is JSON: {\"config\": \"NAME or file\", \"grid\": {\"key\": [values]}, \"seeds\": [..], \"label_draws\": [..], \
\"variants\": {\"name\": {\"key\": value}, \"other\": {\"like\": \"name\", ..}}}. Every combination is a run in OUT; \
finished ones are skipped when the sweep is started again, and any number of processes, also on other machines that \
share OUT, work on it together. Encoders and features that runs share are computed \
once, in OUT/shared. Leaves OUT/{sweep.csv, summary.json}: accuracy on the validation images \
(data.validation_images), for choosing settings. The test set stays closed without --test, and is opened when \
all runs are trained.

Examples:
  rotnet sweep rates.json --data ~/cifar --set data.validation_images=5000
  rotnet sweep rates.json --data ~/cifar --set data.validation_images=5000 --test best
  rotnet sweep configs/sweeps/labels.json --data ~/cifar --out runs/labels --test
  rotnet sweep configs/sweeps/labels.json --dry-run")]
pub struct SweepArguments {
    /// The sweep
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Directory of the sweep (default: runs/ and the name of FILE)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Set one key of the config in every run; what FILE sets wins; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder of the data set
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Number of threads (default: one per processor); results do not depend on it
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Open the test set at the end, once per run: for `all` runs, or for those with the `best` mean validation
    /// accuracy
    #[arg(long, value_name = "RUNS", num_args = 0..=1, default_missing_value = "all")]
    pub test: Option<TestedRuns>,
    /// Train only the runs with these names
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        conflicts_with = "shard",
        hide_short_help = true
    )]
    pub only: Vec<String>,
    /// Train only the I-th of N parts of the runs, for job arrays
    #[arg(long, value_name = "I/N", value_parser = shard, hide_short_help = true)]
    pub shard: Option<Shard>,
    /// Implied: a sweep always resumes; accepted so that every stopped command can be repeated with it
    #[arg(long, hide = true)]
    pub resume: bool,
    /// List the runs without running them
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: OutputArguments,
}

/// The value of `--shard`, counted from 1.
#[derive(Clone, Copy, Debug)]
pub struct Shard {
    index: usize,
    count: usize,
}

fn shard(text: &str) -> Result<Shard, String> {
    let parts =
        text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
    match parts {
        Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
        _ => Err("a part and how many there are, for example 1/4".into()),
    }
}

/// Values of `--test`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TestedRuns {
    All,
    Best,
}

pub(super) fn execute(arguments: &SweepArguments) -> Result<()> {
    let file = sweep::read(&arguments.file)?;
    let mut common = Overrides::default();
    for assignment in &arguments.set {
        common.parse(assignment)?;
    }
    if let Some(data) = &arguments.data {
        common.set("data.directory", data_folder(data)?);
        let alone = (
            Some(file.config.as_path()),
            config::Document::named(&file.config).and_then(|document| document.config(&Overrides::default())),
        );
        if let Some(kind) = other_kind(data, &arguments.set, alone, arguments.output.quiet) {
            common.set("data.kind", kind.name());
        }
    }
    let planned = sweep::plan(&file, &common)?;
    if arguments.dry_run {
        return list(arguments, &planned);
    }
    let stem = arguments.file.file_stem().unwrap_or_default();
    let sweep = Sweep {
        description: file.description,
        planned,
        part: match (arguments.shard, &arguments.only[..]) {
            (Some(Shard { index, count }), _) => SweepPart::Shard { index, count },
            (None, []) => SweepPart::All,
            (None, names) => SweepPart::Named(names.to_vec()),
        },
        tested: match arguments.test {
            None => Tested::None,
            Some(TestedRuns::All) => Tested::All,
            Some(TestedRuns::Best) => Tested::Best,
        },
        out: arguments.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(stem)),
        data_home: data_home(),
    };
    let devices: BTreeSet<DeviceName> =
        sweep.planned.iter().flat_map(|planned| planned.config.all_devices()).collect();
    let summary = on_threads(arguments.threads, || {
        let mut reporter = Stoppable::new(display::reporter(arguments.output.quiet))?;
        guarded(&Vec::from_iter(devices), || sweep::execute(&sweep, &mut reporter))
    })??;
    match arguments.output.json() {
        true => print_json(&summary),
        false => show(&summary),
    }
}

fn list(arguments: &SweepArguments, planned: &[Planned]) -> Result<()> {
    let names: Vec<&String> = planned.iter().map(|planned| &planned.name).collect();
    if arguments.output.json() {
        return print_json(&names);
    }
    names.iter().try_for_each(|name| print_line(name))?;
    print_line(&format!("{} runs", names.len()))
}

fn show(summary: &SweepSummary) -> Result<()> {
    let keys: Vec<String> = match summary.groups.first() {
        Some(group) => group.values.keys().cloned().collect(),
        None => Vec::new(),
    };
    let with_variants = summary.groups.iter().any(|group| group.variant.is_some());
    let mut titles: Vec<String> = Vec::new();
    titles.extend(with_variants.then(|| "variant".to_owned()));
    titles.extend(keys.iter().cloned());
    titles.extend(["runs", "validation accuracy", "test accuracy"].map(str::to_owned));
    let mut table = Table::new(titles);
    for group in &summary.groups {
        let mut cells: Vec<String> = Vec::new();
        cells.extend(with_variants.then(|| group.variant.clone().unwrap_or_default()));
        cells.extend(keys.iter().map(|key| group.values[key].to_string()));
        cells.extend(numbers(group));
        table.row(cells);
    }
    print_line(&table.to_string())?;
    print_line(
        "mean ± standard deviation over seeds and label draws; each classifier tested once at most, after all training",
    )
}

fn numbers(group: &Group) -> [String; 3] {
    let number = |spread: Option<Spread>| match spread {
        None => "-".to_owned(),
        Some(Spread { mean, deviation: None, .. }) => format!("{mean:.4}"),
        Some(Spread { mean, deviation: Some(deviation), .. }) => format!("{mean:.4} ± {deviation:.4}"),
    };
    let runs = match group.failed {
        0 => group.runs.to_string(),
        failed => format!("{} ({failed} failed)", group.runs),
    };
    [runs, number(group.validation), number(group.test)]
}
