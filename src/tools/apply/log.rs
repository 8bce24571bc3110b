//! What was turned in place, so that it can be undone: a line of JSON a file, on the disk before the file changes.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::lossless::Edit;
use crate::error::{Error, Result};
use crate::files::sync_parent;
use crate::tools::paths::PathText;

/// The only version of the format.
const VERSION: u32 = 1;

/// The first line of a log.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    orient_log: u32,
    program: String,
}

/// A file that was turned, or was to be when the process was killed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The file.
    #[serde(flatten)]
    pub file: PathText,
    /// SHA-256 of its old content.
    pub before: String,
    /// SHA-256 of its new content.
    pub after: String,
    /// When the old content was last modified: seconds since 1970, nanoseconds after that.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub modified: Option<(i64, u32)>,
    /// The way back.
    pub undo: Undo,
}

/// How the old content comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Undo {
    /// From the new one.
    Edits(Vec<Edit>),
    /// From the file that kept it.
    Original(PathText),
}

/// A log that is being written. One without entries goes away again.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    entries: usize,
}

impl Log {
    /// Begins a log, which must not exist.
    ///
    /// # Errors
    /// [`Error::OutputExists`] if it does, [`Error::Io`] if it cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error
            .kind()
        {
            std::io::ErrorKind::AlreadyExists => Error::OutputExists { path: path.to_path_buf() },
            _ => Error::io("write", path)(error),
        })?;
        let mut log = Self { path: path.to_path_buf(), file, entries: 0 };
        let program = format!("rotnet {}", env!("CARGO_PKG_VERSION"));
        log.line(&Header { orient_log: VERSION, program })?;
        sync_parent(path).map_err(Error::io("write", path))?;
        Ok(log)
    }

    /// Writes down what is about to happen.
    ///
    /// # Errors
    /// [`Error::Io`]; then it must not happen.
    pub(super) fn record(&mut self, entry: &Entry) -> Result<()> {
        self.line(entry)?;
        self.entries += 1;
        Ok(())
    }

    /// The file, if there is anything to undo.
    pub fn path(&self) -> Option<&Path> {
        (self.entries > 0).then_some(self.path.as_path())
    }

    fn line(&mut self, value: &impl Serialize) -> Result<()> {
        let mut attempt = || {
            let mut line = serde_json::to_vec(value)?;
            line.push(b'\n');
            self.file.write_all(&line)?;
            self.file.sync_all()
        };
        attempt().map_err(Error::io("write", &self.path))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.entries == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The entries of a log with the numbers of their lines; a line that is damaged, with what is wrong. One without an end is
/// what a killed process leaves before it changes a file, and no entry.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Data`] if it is no log.
pub(super) fn entries(path: &Path) -> Result<Vec<(usize, Result<Entry, String>)>> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let mut lines = bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let header: Option<Header> = lines.next().and_then(|line| serde_json::from_slice(line).ok());
    if header.is_none_or(|header| header.orient_log != VERSION) {
        let hint = "name the file that `rotnet orient --in-place` spoke of";
        return Err(Error::data(path, "is not a log of `rotnet orient`", hint));
    }
    let read = |line: &[u8]| serde_json::from_slice(line).map_err(|error| error.to_string());
    Ok(lines.enumerate().map(|(index, line)| (index + 2, read(line))).collect())
}

/// A time as it is written.
pub(super) fn written(time: SystemTime) -> (i64, u32) {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => (since.as_secs() as i64, since.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let rest = before.subsec_nanos();
            let seconds = -(before.as_secs() as i64) - i64::from(rest > 0);
            (seconds, if rest > 0 { 1_000_000_000 - rest } else { 0 })
        }
    }
}

/// The time that was written; absent if the system has none such.
pub(super) fn time((seconds, nanoseconds): (i64, u32)) -> Option<SystemTime> {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(whole),
        false => SystemTime::UNIX_EPOCH.checked_add(whole),
    };
    time?.checked_add(Duration::from_nanos(nanoseconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_to_the_nanosecond_even_those_before_1970() {
        for nanoseconds in [0i64, 1, 1_999_999_999, -1, -1_000_000_000, -1_500_000_001] {
            let part = Duration::from_nanos(nanoseconds.unsigned_abs());
            let at = match nanoseconds < 0 {
                true => SystemTime::UNIX_EPOCH - part,
                false => SystemTime::UNIX_EPOCH + part,
            };
            assert_eq!(time(written(at)), Some(at), "{nanoseconds}");
        }
        assert_eq!(written(SystemTime::UNIX_EPOCH - Duration::from_nanos(1)), (-1, 999_999_999));
    }

    #[test]
    fn a_log_without_entries_goes_away_and_no_other_file_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        drop(Log::create(&path).unwrap());
        assert!(!path.exists());
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Log::create(&path), Err(Error::OutputExists { .. })));
        assert!(entries(&path).unwrap_err().to_string().contains("is not a log"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }
}
