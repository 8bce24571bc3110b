//! The official archive, downloaded or from this machine, checked, and unpacked.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::digests::{ARCHIVE_BYTES, ARCHIVE_SHA256, ARCHIVE_URL, DatasetRecord, Origin};
use super::layout::{FILES, FOLDER, RECORD, check_file};
use super::unpack::unpack;
use crate::data::download::Download;
use crate::data::staging::Staging;
use crate::error::{Error, Result};
use crate::files::{create_directory, sha256_file};
use crate::progress::{Event, Reporter};

/// Size of each data file: 10,000 records.
const FILE_BYTES: u64 = 10_000 * RECORD as u64;
/// Name of the archive while it is downloaded and unpacked.
const PART_FILE: &str = "cifar-10-binary.tar.gz.part";
/// Wait before a second attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// What to fetch, and where to.
#[derive(Clone, Debug, Default)]
pub struct FetchRequest {
    /// The folder to put `cifar-10-batches-bin` into.
    pub directory: PathBuf,
    /// Another address to download from.
    pub url: Option<String>,
    /// An archive that is already on this machine; it is left as it is.
    pub archive: Option<PathBuf>,
    /// SHA-256 that the archive must have if it is not the official one, in hexadecimal.
    pub sha256: Option<String>,
    /// Replace a data set that is already there.
    pub force: bool,
}

/// What [`fetch`] did.
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

/// Fetches the archive, checks its size and digest, and only then unpacks the files expected in it.
///
/// A download that was cut off is continued. The archive is removed once it is unpacked, or if it is the wrong one.
///
/// # Errors
/// [`Error::OutputExists`]; [`Error::Usage`] for a digest that is not one; [`Error::Download`]; [`Error::Data`] for
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
    let unpack = |archive: &Path| unpack_checked(archive, &folder, file_bytes, &sha256, request.force);
    let source = match &request.archive {
        Some(archive) => {
            check_digest(archive, bytes, &sha256)?.map_err(|problem| {
                let hint = "give the official archive, or the digest of this one with --sha256";
                Error::data(archive, problem, hint)
            })?;
            unpack(archive)?;
            archive.display().to_string()
        }
        None => {
            let url = request.url.as_deref().unwrap_or(ARCHIVE_URL);
            let archive = request.directory.join(PART_FILE);
            download(url, bytes, &sha256, &archive, reporter)?;
            unpack(&archive)?;
            remove(&archive)?;
            url.to_owned()
        }
    };
    let origin = Origin::Archive { sha256: sha256.clone() };
    Ok(FetchReport { name: origin.name(), directory: folder, source, sha256 })
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

/// Downloads the archive, and removes it if it is the wrong one.
fn download(
    url: &str,
    bytes: Option<u64>,
    sha256: &str,
    archive: &Path,
    reporter: &mut dyn Reporter,
) -> Result<()> {
    let pause = PAUSE;
    Download { url, bytes, pause }.to(archive, reporter)?;
    reporter.report(Event::Note("checking and unpacking the archive"));
    let Err(problem) = check_digest(archive, bytes, sha256)? else {
        return Ok(());
    };
    remove(archive)?;
    Err(Error::Download {
        url: url.to_owned(),
        problem: format!("{problem}; the file was removed"),
        hint: "run the command again, or give another source with --url or --archive".into(),
    })
}

/// Says what is wrong with the archive, if anything is.
fn check_digest(archive: &Path, bytes: Option<u64>, sha256: &str) -> Result<Result<(), String>> {
    let found = fs::metadata(archive).map_err(Error::io("read", archive))?.len();
    if let Some(bytes) = bytes
        && bytes != found
    {
        return Ok(Err(format!("has {found} bytes, expected {bytes}")));
    }
    let found = sha256_file(archive)?;
    Ok(match found == sha256 {
        true => Ok(()),
        false => Err(format!("has SHA-256 {found}, expected {sha256}")),
    })
}

fn remove(archive: &Path) -> Result<()> {
    fs::remove_file(archive).map_err(Error::io("remove", archive))
}

/// Unpacks next to `folder`, checks every file, records the digests, and only then puts `folder` in place.
fn unpack_checked(archive: &Path, folder: &Path, file_bytes: u64, sha256: &str, force: bool) -> Result<()> {
    let staging = Staging::new(folder.parent().unwrap_or(Path::new(".")))?;
    let mut digests = BTreeMap::new();
    unpack(archive, staging.path(), file_bytes)?;
    for name in FILES {
        let facts = check_file(staging.path(), name)?;
        digests.insert(facts.name, facts.sha256);
    }
    let origin = Origin::Archive { sha256: sha256.to_owned() };
    DatasetRecord::new(origin, digests).write(staging.path())?;
    staging.put(folder, force)
}

#[cfg(test)]
mod tests;
