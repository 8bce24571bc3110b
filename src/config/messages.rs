//! What is said of a key or a name that does not fit.

/// How alike two words are, of 1, from which on one is taken for the other mistyped: as clap takes its options.
const ALIKE: f64 = 0.7;

/// Former names of values, which serde lists beside the present ones.
const FORMER: [&str; 1] = ["seed"];

/// What serde says of the value of a key, with the nearest name for one that it does not know.
pub fn describe(key: &str, message: &str) -> String {
    let unknown = |what: &str| message.strip_prefix(what)?.split_once('`');
    if let Some((word, names)) = unknown("unknown field `") {
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        // The key that is named may or may not be the section's.
        let section = key.strip_suffix(word).unwrap_or(key).trim_end_matches('.');
        return match nearest(word, &names) {
            Some(name) if section.is_empty() => format!("no such key (did you mean `{name}`?)"),
            Some(name) => format!("no such key (did you mean `{section}.{name}`?)"),
            None => "no such key, nor one like it".into(),
        };
    }
    if let Some((word, names)) = unknown("unknown variant `") {
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        let message =
            FORMER.iter().fold(message.to_owned(), |text, name| text.replace(&format!("`{name}`, "), ""));
        return match nearest(word, &names) {
            Some(name) => format!("{message} (did you mean `{name}`?)"),
            None => message,
        };
    }
    message.to_owned()
}

/// The name that a word is most like, where it is like one at all.
pub(super) fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &&&str| strsim::jaro(word, name);
    let nearest = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&nearest) > ALIKE).then_some(*nearest)
}
