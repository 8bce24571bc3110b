//! `rotnet orient`: which way up image files are, and upright copies of those that are not.

use std::path::PathBuf;

use clap::Args;

use super::images::{ImageArguments, csv, finish};
use super::{on_threads, print_json, print_line};
use crate::apply::{self, OrientRequest, Orientation, Orientations};
use crate::device::guarded;
use crate::error::{Error, Result};
use crate::run_directory::RunDirectory;

/// Options of `orient`.
#[derive(Args, Debug)]
pub struct OrientArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Write upright copies of the images that are not upright into this folder
    #[arg(long, value_name = "OUT")]
    pub fix: Option<PathBuf>,
    /// Turn only images whose turn is at least so likely
    #[arg(long, value_name = "P", default_value_t = 0.95, requires = "fix")]
    pub sure: f64,
    /// Write over copies that are already in --fix
    #[arg(long, requires = "fix")]
    pub force: bool,
    /// Show the upright images of folders too
    #[arg(long)]
    pub all: bool,
}

pub(super) fn execute(arguments: &OrientArguments) -> Result<()> {
    let images = &arguments.images;
    if !(0.0..=1.0).contains(&arguments.sure) {
        return Err(Error::Usage {
            problem: format!("--sure {}: not a probability", arguments.sure),
            hint: "give a number from 0 to 1".into(),
        });
    }
    let files = apply::list(&images.paths)?;
    let run = RunDirectory::new(&images.run);
    let request = OrientRequest { fix: arguments.fix.clone(), sure: arguments.sure, force: arguments.force };
    let device = images.device()?;
    let work = || guarded(std::slice::from_ref(&device), || apply::orient(&run, &device, &files, &request));
    let found = on_threads(images.threads, work)??;
    match (images.output.json, images.csv) {
        (true, _) => print_json(&found)?,
        (_, true) => show_csv(&found)?,
        _ => show(&found, arguments)?,
    }
    finish(found.failed)
}

fn show(found: &Orientations, arguments: &OrientArguments) -> Result<()> {
    if !arguments.images.output.quiet {
        eprintln!("note: {}", found.preparation);
    }
    let shown = |image: &&Orientation| arguments.all || image.named || image.turns.turns != 0;
    found.images.iter().filter(shown).try_for_each(|image| print_line(&line(image)))?;
    let sideways = found.images.iter().filter(|image| image.turns.turns != 0).count();
    print_line(&format!("{sideways} of {} images are not upright", found.images.len()))
}

fn line(image: &Orientation) -> String {
    let turns = image.turns;
    let mut line = match turns.turns {
        0 => format!("{}: upright {:.3}", image.file, turns.probability),
        2 => format!("{}: upside down {:.3}", image.file, turns.probability),
        1 => format!("{}: turned 90 degrees counter-clockwise {:.3}", image.file, turns.probability),
        _ => format!("{}: turned 90 degrees clockwise {:.3}", image.file, turns.probability),
    };
    if let Some(fixed) = &image.fixed {
        line += &format!("; upright copy in {}", fixed.display());
    }
    line
}

fn show_csv(found: &Orientations) -> Result<()> {
    let header = ["file", "degrees", "probability", "p0", "p90", "p180", "p270", "fixed"].map(str::to_owned);
    let rows = found.images.iter().map(|image| {
        let mut row =
            vec![image.file.clone(), image.turns.degrees.to_string(), image.turns.probability.to_string()];
        row.extend(image.turns.probabilities.iter().map(f64::to_string));
        row.push(image.fixed.as_ref().map_or_else(String::new, |path| path.display().to_string()));
        row
    });
    csv(header.into(), rows)
}
