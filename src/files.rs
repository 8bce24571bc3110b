//! Files that are written whole or not at all, and their digests.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tempfile::TempPath;

use crate::error::{Error, Result};

const TEMPORARY_PREFIX: &str = ".rotnet-";
const TEMPORARY_SUFFIX: &str = ".tmp";
/// Size of the write buffer, in bytes.
const BUFFER: usize = 1 << 18;

/// Whether this is the name of a temporary file of [`AtomicFile`], as a killed process leaves behind.
pub fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(TEMPORARY_PREFIX) && name.ends_with(TEMPORARY_SUFFIX))
}

/// Whether both paths lead to the same file or folder, which is there.
pub fn same_place(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A file that gets its name only once it is whole: until [`commit`](Self::commit) it is a temporary file in the same
/// directory, deleted on drop. The directory must exist: if it was removed during the work, results must not reappear in
/// a new one.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    out: BufWriter<File>,
    temporary: TempPath,
}

impl AtomicFile {
    /// Begins a file that will be named `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory cannot be written to.
    pub fn create(path: &Path) -> Result<Self> {
        Self::begin(path).map_err(Error::io("write", path))
    }

    fn begin(path: &Path) -> io::Result<Self> {
        let mut names = temporary_names();
        // Results are for whomever the user lets read; the system takes away what the umask says.
        #[cfg(unix)]
        names.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let (file, temporary) = names.tempfile_in(directory_of(path))?.into_parts();
        Ok(Self { path: path.to_path_buf(), out: BufWriter::with_capacity(BUFFER, file), temporary })
    }

    /// The name the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its name: fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// [`Error::Io`]; the path then holds what it held before.
    pub fn commit(self) -> Result<()> {
        let path = self.path.clone();
        let attempt = || -> io::Result<()> {
            self.finish(None, None)?.persist(&path).map_err(|error| error.error)?;
            sync_directory(directory_of(&path))
        };
        attempt().map_err(Error::io("write", &path))
    }

    /// The whole file, synced, still under its temporary name.
    fn finish(self, permissions: Option<Permissions>, modified: Option<SystemTime>) -> io::Result<TempPath> {
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        if let Some(modified) = modified {
            file.set_modified(modified)?;
        }
        file.sync_all()?;
        Ok(self.temporary)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.out.seek(place)
    }
}

/// Writes `path` as an [`AtomicFile`].
///
/// # Errors
/// [`Error::Io`]; `path` then holds what it held before.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    write(&mut file).map_err(Error::io("write", path))?;
    file.commit()
}

fn temporary_names() -> tempfile::Builder<'static, 'static> {
    let mut names = tempfile::Builder::new();
    names.prefix(TEMPORARY_PREFIX).suffix(TEMPORARY_SUFFIX);
    names
}

/// A directory for files that are to be renamed into `directory` together; deleted on drop.
pub fn temporary_directory_in(directory: &Path) -> Result<tempfile::TempDir> {
    temporary_names().tempdir_in(directory).map_err(Error::io("write", directory))
}

/// Writes `path` whole or not at all, with the permissions and the time of the file that it is made of.
///
/// # Errors
/// [`Error::Io`]; `path` then holds what it held before.
pub fn write_copy(path: &Path, content: &[u8], of: &Metadata) -> Result<()> {
    let attempt = || -> io::Result<()> {
        let mut new = AtomicFile::begin(path)?;
        new.write_all(content)?;
        new.finish(Some(of.permissions()), of.modified().ok())?.persist(path).map_err(|error| error.error)?;
        sync_directory(directory_of(path))
    };
    attempt().map_err(Error::io("write", path))
}

/// What takes the place of a file's content.
pub struct Replacement<'a> {
    /// The new content.
    pub content: &'a [u8],
    /// What the system said of the file when its content was read.
    pub read: &'a Metadata,
    /// When the new file was last modified; absent: now.
    pub modified: Option<SystemTime>,
    /// Where the old file stays; must not exist, or hold the same bytes.
    pub original: Option<&'a Path>,
}

/// Replaces the content of `path`, keeping its permissions. `path` is whole at every moment, and where the old file stays,
/// it is always under one of the two names.
///
/// # Errors
/// [`Error::Io`], also if the file was written to since it was read; `path` then holds what it held before.
pub fn replace(path: &Path, with: &Replacement) -> Result<()> {
    let attempt = || -> io::Result<()> {
        let mut new = AtomicFile::begin(path)?;
        new.write_all(with.content)?;
        let new = new.finish(Some(with.read.permissions()), with.modified)?;
        let now = fs::metadata(path)?;
        if (now.len(), now.modified().ok()) != (with.read.len(), with.read.modified().ok()) {
            return Err(io::Error::other("it was written to in the meantime"));
        }
        let made = with.original.map(|original| keep(path, original)).transpose()?.unwrap_or(false);
        sync_directory(directory_of(path))?;
        if let Err(error) = new.persist(path) {
            if let Some(original) = with.original.filter(|_| made) {
                let _ = fs::remove_file(original);
            }
            return Err(error.error);
        }
        sync_directory(directory_of(path))
    };
    attempt().map_err(Error::io("replace", path))
}

