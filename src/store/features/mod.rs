//! Feature files, which `extract` writes and `finetune` reads, both as streams.

mod manifest;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};
use crate::judge::Labeled;
use crate::model::FeatureMoments;
use crate::samples::Samples;
use crate::store::labels::from_tensor;
use crate::store::tensor_file::{self, Content, Format, Opened};
use store::{Numbers, Store};

pub use manifest::{FeatureFiles, Manifest, Origin};
pub use writer::FeatureWriter;

const FORMAT: Format = Format { name: "rotnet-features", version: 3, hint: "run `rotnet extract` again" };

/// Separates the names of images: no file name contains it.
const SEPARATOR: &str = "\0";

const OTHER_TYPE: &str = "its tensors are of another type";

/// Names of the tensors.
const FEATURES: &str = "features";
const LABELS: &str = "labels";
const NAMES: &str = "names";

/// Largest size of features to read into memory, in bytes: half a gibibyte, 60,000 images of 2,200 features. Larger
/// ones stay in the file and are read when needed.
pub const MOST_IN_MEMORY: u64 = 1 << 29;
/// Numbers per block in a pass over all of them: 1 MiB, half a second-level cache.
const BLOCK: usize = 1 << 18;

/// Features and labels of a set of images, in the order of the images: in memory, or in a file that is read when
/// needed. Subsets of images and columns share the numbers with the whole.
pub struct Features {
    store: Arc<Store>,
    /// Rows of the store that belong to these images; all, in order, if absent.
    rows: Option<Vec<u32>>,
    /// Columns of the store that belong to these features.
    columns: Vec<Range<usize>>,
    labels: Vec<u16>,
    names: Vec<String>,
}

impl Features {
    /// `values` holds `width` numbers for each label.
    pub fn new(values: Vec<f32>, labels: Vec<u16>, width: usize) -> Self {
        debug_assert_eq!(values.len(), labels.len() * width);
        Self::all_of(Store::memory(values, width), labels)
    }

    fn all_of(store: Store, labels: Vec<u16>) -> Self {
        let all = 0..store.width;
        Self { store: Arc::new(store), rows: None, columns: vec![all], labels, names: Vec::new() }
    }

    /// With the name of each image; empty if images have only numbers.
    pub fn with_names(self, names: &[String]) -> Self {
        debug_assert!(names.is_empty() || names.len() == self.labels.len());
        Self { names: names.to_vec(), ..self }
    }

    /// Number of images, and features per image.
    pub fn shape(&self) -> [usize; 2] {
        [self.labels.len(), self.values()]
    }

    /// Labels in the order of the images.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Names in the order of the images; empty if they have none.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// A subset of the images; shares the numbers.
    pub fn subset(&self, indices: &[u32]) -> Self {
        Self {
            store: Arc::clone(&self.store),
            rows: Some(indices.iter().map(|&index| self.place(index as usize) as u32).collect()),
            columns: self.columns.clone(),
            labels: indices.iter().map(|&index| self.labels[index as usize]).collect(),
            names: indices.iter().filter_map(|&index| self.names.get(index as usize).cloned()).collect(),
        }
    }

    /// A subset of the columns, in the order of the ranges; shares the numbers.
    pub fn columns(&self, ranges: &[Range<usize>]) -> Self {
        Self {
            store: Arc::clone(&self.store),
            rows: self.rows.clone(),
            columns: ranges.iter().flat_map(|range| self.stored_columns(range)).collect(),
            labels: self.labels.clone(),
            names: self.names.clone(),
        }
    }

    /// Columns of the store for columns of these features.
    fn stored_columns(&self, range: &Range<usize>) -> Vec<Range<usize>> {
        let mut first = 0;
        let mut found = Vec::new();
        for stored in &self.columns {
            let from = range.start.clamp(first, first + stored.len());
            let to = range.end.clamp(from, first + stored.len());
            if from < to {
                found.push(stored.start + from - first..stored.start + to - first);
            }
            first += stored.len();
        }
        found
    }

    /// The row of the store for the image at an index.
    fn place(&self, index: usize) -> usize {
        self.rows.as_ref().map_or(index, |rows| rows[index] as usize)
    }

