//! Which files of a folder are images, and what their paths say about them.
//!
//! ```text
//! train/CLASS/...     training images with labels, at any depth below CLASS
//! test/CLASS/...      test images; without this folder about a fifth of `train` is the test set
//! unlabeled/...       images to pretrain on, at any depth
//! ```
//! A folder without `train` and `unlabeled` holds images at any depth, without labels but for those that `labels.csv` has
//! a line for (a fifth of which is the test set). Names that begin with a dot are ignored.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use walkdir::WalkDir;

use super::listed::{self, Labels, name_classes};
use crate::data::dataset::Skipped;
use crate::data::decode::is_image;
use crate::error::{Error, Result};
use crate::files::sha256;

/// On average one image in this many is a test image if there is no test folder.
const TEST_SHARE: u64 = 5;
/// Most classes: a label is two bytes.
const MAX_CLASSES: usize = 1 << 16;
const HINT: &str = "put images into train/CLASS/, test/CLASS/ and unlabeled/, or list them in labels.csv, or name a folder of images";

/// An image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path relative to the folder.
    pub path: PathBuf,
    /// Its class; absent without one.
    pub label: Option<u16>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds.
    pub modified: u128,
}

/// The image files of a folder.
pub struct Tree {
    /// By label.
    pub classes: Vec<String>,
    /// To train on: those with labels first, each group in the order of the SHA-256 of the paths, so that the first ones
    /// are a fair sample.
    pub train: Vec<Entry>,
    /// How many of them have labels.
    pub labeled: usize,
    /// To test on, in that order.
    pub test: Vec<Entry>,
    /// Whether the test images were held out from `train`.
    pub split: bool,
    /// What could not be listed: links that lead nowhere or back, folders that may not be read, files that went away.
    pub unlisted: Vec<Skipped>,
}

/// Whether a folder holds image files at any depth, or one of the folders that should.
pub fn has_images(root: &Path) -> bool {
    let named = ["train", "unlabeled"].iter().any(|name| root.join(name).is_dir());
    named || walk(root, "", usize::MAX).any(|entry| entry.is_ok_and(|entry| is_image(entry.path())))
}

impl Tree {
    /// Lists a folder; `labels` is a table of classes, if it is not the folder's own `labels.csv`.
    ///
    /// # Errors
    /// [`Error::Data`] if it holds no image, or classes that make no sense; [`Error::Io`].
    pub fn read(root: &Path, labels: Option<&Path>) -> Result<Self> {
        if !root.is_dir() {
            return Err(Error::data(root, "there is no such folder", HINT));
        }
        let (train, test, unlabeled) = (root.join("train"), root.join("test"), root.join("unlabeled"));
        let own = root.join(listed::LABELS);
        let table = labels.or_else(|| own.is_file().then_some(own.as_path()));
        let mut tree = match table {
            Some(table) if train.is_dir() => {
                let problem =
                    format!("gives images their classes, and so do the folders in {}", train.display());
                return Err(Error::data(table, problem, "keep one of the two"));
            }
            Some(table) => Self::listed(root, &Labels::read(table, root)?)?,
            None => Self::in_folders(root, [&train, &test, &unlabeled])?,
        };
        if tree.classes.len() > MAX_CLASSES {
            let problem = format!("holds {} classes, at most {MAX_CLASSES} are possible", tree.classes.len());
            return Err(Error::data(root, problem, HINT));
        }
        if tree.train.is_empty() {
            return Err(Error::data(root, "holds no image (png, jpg, jpeg, webp, bmp, gif)", HINT));
        }
        let names = root.join(listed::CLASSES);
        if names.is_file() {
            name_classes(&names, &mut tree.classes)?;
        }
        Ok(tree)
    }

