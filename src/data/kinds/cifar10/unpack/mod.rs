//! Unpacks the data files of the archive, and nothing else.
//!
//! An entry is taken only if its name is exactly one of those expected, and written under a name of our own: no entry can
//! lead anywhere else, be a link, or be larger than its file is known to be.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use tar::{Archive, Entry};

use super::layout::{FILES, FOLDER, NAMES_FILE};
use crate::error::{Error, Result};

/// Largest `batches.meta.txt` accepted; the official one has 61 bytes.
const NAMES_BYTES: u64 = 4_096;
/// Bytes read from the archive besides the files: headers, `readme.html`, padding.
const SLACK: u64 = 1 << 20;

/// Unpacks the data files, of `file_bytes` each, and the class names into `folder`.
///
/// # Errors
/// [`Error::Data`] if the archive is damaged or holds something else; [`Error::Io`] for `folder`.
pub fn unpack(archive: &Path, folder: &Path, file_bytes: u64) -> Result<()> {
    let refuse = |problem: String| Error::data(archive, problem, "fetch the archive again");
    let damaged = |error: io::Error| refuse(format!("cannot be unpacked: {error}"));
    let limit = FILES.len() as u64 * file_bytes + SLACK;
    let file = File::open(archive).map_err(Error::io("read", archive))?;
    let mut tar = Archive::new(GzDecoder::new(io::BufReader::new(file)).take(limit));
    let mut missing: BTreeSet<&str> = FILES.iter().copied().collect();
    for entry in tar.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let Some(name) = expected_name(&entry) else {
            continue;
        };
        let size = entry.size();
        let right_size = match name {
            NAMES_FILE => size <= NAMES_BYTES,
            _ => size == file_bytes && missing.remove(name),
        };
        if !entry.header().entry_type().is_file() || !right_size {
            return Err(refuse(format!("{FOLDER}/{name} in it is not the one file expected")));
        }
        let path = folder.join(name);
        let mut out = File::create(&path).map_err(Error::io("create", &path))?;
        if io::copy(&mut entry, &mut out).map_err(damaged)? != size {
            return Err(refuse(format!("ends within {FOLDER}/{name}")));
        }
        out.sync_all().map_err(Error::io("write", &path))?;
    }
    match missing.first() {
        Some(name) => Err(refuse(format!("holds no {FOLDER}/{name}"))),
        None => Ok(()),
    }
}

fn expected_name<R: Read>(entry: &Entry<'_, R>) -> Option<&'static str> {
    let path = entry.path_bytes();
    let path = path.strip_prefix(b"./").unwrap_or(&path);
    let name = path.strip_prefix(FOLDER.as_bytes())?.strip_prefix(b"/")?;
    let mut expected = FILES.iter().copied().chain([NAMES_FILE]);
    expected.find(|expected| expected.as_bytes() == name)
}

#[cfg(test)]
pub(super) mod tests;
