//! `rotnet data ...`: data sets to and from disk.

use super::arguments::{DataCommand, OutputArguments};
use super::{display, on_threads, print_json, print_line};
use crate::data::{self, DatasetInfo, FetchReport, FetchRequest, SynthReport, VerifyReport};
use crate::error::{Error, Result};

pub(super) fn execute(command: DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch { to, url, archive, sha256, force, output } => {
            let request = FetchRequest { directory: to, url, archive, sha256, force };
            let report = data::fetch(&request, display::reporter(output.quiet).as_mut())?;
            print(&output, &report, show_fetch)
        }
        DataCommand::Verify { directory, output } => {
            let report = data::verify(&directory)?;
            print(&output, &report, show_verify)?;
            match report.files.iter().find_map(|file| file.problem.clone()) {
                None => Ok(()),
                Some(problem) => Err(Error::data(
                    report.directory,
                    problem,
                    "`rotnet data fetch --force` or `rotnet data synth --force` writes the files again",
                )),
            }
        }
        DataCommand::Info { directory, output } => print(&output, &data::info(&directory)?, show_info),
        DataCommand::Synth { to, seed, force, output } => {
            let quiet = output.quiet;
            let report =
                on_threads(None, || data::generate(&to, seed, force, display::reporter(quiet).as_mut()))??;
            print(&output, &report, show_synth)
        }
    }
}

fn print<T: serde::Serialize>(
    output: &OutputArguments,
    report: &T,
    show: impl FnOnce(&T) -> Result<()>,
) -> Result<()> {
    match output.json {
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
    if let (Some(name), Some(shared)) = (&report.name, report.test_images_in_train) {
        print_line(&format!("{name}; {shared} test images are among the training images"))?;
    }
    Ok(())
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
    for (channel, (mean, deviation)) in
        ["red", "green", "blue"].iter().zip(info.mean.iter().zip(info.deviation))
    {
        print_line(&format!("{channel:<6} mean {mean:.4}, deviation {deviation:.4}"))?;
    }
    Ok(())
}