    /// The images of a folder, with the classes of a table.
    fn listed(root: &Path, labels: &Labels) -> Result<Self> {
        let classes = labels.classes();
        let mut unlisted = Vec::new();
        let mut all = images(root, "", &mut unlisted)?;
        labels.refuse_absent(all.iter().map(|entry| entry.path.as_path()))?;
        for entry in &mut all {
            let place = labels
                .of(&entry.path)
                .and_then(|class| classes.binary_search_by(|name| name.as_str().cmp(class)).ok());
            entry.label = place.map(|label| label as u16);
        }
        let (labeled, unlabeled): (Vec<_>, Vec<_>) = all.into_iter().partition(|entry| entry.label.is_some());
        let mut tree = Self { classes, train: labeled, labeled: 0, test: Vec::new(), split: false, unlisted };
        tree.hold_out(0);
        tree.refuse_untrained_classes(root)?;
        tree.labeled = tree.train.len();
        tree.train.extend(unlabeled);
        Ok(tree)
    }

    /// The images of a folder, with the classes that their folders say.
    fn in_folders(root: &Path, [train, test, unlabeled]: [&Path; 3]) -> Result<Self> {
        let classes = if train.is_dir() { classes(root)? } else { Vec::new() };
        let mut tree = Self {
            classes,
            train: Vec::new(),
            labeled: 0,
            test: Vec::new(),
            split: false,
            unlisted: Vec::new(),
        };
        if train.is_dir() {
            tree.train = tree.labeled(root, "train")?;
            tree.refuse_empty_classes(train)?;
            match test.is_dir() {
                true => tree.test = tree.labeled(root, "test")?,
                false => {
                    tree.hold_out(CLASS_FOLDERS);
                    tree.refuse_untrained_classes(train)?;
                }
            }
            tree.labeled = tree.train.len();
        }
        if unlabeled.is_dir() {
            let found = images(root, "unlabeled", &mut tree.unlisted)?;
            tree.train.extend(found);
        } else if !train.is_dir() {
            tree.train = images(root, "", &mut tree.unlisted)?;
        }
        Ok(tree)
    }

    /// The images below `part`, which must lie in folders of known classes.
    fn labeled(&mut self, root: &Path, part: &str) -> Result<Vec<Entry>> {
        let mut entries = images(root, part, &mut self.unlisted)?;
        for entry in &mut entries {
            let refuse = |problem: String| Error::data(root.join(&entry.path), problem, HINT);
            let mut parts = entry.path.components().skip(1);
            let class = parts.next().map(|name| name.as_os_str().to_string_lossy().into_owned());
            let (Some(class), Some(_)) = (class, parts.next()) else {
                return Err(refuse("lies in no folder of a class".into()));
            };
            let Ok(label) = self.classes.binary_search(&class) else {
                return Err(refuse(format!("is of class `{class}`, which train does not have")));
            };
            entry.label = Some(label as u16);
        }
        Ok(entries)
    }

    fn refuse_empty_classes(&self, train: &Path) -> Result<()> {
        match (0..self.classes.len()).find(|&class| !has(&self.train, class)) {
            None => Ok(()),
            Some(class) => Err(Error::data(train.join(&self.classes[class]), "holds no image", HINT)),
        }
    }

    /// Makes about a fifth of the images the test set. Whether an image is one follows from its own path in the folder
    /// of its class (without its first `above` parts) and from nothing else: every run is tested on the same images, and adding, removing or breaking an
    /// image moves no other one between training and test. (A path that two classes share falls on the same side in
    /// both.)
    fn hold_out(&mut self, above: usize) {
        let (test, train) =
            std::mem::take(&mut self.train).into_iter().partition(|entry| is_held_out(&entry.path, above));
        (self.test, self.train, self.split) = (test, train, true);
    }

    /// Names of the classes of which chance left no image in the test set.
    pub fn untested(&self) -> Vec<&str> {
        let untested = (0..self.classes.len()).filter(|&class| !has(&self.test, class));
        untested.map(|class| self.classes[class].as_str()).collect()
    }

    /// A held-out image stays held out, even if it is the last one of its class.
    fn refuse_untrained_classes(&self, place: &Path) -> Result<()> {
        match (0..self.classes.len()).find(|&class| !has(&self.train, class)) {
            None => Ok(()),
            Some(class) => {
                let all = self.test.iter().filter(|entry| entry.label == Some(class as u16)).count();
                let problem = format!(
                    "class `{}`: the fifth that is held out as the test set takes all its images ({all}), which leaves none to \
                     train on",
                    self.classes[class]
                );
                let hint = "add images of this class, or put test images into test/CLASS/";
                Err(Error::data(place, problem, hint))
            }
        }
    }
}

