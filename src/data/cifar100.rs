//! CIFAR-100's binary layout: two files of records of 3,074 bytes, a coarse label, a fine one, and the planes.
//!
//! As described on <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::cifar::{FileFacts, IMAGE, Layout, SIDE, append_channels_last, check_records, read_names};
use super::images::Images;
use crate::error::{Error, Result};

/// The folder that the official archive unpacks to.
const FOLDER: &str = "cifar-100-binary";
/// The training file.
pub const TRAIN_FILE: &str = "train.bin";
/// The test file.
pub const TEST_FILE: &str = "test.bin";
const HINT: &str = "unpack cifar-100-binary.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html), and name its \
                    folder with --data";
const LAYOUT: Layout = Layout { classes: &[20, 100], hint: HINT };
/// Bytes of a record: two labels, then the image.
pub const RECORD: usize = 2 + IMAGE;
/// Records read at once: about 3 MB.
const READ_AT_ONCE: usize = 1_000;

/// Which of the two labels counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// 20 classes.
    Coarse,
    /// 100 classes.
    Fine,
}

impl Labels {
    /// The one that the config asks for.
    pub fn new(coarse: bool) -> Self {
        if coarse { Self::Coarse } else { Self::Fine }
    }

    /// In words, for the data set's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coarse => "coarse",
            Self::Fine => "fine",
        }
    }

    fn classes(self) -> usize {
        LAYOUT.classes[self as usize]
    }
}

/// The folder with the files: `cifar-100-binary` in `path`, or `path` itself.
///
/// # Errors
/// [`Error::Data`] if neither holds a file of the layout.
pub fn find_folder(path: &Path) -> Result<PathBuf> {
    let inner = path.join(FOLDER);
    if inner.is_dir() {
        Ok(inner)
    } else if path.join(TRAIN_FILE).is_file() || path.join(TEST_FILE).is_file() {
        Ok(path.to_path_buf())
    } else if path.is_dir() {
        Err(Error::data(path, format!("holds neither {FOLDER} nor {TRAIN_FILE}"), HINT))
    } else {
        Err(Error::data(path, "there is no such folder", HINT))
    }
}

/// Size, digests and labels of a file, read through.
///
/// # Errors
/// Those of [`check_records`].
pub fn check_file(folder: &Path, name: &str) -> Result<FileFacts> {
    check_records(folder, name, &LAYOUT)
}

/// Checks a file and loads its images, or the first `limit` of them.
///
/// # Errors
/// Those of [`check_file`]; [`Error::Config`] if there are fewer images than `limit`.
pub fn load(folder: &Path, name: &str, labels: Labels, limit: Option<usize>) -> Result<(Images, FileFacts)> {
    let facts = check_file(folder, name)?;
    let wanted = limit.unwrap_or(facts.records);
    if wanted > facts.records {
        let problem = format!("wants {wanted} images, {} has {}", folder.display(), facts.records);
        return Err(Error::config("data.train_images", problem));
    }
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
            chosen.push(label);
            planes.extend_from_slice(&record[LAYOUT.classes.len()..]);
        }
        append_channels_last(&mut pixels, &planes);
    }
    Ok((Images { pixels: pixels.into(), labels: chosen, height: SIDE, width: SIDE }, facts))
}

/// The names in `coarse_label_names.txt` or `fine_label_names.txt`, or numbers where there is no such file.
///
/// # Errors
/// [`Error::Data`] if the file does not name every class.
pub fn class_names(folder: &Path, labels: Labels) -> Result<Vec<String>> {
    let path = folder.join(format!("{}_label_names.txt", labels.name()));
    match path.exists() {
        true => read_names(&path, labels.classes(), HINT),
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
        assert_eq!(find_folder(home.path()).unwrap(), folder);
        assert_eq!(find_folder(&folder).unwrap(), folder);
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
