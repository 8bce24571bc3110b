//! `rotnet predict`: image files classified by a trained run.

use std::path::PathBuf;

use clap::Args;

use super::images::{ComputeArguments, finish};
use super::options::TableFormat;
use super::table::Table;
use super::{on_threads, print_json, print_line};
use crate::device::guarded;
use crate::error::Result;
use crate::store::run_directory::RunDirectory;
use crate::tools::apply::{self, ImagePredictions, Listing, Prediction};

/// Most probable classes per line of text.
const NAMED: usize = 3;

/// Options of `predict`.
#[derive(Args, Debug)]
#[command(after_help = "\
The middle square of an image is cut out and resized to the size of the run's images. A file that cannot be read gets \
one line of error; the others are done, and the exit status is 1.

Examples:
  rotnet predict runs/a photo.jpg
  rotnet predict runs/a ~/photos --format csv > photos.csv")]
pub struct PredictArguments {
    /// The run directory
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Image files (PNG, JPEG, WebP, BMP, GIF), or folders that contain some at any depth
    #[arg(value_name = "IMAGE", required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub compute: ComputeArguments,
    /// Checkpoint of the encoder, or the directory that holds it, if it is not the run's own
    #[arg(long, value_name = "PATH")]
    pub checkpoint: Option<PathBuf>,
}

pub(super) fn execute(arguments: &PredictArguments) -> Result<()> {
    let compute = &arguments.compute;
    let Listing { files, failed, .. } = apply::list(&arguments.paths, None)?;
    let run = RunDirectory::new(&arguments.run);
    let encoder = arguments.checkpoint.clone();
    let device = compute.device(&run)?;
    let work = || guarded(std::slice::from_ref(&device), || apply::predict(&run, encoder, &device, &files));
    let mut found = on_threads(compute.threads, work)??;
    found.failed.splice(0..0, failed);
    match compute.output.format() {
        TableFormat::Json => print_json(&found)?,
        TableFormat::Csv => show_csv(&found)?,
        TableFormat::Text => show(&found, compute.output.quiet)?,
    }
    finish(found.failed)
}

fn show(found: &ImagePredictions, quiet: bool) -> Result<()> {
    if !quiet {
        eprintln!("note: {}", found.preparation);
    }
    found.images.iter().try_for_each(|image| print_line(&line(image, &found.classes)))
}

fn line(image: &Prediction, classes: &[String]) -> String {
    let mut ranked: Vec<usize> = (0..classes.len()).collect();
    ranked.sort_by(|&a, &b| image.probabilities[b].total_cmp(&image.probabilities[a]));
    let named = ranked
        .iter()
        .take(NAMED)
        .map(|&class| format!("{} {:.3}", classes[class], image.probabilities[class]));
    let mut line = format!("{}: {}", image.file.text(), named.collect::<Vec<_>>().join(", "));
    if let Some(rotation) = image.rotation {
        line += &match rotation.turns {
            0 => format!("; upright {:.3}", rotation.probability),
            _ => format!("; not upright: turned {} degrees {:.3}", rotation.degrees, rotation.probability),
        };
    }
    line
}

fn show_csv(found: &ImagePredictions) -> Result<()> {
    let mut header = vec!["file".to_owned(), "class".into(), "probability".into()];
    header.extend(found.classes.iter().cloned());
    header.extend(["rotation_degrees".into(), "rotation_probability".into(), "upright_probability".into()]);
    let mut table = Table::new(header);
    let rows = found.images.iter().map(|image| {
        let mut row = vec![image.file.text().to_owned(), image.class.clone(), image.probability.to_string()];
        row.extend(image.probabilities.iter().map(f64::to_string));
        row.extend(match image.rotation {
            Some(turns) => {
                [turns.degrees.to_string(), turns.probability.to_string(), turns.probabilities[0].to_string()]
            }
            None => [const { String::new() }; 3],
        });
        row
    });
    rows.for_each(|row| table.row(row));
    print_line(&table.csv()?)
}
