//! `rotnet orient`: which way up image files are, and upright versions of those that are not, made without loss.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{ArgGroup, Args};

use super::images::{ComputeArguments, finish};
use super::options::TableFormat;
use super::table::Table;
use super::{display, on_threads, print_json, print_line};
use crate::device::guarded;
use crate::error::{Error, Result};
use crate::progress::Stage;
use crate::store::encoder_source::{EncoderSource, PHOTOS};
use crate::store::run_directory::RunDirectory;
use crate::tools::apply::{
    self, Action, Applied, Expected, Fix, How, OrientRequest, Orientation, Orientations, Undone,
};
use crate::tools::html::refuse_other_file;
use crate::tools::shell::quoted;

/// Options of `orient`.
#[derive(Args, Debug)]
#[command(
    group = ArgGroup::new("write").args(["out", "in_place"]),
    group = ArgGroup::new("written").args(["out", "review"]).multiple(true),
    group = ArgGroup::new("logged").args(["in_place", "apply"]).multiple(true),
    after_help = "\
Without --out, --in-place, --apply and --undo nothing is changed: a list is printed, of folders only what is not upright. \
The network in the program is for ordinary photographs; for other images train your own and name its run first. \
JPEG and WebP files are turned by their orientation tag, PNG files with their pixels; nothing else in them changes, and \
files that are not turned are not touched. --in-place writes a log, by which --undo brings back every byte.

Examples:
  rotnet orient ~/photos --review look.html
  rotnet orient ~/photos --format json > plan.json && rotnet orient --apply plan.json
  rotnet orient ~/photos --out ~/upright --sure 0.95
  rotnet orient ~/photos --in-place --log turned.jsonl && rotnet orient --undo turned.jsonl
  rotnet orient runs/a ~/xrays"
)]
pub struct OrientArguments {
    #[command(flatten)]
    pub look: LookArguments,
    #[command(flatten)]
    pub compute: ComputeArguments,
    /// Write upright copies of the images that are not upright into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Turn the images that are not upright in place; the original of a PNG file is kept as NAME.orig
    #[arg(long)]
    pub in_place: bool,
    /// Carry out a plan that --format json printed, in place or into --out; files that changed since are left alone
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["review", "sure", "expect", "all"])]
    pub apply: Option<PathBuf>,
    /// Bring back what was turned in place, as this log tells; files that changed since are left alone
    #[arg(
        long,
        value_name = "LOG",
        conflicts_with_all = ["apply", "out", "in_place", "log", "review", "sure", "expect", "all", "force"]
    )]
    pub undo: Option<PathBuf>,
    /// File for the log of what is turned in place (default: rotnet-orient-TIME.jsonl here)
    #[arg(long, value_name = "FILE", requires = "logged", conflicts_with = "out")]
    pub log: Option<PathBuf>,
    /// Write an HTML page with small pictures before and after, the surest first
    #[arg(long, value_name = "FILE")]
    pub review: Option<PathBuf>,
    /// Turn an image only if it is not upright with at least this probability
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub sure: f64,
    /// Share of the images that lie wrong, as far as you know (default: as the images themselves say)
    #[arg(long, value_name = "SHARE")]
    pub expect: Option<f64>,
    /// Replace copies that are already in --out, but never one of the images; replace the page of --review
    #[arg(long, requires = "written")]
    pub force: bool,
    /// List the upright images in folders, too
    #[arg(long)]
    pub all: bool,
}

/// What is looked at; a plan and a log name their files themselves.
#[derive(Args, Debug)]
pub struct LookArguments {
    /// Image files (PNG, JPEG, WebP, BMP, GIF), or folders that contain some at any depth. A run directory in front of
    /// them: use its network, not the one for photographs that comes with the program
    #[arg(
        value_name = "[RUN] IMAGE",
        required_unless_present_any = ["apply", "undo"],
        conflicts_with_all = ["apply", "undo"]
    )]
    pub paths: Vec<PathBuf>,
}

impl LookArguments {
    /// The network to ask, and the paths of images.
    fn parts(&self) -> Result<(EncoderSource, &[PathBuf])> {
        let Some((first, rest)) = self.paths.split_first() else {
            return Ok((EncoderSource::Included(&PHOTOS), &[]));
        };
        let run = RunDirectory::new(first);
        run.settle();
        if !run.record().is_file() && !run.result(Stage::Pretrain).is_file() {
            return Ok((EncoderSource::Included(&PHOTOS), &self.paths));
        }
        if rest.is_empty() {
            return Err(Error::Usage {
                problem: format!("{} is a run, and no images are named", first.display()),
                hint: "name image files or folders behind it".into(),
            });
        }
        Ok((EncoderSource::Run(run), rest))
    }
}

