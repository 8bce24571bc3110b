//! CIFAR-100, in its binary layout: two files of records of 3,074 bytes, each a coarse label, a fine one, and the planes.
//!
//! As described on <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::kind::{FileReport, Kind, Known, Verification};
use super::records::{FileFacts, IMAGE, Layout, SIDE, append_channels_last, fingerprint, limited};
use crate::data::config::DataConfig;
use crate::data::dataset::{Dataset, TestImages};
use crate::data::images::Images;
use crate::error::{Error, Result};
use crate::progress::Reporter;

/// The folder that the official archive unpacks to.
pub const FOLDER: &str = "cifar-100-binary";
/// The training file.
const TRAIN_FILE: &str = "train.bin";
/// The test file.
const TEST_FILE: &str = "test.bin";
const HINT: &str = "unpack cifar-100-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html), and name its \
                    folder with --data";
const LAYOUT: Layout =
    Layout { folder: FOLDER, files: &[TRAIN_FILE, TEST_FILE], classes: &[20, 100], hint: HINT };
/// Bytes of a record: two labels, then the image.
const RECORD: usize = 2 + IMAGE;
/// Records read at once: about 3 MB.
const READ_AT_ONCE: usize = 1_000;

/// Files in CIFAR-100's binary layout.
pub struct Cifar100;

impl Kind for Cifar100 {
    fn content(&self) -> &'static str {
        "CIFAR-100's files"
    }

    fn usual_place(&self, data_home: &Path) -> Option<PathBuf> {
        Some(data_home.to_path_buf())
    }

    fn folder(&self, place: &Path) -> PathBuf {
        LAYOUT.find_folder(place).unwrap_or_else(|_| place.to_path_buf())
    }

    fn detect(&self, place: &Path) -> bool {
        LAYOUT.find_folder(place).is_ok()
    }

    fn open(&self, place: &Path, config: &DataConfig, _: &Path, _: &mut dyn Reporter) -> Result<Dataset> {
        let labels = Labels::new(config.coarse_labels);
        let folder = LAYOUT.find_folder(place)?;
        let (train, file) = load(&folder, TRAIN_FILE, labels, config.train_images)?;
        let class_names = class_names(&folder, labels)?;
        let test = Test { folder: folder.clone(), labels };
        let fingerprint = fingerprint(&[file]);
        Ok(Dataset::of_records(labels.data_set(), fingerprint, class_names, folder, train, Box::new(test)))
    }

    fn verify(&self, place: &Path, _: &mut dyn Reporter) -> Result<Verification> {
        let folder = LAYOUT.find_folder(place)?;
        let check = |name: &&str| {
            let checked = LAYOUT.check_file(&folder, name);
            // The official files' digests are not published.
            FileReport::new(name, checked.map(|facts| (facts, Known::Layout)))
        };
        let files = LAYOUT.files.iter().map(check).collect();
        Ok(Verification::of_records(folder, files, HINT))
    }
}

/// The test file.
struct Test {
    folder: PathBuf,
    labels: Labels,
}

impl TestImages for Test {
    fn count(&self) -> usize {
        LAYOUT.count(&self.folder, TEST_FILE)
    }

    fn open(&self) -> Result<Images> {
        Ok(load(&self.folder, TEST_FILE, self.labels, None)?.0)
    }
}

/// Which of the two labels counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Labels {
    /// 20 classes.
    Coarse,
    /// 100 classes.
    Fine,
}

impl Labels {
    /// The one that the config asks for.
    fn new(coarse: bool) -> Self {
        if coarse { Self::Coarse } else { Self::Fine }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Coarse => "coarse",
            Self::Fine => "fine",
        }
    }

    /// The data set's name: since no digests are published, more cannot be said.
    fn data_set(self) -> String {
        format!("CIFAR-100 layout, {} labels", self.name())
    }

    fn classes(self) -> usize {
        LAYOUT.classes[self as usize]
    }
}

