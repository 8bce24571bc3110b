//! Tokens that clients of a worker must present.

use std::path::Path;

use crate::error::{Error, Result};

/// Longest token, in bytes.
const MAX_LENGTH: usize = 4_096;

/// The token in a file, without surrounding white space.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Usage`] if it holds no token.
pub fn read_token(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let token = text.trim();
    if token.is_empty() || token.len() > MAX_LENGTH || token.contains(char::is_whitespace) {
        return Err(Error::Usage {
            problem: format!(
                "{}: holds no token of 1 to {MAX_LENGTH} characters on one line",
                path.display()
            ),
            hint: "make one with `openssl rand -hex 32`".into(),
        });
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, " abc\n").unwrap();
        assert_eq!(read_token(&path).unwrap(), "abc");
        for bad in ["", " \n", "two words", "two\nlines"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(read_token(&path), Err(Error::Usage { .. })), "{bad:?}");
        }
        assert!(matches!(read_token(&folder.path().join("none")), Err(Error::Io { .. })));
    }
}
