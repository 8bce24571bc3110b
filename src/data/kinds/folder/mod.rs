//! A folder of image files: which files it holds ([`tree`]), their pixels ([`cache`]), and what is left out.

mod build;
mod cache;
mod format;
mod listed;
mod survey;
mod tree;

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::kind::{FileReport, Kind, Sizes, Verification};
use crate::data::config::DataConfig;
use crate::data::dataset::{Dataset, Names, Skipped, TestImages};
use crate::data::images::Images;
use crate::error::{Error, Result};
use crate::progress::{Event, Reporter};
use cache::{Cache, Part};
pub use survey::{Survey, survey};
use tree::{Entry, Tree};

/// Number of broken files, or of classes, that a warning names; `rotnet data info` names all files.
const NAMED: usize = 5;

/// Images below which a class is too small to learn or to measure: ten of them leave two to test on.
const FEW: usize = 10;
/// How many times as large as the smallest class the largest one may be without a word.
const UNEVEN: usize = 10;

/// Folders of image files.
pub struct Folder;

impl Kind for Folder {
    fn content(&self) -> &'static str {
        "image files"
    }

    fn usual_place(&self, _: &Path) -> Option<PathBuf> {
        None
    }

    fn detect(&self, place: &Path) -> bool {
        place.is_dir() && tree::has_images(place)
    }

    /// Decodes the images that are not in the cache yet.
    fn open(
        &self,
        place: &Path,
        config: &DataConfig,
        data_home: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<Dataset> {
        let tree = Tree::read(place, config.labels.as_deref())?;
        let directory = config.cache.clone().unwrap_or_else(|| data_home.join("cache"));
        let cache = Cache {
            root: place,
            directory: &directory,
            image_size: config.image_size,
            strict: config.strict,
        };
        if let (true, Some(file)) = (config.strict, tree.unlisted.first()) {
            return Err(cache.broken(file));
        }
        let train = cache.open(Part::Train, &tree.train, reporter)?;
        let test = match tree.test.is_empty() {
            true => None,
            false => Some(cache.open(Part::Test, &tree.test, reporter)?),
        };
        if tree.split {
            note_split(place, &tree, reporter);
            warn_untested(place, &tree.untested(), reporter);
        }
        let unread = train.skipped.iter().chain(test.iter().flat_map(|part| &part.skipped));
        let skipped: Vec<Skipped> = tree.unlisted.iter().chain(unread).cloned().collect();
        warn_skipped(place, &skipped, reporter);
        warn_uneven(place, &tree, reporter);
        let labeled = train.images.len() - train.unlabeled;
        let name = name(place, labeled, tree.classes.len(), train.unlabeled);
        let (labeled, unlabeled) = limited(config.train_images, labeled, train.images.len(), &name)?;
        let mut names = Names { train: names(&tree.train, &skipped), test: names(&tree.test, &skipped) };
        names.train.truncate(labeled);
        Ok(Dataset {
            name,
            fingerprint: train.fingerprint,
            class_names: tree.classes,
            directory: place.to_path_buf(),
            train: train.images.part(0..labeled),
            names,
            skipped,
            tags: Some(train.tags),
            mapped: true,
            pool: train.images,
            unlabeled,
            test: test.map(|part| Box::new(part.images) as Box<dyn TestImages>),
        })
    }

    /// Decodes every file, whatever the cache holds.
    fn verify(&self, place: &Path, reporter: &mut dyn Reporter) -> Result<Verification> {
        let tree = Tree::read(place, None)?;
        let entries = [tree.train, tree.test].concat();
        let (broken, sizes) = build::check(place, &entries, reporter)?;
        let opens = broken.len() < entries.len();
        let checked = entries.len() + tree.unlisted.len();
        let report =
            |Skipped { name, problem }| FileReport { name, facts: None, known: None, problem: Some(problem) };
        Ok(Verification {
            directory: place.to_path_buf(),
            checked,
            opens,
            sizes: Sizes::of(sizes),
            files: tree.unlisted.into_iter().chain(broken).map(report).collect(),
            hint: "mend or remove the image files that cannot be read; training leaves them out",
        })
    }
}

/// The images are decoded when the folder is opened; nothing looks at them until they are asked for.
impl TestImages for Images {
    fn count(&self) -> usize {
        self.len()
    }

    fn open(&self) -> Result<Images> {
        Ok(self.clone())
    }
}

/// How many images with labels to use, and where in the pool of `all` images those without labels lie: as many at most.
///
/// # Errors
/// [`Error::Config`] if there are fewer images than `limit`.
fn limited(limit: Option<usize>, labeled: usize, all: usize, name: &str) -> Result<(usize, Range<usize>)> {
    let Some(limit) = limit else {
        return Ok((labeled, labeled..all));
    };
    let available = if labeled > 0 { labeled } else { all };
    if limit > available {
        let problem = format!("wants {limit} images, {name} has {available}");
        return Err(Error::config("data.train_images", problem));
    }
    Ok((limit.min(labeled), labeled..all.min(labeled + limit)))
}

fn note_split(root: &Path, tree: &Tree, reporter: &mut dyn Reporter) {
    reporter.report(Event::Note(&format!(
        "{} has no test folder: of {} images with labels, {} are held out as the test set, chosen by a digest of their \
         names (about a fifth)",
        root.display(),
        tree.labeled + tree.test.len(),
        tree.test.len()
    )));
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

/// Paths of the files that are used.
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
        "{}: no image of {}{more} is held out, so that nothing is measured on these classes; add images, or put test \
         images into test/CLASS/",
        root.display(),
        classes[..classes.len().min(NAMED)].join(", ")
    )));
}

/// Says what a classifier cannot make good: one class, classes of a few images, one class far larger than another.
fn warn_uneven(root: &Path, tree: &Tree, reporter: &mut dyn Reporter) {
    let mut counts: Vec<(usize, &str)> = tree.classes.iter().map(|class| (0, class.as_str())).collect();
    tree.train.iter().filter_map(|entry| entry.label).for_each(|label| counts[usize::from(label)].0 += 1);
    counts.sort();
    let (Some(&(least, rarest)), Some(&(most, commonest))) = (counts.first(), counts.last()) else { return };
    let problem = match counts.len() {
        1 => format!("all images with labels are of one class, {commonest}: there is nothing to tell apart"),
        _ if least < FEW => {
            let few = counts.iter().filter(|(count, _)| *count < FEW).count();
            format!(
                "{few} of {} classes have fewer than {FEW} images to learn from ({rarest} has {least}): expect little of \
                 their accuracy, and add images if you can",
                counts.len()
            )
        }
        _ if most >= UNEVEN * least => format!(
            "{commonest} has {most} images to learn from, {rarest} {least}: who always answers {commonest} is right \
             often, so look at the accuracy of each class"
        ),
        _ => return,
    };
    reporter.report(Event::Warning(&format!("{}: {problem}", root.display())));
}

fn warn_skipped(root: &Path, skipped: &[Skipped], reporter: &mut dyn Reporter) {
    if skipped.is_empty() {
        return;
    }
    let named: Vec<String> =
        skipped.iter().take(NAMED).map(|file| format!("{} ({})", file.name, file.problem)).collect();
    let more = match skipped.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; {more} more, which `rotnet data info` names"),
    };
    reporter.report(Event::Warning(&format!(
        "{}: {} image files cannot be read and are left out: {}{more}",
        root.display(),
        skipped.len(),
        named.join(", ")
    )));
}

#[cfg(test)]
mod tests;
