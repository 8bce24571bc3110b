//! What pages have in common.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use maud::{Markup, PreEscaped, html};

use crate::error::{Error, Result};

/// How every page begins.
const BEGIN: &[u8] = b"<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">";

/// A page loads nothing from outside.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The head of a page, which follows the light or dark theme of its reader.
pub(super) fn head(title: &str, style: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            title { (title) " – rotnet" }
            style { (PreEscaped(style)) }
        }
    }
}

/// Refuses to put a page in the place of anything but another page of this program.
///
/// # Errors
/// [`Error::Usage`]; [`Error::Io`] if what is there cannot be read.
pub fn refuse_other_file(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let mut begin = Vec::new();
    if !path.is_dir() {
        let file = File::open(path).map_err(Error::io("read", path))?;
        file.take(BEGIN.len() as u64).read_to_end(&mut begin).map_err(Error::io("read", path))?;
    }
    match begin == BEGIN {
        true => Ok(()),
        false => Err(Error::Usage {
            problem: format!("{} is there, and is no page of this program", path.display()),
            hint: "name another file for the page".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_program_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        refuse_other_file(&path).unwrap();
        let page = html! { (maud::DOCTYPE) html lang="en" { (head("Title", "")) body {} } };
        std::fs::write(&path, page.into_string()).unwrap();
        refuse_other_file(&path).unwrap();
        for other in ["", "<!DOCTYPE html>", "{}"] {
            std::fs::write(&path, other).unwrap();
            assert!(matches!(refuse_other_file(&path), Err(Error::Usage { .. })), "{other}");
        }
        assert!(refuse_other_file(folder.path()).is_err());
    }
}
