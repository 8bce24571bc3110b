//! Spellings of earlier versions, translated before clap sees them: they keep working, each with a note on stderr that
//! gives the new spelling. Help and completions show only the new ones.

use std::ffi::{OsStr, OsString};

/// Renamed commands.
const COMMANDS: [(&[&str], &[&str]); 3] = [
    (&["verify-resume"], &["verify", "resume"]),
    (&["reproduce"], &["verify", "run"]),
    (&["data", "verify"], &["data", "info"]),
];

/// Options that became the first positional argument.
const FIRST_WORDS: [(&[&str], &str, &str); 7] = [
    (&["evaluate"], "--run", "RUN"),
    (&["evaluate"], "--out", "RUN"),
    (&["predict"], "--run", "RUN"),
    (&["orient"], "--run", "RUN"),
    (&["export"], "--run", "RUN"),
    (&["config", "show"], "--config", "NAME"),
    (&["verify", "device"], "--check", "NAME"),
];

/// Renamed options; a value follows them as before.
const OPTIONS: [(&[&str], &str, &str); 10] = [
    (&["run"], "--run", "--out"),
    (&["pretrain"], "--run", "--out"),
    (&["extract"], "--run", "--out"),
    (&["finetune"], "--run", "--out"),
    (&["data", "fetch"], "--to", "--out"),
    (&["data", "synth"], "--to", "--out"),
    (&["export"], "--to", "--out"),
    (&["orient"], "--fix", "--out"),
    (&["predict"], "--csv", "--format=csv"),
    (&["orient"], "--csv", "--format=csv"),
];

/// A command line in today's spelling.
pub(super) struct Translated {
    /// The program's name, then its arguments.
    pub(super) words: Vec<OsString>,
    /// One note per old spelling.
    pub(super) notes: Vec<String>,
}

/// Translates a command line, the program's name first.
pub(super) fn translate(words: Vec<OsString>) -> Translated {
    let mut line = Translated { words, notes: Vec::new() };
    for (old, new) in COMMANDS {
        line.rename_command(old, new);
    }
    line.split_commands();
    if line.is(&["man"]) && line.words.get(2).is_some_and(|word| !is_option(word)) {
        line.words.insert(2, "--out".into());
        line.note("man DIR", "man --out DIR");
    }
    for (command, old, name) in FIRST_WORDS {
        line.move_to_front(command, old, name);
    }
    for (command, old, new) in OPTIONS {
        line.rename_option(command, old, new);
    }
    line
}

impl Translated {
    fn is(&self, command: &[&str]) -> bool {
        self.words.len() > command.len()
            && command.iter().zip(&self.words[1..]).all(|(name, word)| word == name)
    }

    fn note(&mut self, old: &str, new: &str) {
        self.notes.push(format!("`rotnet {old}` is now `rotnet {new}`"));
    }

    fn rename_command(&mut self, old: &[&str], new: &[&str]) {
        if self.is(old) {
            self.words.splice(1..=old.len(), new.iter().map(OsString::from));
            self.note(&old.join(" "), &new.join(" "));
        }
    }

    /// Commands that used to be chosen by an option.
    fn split_commands(&mut self) {
        if self.is(&["devices"]) && self.place(&["devices"], "--check").is_some() {
            self.words.splice(1..2, ["verify", "device"].map(OsString::from));
        }
        if self.is(&["config"]) {
            if let Some(place) = self.place(&["config"], "--schema") {
                self.words.remove(place);
                self.words.insert(2, "schema".into());
                self.note("config --schema", "config schema");
            } else if self.words.get(2).is_none_or(|word| is_option(word) && !asks_for_help(word)) {
                self.words.insert(2, "show".into());
                self.note("config", "config show");
            }
        }
    }

    /// The position of an option of a command, whether its value is in the same word or not.
    fn place(&self, command: &[&str], option: &str) -> Option<usize> {
        let end = self.words.iter().position(|word| word == "--").unwrap_or(self.words.len());
        let named = |word: &OsStr| word == option || value_of(word, option).is_some();
        (command.len() + 1..end).find(|&place| named(&self.words[place]))
    }

