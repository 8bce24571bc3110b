//! `rotnet report`: one HTML file about one or more runs that needs nothing but a browser.
//!
//! `facts` reads what the runs left behind, `look` computes what their encoders make of images, and the rest lays it
//! out: `baselines`, `curves`, `labels`, `gallery`, `tables`, `origin` and `sweep` are the sections, `chart`, `matrix`,
//! `rows` and `picture` draw, `figure` adds title, caption and what can be saved (`drawing` and `sheet`), `page` is the
//! frame.

mod baselines;
mod chart;
mod classes;
mod curves;
mod drawing;
mod facts;
mod figure;
mod gallery;
mod labels;
mod look;
mod matrix;
mod origin;
mod page;
mod picture;
mod rows;
mod sheet;
mod sweep;
mod tables;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::Result;
use crate::files::write_atomically;
use crate::progress::Reporter;
use crate::tools::html::refuse_other_file;
use crate::tools::paths::{all_shown, shown};
use crate::tools::sweep::SweepSummary;

use facts::Facts;
use look::Look;

/// What to report on, and where to.
#[derive(Clone, Debug)]
pub struct Request {
    /// Directories of runs or of sweeps.
    pub runs: Vec<PathBuf>,
    /// The file to write; if absent, `report.html` in the named directory, or in the working directory if several are
    /// named.
    pub out: Option<PathBuf>,
    /// The folder of the data set, if it is not where the runs say.
    pub data: Option<PathBuf>,
    /// Where data sets lie by default.
    pub data_home: PathBuf,
}

impl Request {
    /// The file to write.
    fn file(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| match &self.runs[..] {
            [only] => only.join("report.html"),
            _ => "report.html".into(),
        })
    }
}

/// What [`report`] wrote.
#[derive(Clone, Debug, Serialize)]
pub struct ReportFile {
    /// The page.
    #[serde(serialize_with = "shown")]
    pub file: PathBuf,
    /// Its size.
    pub bytes: usize,
    /// The runs on it.
    #[serde(serialize_with = "all_shown")]
    pub runs: Vec<PathBuf>,
    /// What is missing from it, and why.
    pub notes: Vec<String>,
}

/// A run on the page.
struct Shown {
    facts: Facts,
    look: Look,
}

/// Most runs that get pictures and tables of their own; if there are more, only what compares them is shown.
const WITH_PICTURES: usize = 4;

/// Writes the page.
///
/// # Errors
/// [`crate::Error::Data`] if a directory holds no run; [`crate::Error::Usage`] if a file is there that is no page of this
/// program; [`crate::Error::Io`] if the page cannot be written. What cannot be read or computed is left out, with a note.
pub fn report(request: &Request, reporter: &mut dyn Reporter) -> Result<ReportFile> {
    refuse_other_file(&request.file())?;
    let mut notes = Vec::new();
    if let [only] = &request.runs[..]
        && let Some(summary) = facts::sweep(only, &mut notes)
    {
        return of_sweep(request, only, &summary);
    }
    let mut directories = Vec::new();
    for named in &request.runs {
        directories.extend(facts::runs_in(named)?);
    }
    let (several, pictures) = (directories.len() > 1, directories.len() <= WITH_PICTURES);
    let names = names(&directories);
    let mut runs = Vec::with_capacity(directories.len());
    for (directory, name) in directories.iter().zip(names) {
        let facts = Facts::read(directory, name);
        let look = match pictures {
            true => look::look(&facts, request.data.as_deref(), &request.data_home, reporter),
            false => Look::default(),
        };
        runs.push(Shown { facts, look });
    }
    for Shown { facts, look } in &runs {
        let name = if several { format!("{}: ", facts.name) } else { String::new() };
        notes.extend(facts.notes.iter().chain(&look.notes).map(|note| format!("{name}{note}")));
    }
    if !pictures {
        notes.push(format!(
            "With more than {WITH_PICTURES} runs there are no pictures or tables of single runs; name fewer runs to see \
             them."
        ));
    }
    let html = page::page(&runs, &notes);
    write(request, &html, directories, notes)
}

/// Writes the page about the sweep in a directory.
fn of_sweep(request: &Request, directory: &Path, summary: &SweepSummary) -> Result<ReportFile> {
    // A name that leads elsewhere is none that a sweep gives.
    let plain = |name: &&str| Path::new(name).file_name().is_some_and(|last| last == OsStr::new(name));
    let planned = summary.runs.iter().map(|run| run.name.as_str()).filter(plain);
    let places = planned.map(|name| (directory.join(name), name));
    let (directories, runs): (Vec<PathBuf>, Vec<Shown>) = places
        .filter(|(run, _)| facts::is_run(run))
        .map(|(run, name)| {
            let facts = Facts::read(&run, name.to_owned());
            (run, Shown { facts, look: Look::default() })
        })
        .unzip();
    let of_run =
        |facts: &Facts| facts.notes.iter().map(|note| format!("{}: {note}", facts.name)).collect::<Vec<_>>();
    let notes: Vec<String> = runs.iter().flat_map(|run| of_run(&run.facts)).collect();
    let name = names(&[directory.to_path_buf()]).concat();
    write(request, &page::sweep_page(&name, summary, &runs, &notes), directories, notes)
}

fn write(request: &Request, html: &str, runs: Vec<PathBuf>, notes: Vec<String>) -> Result<ReportFile> {
    let file = request.file();
    refuse_other_file(&file)?;
    write_atomically(&file, |out| out.write_all(html.as_bytes()))?;
    Ok(ReportFile { file, bytes: html.len(), runs, notes })
}

/// A short name for each directory: its last part, and as many of those before it as it takes to tell them apart.
fn names(directories: &[PathBuf]) -> Vec<String> {
    let name = |path: &Path, parts: usize| {
        let all: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
        all[all.len().saturating_sub(parts)..].join("/")
    };
    let longest = directories.iter().map(|path| path.components().count()).max().unwrap_or(1);
    let whole: Vec<PathBuf> =
        directories.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    let unique = |parts: usize| {
        let mut names: Vec<String> = whole.iter().map(|path| name(path, parts)).collect();
        names.sort();
        names.windows(2).all(|pair| pair[0] != pair[1])
    };
    let parts = (1..=longest).find(|&parts| unique(parts)).unwrap_or(longest);
    whole.iter().map(|path| name(path, parts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_short_as_they_can_be() {
        let names = |paths: &[&str]| super::names(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["/x/runs/a"]), ["a"]);
        assert_eq!(names(&["/x/one/run", "/x/two/run"]), ["one/run", "two/run"]);
    }
}
