//! Words of a command, quoted for a shell.

use std::ffi::OsStr;

/// Characters without a special meaning in any shell.
const PLAIN: &str = "_/.,=:+@%-";

/// A word as a POSIX shell reads it back; one with control characters or without an encoding as `$'...'` (POSIX 2024,
/// bash, zsh), so that it stays on one line.
pub(crate) fn quoted(word: &OsStr) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || PLAIN.contains(letter);
    match word.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Some(text) if !text.chars().any(char::is_control) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => format!("$'{}'", word.as_encoded_bytes().iter().map(escaped).collect::<String>()),
    }
}

fn escaped(byte: &u8) -> String {
    match byte {
        b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        other => format!("\\{other:03o}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_would_change_them() {
        for plain in ["--out", "runs/a_1", "a.b,c=d:e+f@g%h-", "pretrain.epochs=2"] {
            assert_eq!(quoted(plain.as_ref()), plain);
        }
        for (word, expected) in [
            ("", "''"),
            ("two words", "'two words'"),
            (r#"evaluate.heads=["ridge"]"#, r#"'evaluate.heads=["ridge"]'"#),
            ("it's", r"'it'\''s'"),
            ("'", r"''\'''"),
            ("$HOME", "'$HOME'"),
            ("~/a", "'~/a'"),
            ("a*?{b}", "'a*?{b}'"),
            (r"back\slash`", r"'back\slash`'"),
            ("Müller", "'Müller'"),
            ("two\nlines", r"$'two\012lines'"),
            ("it's\t\\", r"$'it\'s\011\\'"),
        ] {
            assert_eq!(quoted(word.as_ref()), expected);
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_without_an_encoding_are_escaped() {
        use std::os::unix::ffi::OsStrExt;
        assert_eq!(quoted(OsStr::from_bytes(b"a\xff'1")), r"$'a\377\'1'");
    }
}
