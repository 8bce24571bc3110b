//! `rotnet data ...`: data sets to and from disk.

use std::path::PathBuf;

use clap::Subcommand;

use super::options::OutputArguments;
use super::pipeline::data_home;
use super::{display, on_threads, print_json, print_line};
use crate::data::{self, CheckReport, DatasetInfo, FetchReport, FetchRequest, SynthReport, VerifyReport};
use crate::error::{Error, Result};
use crate::progress::Reporter;

#[derive(Subcommand, Debug)]
pub enum DataCommand {
    /// Download the official CIFAR-10 archive, check it, unpack its six files
    #[command(after_help = "\
A download that was cut goes on where it ended. Size and SHA-256 are checked before anything is unpacked.

Examples:
  rotnet data fetch
  rotnet data fetch --archive ~/Downloads/cifar-10-binary.tar.gz --out ~/cifar")]
    Fetch {
        /// Folder to put cifar-10-batches-bin into
        #[arg(long, value_name = "DIR", env = "ROTNET_DATA", default_value = "data")]
        out: PathBuf,
        /// Another place to download from
        #[arg(long, value_name = "URL", conflicts_with = "archive")]
        url: Option<String>,
        /// An archive that is on this machine already
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
    /// Check the files of a data set, and look for test images among the training images
    Verify {
        /// Folder of image files, or with CIFAR's binary files
        #[arg(value_name = "DIR", env = "ROTNET_DATA", default_value = "data")]
        directory: PathBuf,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Show counts, classes, and mean and deviation by channel
    Info {
        /// Folder of image files, or with CIFAR's binary files
        #[arg(value_name = "DIR", env = "ROTNET_DATA", default_value = "data")]
        directory: PathBuf,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Look for what keeps rotation from being learned, or gives it away
    #[command(after_help = "\
Looks at the training images alone, never at the test set. What is measured and from where on it warns is told in \
README.md, section 'Is rotation there to be learned?'.

Example:
  rotnet data check ~/photos")]
    Check {
        /// Folder of image files, or with CIFAR's binary files
        #[arg(value_name = "DIR", env = "ROTNET_DATA", default_value = "data")]
        directory: PathBuf,
        #[command(flatten)]
        output: OutputArguments,
    },
    /// Write the generated data set: 10 classes of drawn scenes, 5,000 training and 1,000 test images
    Synth {
        /// Folder to put cifar-10-batches-bin into
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Decides every image
        #[arg(long, value_name = "N", default_value_t = crate::data::SCENES_SEED)]
        seed: u64,
        /// Write over a data set that is already there
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
        DataCommand::Verify { directory, output } => {
            let report = on_folder(&output, |reporter| data::verify(&directory, &data_home(), reporter))?;
            print(&output, &report, show_verify)?;
            match report.files.iter().find_map(|file| file.problem.clone()) {
                None => Ok(()),
                Some(problem) => Err(Error::data(
                    report.directory,
                    problem,
                    "`rotnet data fetch --force` or `rotnet data synth --force` writes a data set again; image \
                     files that cannot be read are left out of the training",
                )),
            }
        }
        DataCommand::Info { directory, output } => {
            let info = on_folder(&output, |reporter| data::info(&directory, &data_home(), reporter))?;
            print(&output, &info, show_info)
        }
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

fn show_verify(report: &VerifyReport) -> Result<()> {
    for file in &report.files {
        let state = match (&file.problem, &file.facts) {
            (Some(problem), _) => format!("damaged: {problem}"),
            (None, Some(facts)) => format!("{} images, SHA-256 {}", facts.records, facts.sha256),
            (None, None) => "missing".into(),
        };
        print_line(&format!("{}: {state}", file.name))?;
    }
    let broken = report.files.iter().filter(|file| file.problem.is_some()).count();
    print_line(&format!("{} files read, {broken} of them damaged or missing", report.checked))?;
    match (&report.name, report.test_images_in_train) {
        (Some(name), Some(shared)) => {
            print_line(&format!("{name}; {shared} test images are among the training images"))
        }
        (Some(name), None) => print_line(name),
        _ => Ok(()),
    }
}

fn show_info(info: &DatasetInfo) -> Result<()> {
    print_line(&format!("{} in {}", info.name, info.directory.display()))?;
    print_line(&format!("fingerprint {}", info.fingerprint))?;
    let [height, width, channels] = info.image_shape;
    print_line(&format!("images {height} x {width}, {channels} channels"))?;
    print_line("class            train     test")?;
    let counts = info.train.per_class.iter().zip(&info.test.per_class);
    for (class, (train, test)) in info.classes.iter().zip(counts) {
        print_line(&format!("{class:<12} {train:>9} {test:>8}"))?;
    }
    print_line(&format!("all          {:>9} {:>8}", info.train.images, info.test.images))?;
    if info.unlabeled > 0 {
        print_line(&format!("no label     {:>9}", info.unlabeled))?;
    }
    for (channel, (mean, deviation)) in
        ["red", "green", "blue"].iter().zip(info.mean.iter().zip(info.deviation))
    {
        print_line(&format!("{channel:<6} mean {mean:.4}, deviation {deviation:.4}"))?;
    }
    Ok(())
}

fn show_check(report: &CheckReport) -> Result<()> {
    let found = &report.measures;
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    print_line(&format!("{}; {} training images looked at", report.name, found.images))?;
    print_line(&format!(
        "rotation told from 8x8 fields of colour: {:.3}, from the outermost pixels: {:.3} (guessing: up to {:.3})",
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
        print_line(&format!("warning: {warning}"))?;
    }
    match report.warnings.is_empty() {
        true => print_line("nothing speaks against pretraining by rotation"),
        false => Ok(()),
    }
}
