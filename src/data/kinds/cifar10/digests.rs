//! Which data set files belong to, by their published digests or by those that this program wrote beside them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::FILES;
use crate::data::kinds::kind::Known;
use crate::data::kinds::records::FileFacts;
use crate::error::{Error, Result};
use crate::files::{read_json, write_json};

/// The official archive of the binary version, as named on <https://www.cs.toronto.edu/~kriz/cifar.html>.
pub const ARCHIVE_URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
/// Its size.
pub const ARCHIVE_BYTES: u64 = 170_052_171;
/// Its SHA-256, as pinned by MLDatasets.jl and torchvision-ruby among others.
pub const ARCHIVE_SHA256: &str = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";

/// MD5 of the official files, training files first; no SHA-256 of them is published. As in
/// `cmake/fetch_cifar10.cmake` of prabhuomkar/pytorch-cpp and in rai-project's Go loader, which both also give the
/// archive's MD5 from the official page. Not compared with the archive itself, which could not be downloaded here.
const OFFICIAL_MD5: [&str; 6] = [
    "5dd7e06a14cb22eb9f671a540d1b7c25",
    "5ea93a67294ea407fff1d09f752e9692",
    "942cd6a4bcdd0dd3c604fbe906cb4421",
    "ae636b3ba5c66a11e91e8cb52e771fcb",
    "53f37980c15c3d472c316c40844f3f0d",
    "803d5f7f4d78ea53de84dbe85f74fb6d",
];

const OFFICIAL_NAME: &str = "CIFAR-10 (official files)";
const LAYOUT_NAME: &str = "CIFAR-10 layout, not the official files";
/// The record's name in the folder.
pub const RECORD_FILE: &str = "dataset.json";
const RECORD_FORMAT: u32 = 1;

/// Where the files of a folder come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Unpacked from an archive of this SHA-256.
    Archive {
        /// In lower-case hexadecimal.
        sha256: String,
    },
    /// Generated.
    Scenes {
        /// The generator's random seed.
        seed: u64,
        /// The generator's version.
        version: u32,
    },
}

impl Origin {
    /// The data set's name.
    pub fn name(&self) -> String {
        match self {
            Self::Archive { sha256 } if sha256 == ARCHIVE_SHA256 => OFFICIAL_NAME.into(),
            Self::Archive { .. } => LAYOUT_NAME.into(),
            Self::Scenes { seed, version } => {
                format!("generated scenes (seed {seed}, version {version})")
            }
        }
    }
}

/// The file `dataset.json`, which this program writes beside the files it unpacks or generates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetRecord {
    format: u32,
    /// Where the files come from.
    pub origin: Origin,
    /// SHA-256 of every file, by name.
    pub files: BTreeMap<String, String>,
}

impl DatasetRecord {
    /// A record of files by name and SHA-256.
    pub fn new(origin: Origin, files: BTreeMap<String, String>) -> Self {
        Self { format: RECORD_FORMAT, origin, files }
    }

    /// Reads the record of a folder; `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Data`] if it is damaged or of a newer format.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RECORD_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let refuse = |problem| Error::data(&path, problem, RECORD_HINT);
        let record: Self = read_json(&path).map_err(|_| refuse("is not the record of a data set".into()))?;
        match record.format {
            RECORD_FORMAT => Ok(Some(record)),
            format => Err(refuse(format!("has format {format}, this program reads {RECORD_FORMAT}"))),
        }
    }

    /// Writes the record into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(RECORD_FILE), self)
    }
}

const RECORD_HINT: &str = "fetch or generate the data set again, or remove dataset.json if the files were \
                           replaced on purpose";

/// How far a file is known, by the folder's record or the published digests.
pub fn compare(record: Option<&DatasetRecord>, file: &FileFacts) -> Known {
    let digest = record.map(|record| (record.files.get(&file.name), &record.origin));
    match digest {
        Some((digest, _)) if digest != Some(&file.sha256) => Known::Changed,
        Some((_, Origin::Archive { sha256 })) if sha256 == ARCHIVE_SHA256 => Known::Official,
        Some(_) => Known::Recorded,
        None if official_md5(&file.name) == Some(&file.md5) => Known::Official,
        None => Known::Layout,
    }
}

/// The name of the data set that the files of a folder belong to.
///
/// # Errors
/// [`Error::Data`] if one differs from the folder's record, or the record is damaged.
pub fn identify(folder: &Path, files: &[FileFacts]) -> Result<String> {
    let record = DatasetRecord::read(folder)?;
    let mut official = true;
    for file in files {
        let known = compare(record.as_ref(), file);
        if known == Known::Changed {
            let problem = format!("differs from what {RECORD_FILE} beside it says");
            return Err(Error::data(folder.join(&file.name), problem, RECORD_HINT));
        }
        official &= known == Known::Official;
    }
    Ok(match record {
        Some(record) => record.origin.name(),
        None if official => OFFICIAL_NAME.into(),
        None => LAYOUT_NAME.into(),
    })
}

fn official_md5(name: &str) -> Option<&'static str> {
    let position = FILES.iter().position(|&known| known == name)?;
    Some(OFFICIAL_MD5[position])
}

#[cfg(test)]
mod tests {
    use super::super::layout::{TEST_FILE, TRAIN_FILES};
    use super::*;

    fn facts(name: &str, sha256: &str, md5: &str) -> FileFacts {
        FileFacts { name: name.into(), bytes: 3_073, records: 1, sha256: sha256.into(), md5: md5.into() }
    }

    #[test]
    fn without_a_record_published_digests_decide() {
        let folder = tempfile::tempdir().unwrap();
        let official: Vec<FileFacts> =
            TRAIN_FILES.iter().zip(OFFICIAL_MD5).map(|(name, md5)| facts(name, "", md5)).collect();
        assert_eq!(identify(folder.path(), &official).unwrap(), OFFICIAL_NAME);
        let test = facts(TEST_FILE, "", OFFICIAL_MD5[0]);
        assert_eq!(identify(folder.path(), &[test]).unwrap(), LAYOUT_NAME);
    }

    #[test]
    fn with_a_record_its_digests_decide() {
        let folder = tempfile::tempdir().unwrap();
        let files = BTreeMap::from([(TEST_FILE.to_owned(), "a".to_owned())]);
        let origin = Origin::Scenes { seed: 3, version: 2 };
        DatasetRecord::new(origin, files).write(folder.path()).unwrap();
        let named = identify(folder.path(), &[facts(TEST_FILE, "a", "")]).unwrap();
        assert_eq!(named, "generated scenes (seed 3, version 2)");
        let changed = identify(folder.path(), &[facts(TEST_FILE, "b", "")]).unwrap_err().to_string();
        assert!(changed.contains("test_batch.bin: differs"), "{changed}");
    }

    #[test]
    fn a_damaged_or_newer_record_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RECORD_FILE);
        std::fs::write(&path, "{").unwrap();
        assert!(DatasetRecord::read(folder.path()).is_err());
        std::fs::write(&path, r#"{"format": 2, "origin": {"archive": {"sha256": ""}}, "files": {}}"#)
            .unwrap();
        let newer = DatasetRecord::read(folder.path()).unwrap_err().to_string();
        assert!(newer.contains("has format 2"), "{newer}");
    }
}
