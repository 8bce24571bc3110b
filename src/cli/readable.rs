//! Names of files may hold anything, commands for the terminal too: what is shown there is text.

use std::borrow::Cow;

/// The text with escapes (`\u{1b}`) in place of control characters, but for ends of lines and tabs.
pub(super) fn readable(text: &str) -> Cow<'_, str> {
    let commands = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let escaped = |character: char| match commands(character) {
        true => character.escape_unicode().to_string(),
        false => character.to_string(),
    };
    Cow::Owned(text.chars().map(escaped).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_command_no_terminal() {
        assert_eq!(readable("a\tb é\n"), "a\tb é\n");
        assert_eq!(readable("\u{1b}]0;title\u{7}.jpg\r"), r"\u{1b}]0;title\u{7}.jpg\u{d}");
    }
}
