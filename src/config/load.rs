//! From files and `--set` overrides to a checked [`Config`].

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

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
    for (path, value) in &overrides.0 {
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
    fn a_resolved_config_reads_back_as_itself() {
        let config = resolve(QUICKSTART, "quickstart", &Overrides::default()).unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(resolve(&text, "again", &Overrides::default()).unwrap(), config);
    }
}