impl OrientArguments {
    fn fix(&self) -> Option<Fix> {
        let folder = self.out.clone();
        let copies = folder.map(|folder| Fix::Copies { folder, force: self.force });
        let in_place = || self.in_place || self.apply.is_some();
        copies.or_else(|| in_place().then(|| Fix::InPlace { log: self.log.clone().unwrap_or_else(log_name) }))
    }
}

/// A name for a log, of the time.
fn log_name() -> PathBuf {
    let now = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    format!("rotnet-orient-{}.jsonl", now.replace(['-', ':', '.'], "")).into()
}

pub(super) fn execute(arguments: &OrientArguments) -> Result<()> {
    if let Some(log) = &arguments.undo {
        return undo(log, arguments);
    }
    match (&arguments.apply, arguments.fix()) {
        (Some(plan), Some(fix)) => carry_out(plan, &fix, arguments),
        (_, fix) => look(fix, arguments),
    }
}

fn look(fix: Option<Fix>, arguments: &OrientArguments) -> Result<()> {
    for (option, value) in [("sure", Some(arguments.sure)), ("expect", arguments.expect)] {
        if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
            return Err(Error::Usage {
                problem: format!("--{option} {value}: not a share of one"),
                hint: "give a number from 0 to 1".into(),
            });
        }
    }
    if let Some(path) = arguments.review.as_ref().filter(|path| path.symlink_metadata().is_ok()) {
        if !arguments.force {
            return Err(Error::OutputExists { path: path.clone() });
        }
        refuse_other_file(path)?;
    }
    let (look, compute) = (&arguments.look, &arguments.compute);
    let (source, paths) = look.parts()?;
    let listing = apply::list(paths, arguments.out.as_deref())?;
    let kinds = listing.unread_kinds();
    let request = OrientRequest {
        fix,
        sure: arguments.sure,
        expect: arguments.expect,
        review: arguments.review.clone(),
    };
    let device = match &source {
        EncoderSource::Run(run) => compute.device(run)?,
        EncoderSource::Included(_) => compute.device_without_run()?,
    };
    let quiet = compute.output.quiet;
    let work = || {
        let mut reporter = display::reporter(quiet);
        let look = || apply::orient(&source, &device, listing, &request, reporter.as_mut());
        guarded(std::slice::from_ref(&device), look)
    };
    let found = on_threads(compute.threads, work)??;
    match compute.output.format() {
        TableFormat::Json => print_json(&found)?,
        TableFormat::Csv => show_csv(&found)?,
        TableFormat::Text => {
            let kinds = kinds
                .iter()
                .map(|(kind, count)| format!("{count} {kind} files are not read, and left alone"));
            show(&found, kinds, arguments)?;
        }
    }
    note_log(found.log.as_deref(), arguments);
    finish(found.failed)
}

fn note_log(log: Option<&Path>, arguments: &OrientArguments) {
    if let Some(log) = log.filter(|_| !arguments.compute.output.quiet) {
        eprintln!("note: `rotnet orient --undo {}` brings back every byte", quoted(log.as_os_str()));
    }
}

fn carry_out(plan: &Path, fix: &Fix, arguments: &OrientArguments) -> Result<()> {
    let Applied { images, failed, log } = apply::carry_out(plan, fix)?;
    if arguments.compute.output.format() == TableFormat::Json {
        let applied = Applied { images, failed, log };
        print_json(&applied)?;
        note_log(applied.log.as_deref(), arguments);
        return finish(applied.failed);
    }
    for image in &images {
        let written = written(image.fixed.as_deref(), image.original.as_deref());
        print_line(&format!("{}{written}", image.file.text()))?;
    }
    let turned = images.iter().filter(|image| image.fixed.is_some()).count();
    print_line(&format!("{turned} of {} images were turned", images.len() + failed.len()))?;
    note_log(log.as_deref(), arguments);
    finish(failed)
}