    /// All numbers `[images, width]`, row by row, in blocks of images.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn each_block(&self, take: &mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()> {
        let [images, width] = self.shape();
        let rows = (BLOCK / width.max(1)).clamp(1, images.max(1));
        let mut block = vec![0.0; rows * width];
        for first in (0..images).step_by(rows) {
            let block = &mut block[..rows.min(images - first) * width];
            self.gather(first.., block).map_err(|error| self.store.error(error))?;
            take(block)?;
        }
        Ok(())
    }

    /// Fills `target` with as many images as fit.
    fn gather(&self, indices: impl IntoIterator<Item = usize>, target: &mut [f32]) -> io::Result<()> {
        let mut scratch = Vec::new();
        for (row, index) in target.chunks_exact_mut(self.values().max(1)).zip(indices) {
            self.store.read(self.place(index), &self.columns, row, &mut scratch)?;
        }
        Ok(())
    }

    /// All numbers in memory, `[images, width]`, row by row.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn numbers(&self) -> Result<Cow<'_, [f32]>> {
        if let (Numbers::Memory(values), None, [all]) = (&self.store.numbers, &self.rows, &self.columns[..])
            && *all == (0..self.store.width)
        {
            return Ok(Cow::Borrowed(values));
        }
        let mut numbers = vec![0.0; self.labels.len() * self.values()];
        self.gather(0.., &mut numbers).map_err(|error| self.store.error(error))?;
        Ok(Cow::Owned(numbers))
    }

    /// What a read-out is fitted to; `values` are the [`numbers`](Self::numbers) of these features.
    pub fn labeled<'a>(&'a self, values: &'a [f32], classes: usize) -> Labeled<'a> {
        Labeled { values, labels: &self.labels, width: self.values(), classes }
    }

    /// Bytes of the shared numbers in memory.
    pub fn held(&self) -> u64 {
        match &self.store.numbers {
            Numbers::Memory(values) => size_of_val(&values[..]) as u64,
            Numbers::File { .. } => 0,
        }
    }

    /// Mean and standard deviation of each feature over the images.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be read.
    pub fn moments(&self) -> Result<FeatureMoments> {
        let [images, width] = self.shape();
        FeatureMoments::of_blocks([images, width], |take| {
            self.each_block(&mut |block| {
                take(block);
                Ok(())
            })
        })
    }

    /// Writes a file, whole or not at all.
    #[cfg(test)]
    pub(crate) fn save(&self, path: &Path, origin: &Origin) -> Result<()> {
        let mut writer = FeatureWriter::create(path, origin, &self.labels, &self.names, self.values())?;
        self.each_block(&mut |block| writer.push(block))?;
        writer.finish()
    }

    /// Opens features that must come from `origin` and have labels below `classes`; if they are large
    /// ([`MOST_IN_MEMORY`]), they stay in the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if the file is damaged or has another origin.
    pub fn load(path: &Path, origin: &Origin, classes: usize) -> Result<Self> {
        Self::load_within(path, origin, classes, MOST_IN_MEMORY)
    }

    /// [`load`](Self::load) that keeps at most `most` bytes of numbers in memory.
    pub(crate) fn load_within(path: &Path, origin: &Origin, classes: usize, most: u64) -> Result<Self> {
        let refuse = |problem: String| Error::checkpoint(path, problem, FORMAT.hint);
        let keep = |name: &str, bytes: u64| name != FEATURES || bytes <= most;
        let Opened { content, file } = tensor_file::open::<Origin>(path, &FORMAT, keep)?;
        let Content { header, mut kept, mut rest } = content;
        if header != *origin {
            return Err(refuse("does not belong to the manifest beside it".into()));
        }
        let wrong_type = |_| refuse(OTHER_TYPE.into());
        let (shape, numbers) = match (kept.remove(FEATURES), rest.remove(FEATURES)) {
            (Some(data), _) => {
                (data.shape().to_vec(), Numbers::Memory(data.try_into_vec::<f32>().map_err(wrong_type)?))
            }
            (None, Some(place)) if place.floats => {
                (place.shape, Numbers::File { path: path.to_path_buf(), file, start: place.start })
            }
            (None, Some(_)) => return Err(refuse(OTHER_TYPE.into())),
            (None, None) => return Err(refuse(format!("holds no tensor `{FEATURES}`"))),
        };
        let [images, width] = shape[..] else {
            return Err(refuse("its features are not a matrix".into()));
        };
        let labels = kept.remove(LABELS).ok_or_else(|| refuse(format!("holds no tensor `{LABELS}`")))?;
        let labels = from_tensor(labels).ok_or_else(|| refuse(OTHER_TYPE.into()))?;
        if labels.len() != images || width == 0 {
            return Err(refuse(format!("{images} rows of features, {} labels", labels.len())));
        }
        if let Some(label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
            return Err(refuse(format!("holds label {label}, there are {classes} classes")));
        }
        let names = match kept.remove(NAMES) {
            Some(names) => split_names(names.try_into_vec::<u8>().map_err(wrong_type)?).map_err(refuse)?,
            None => Vec::new(),
        };
        if !names.is_empty() && names.len() != labels.len() {
            return Err(refuse(format!("{} names, {} images", names.len(), labels.len())));
        }
        let store = Store { numbers, width, failure: OnceLock::new() };
        Ok(Self { names, ..Self::all_of(store, labels) })
    }
}

/// Bytes that [`Features::load`] keeps in memory for features of a shape (images, features per image).
pub fn held([images, width]: [usize; 2]) -> u64 {
    let bytes = images as u64 * width as u64 * size_of::<f32>() as u64;
    if bytes <= MOST_IN_MEMORY { bytes } else { 0 }
}

fn split_names(bytes: Vec<u8>) -> Result<Vec<String>, String> {
    match (bytes.is_empty(), String::from_utf8(bytes)) {
        (true, _) => Ok(Vec::new()),
        (false, Ok(names)) => Ok(names.split(SEPARATOR).map(str::to_owned).collect()),
        (false, Err(_)) => Err("its names are not text".into()),
    }
}

impl Samples for Features {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn values(&self) -> usize {
        self.columns.iter().map(Range::len).sum()
    }

    fn fill(&self, _: u64, indices: &[u32], inputs: &mut [f32], labels: &mut [u16]) {
        if let Err(error) = self.gather(indices.iter().map(|&index| index as usize), inputs) {
            // `failure` reports the first one.
            let _ = self.store.failure.set(error);
        }
        labels.iter_mut().zip(indices).for_each(|(label, &index)| *label = self.labels[index as usize]);
    }

    fn failure(&self) -> Option<Error> {
        let failure = self.store.failure.get()?;
        Some(self.store.error(io::Error::new(failure.kind(), failure.to_string())))
    }
}
