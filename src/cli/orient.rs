//! `rotnet orient`: which way up image files are, and upright copies of those that are not.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::images::{ImageArguments, finish};
use super::options::TableFormat;
use super::table::Table;
use super::{on_threads, print_json, print_line};
use crate::device::guarded;
use crate::error::{Error, Result};
use crate::store::run_directory::RunDirectory;
use crate::tools::apply::{self, Fix, OrientRequest, Orientation, Orientations};

/// Options of `orient`.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("write").args(["out", "in_place"]), after_help = "\
In folders, only images that are not upright are listed. No image is overwritten or removed: copies go into another \
folder, and --in-place keeps each original beside the turned image. A file that is turned is encoded again, without its \
metadata.

Examples:
  rotnet orient runs/a ~/photos
  rotnet orient runs/a ~/photos --out ~/upright --sure 0.95
  rotnet orient runs/a ~/photos --in-place")]
pub struct OrientArguments {
    #[command(flatten)]
    pub images: ImageArguments,
    /// Write upright copies of the images that are not upright into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Turn the images that are not upright in place, and keep each original as NAME.orig
    #[arg(long)]
    pub in_place: bool,
    /// Turn only images that are not upright with at least this probability
    #[arg(long, value_name = "P", default_value_t = 0.95, requires = "write")]
    pub sure: f64,
    /// Replace copies that are already in --out, but never one of the images
    #[arg(long, requires = "out", conflicts_with = "in_place")]
    pub force: bool,
    /// List the upright images in folders, too
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
    let files = apply::list(&images.paths, arguments.out.as_deref())?;
    let run = RunDirectory::new(&images.run);
    let copies = arguments.out.clone().map(|folder| Fix::Copies { folder, force: arguments.force });
    let fix = copies.or(arguments.in_place.then_some(Fix::InPlace));
    let request = OrientRequest { fix, sure: arguments.sure };
    let device = images.device()?;
    let work = || guarded(std::slice::from_ref(&device), || apply::orient(&run, &device, &files, &request));
    let found = on_threads(images.threads, work)??;
    match images.output.format() {
        TableFormat::Json => print_json(&found)?,
        TableFormat::Csv => show_csv(&found)?,
        TableFormat::Text => show(&found, arguments)?,
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
    let mut table = Table::new(header);
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
    rows.for_each(|row| table.row(row));
    print_line(&table.csv()?)
}