/// Whether there is an image of a class.
fn has(entries: &[Entry], class: usize) -> bool {
    entries.iter().any(|entry| entry.label == Some(class as u16))
}

/// Parts of a path `train/CLASS/...` above an image's own path in the folder of its class.
pub(super) const CLASS_FOLDERS: usize = 2;

/// Whether an image is a test image if there is no test folder: by the first 64 bits of the SHA-256 of its path without
/// its first `above` parts.
pub(super) fn is_held_out(path: &Path, above: usize) -> bool {
    let in_class: PathBuf = path.components().skip(above).collect();
    let digest = sha256(name(&in_class).as_bytes());
    u64::from_str_radix(&digest[..16], 16).is_ok_and(|number| number < u64::MAX / TEST_SHARE)
}

/// Names of the folders in `train`, sorted.
fn classes(root: &Path) -> Result<Vec<String>> {
    let mut classes = Vec::new();
    for entry in walk(root, "train", 2) {
        let entry = match entry {
            Ok(entry) => entry,
            // `images` says so.
            Err(error) if error.depth() > 0 => continue,
            Err(error) => return Err(unreadable(root, error)),
        };
        if entry.file_type().is_dir() && entry.depth() == 2 {
            classes.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    classes.sort();
    Ok(classes)
}

/// All images in a part of the folder, in the order of the SHA-256 of their paths. What cannot be listed below it costs
/// only itself.
fn images(root: &Path, part: &str, unlisted: &mut Vec<Skipped>) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    let inside = root.join(part);
    for entry in walk(root, part, usize::MAX) {
        let listed = entry.and_then(|entry| match entry.file_type().is_file() && is_image(entry.path()) {
            true => entry.metadata().map(|facts| Some((entry, facts))),
            false => Ok(None),
        });
        let (entry, facts) = match listed {
            Ok(Some(listed)) => listed,
            Ok(None) => continue,
            Err(error) if error.depth() == 0 => return Err(unreadable(root, error)),
            Err(error) => {
                if error.path().is_some_and(|path| path.starts_with(&inside)) {
                    unlisted.push(skipped(root, &error));
                }
                continue;
            }
        };
        let modified = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path()).to_path_buf();
        let modified = modified.map_or(0, |time| time.as_nanos());
        found.push(Entry { path, label: None, size: facts.len(), modified });
    }
    found.sort_by_cached_key(|entry| sha256(name(&entry.path).as_bytes()));
    Ok(found)
}

/// A relative path as messages and digests give it, the same on every system.
pub fn name(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// What lies in a part of the folder, or in all of it without a name. It is walked from the top, so that a link to the
/// top is known as one that leads back.
fn walk(
    root: &Path,
    part: &str,
    depth: usize,
) -> impl Iterator<Item = walkdir::Result<walkdir::DirEntry>> + use<> {
    let part = part.to_owned();
    let hidden = |entry: &walkdir::DirEntry| entry.file_name().to_string_lossy().starts_with('.');
    WalkDir::new(root).max_depth(depth).follow_links(true).into_iter().filter_entry(move |entry| match entry
        .depth()
    {
        0 => true,
        1 if !part.is_empty() => entry.file_name() == part.as_str(),
        _ => !hidden(entry),
    })
}

fn skipped(root: &Path, error: &walkdir::Error) -> Skipped {
    let path = error.path().unwrap_or(root);
    let problem = match (error.loop_ancestor(), error.io_error()) {
        (Some(above), _) => format!("is a link back to {}, in which it lies", above.display()),
        (None, Some(error)) => error.to_string(),
        (None, None) => error.to_string(),
    };
    Skipped { name: name(path.strip_prefix(root).unwrap_or(path)), problem }
}

fn unreadable(root: &Path, error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(root).to_path_buf();
    let source = std::io::Error::from(error);
    Error::io("read", path)(source)
}
