//! `rotnet orient`: which way up image files are, and upright copies of those that are not.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::images::{ImageArguments, csv, finish};
use super::{on_threads, print_json, print_line};
use crate::device::guarded;
use crate::error::{Error, Result};
use crate::store::run_directory::RunDirectory;
use crate::tools::apply::{self, Fix, OrientRequest, Orientation, Orientations};

/// Options of `orient`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("write").args(["fix", "in_place"]))]
pub struct OrientArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Write upright copies of the images that are not upright into this folder
    #[arg(long, value_name = "OUT")]
    pub fix: Option<PathBuf>,
    /// Turn the images that are not upright where they are, and keep each original beside as NAME.orig
    #[arg(long)]
    pub in_place: bool,
    /// Turn only images whose turn is at least so likely
    #[arg(long, value_name = "P", default_value_t = 0.95, requires = "write")]
    pub sure: f64,
    /// Write over copies that are already in --fix; never over one of the images
    #[arg(long, requires = "fix", conflicts_with = "in_place")]
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
    let files = apply::list(&images.paths, arguments.fix.as_deref())?;
    let run = RunDirectory::new(&images.run);
    let copies = arguments.fix.clone().map(|folder| Fix::Copies { folder, force: arguments.force });
    let fix = copies.or(arguments.in_place.then_some(Fix::InPlace));
    let request = OrientRequest { fix, sure: arguments.sure };
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
    match (&image.fixed, &image.original) {
        (Some(fixed), None) => line += &format!("; upright copy in {}", fixed.display()),
        (Some(_), Some(original)) => line += &format!("; turned, the original is {}", original.display()),
        (None, Some(original)) => {
            line += &format!("; left as it is: turned before, see {}", original.display())
        }
        (None, None) => {}
    }
    line
}

fn show_csv(found: &Orientations) -> Result<()> {
    let header = ["file", "degrees", "probability", "p0", "p90", "p180", "p270", "fixed", "original"]
        .map(str::to_owned);
    let rows = found.images.iter().map(|image| {
        let mut row =
            vec![image.file.clone(), image.turns.degrees.to_string(), image.turns.probability.to_string()];
        row.extend(image.turns.probabilities.iter().map(f64::to_string));
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map_or_else(String::new, |path| path.display().to_string())
        };
        row.extend([path(&image.fixed), path(&image.original)]);
        row
    });
    csv(header.into(), rows)
}
