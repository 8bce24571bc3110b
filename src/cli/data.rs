//! `rotnet data ...`: data sets to and from disk.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::options::OutputArguments;
use super::pipeline::data_home;
use super::{display, on_threads, print_json, print_line};
use crate::data::{
    self, CheckReport, DatasetInfo, Description, FetchReport, FetchRequest, Sizes, SynthReport,
};
use crate::error::{Error, Result};
use crate::progress::Reporter;

#[derive(Subcommand, Debug)]
pub enum DataCommand {
    /// Download the official CIFAR-10 archive, check it, and unpack its files
    #[command(after_help = "\
A download that was cut off is continued. Size and SHA-256 are checked before anything is unpacked.

Examples:
  rotnet data fetch
  rotnet data fetch --archive ~/Downloads/cifar-10-binary.tar.gz --out ~/cifar")]
    Fetch {
        /// Folder to put cifar-10-batches-bin into
        #[arg(long, value_name = "DIR", env = "ROTNET_DATA", default_value = "data")]
        out: PathBuf,
        /// Download from another address
        #[arg(long, value_name = "URL", conflicts_with = "archive")]
        url: Option<String>,
        /// Use an archive that is already on this machine
        #[arg(long, value_name = "FILE")]
        archive: Option<PathBuf>,
        /// SHA-256 that the archive must have, if it is not the official one
        #[arg(long, value_name = "HEX")]
        sha256: Option<String>,
        /// Replace a data set that is already there
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Describe a data set and verify its files: digests, counts by class, mean and deviation by channel, copies
    #[command(after_help = "\
Reads every file, and counts the test images that are among the training images. The exit status is 1 if a file is \
missing, damaged, or not as it was recorded.

Example:
  rotnet data info ~/photos --json")]
    Info {
        /// Folder of image files or of CIFAR's binary files
        #[arg(value_name = "DIR", env = "ROTNET_DATA", default_value = "data")]
        directory: PathBuf,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Check whether rotation can be learned from the images or is given away, and what to do about it
    #[command(after_help = "\
Looks at training images only, never at the test set. docs/data-check.md lists what is measured and the thresholds.

Example:
  rotnet data check ~/photos")]
    Check {
        /// Folder of image files or of CIFAR's binary files
        #[arg(value_name = "DIR", env = "ROTNET_DATA", default_value = "data")]
        directory: PathBuf,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Generate a data set: 10 classes of drawn scenes, 5,000 training and 1,000 test images
    Synth {
        /// Folder to put cifar-10-batches-bin into
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Random seed
        #[arg(long, value_name = "N", default_value_t = crate::data::SCENES_SEED)]
        seed: u64,
        /// Replace a data set that is already there
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        output: OutputArguments,
    },
}

pub(super) fn execute(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch { out, url, archive, sha256, force, output } => {
            let request = FetchRequest { directory: out, url, archive, sha256, force };
            let report = data::fetch(&request, display::reporter(output.quiet).as_mut())?;
            print(&output, &report, show_fetch)
        }
        DataCommand::Info { directory, output } => info(&directory, &output),
        DataCommand::Check { directory, output } => {
            let report = on_folder(&output, |reporter| data::check(&directory, &data_home(), reporter))?;
            print(&output, &report, show_check)
        }
        DataCommand::Synth { out, seed, force, output } => {
            let quiet = output.quiet;
            let report =
                on_threads(None, || data::generate(&out, seed, force, display::reporter(quiet).as_mut()))??;
            print(&output, &report, show_synth)
        }
    }
}

/// Shows all that can be read, then fails if a file is damaged.
fn info(directory: &Path, output: &OutputArguments) -> Result<()> {
    let info = on_folder(output, |reporter| data::info(directory, &data_home(), reporter))?;
    print(output, &info, show_info)?;
    let broken: Vec<&str> =
        info.files.iter().filter(|file| file.problem.is_some()).map(|file| file.name.as_str()).collect();
    let [first, more @ ..] = &broken[..] else {
        return Ok(());
    };
    let others = if more.is_empty() { "" } else { " and others" };
    let problem = format!("{} of {} files damaged or missing: {first}{others}", broken.len(), info.checked);
    Err(Error::data(&info.directory, problem, info.hint))
}

/// Runs work on a data set that may have to be decoded first, with all threads.
fn on_folder<T: Send>(
    output: &OutputArguments,
    work: impl FnOnce(&mut dyn Reporter) -> Result<T> + Send,
) -> Result<T> {
    let quiet = output.quiet;
    on_threads(None, || work(display::reporter(quiet).as_mut()))?
}

fn print<T: serde::Serialize>(
    output: &OutputArguments,
    report: &T,
    show: impl FnOnce(&T) -> Result<()>,
) -> Result<()> {
    match output.json() {
        true => print_json(report),
        false => show(report),
    }
}

fn show_fetch(report: &FetchReport) -> Result<()> {
    print_line(&format!("{} is in {}", report.name, report.directory.display()))
}

fn show_synth(report: &SynthReport) -> Result<()> {
    print_line(&format!(
        "{}: {} training and {} test images in {}",
        report.name,
        report.train,
        report.test,
        report.directory.display()
    ))
}

fn show_info(info: &DatasetInfo) -> Result<()> {
    let name = info.name.as_deref().unwrap_or("damaged data set");
    print_line(&format!("{name} in {}", info.directory.display()))?;
    info.description.as_ref().map_or(Ok(()), show_description)?;
    for file in &info.files {
        let state = match (&file.problem, &file.facts) {
            (Some(problem), _) => format!("damaged: {problem}"),
            (None, Some(facts)) => format!("{} images, SHA-256 {}", facts.records, facts.sha256),
            (None, None) => "missing".into(),
        };
        print_line(&format!("{}: {state}", file.name))?;
    }
    let broken = info.files.iter().filter(|file| file.problem.is_some()).count();
    print_line(&format!("{} files read, {broken} of them damaged or missing", info.checked))?;
    match info.test_images_in_train {
        Some(shared) => print_line(&format!("{shared} test images are also among the training images")),
        None => Ok(()),
    }
}

fn show_description(holds: &Description) -> Result<()> {
    print_line(&format!("fingerprint {}", holds.fingerprint))?;
    let [height, width, channels] = holds.image_shape;
    let shape = format!("{height} x {width}, {channels} channels");
    print_line(&match holds.file_sizes {
        None => format!("images {shape}"),
        Some(sizes) => {
            format!("images {}; mean and deviation below are of squares of {shape}", in_words(sizes))
        }
    })?;
    print_line("class            train     test")?;
    let counts = holds.train.per_class.iter().zip(&holds.test.per_class);
    for (class, (train, test)) in holds.classes.iter().zip(counts) {
        print_line(&format!("{class:<12} {train:>9} {test:>8}"))?;
    }
    print_line(&format!("all          {:>9} {:>8}", holds.train.images, holds.test.images))?;
    if holds.unlabeled > 0 {
        print_line(&format!("no label     {:>9}", holds.unlabeled))?;
    }
    for (channel, (mean, deviation)) in
        ["red", "green", "blue"].iter().zip(holds.mean.iter().zip(holds.deviation))
    {
        print_line(&format!("{channel:<6} mean {mean:.4}, deviation {deviation:.4}"))?;
    }
    Ok(())
}

/// Sizes of image files in words.
fn in_words(Sizes { smallest, median, largest }: Sizes) -> String {
    let pixels = |[height, width]: [u32; 2]| format!("{height} x {width}");
    match smallest == largest {
        true => format!("of {} pixels", pixels(median)),
        false => {
            format!("of {} to {} pixels, {} in the middle", pixels(smallest), pixels(largest), pixels(median))
        }
    }
}

fn show_check(report: &CheckReport) -> Result<()> {
    let found = &report.measures;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    print_line(&format!("{}; looked at {} training images", report.name, found.images))?;
    print_line(&format!(
        "accuracy of telling the rotation from 8x8 fields of colour: {:.3}, from the outermost pixels: {:.3} (by \
         guessing: up to {:.3})",
        found.layout_accuracy, found.frame_accuracy, found.chance_limit
    ))?;
    let [top, right, bottom, left] = found.flat_sides.map(percent);
    print_line(&format!("flat edges: top {top}, right {right}, bottom {bottom}, left {left}"))?;
    print_line(&format!(
        "the same in all images: {} of the picture; turned copies: {} of the images",
        percent(found.fixed_places),
        percent(found.turned_copies)
    ))?;
    if let Some([absent, upright, turned]) = found.tags {
        print_line(&format!("EXIF orientation: {absent} files without, {upright} upright, {turned} turned"))?;
    }
    for warning in &report.warnings {
        print_line(&format!("warning: {}\n  advice: {}", warning.problem, warning.advice))?;
    }
    match report.warnings.is_empty() {
        true => print_line("found no reason not to pretrain by rotation"),
        false => Ok(()),
    }
}
