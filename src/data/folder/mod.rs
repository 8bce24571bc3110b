//! A folder of image files as a data set: which files ([`tree`]), their pixels ([`cache`]), and what was left out.

mod build;
mod cache;
mod tree;

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use super::config::DataConfig;
use super::images::Images;
use crate::error::{Error, Result};
use crate::progress::{Event, Reporter};

pub use cache::Skipped;
use cache::{Cache, Part};
pub use tree::has_images;
use tree::{Entry, Tree};

/// Broken files, or classes, that a warning names; `rotnet data verify` names all files.
const NAMED: usize = 5;

/// An opened folder.
pub struct Folder {
    /// The data set's name, with its numbers of images.
    pub name: String,
    /// SHA-256 over labels and file digests of the training images.
    pub fingerprint: String,
    /// Names of the folders in `train`; none in a folder without classes.
    pub classes: Vec<String>,
    /// Images to train on, those with labels first.
    pub pool: Images,
    /// How many of them have labels.
    pub labeled: usize,
    /// Paths of the files of `pool` in the folder.
    pub names: Vec<String>,
    /// Those of `test`.
    pub test_names: Vec<String>,
    /// The test images; absent in a folder without classes.
    pub test: Option<Images>,
    /// Training files without a tag of their way up, with one that says upright, and with one that says turned.
    pub tags: [usize; 3],
    /// Files that are left out.
    pub skipped: Vec<Skipped>,
}

/// Opens a folder; decodes its images where they are not in the cache yet.
///
/// # Errors
/// [`Error::Data`] for a tree that is not understood, without images, or with broken ones where `data.strict` is
/// set; [`Error::Config`] if there are fewer images than `data.train_images`; [`Error::Stopped`]; [`Error::Io`].
pub fn open(
    config: &DataConfig,
    root: &Path,
    data_home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Folder> {
    let tree = Tree::read(root)?;
    let directory = config.cache.clone().unwrap_or_else(|| data_home.join("cache"));
    let cache = Cache { root, directory: &directory, image_size: config.image_size, strict: config.strict };
    let train = cache.open(Part::Train, &tree.train, reporter)?;
    let test = match tree.test.is_empty() {
        true => None,
        false => Some(cache.open(Part::Test, &tree.test, reporter)?),
    };
    if tree.split {
        reporter.report(Event::Note(&format!(
            "{} has no test folder: of {} images with labels, {} are held out as the test set, chosen by a digest \
             of their names (about a fifth)",
            root.display(),
            tree.labeled + tree.test.len(),
            tree.test.len()
        )));
        warn_untested(root, &tree.untested(), reporter);
    }
    let skipped: Vec<Skipped> =
        train.skipped.iter().chain(test.iter().flat_map(|part| &part.skipped)).cloned().collect();
    warn(root, &skipped, reporter);
    let labeled = train.images.labels.len() - train.unlabeled;
    Ok(Folder {
        name: name(root, labeled, tree.classes.len(), train.unlabeled),
        fingerprint: train.fingerprint,
        classes: tree.classes,
        labeled,
        names: names(&tree.train, &skipped),
        test_names: names(&tree.test, &skipped),
        pool: train.images,
        test: test.map(|part| part.images),
        tags: train.tags,
        skipped,
    })
}

impl Folder {
    /// The first `limit` images with labels, and where those without, as many at most, lie in the pool.
    ///
    /// # Errors
    /// [`Error::Config`] if there are fewer images than `limit`.
    pub fn limited(&self, limit: Option<usize>) -> Result<(Images, Range<usize>)> {
        let all = self.pool.len();
        let Some(limit) = limit else {
            return Ok((self.pool.part(0..self.labeled), self.labeled..all));
        };
        let available = if self.labeled > 0 { self.labeled } else { all };
        if limit > available {
            let problem = format!("wants {limit} images, {} has {available}", self.name);
            return Err(Error::config("data.train_images", problem));
        }
        let labeled = self.pool.part(0..limit.min(self.labeled));
        Ok((labeled, self.labeled..all.min(self.labeled + limit)))
    }
}

fn name(root: &Path, labeled: usize, classes: usize, unlabeled: usize) -> String {
    let resolved = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let name = resolved.file_name().unwrap_or(root.as_os_str()).to_string_lossy();
    match (labeled, unlabeled) {
        (0, _) => format!("folder {name}: {unlabeled} images without labels"),
        (_, 0) => format!("folder {name}: {labeled} images of {classes} classes"),
        _ => format!("folder {name}: {labeled} images of {classes} classes, {unlabeled} without labels"),
    }
}

/// Paths of the files that are not left out.
fn names(entries: &[Entry], skipped: &[Skipped]) -> Vec<String> {
    let skipped: HashSet<&str> = skipped.iter().map(|file| file.name.as_str()).collect();
    let names = entries.iter().map(|entry| tree::name(&entry.path));
    names.filter(|name| !skipped.contains(name.as_str())).collect()
}

fn warn_untested(root: &Path, classes: &[&str], reporter: &mut dyn Reporter) {
    if classes.is_empty() {
        return;
    }
    let more = match classes.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    reporter.report(Event::Warning(&format!(
        "{}: no image of {}{more} is held out, so that nothing is measured on these classes; add images, or name test \
         images by folders test/CLASS/",
        root.display(),
        classes[..classes.len().min(NAMED)].join(", ")
    )));
}

fn warn(root: &Path, skipped: &[Skipped], reporter: &mut dyn Reporter) {
    if skipped.is_empty() {
        return;
    }
    let named: Vec<String> =
        skipped.iter().take(NAMED).map(|file| format!("{} ({})", file.name, file.problem)).collect();
    let more = match skipped.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; {more} more, which `rotnet data verify` names"),
    };
    reporter.report(Event::Warning(&format!(
        "{}: {} image files cannot be read and are left out: {}{more}",
        root.display(),
        skipped.len(),
        named.join(", ")
    )));
}

/// What `data verify` finds.
pub struct Checked {
    /// Image files in the tree.
    pub files: usize,
    /// Those that cannot be read.
    pub broken: Vec<Skipped>,
}

/// Decodes every file, whatever the cache holds.
///
/// # Errors
/// [`Error::Data`] for a tree that is not understood; [`Error::Stopped`].
pub fn check(root: &Path, reporter: &mut dyn Reporter) -> Result<Checked> {
    let tree = Tree::read(root)?;
    let entries = [tree.train, tree.test].concat();
    let broken = build::check(root, &entries, reporter)?;
    Ok(Checked { files: entries.len(), broken })
}

#[cfg(test)]
mod tests;