fn undo(log: &Path, arguments: &OrientArguments) -> Result<()> {
    let undone: Undone = apply::undo(log)?;
    if arguments.compute.output.format() == TableFormat::Json {
        print_json(&undone)?;
        return finish(undone.failed);
    }
    let lines = |files: &[String], says: &str| {
        files.iter().try_for_each(|file| print_line(&format!("{file}: {says}")))
    };
    lines(&undone.restored, "as it was")?;
    lines(&undone.unchanged, "was as it was already")?;
    let all = undone.restored.len() + undone.unchanged.len() + undone.failed.len();
    print_line(&format!("{} of {all} images were brought back", undone.restored.len()))?;
    finish(undone.failed)
}

fn show(
    found: &Orientations,
    unread: impl Iterator<Item = String>,
    arguments: &OrientArguments,
) -> Result<()> {
    if !arguments.compute.output.quiet {
        eprintln!("note: {}", found.preparation);
    }
    let shown = |image: &&Orientation| arguments.all || image.named || image.turns.turns != 0;
    let writes = arguments.out.is_some() || arguments.in_place;
    found.images.iter().filter(shown).try_for_each(|image| print_line(&line(image, writes)))?;
    match arguments.all {
        true => found
            .unread
            .iter()
            .try_for_each(|unread| print_line(&format!("{}: {}", unread.file.text(), unread.why)))?,
        false => unread.into_iter().try_for_each(|line| print_line(&line))?,
    }
    print_line(&summary(found, writes))
}

/// How many images are not upright, and how many of the turns are mistakes.
fn summary(found: &Orientations, writes: bool) -> String {
    let sideways = found.images.iter().filter(|image| image.turns.turns != 0).count();
    let not_upright = format!("{sideways} of {} images are not upright", found.images.len());
    let Expected { turns, mistakes, .. } = found.expected;
    if turns == 0 {
        return not_upright;
    }
    let are = if writes { "were" } else { "would be" };
    let about = if mistakes < 9.95 { format!("{mistakes:.1}") } else { format!("{mistakes:.0}") };
    format!("{not_upright}; {turns} {are} turned, of which about {about} by mistake")
}

fn line(image: &Orientation, writes: bool) -> String {
    let turns = image.turns;
    let file = image.file.text();
    let mut line = match turns.turns {
        0 => format!("{file}: upright {:.3}", turns.probability),
        2 => format!("{file}: upside down {:.3}", turns.probability),
        1 => format!("{file}: turned 90 degrees counter-clockwise {:.3}", turns.probability),
        _ => format!("{file}: turned 90 degrees clockwise {:.3}", turns.probability),
    };
    line += &written(image.fixed.as_deref(), image.original.as_deref());
    line += &match (image.action, image.how) {
        (Action::Turn, Some(How::Tag)) if !writes => "; to be turned by its tag".into(),
        (Action::Turn, _) if !writes => "; to be turned with its pixels".into(),
        _ => image.why.as_ref().map_or_else(String::new, |why| format!("; left as it is: {why}")),
    };
    if let Some(warning) = &image.warning {
        line += &format!("; {warning}");
    }
    line
}

fn written(fixed: Option<&Path>, original: Option<&Path>) -> String {
    match (fixed, original) {
        (Some(fixed), None) => format!("; upright in {}", fixed.display()),
        (Some(_), Some(original)) => format!("; turned, the original is {}", original.display()),
        (None, Some(original)) => format!("; left as it is: turned before, see {}", original.display()),
        (None, None) => String::new(),
    }
}

fn show_csv(found: &Orientations) -> Result<()> {
    let header = [
        "file",
        "degrees",
        "probability",
        "p0",
        "p90",
        "p180",
        "p270",
        "fixed",
        "original",
        "action",
        "how",
        "why",
    ];
    let mut table = Table::new(header.map(str::to_owned));
    let rows = found.images.iter().map(|image| {
        let turns = image.turns;
        let mut row =
            vec![image.file.text().to_owned(), turns.degrees.to_string(), turns.probability.to_string()];
        row.extend(turns.probabilities.iter().map(f64::to_string));
        let path = |path: &Option<PathBuf>| {
            path.as_ref().map_or_else(String::new, |path| path.display().to_string())
        };
        row.extend([path(&image.fixed), path(&image.original)]);
        row.push(if image.action == Action::Turn { "turn" } else { "leave" }.into());
        row.push(match image.how {
            Some(How::Tag) => "tag".into(),
            Some(How::Pixels) => "pixels".into(),
            None => String::new(),
        });
        row.push(image.why.clone().or_else(|| image.warning.clone()).unwrap_or_default());
        row
    });
    rows.for_each(|row| table.row(row));
    print_line(&table.csv()?)
}
