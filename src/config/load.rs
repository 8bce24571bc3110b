//! From files and `--set` overrides to a checked [`Config`].

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Config;
use crate::error::{Error, Result};

/// The config of `rotnet run` without arguments, compiled in.
pub const QUICKSTART: &str = include_str!("../../configs/quickstart.json");

/// Settings of the command line, which win over the file: `path.to.key` and the value.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Vec<(String, Value)>);

impl Overrides {
    /// Sets one key.
    pub fn set(&mut self, path: impl Into<String>, value: impl Into<Value>) {
        self.0.push((path.into(), value.into()));
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
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
        self.set(path.trim(), value);
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
    let (kinds, others): (Vec<_>, Vec<_>) = overrides.0.iter().partition(|(path, _)| decides_keys(path));
    for (path, value) in kinds {
        change_kind(sections, path, value.clone())?;
    }
    for (path, value) in others {
        assign(sections, path, value.clone())?;
    }
    let config: Config = serde_path_to_error::deserialize(document).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { origin.to_owned() } else { path };
        Error::config(path, error.into_inner().to_string())
    })?;
    config.validate()?;
    Ok(config)
}

/// Whether a key says which other keys its section has.
fn decides_keys(path: &str) -> bool {
    ["encoder.kind", "optimizer.kind", "schedule.kind", "others.kind"].iter().any(|end| path.ends_with(end))
}

/// Sets the kind of a section; if that is another than before, the keys of the one before go.
fn change_kind(sections: &mut Map<String, Value>, path: &str, kind: Value) -> Result<()> {
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

fn assign(sections: &mut Map<String, Value>, path: &str, value: Value) -> Result<()> {
    let Some((section, rest)) = path.split_once('.') else {
        sections.insert(path.to_owned(), value);
        return Ok(());
    };
    let inner = sections.entry(section).or_insert_with(|| Value::Object(Map::new()));
    match inner {
        Value::Object(inner) => assign(inner, rest, value),
        other => Err(Error::config(path, format!("`{section}` is {other}, not a section"))),
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
    fn unknown_keys_wrong_types_and_ranges_are_named_by_path() {
        let unknown = problem(r#"{"pretrain": {"epoch": 3}}"#);
        assert!(unknown.contains("pretrain") && unknown.contains("epoch"), "{unknown}");
        let wrong = problem(r#"{"pretrain": {"epochs": "ten"}}"#);
        assert!(wrong.starts_with("pretrain.epochs: invalid type"), "{wrong}");
        assert_eq!(
            problem(r#"{"pretrain": {"batch_size": 0}}"#),
            "pretrain.batch_size: must be at least 1, got 0"
        );
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
