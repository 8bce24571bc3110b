//! Paths in JSON, without loss: names need not be UTF-8.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};

/// A path as plans and logs spell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathText {
    /// As text; what is not UTF-8 in it is replaced, and then the next line counts.
    file: String,
    /// Its bytes in Base64, where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_bytes: Option<String>,
}

impl PathText {
    /// Of a path.
    pub fn new(path: &Path) -> Self {
        let file_bytes = path.to_str().is_none().then(|| STANDARD.encode(bytes(path)));
        Self { file: path.to_string_lossy().into_owned(), file_bytes }
    }

    /// As text, for people.
    pub fn text(&self) -> &str {
        &self.file
    }

    /// The path.
    ///
    /// # Errors
    /// Why it stands for none.
    pub fn path(&self) -> Result<PathBuf, String> {
        let Some(text) = &self.file_bytes else { return Ok(PathBuf::from(&self.file)) };
        let bytes = STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty());
        bytes.and_then(path).ok_or_else(|| "its name cannot be spelled on this system".into())
    }
}

/// Spells a path that is only shown: what is not UTF-8 in it is replaced.
pub(crate) fn shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// The same of one that may be absent.
pub(crate) fn shown_if_there<S: Serializer>(
    path: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}

/// The same of several.
pub(crate) fn all_shown<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

#[cfg(unix)]
fn bytes(path: &Path) -> &[u8] {
    std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
}

#[cfg(unix)]
fn path(bytes: Vec<u8>) -> Option<PathBuf> {
    let name: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(bytes);
    Some(name.into())
}

/// None: then the name is refused where it is read.
#[cfg(not(unix))]
fn bytes(_: &Path) -> &[u8] {
    &[]
}

#[cfg(not(unix))]
fn path(_: Vec<u8>) -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn names_that_are_not_utf_8_come_back_and_others_stay_plain() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        for name in [&b"a\xff\xfe.jpg"[..], b"\xc3\xa4 \xef\xbf\xbd.jpg", b"plain.jpg"] {
            let path = Path::new(OsStr::from_bytes(name));
            let text = serde_json::to_string(&PathText::new(path)).unwrap();
            assert_eq!(text.contains("file_bytes"), std::str::from_utf8(name).is_err(), "{text}");
            assert_eq!(serde_json::from_str::<PathText>(&text).unwrap().path().unwrap(), path);
        }
        let wrong = PathText { file: "a".into(), file_bytes: Some("***".into()) };
        assert!(wrong.path().is_err());
    }
}