/// Checks a file and loads its images, or only the first `limit`.
///
/// # Errors
/// Those of [`Layout::check_file`]; [`Error::Config`] if there are fewer images than `limit`.
fn load(folder: &Path, name: &str, labels: Labels, limit: Option<usize>) -> Result<(Images, FileFacts)> {
    let facts = LAYOUT.check_file(folder, name)?;
    let wanted = limited(limit, facts.records, folder)?;
    let path = folder.join(name);
    let mut file = BufReader::new(File::open(&path).map_err(Error::io("read", &path))?);
    let mut pixels = Vec::with_capacity(wanted * IMAGE);
    let mut chosen = Vec::with_capacity(wanted);
    let mut planes = Vec::with_capacity(READ_AT_ONCE * IMAGE);
    let mut record = vec![0; RECORD];
    while chosen.len() < wanted {
        planes.clear();
        for _ in 0..READ_AT_ONCE.min(wanted - chosen.len()) {
            file.read_exact(&mut record).map_err(Error::io("read", &path))?;
            let label = record[labels as usize];
            if usize::from(label) >= labels.classes() {
                return Err(Error::data(&path, "was changed while it was read", HINT));
            }
            chosen.push(label.into());
            planes.extend_from_slice(&record[LAYOUT.classes.len()..]);
        }
        append_channels_last(&mut pixels, &planes);
    }
    Ok((Images { pixels: pixels.into(), labels: chosen, height: SIDE, width: SIDE }, facts))
}

/// The names in `coarse_label_names.txt` or `fine_label_names.txt`, or numbers if there is no such file.
///
/// # Errors
/// [`Error::Data`] if the file does not name every class.
fn class_names(folder: &Path, labels: Labels) -> Result<Vec<String>> {
    let path = folder.join(format!("{}_label_names.txt", labels.name()));
    match path.exists() {
        true => LAYOUT.read_names(&path, labels.classes()),
        false => Ok((0..labels.classes()).map(|class| format!("class {class}")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn records(count: usize) -> Vec<u8> {
        let record = |number: usize| {
            let labels = [(number % 20) as u8, (number % 100) as u8];
            labels.into_iter().chain((0..IMAGE).map(move |place| (place / 1024 + number) as u8))
        };
        (0..count).flat_map(record).collect()
    }

    #[test]
    fn either_label_is_read_and_planes_become_channels_last() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(FOLDER);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join(TRAIN_FILE), records(130)).unwrap();
        assert_eq!(LAYOUT.find_folder(home.path()).unwrap(), folder);
        assert_eq!(LAYOUT.find_folder(&folder).unwrap(), folder);
        let (fine, facts) = load(&folder, TRAIN_FILE, Labels::Fine, None).unwrap();
        assert_eq!((fine.len(), facts.records, fine.labels[107]), (130, 130, 7));
        assert_eq!(fine.image(107)[..4], [107, 108, 109, 107]);
        let (coarse, _) = load(&folder, TRAIN_FILE, Labels::Coarse, Some(50)).unwrap();
        assert_eq!((coarse.len(), coarse.labels[47]), (50, 7));
        assert!(load(&folder, TRAIN_FILE, Labels::Fine, Some(131)).is_err());
        assert_eq!(class_names(&folder, Labels::Coarse).unwrap().len(), 20);
        fs::write(folder.join("fine_label_names.txt"), "apple\n").unwrap();
        assert!(class_names(&folder, Labels::Fine).unwrap_err().to_string().contains("names 1 classes"));
    }

    #[test]
    fn a_cut_file_and_a_wrong_label_are_named() {
        let home = tempfile::tempdir().unwrap();
        let problem = |bytes: &[u8]| {
            fs::write(home.path().join(TRAIN_FILE), bytes).unwrap();
            load(home.path(), TRAIN_FILE, Labels::Fine, None).unwrap_err().to_string()
        };
        let mut bytes = records(3);
        assert!(problem(&bytes[..3_075]).contains("records of 3074 bytes: 1 records and 1 bytes"));
        bytes[2 * 3_074] = 20;
        assert!(problem(&bytes).ends_with("record 3 of 3 has label 20, labels are 0 to 19"));
        bytes[2 * 3_074] = 0;
        bytes[2 * 3_074 + 1] = 100;
        assert!(problem(&bytes).ends_with("record 3 of 3 has label 100, labels are 0 to 99"));
    }
}