/// Makes `original` a second name of `path`, or a copy if the file system has no hard links; returns false if a process
/// that was killed had already done so.
fn keep(path: &Path, original: &Path) -> io::Result<bool> {
    match fs::hard_link(path, original) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return match fs::read(path)? == fs::read(original)? {
                true => Ok(false),
                false => Err(error),
            };
        }
        Err(_) => {}
    }
    let mut copy = AtomicFile::begin(original)?;
    io::copy(&mut File::open(path)?, &mut copy)?;
    let facts = fs::metadata(path)?;
    let copy = copy.finish(Some(facts.permissions()), facts.modified().ok())?;
    copy.persist_noclobber(original).map(|()| true).map_err(|error| error.error)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// [`write_atomically`] of a value as indented JSON.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_atomically(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Reads a JSON file that this program wrote.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Checkpoint`] if it is not valid.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&text).map_err(|error| {
        let problem = match error.is_data() {
            true => format!("not in the format of this version: {error}"),
            false => format!("not readable: {error}"),
        };
        Error::checkpoint(path, problem, "run the stage that writes it again")
    })
}

/// [`read_json`] of a file that need not exist.
///
/// # Errors
/// Those of [`read_json`] if it does.
pub fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    path.exists().then(|| read_json(path)).transpose()
}

/// A file that any number of threads can read at once, each at its own offset.
#[derive(Debug)]
pub struct PositionedFile {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: std::sync::Mutex<File>,
}

impl PositionedFile {
    /// Fills `target` with the bytes from offset `place`.
    pub fn read_exact_at(&self, target: &mut [u8], place: u64) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.file, target, place);
        #[cfg(not(unix))]
        {
            let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            file.seek(SeekFrom::Start(place))?;
            file.read_exact(target)
        }
    }
}

impl From<File> for PositionedFile {
    fn from(file: File) -> Self {
        #[cfg(not(unix))]
        let file = std::sync::Mutex::new(file);
        Self { file }
    }
}

/// Creates a directory and its parents.
pub fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// SHA-256 of a file, in lower-case hexadecimal.
pub fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// SHA-256 of bytes in memory, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Bytes as lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes renames in a directory survive a power cut.
#[cfg(unix)]
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// [`sync_directory`] of the one a file lies in.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_directory(directory_of(path))
}

/// Nothing: other systems sync directories with their files.
#[cfg(not(unix))]
pub fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("result.json");
        write_json(&path, &1).unwrap();
        let failed = write_atomically(&path, |out| {
            out.write_all(b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(failed, Err(Error::Io { action: "write", .. })));
        assert_eq!(read_json::<i32>(&path).unwrap(), 1);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_replaced_file_is_kept_under_another_name_that_is_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let [path, original] = ["a", "a.orig"].map(|name| directory.path().join(name));
        let content = |path: &Path| fs::read(path).unwrap();
        fs::write(&path, b"old").unwrap();
        let replace_keeping = |content: &[u8]| {
            let read = fs::metadata(&path).unwrap();
            let modified = read.modified().ok();
            super::replace(&path, &Replacement { content, read: &read, modified, original: Some(&original) })
        };
        // As after a kill between the two steps.
        fs::write(&original, b"old").unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        replace_keeping(b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), modified);
        assert_eq!((content(&path), content(&original)), (b"new".to_vec(), b"old".to_vec()));
        assert!(replace_keeping(b"newer").is_err());
        assert_eq!((content(&path), content(&original)), (b"new".to_vec(), b"old".to_vec()));
        fs::remove_file(&original).unwrap();
        replace_keeping(b"newer").unwrap();
        assert_eq!((content(&path), content(&original)), (b"newer".to_vec(), b"new".to_vec()));
        // Somebody else wrote to it.
        let read = fs::metadata(&path).unwrap();
        fs::write(&path, b"edited by hand").unwrap();
        let late = Replacement { content: b"last", read: &read, modified: None, original: None };
        assert!(replace(&path, &late).unwrap_err().to_string().contains("in the meantime"));
        assert_eq!(content(&path), b"edited by hand");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn digest_of_a_file_is_that_of_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("abc");
        fs::write(&path, b"abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_file(&path).unwrap(), expected);
        assert_eq!(sha256(b"abc"), expected);
    }
}
