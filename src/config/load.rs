//! From files and `--set` overrides to a checked [`Config`].

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Config;
use crate::error::{Error, Result};

/// The config of `rotnet run` without arguments, compiled in.
pub const QUICKSTART: &str = include_str!("../../configs/quickstart.json");

/// Settings that win over the file: `path.to.key` and the value.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<Override>);

#[derive(Clone, Debug)]
struct Override {
    key: String,
    value: Value,
    /// What messages have in front of the key.
    origin: String,
}

impl Overrides {
    /// Sets one key.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        self.set_by("", key, value);
    }

    /// Sets one key; messages have `origin` in front of it.
    pub fn set_by(&mut self, origin: &str, key: impl Into<String>, value: impl Into<Value>) {
        self.0.push(Override { key: key.into(), value: value.into(), origin: origin.into() });
    }

    /// Takes a `section.key=value` of the command line; a value that is no JSON is a string.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no `=` or no key.
    pub fn parse(&mut self, assignment: &str) -> Result<()> {
        let Some((path, text)) = assignment.split_once('=').filter(|(path, _)| !path.is_empty()) else {
            return Err(Error::Usage {
                problem: format!("--set {assignment}: not of the form section.key=value"),
                hint: "for example --set pretrain.epochs=2".into(),
            });
        };
        let value: Value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
        self.set_by("--set ", path.trim(), value);
        Ok(())
    }

    /// Adds settings that win over these.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a key was set, and the key: by the last override that touches it, else in the file named `file`.
    fn place(&self, file: &str, key: &str) -> String {
        match self.0.iter().rev().find(|one| is_within(key, &one.key) || is_within(&one.key, key)) {
            _ if key == "." => file.to_owned(),
            Some(one) => format!("{}{key}", one.origin),
            None => format!("{file}: {key}"),
        }
    }
}

/// Whether a key is another one or lies below it.
fn is_within(key: &str, other: &str) -> bool {
    key.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Reads a config file and lays the overrides over it.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Config`] for anything in it that is not usable.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    resolve(&text, &path.display().to_string(), overrides)
}

/// Parses the text of a config, named `origin` in messages, and lays the overrides over it.
///
/// # Errors
/// [`Error::Config`] with the path of the key, what is wrong and the value found.
pub fn resolve(text: &str, origin: &str, overrides: &Overrides) -> Result<Config> {
    let mut document: Value = serde_json::from_str(text)
        .map_err(|error| Error::config(origin, format!("not valid JSON: {error}")))?;
    let Value::Object(sections) = &mut document else {
        return Err(Error::config(origin, "must be a JSON object"));
    };
    sections.remove("$schema");
    let (kinds, others): (Vec<_>, Vec<_>) = overrides.0.iter().partition(|one| decides_keys(&one.key));
    for Override { key, value, origin } in kinds {
        change_kind(sections, key, value.clone()).map_err(|problem| refuse(origin, key, problem))?;
    }
    for Override { key, value, origin } in others {
        assign(sections, key, value.clone()).map_err(|problem| refuse(origin, key, problem))?;
    }
    let config: Config = serde_path_to_error::deserialize(document).map_err(|error| {
        let key = error.path().to_string();
        let problem = describe(&key, &error.into_inner().to_string());
        Error::config(overrides.place(origin, &key), problem)
    })?;
    config.validate().map_err(|error| match error {
        Error::Config { path, problem } => Error::config(overrides.place(origin, &path), problem),
        other => other,
    })?;
    Ok(config)
}

fn refuse(origin: &str, key: &str, problem: String) -> Error {
    Error::config(format!("{origin}{key}"), problem)
}

/// How alike two words are, of 1, from which on one is taken for the other mistyped: as clap takes its options.
const ALIKE: f64 = 0.7;

/// What serde says of the value of a key, with the nearest name for one that it does not know.
pub fn describe(key: &str, message: &str) -> String {
    let unknown = |what: &str| message.strip_prefix(what)?.split_once("`, expected ");
    if let Some((word, names)) = unknown("unknown field `") {
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        // The key that is named may or may not be the section's.
        let section = key.strip_suffix(word).unwrap_or(key).trim_end_matches('.');
        let full =
            |name: &str| if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        return match nearest(word, &names) {
            Some(name) => format!("no such key (did you mean `{}`?)", full(name)),
            None => format!("no such key; there are {}", names.join(", ")),
        };
    }
    if let Some((word, names)) = unknown("unknown variant `") {
        let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
        if let Some(name) = nearest(word, &names) {
            return format!("{message} (did you mean `{name}`?)");
        }
    }
    message.to_owned()
}

fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &&&str| strsim::jaro(word, name);
    let nearest = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&nearest) > ALIKE).then_some(*nearest)
}

/// Whether a key says which other keys its section has.
fn decides_keys(path: &str) -> bool {
    ["encoder.kind", "optimizer.kind", "schedule.kind", "others.kind"].iter().any(|end| path.ends_with(end))
}

/// Sets the kind of a section; if that is another than before, the keys of the one before go.
fn change_kind(sections: &mut Map<String, Value>, path: &str, kind: Value) -> Result<(), String> {
    let section = path.strip_suffix(".kind").unwrap_or(path);
    let pointer = format!("/{}", section.replace('.', "/"));
    let before = Value::Object(sections.clone());
    match before.pointer(&pointer).and_then(|section| section.get("kind")) {
        Some(other) if *other != kind => assign(sections, section, json!({ "kind": kind })),
        _ => assign(sections, path, kind),
    }
}

