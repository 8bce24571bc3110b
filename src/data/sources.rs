//! From a place to a data set: one function a kind.

use std::path::{Path, PathBuf};

use super::cifar100::{self, Labels};
use super::digests::{self, DatasetRecord, Origin};
use super::{
    DataConfig, DataKind, Dataset, Images, Names, SCENES_SEED, SCENES_VERSION, Test, cifar, folder, generate,
};
use crate::error::{Error, Result};
use crate::progress::{Event, Reporter};

/// What kind of data set lies in a folder, if any does.
pub fn detect(path: &Path) -> Option<DataKind> {
    if let Ok(folder) = cifar::find_folder(path) {
        let record = DatasetRecord::read(&folder).ok().flatten();
        let scenes = matches!(record.map(|record| record.origin), Some(Origin::Scenes { .. }));
        return Some(if scenes { DataKind::Scenes } else { DataKind::Cifar10 });
    }
    if cifar100::find_folder(path).is_ok() {
        return Some(DataKind::Cifar100);
    }
    (path.is_dir() && folder::has_images(path)).then_some(DataKind::Folder)
}

pub(super) fn open(config: &DataConfig, data_home: &Path, reporter: &mut dyn Reporter) -> Result<Dataset> {
    let place = config.directory.as_deref();
    match config.kind {
        DataKind::Cifar10 => open_cifar10(
            or_another_kind(place.unwrap_or(data_home), config.kind, cifar::find_folder)?,
            config,
        ),
        DataKind::Scenes => open_cifar10(find_or_generate(place, data_home, reporter)?, config),
        DataKind::Cifar100 => {
            let place = place.unwrap_or(data_home);
            open_cifar100(or_another_kind(place, config.kind, cifar100::find_folder)?, config)
        }
        DataKind::Folder => match place {
            Some(place) => open_folder(place, config, data_home, reporter),
            None => Err(Error::config("data.directory", "is missing: a folder of images has no usual place")),
        },
    }
}

fn open_cifar10(directory: PathBuf, config: &DataConfig) -> Result<Dataset> {
    let (train, files) = cifar::load_train(&directory, config.train_images)?;
    let name = digests::identify(&directory, &files)?;
    let class_names = cifar::class_names(&directory)?;
    let fingerprint = digests::fingerprint(&files);
    Ok(Dataset::of_files(name, fingerprint, class_names, directory, train, Test::Cifar10))
}

pub(super) fn open_cifar10_test(directory: &Path, expected: &str) -> Result<Images> {
    let (images, facts) = cifar::load_test(directory)?;
    let name = digests::identify(directory, std::slice::from_ref(&facts))?;
    if name != expected {
        return Err(Error::data(
            directory.join(&facts.name),
            format!("is of another data set ({name}) than the training files ({expected})"),
            "put the files of one data set into the folder",
        ));
    }
    Ok(images)
}

fn open_cifar100(directory: PathBuf, config: &DataConfig) -> Result<Dataset> {
    let labels = Labels::new(config.coarse_labels);
    let (train, file) = cifar100::load(&directory, cifar100::TRAIN_FILE, labels, config.train_images)?;
    let class_names = cifar100::class_names(&directory, labels)?;
    let (name, fingerprint) = (cifar100_name(labels), digests::fingerprint(&[file]));
    Ok(Dataset::of_files(name, fingerprint, class_names, directory, train, Test::Cifar100(labels)))
}

/// The official files' digests are not published, so that no more can be said.
pub(super) fn cifar100_name(labels: Labels) -> String {
    format!("CIFAR-100 layout, {} labels", labels.name())
}

fn open_folder(
    root: &Path,
    config: &DataConfig,
    data_home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<Dataset> {
    let opened = folder::open(config, root, data_home, reporter)?;
    let (train, unlabeled) = opened.limited(config.train_images)?;
    let mut names = Names { train: opened.names, test: opened.test_names };
    names.train.truncate(train.len());
    Ok(Dataset {
        name: opened.name,
        fingerprint: opened.fingerprint,
        skipped: opened.skipped,
        tags: Some(opened.tags),
        class_names: opened.classes,
        directory: root.to_path_buf(),
        train,
        names,
        pool: opened.pool,
        unlabeled,
        test: Test::Folder(opened.test),
    })
}

/// The folder that `find` gives; where it finds none, but data of another kind lies there, the error says so.
fn or_another_kind(
    path: &Path,
    kind: DataKind,
    find: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    find(path).map_err(|error| match detect(path).filter(|found| *found != kind) {
        Some(found) => another_kind(path, found),
        None => error,
    })
}

fn another_kind(path: &Path, found: DataKind) -> Error {
    let what = match found {
        DataKind::Folder => "image files",
        DataKind::Cifar100 => "CIFAR-100's files",
        DataKind::Cifar10 => "files in CIFAR-10's layout",
        DataKind::Scenes => "generated scenes",
    };
    let kind = found.name();
    Error::data(
        path,
        format!("holds {what}, which the config does not ask for"),
        format!("set data.kind={kind} (--set data.kind={kind}), or name another folder with --data"),
    )
}

/// The folder of generated scenes; writes them where there is no data set yet.
fn find_or_generate(
    directory: Option<&Path>,
    data_home: &Path,
    reporter: &mut dyn Reporter,
) -> Result<PathBuf> {
    let directory = directory.map_or_else(|| data_home.join("scenes"), Path::to_path_buf);
    let Ok(folder) = cifar::find_folder(&directory) else {
        if let Some(found) = detect(&directory) {
            return Err(another_kind(&directory, found));
        }
        return match generate(&directory, SCENES_SEED, false, reporter) {
            // Another process was faster.
            Ok(_) | Err(Error::OutputExists { .. }) => cifar::find_folder(&directory),
            Err(error) => Err(error),
        };
    };
    match DatasetRecord::read(&folder)?.map(|record| record.origin) {
        Some(Origin::Scenes { version, .. }) => {
            if version != SCENES_VERSION {
                reporter.report(Event::Warning(&format!(
                    "the scenes in {} are of version {version} of the generator, this program's is \
                     {SCENES_VERSION}; `rotnet data synth --force` writes them anew",
                    folder.display()
                )));
            }
            Ok(folder)
        }
        _ => Err(Error::data(
            folder,
            "holds another data set than the generated scenes",
            "set data.kind=cifar10 (--set data.kind=cifar10, or --config with a CIFAR-10 config), or name \
             another folder with --data",
        )),
    }
}