    fn move_to_front(&mut self, command: &[&str], option: &str, name: &str) {
        if !self.is(command) {
            return;
        }
        let Some(place) = self.place(command, option) else { return };
        let word = self.words.remove(place);
        let value = match value_of(&word, option) {
            Some(value) => value,
            None if place < self.words.len() => self.words.remove(place),
            // Without a value it is left for clap to refuse.
            None => return self.words.push(word),
        };
        self.words.insert(command.len() + 1, value);
        let new = command.join(" ");
        let old = if new == "verify device" { "devices".to_owned() } else { new.replace(" show", "") };
        self.note(&format!("{old} {option} {name}"), &format!("{new} {name}"));
    }

    fn rename_option(&mut self, command: &[&str], old: &str, new: &str) {
        if !self.is(command) {
            return;
        }
        let Some(place) = self.place(command, old) else { return };
        self.words[place] = match value_of(&self.words[place], old) {
            Some(value) => [OsStr::new(new), OsStr::new("="), &value].into_iter().collect(),
            None => new.into(),
        };
        let (command, new) = (command.join(" "), new.replace('=', " "));
        self.note(&format!("{command} {old}"), &format!("{command} {new}"));
    }
}

fn is_option(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

fn asks_for_help(word: &OsStr) -> bool {
    ["-h", "--help", "--help-all"].iter().any(|help| word == *help)
}

/// The value in a word `--option=value`.
fn value_of(word: &OsStr, option: &str) -> Option<OsString> {
    let value = word.to_str()?.strip_prefix(option)?.strip_prefix('=')?;
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(line: &str) -> (String, usize) {
        let words = std::iter::once("rotnet").chain(line.split(' ')).map(OsString::from).collect();
        let Translated { words, notes } = translate(words);
        let words: Vec<&str> = words[1..].iter().map(|word| word.to_str().unwrap()).collect();
        (words.join(" "), notes.len())
    }

    #[test]
    fn every_old_spelling_has_a_new_one_and_a_note() {
        for (old, new) in [
            ("verify-resume --kills 3", "verify resume --kills 3"),
            ("reproduce runs/a --json", "verify run runs/a --json"),
            ("devices --check flex --json", "verify device flex --json"),
            ("devices --json --check=flex", "verify device flex --json"),
            ("data verify photos", "data info photos"),
            ("data fetch --to data", "data fetch --out data"),
            ("data synth --seed 7 --to=other", "data synth --seed 7 --out=other"),
            ("config --schema", "config schema"),
            ("config", "config show"),
            ("config --set a=1 --config x.json", "config show x.json --set a=1"),
            ("evaluate --run runs/a --force", "evaluate runs/a --force"),
            ("evaluate --force --out=runs/a", "evaluate runs/a --force"),
            ("predict --run runs/a photo.jpg", "predict runs/a photo.jpg"),
            ("predict photo.jpg --run runs/a", "predict runs/a photo.jpg"),
            ("export --run runs/a", "export runs/a"),
            ("finetune --run runs/a", "finetune --out runs/a"),
            ("man pages", "man --out pages"),
        ] {
            let (words, notes) = translated(old);
            assert_eq!(words, new, "{old}");
            // `config --config x` is two of them.
            assert_eq!(notes, 1 + usize::from(old.contains("--config x")), "{old}");
        }
        assert_eq!(
            translated("orient --run runs/a photos --fix up --csv"),
            ("orient runs/a photos --out up --format=csv".into(), 3)
        );
    }

    #[test]
    fn what_is_spelled_as_it_is_now_stays() {
        for line in [
            "run --out runs/a",
            "evaluate runs/a",
            "config list",
            "config show keras",
            "config --help",
            "config schema",
            "devices --json",
            "verify run runs/a",
            "data info photos",
            "predict runs/a -- --run",
            "compare runs/a runs/b",
        ] {
            assert_eq!(translated(line), (line.to_owned(), 0));
        }
    }

    #[test]
    fn an_option_without_its_value_is_left_for_the_parser_to_refuse() {
        assert_eq!(translated("evaluate --run"), ("evaluate --run".into(), 0));
    }
}
