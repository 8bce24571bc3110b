//! The official archive, downloaded or from this machine, checked, and unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::cifar::{self, FOLDER};
use super::digests::{ARCHIVE_BYTES, ARCHIVE_SHA256, ARCHIVE_URL, DatasetRecord, Origin};
use super::download::Download;
use super::staging::Staging;
use super::unpack::unpack;
use crate::error::{Error, Result};
use crate::files::{create_directory, sha256_file};
use crate::progress::{Event, Reporter};

/// Size of each data file: 10,000 records.
const FILE_BYTES: u64 = 10_000 * cifar::RECORD as u64;
/// The archive's name while it is needed.
const ARCHIVE_FILE: &str = "cifar-10-binary.tar.gz";

/// What to fetch, and where to.
#[derive(Clone, Debug, Default)]
pub struct FetchRequest {
    /// The folder to put `cifar-10-batches-bin` into.
    pub directory: PathBuf,
    /// Another place to download from.
    pub url: Option<String>,
    /// An archive that is on this machine already; it is left as it is.
    pub archive: Option<PathBuf>,
    /// SHA-256 that the archive must have if it is not the official one, in hexadecimal.
    pub sha256: Option<String>,
    /// Replace a data set that is already there.
    pub force: bool,
}

/// What [`fetch`] left.
#[derive(Clone, Debug, Serialize)]
pub struct FetchReport {
    /// The data set's name.
    pub name: String,
    /// The folder of the files.
    pub directory: PathBuf,
    /// Where the archive came from: an address or a path.
    pub source: String,
    /// SHA-256 of the archive.
    pub sha256: String,
}

/// Fetches the archive, checks its size and digest, and only then unpacks the files that are expected in it.
///
/// A download that was cut goes on where it ended. The downloaded archive is removed once it is unpacked, or
/// if it is not the right one.
///
/// # Errors
/// [`Error::OutputExists`]; [`Error::Usage`] for a digest that is none; [`Error::Download`]; [`Error::Data`] for
/// an archive that is not the right one or damaged; [`Error::Io`].
pub fn fetch(request: &FetchRequest, reporter: &mut dyn Reporter) -> Result<FetchReport> {
    fetch_files_of(FILE_BYTES, request, reporter)
}

fn fetch_files_of(
    file_bytes: u64,
    request: &FetchRequest,
    reporter: &mut dyn Reporter,
) -> Result<FetchReport> {
    let folder = request.directory.join(FOLDER);
    if folder.exists() && !request.force {
        return Err(Error::OutputExists { path: folder });
    }
    let sha256 = expected_digest(request.sha256.as_deref())?;
    let bytes = (sha256 == ARCHIVE_SHA256).then_some(ARCHIVE_BYTES);
    create_directory(&request.directory)?;
    let source = match &request.archive {
        Some(archive) => {
            check_digest(archive, bytes, &sha256).map_err(|problem| {
                Error::data(
                    archive,
                    problem,
                    "name the official archive, or the digest of this one with --sha256",
                )
            })?;
            unpack_checked(archive, &folder, file_bytes, &sha256, request.force)?;
            archive.display().to_string()
        }
        None => {
            let url = request.url.as_deref().unwrap_or(ARCHIVE_URL);
            let archive = request.directory.join(ARCHIVE_FILE);
            let pause = Duration::from_millis(500);
            Download { url, bytes, pause }.to(&archive, reporter)?;
            reporter.report(Event::Note("checking and unpacking the archive"));
            let checked =
                check_digest(&archive, bytes, &sha256).map_err(|problem| Error::Download {
                    url: url.to_owned(),
                    problem: format!("{problem}; the file was removed"),
                    hint: "run the command again, or name another source with --url or --archive"
                        .into(),
                });
            let unpacked = checked.and_then(|()| {
                unpack_checked(&archive, &folder, file_bytes, &sha256, request.force)
            });
            fs::remove_file(&archive).map_err(Error::io("remove", &archive))?;
            unpacked?;
            url.to_owned()
        }
    };
    let origin = Origin::Archive {
        sha256: sha256.clone(),
    };
    Ok(FetchReport {
        name: origin.name(),
        directory: folder,
        source,
        sha256,
    })
}

fn expected_digest(given: Option<&str>) -> Result<String> {
    let digest = given.unwrap_or(ARCHIVE_SHA256).to_ascii_lowercase();
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digest);
    }
    Err(Error::Usage {
        problem: format!("--sha256 {digest}: not a SHA-256"),
        hint: "give 64 hexadecimal digits, as `sha256sum FILE` prints them".into(),
    })
}

/// Says what is wrong with the archive, if anything is.
fn check_digest(archive: &Path, bytes: Option<u64>, sha256: &str) -> Result<(), String> {
    let found = fs::metadata(archive)
        .map_err(|error| error.to_string())?
        .len();
    match bytes {
        Some(bytes) if bytes != found => {
            return Err(format!("has {found} bytes, expected {bytes}"));
        }
        _ => {}
    }
    let found = sha256_file(archive).map_err(|error| error.to_string())?;
    match found == sha256 {
        true => Ok(()),
        false => Err(format!("has SHA-256 {found}, expected {sha256}")),
    }
}

/// Unpacks next to `folder`, checks every file, records the digests, and only then puts `folder` in place.
fn unpack_checked(
    archive: &Path,
    folder: &Path,
    file_bytes: u64,
    sha256: &str,
    force: bool,
) -> Result<()> {
    let staging = Staging::new(folder.parent().unwrap_or(Path::new(".")))?;
    let mut digests = BTreeMap::new();
    for name in unpack(archive, staging.path(), file_bytes)? {
        let facts = cifar::check_file(staging.path(), name)?;
        digests.insert(facts.name, facts.sha256);
    }
    let origin = Origin::Archive {
        sha256: sha256.to_owned(),
    };
    DatasetRecord::new(origin, digests).write(staging.path())?;
    staging.put(folder, force)
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