impl Config {
    /// The config with settings laid over it.
    ///
    /// # Errors
    /// [`Error::Config`] if the result is not usable.
    pub fn with(&self, overrides: &Overrides) -> Result<Self> {
        let text = serde_json::to_string(self).map_err(|error| Error::config("config", error.to_string()))?;
        resolve(&text, "config", overrides)
    }
}

fn assign(sections: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), String> {
    let Some((section, rest)) = path.split_once('.') else {
        sections.insert(path.to_owned(), value);
        return Ok(());
    };
    let inner = sections.entry(section).or_insert_with(|| Value::Object(Map::new()));
    match inner {
        Value::Object(inner) => assign(inner, rest, value),
        other => Err(format!("`{section}` is {other}, not a section")),
    }
}

/// The JSON schema of [`Config`].
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        resolve(text, "test.json", &Overrides::default()).unwrap_err().to_string()
    }

    #[test]
    fn problems_are_named_by_file_and_path() {
        let wrong = problem(r#"{"pretrain": {"epochs": "ten"}}"#);
        assert!(wrong.starts_with("test.json: pretrain.epochs: invalid type"), "{wrong}");
        assert_eq!(
            problem(r#"{"pretrain": {"batch_size": 0}}"#),
            "test.json: pretrain.batch_size: must be at least 1, got 0"
        );
        assert_eq!(problem("[]"), "test.json: must be a JSON object");
    }

    #[test]
    fn a_misspelled_name_is_answered_with_the_nearest_one() {
        for (text, expected) in [
            (
                r#"{"pretrain": {"epoch": 3}}"#,
                "pretrain.epoch: no such key (did you mean `pretrain.epochs`?)",
            ),
            (r#"{"pretain": {}}"#, "pretain: no such key (did you mean `pretrain`?)"),
            (
                r#"{"pretrain": {"sizes": [{"until": 0.4, "sise": 24}]}}"#,
                "pretrain.sizes[0].sise: no such key (did you mean `pretrain.sizes[0].size`?)",
            ),
        ] {
            assert_eq!(problem(text), format!("test.json: {expected}"));
        }
        let far = problem(r#"{"save": {"xyz": 3}}"#);
        assert_eq!(far, "test.json: save.xyz: no such key; there are every_steps, every_minutes");
        let kind = problem(r#"{"encoder": {"kind": "compct"}}"#);
        assert!(
            kind.starts_with("test.json: encoder.kind: unknown variant `compct`, expected one of"),
            "{kind}"
        );
        assert!(kind.ends_with("(did you mean `compact`?)"), "{kind}");
    }

    #[test]
    fn an_override_is_named_by_where_it_comes_from_and_everything_else_by_the_file() {
        let problem = |overrides: &Overrides| resolve("{}", "test.json", overrides).unwrap_err().to_string();
        let mut overrides = Overrides::default();
        overrides.parse("finetune.epoch=3").unwrap();
        assert_eq!(
            problem(&overrides),
            "--set finetune.epoch: no such key (did you mean `finetune.epochs`?)"
        );
        let mut overrides = Overrides::default();
        overrides.set_by("sweep.json: ", "pretrain.batch_size", 0);
        assert_eq!(problem(&overrides), "sweep.json: pretrain.batch_size: must be at least 1, got 0");
        let mut overrides = Overrides::default();
        overrides.set("threads", 0);
        assert_eq!(problem(&overrides), "threads: must be at least 1, got 0");
        overrides.parse("seed.epochs=3").unwrap();
        let text = resolve(r#"{"seed": 1}"#, "test.json", &overrides).unwrap_err().to_string();
        assert_eq!(text, "--set seed.epochs: `seed` is 1, not a section");
    }

    #[test]
    fn overrides_win_and_strings_need_no_quotes() {
        let mut overrides = Overrides::default();
        overrides.parse("pretrain.epochs=3").unwrap();
        overrides.parse("finetune.mode=full").unwrap();
        let config = resolve(QUICKSTART, "quickstart", &overrides).unwrap();
        assert_eq!(config.pretrain.epochs, 3);
        assert_eq!(config.finetune.mode, super::super::FinetuneMode::Full);
        assert!(overrides.parse("epochs").is_err());
    }

    #[test]
    fn another_kind_takes_its_own_defaults_whatever_the_order_of_the_overrides() {
        let rate = "pretrain.optimizer.learning_rate=0.5";
        let kind = "pretrain.optimizer.kind=sgd";
        for order in [[rate, kind], [kind, rate]] {
            let mut overrides = Overrides::default();
            order.iter().for_each(|text| overrides.parse(text).unwrap());
            overrides.parse("finetune.optimizer.kind=adam").unwrap();
            let config = resolve(QUICKSTART, "quickstart", &overrides).unwrap();
            let sgd = json!({"kind": "sgd", "learning_rate": 0.5, "momentum": 0.9, "nesterov": true, "weight_decay": 5e-4});
            assert_eq!(json!(config.pretrain.optimizer), sgd);
            assert_eq!(config.finetune.optimizer, Default::default());
        }
    }

    #[test]
    fn settings_are_laid_over_a_config() {
        let config = resolve(QUICKSTART, "quickstart", &Overrides::default()).unwrap();
        let mut overrides = Overrides::default();
        overrides.set("pretrain.epochs", 0);
        let changed = config.with(&overrides).unwrap();
        assert_eq!(changed.pretrain.epochs, 0);
        assert_eq!(changed.with(&Overrides::default()).unwrap(), changed);
        overrides.set("pretrain.epoch", 0);
        assert!(config.with(&overrides).is_err());
    }

    #[test]
    fn a_resolved_config_reads_back_as_itself() {
        let config = resolve(QUICKSTART, "quickstart", &Overrides::default()).unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(resolve(&text, "again", &Overrides::default()).unwrap(), config);
    }
}
