//! The kinds of data sets, each in a file of its own behind the interface [`Kind`]. A new one is entered here, and its
//! name in [`DataKind`].

mod cifar10;
mod cifar100;
mod folder;
mod kind;
mod records;
mod scenes;

use std::path::{Path, PathBuf};

use super::config::{DataConfig, DataKind};
use super::dataset::Dataset;
use crate::error::{Error, Result};
use crate::files::same_place;
use crate::progress::Reporter;
use kind::Kind;

pub use cifar10::{FetchReport, FetchRequest, fetch};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use cifar10::{RECORD, TEST_FILE, load_test, unpack};
#[cfg(test)]
pub(crate) use cifar10::{RECORD_FILE, TRAIN_FILES, good_archive as unpack_seed};
pub use folder::{Survey, survey};
pub use kind::{FileReport, Known, Sizes, Verification};
pub use records::FileFacts;
pub use scenes::{SCENES_SEED, SCENES_VERSION, SynthReport, generate};

/// All kinds, in the order in which they are looked for: scenes lie in CIFAR-10's layout as well.
const ALL: [DataKind; 4] = [DataKind::Scenes, DataKind::Cifar10, DataKind::Cifar100, DataKind::Folder];

fn implementor(kind: DataKind) -> &'static dyn Kind {
    match kind {
        DataKind::Cifar10 => &cifar10::Cifar10,
        DataKind::Cifar100 => &cifar100::Cifar100,
        DataKind::Scenes => &scenes::Scenes,
        DataKind::Folder => &folder::Folder,
    }
}

/// Which kind of data set lies in a folder, if any.
pub fn detect(path: &Path) -> Option<DataKind> {
    ALL.into_iter().find(|&kind| implementor(kind).detect(path))
}

/// Which kind of data set lies in a folder in place of the one that was asked for; `None` if it can be opened as that,
/// or if there is no data set at all.
pub fn detect_other(path: &Path, wanted: DataKind) -> Option<DataKind> {
    if implementor(wanted).detect(path) { None } else { detect(path).filter(|&found| found != wanted) }
}

/// Whether two paths lead to the same data set of a kind, each to its folder or to the one above that.
pub fn is_same(kind: DataKind, one: &Path, other: &Path) -> bool {
    let kind = implementor(kind);
    same_place(&kind.folder(one), &kind.folder(other))
}

/// Opens the data set that the config names; `data_home` is where data sets lie unless it says otherwise.
///
/// # Errors
/// [`Error::Data`] for files that are missing, damaged or changed; [`Error::Config`] if there are too few images;
/// [`Error::Stopped`] if images are decoded first; [`Error::Io`].
pub fn open(config: &DataConfig, data_home: &Path, reporter: &mut dyn Reporter) -> Result<Dataset> {
    let place = place(config, data_home)?;
    implementor(config.kind).open(&place, config, data_home, reporter)
}

/// [`open()`], but with noise in place of generated scenes that are not there yet: for measuring without writing anything.
///
/// # Errors
/// Those of [`open()`].
pub fn open_or_stand_in(
    config: &DataConfig,
    data_home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Dataset> {
    match implementor(config.kind).stand_in(&place(config, data_home)?, config)? {
        Some(dataset) => Ok(dataset),
        None => open(config, data_home, reporter),
    }
}

/// Reads every file of the data set that the config names.
///
/// # Errors
/// Those of [`Kind::verify`].
pub fn verify(config: &DataConfig, data_home: &Path, reporter: &mut dyn Reporter) -> Result<Verification> {
    implementor(config.kind).verify(&place(config, data_home)?, reporter)
}

/// The folder to look in, which holds no data of another kind than the config's.
fn place(config: &DataConfig, data_home: &Path) -> Result<PathBuf> {
    config.validate()?;
    let usual = || implementor(config.kind).usual_place(data_home);
    let Some(place) = config.directory.clone().or_else(usual) else {
        return Err(Error::config("data.directory", "is missing: a folder of images has no usual place"));
    };
    match detect_other(&place, config.kind) {
        Some(found) => Err(another_kind(&place, found)),
        None => Ok(place),
    }
}

fn another_kind(path: &Path, found: DataKind) -> Error {
    let (content, kind) = (implementor(found).content(), found.name());
    Error::data(
        path,
        format!("holds {content}, which the config does not ask for"),
        format!("set data.kind={kind} (--set data.kind={kind}), or name another folder with --data"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_above_leads_to_the_same_data_set() {
        let home = tempfile::tempdir().unwrap();
        let (above, other) = (home.path().join("data"), home.path().join("other"));
        std::fs::create_dir(&above).unwrap();
        std::fs::create_dir(&other).unwrap();
        for (kind, folder) in [
            (DataKind::Cifar10, Some(cifar10::FOLDER)),
            (DataKind::Scenes, Some(cifar10::FOLDER)),
            (DataKind::Cifar100, Some(cifar100::FOLDER)),
            (DataKind::Folder, None),
        ] {
            let own = folder.map_or(above.clone(), |name| above.join(name));
            std::fs::create_dir_all(&own).unwrap();
            assert!(is_same(kind, &above, &own) && is_same(kind, &above.join("."), &above), "{folder:?}");
            assert!(!is_same(kind, &above, &other) && !is_same(kind, &above, &home.path().join("none")));
        }
    }

    #[test]
    fn every_kind_that_a_config_can_name_is_looked_for() {
        let schema = schemars::schema_for!(DataKind).to_value();
        let named = schema["oneOf"].as_array().unwrap().iter().map(|kind| kind["const"].as_str().unwrap());
        let mut named: Vec<&str> = named.collect();
        let mut all = ALL.map(DataKind::name);
        named.sort_unstable();
        all.sort_unstable();
        assert_eq!(named, all);
    }
}
