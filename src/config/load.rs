//! From files and `--set` overrides to a checked [`Config`].

use std::path::Path;

use super::document::Document;
use super::recipes::Source;
use super::{Config, Overrides};
use crate::error::{Error, Result};

/// The config that tests change: the Keras program with scaled pixels.
#[cfg(test)]
pub(crate) const KERAS: &str = include_str!("../../configs/keras-scaled.json");

/// Reads a config file and lays the overrides over it.
///
/// # Errors
/// [`Error::Io`] if the file cannot be read, [`Error::Config`] for anything in it that is not usable.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Config> {
    Document::read(Source::File(path.to_path_buf()))?.config(overrides)
}

/// Parses the text of a config, named `origin` in messages, and lays the overrides over it.
///
/// # Errors
/// [`Error::Config`] with the path of the key, what is wrong and the value found.
pub fn resolve(text: &str, origin: &str, overrides: &Overrides) -> Result<Config> {
    Document::parse(text, origin, None)?.config(overrides)
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
        assert_eq!(far, "test.json: save.xyz: no such key, nor one like it");
        let kind = problem(r#"{"encoder": {"kind": "compct"}}"#);
        assert!(
            kind.starts_with(
                "test.json: encoder.kind: unknown variant `compct`, expected one of `keras`, `compact`,"
            ),
            "{kind}"
        );
        assert!(kind.ends_with("(did you mean `compact`?)"), "{kind}");
    }

    #[test]
    fn settings_are_laid_over_a_config() {
        let config = resolve(KERAS, "keras-scaled", &Overrides::default()).unwrap();
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
        let config = resolve(KERAS, "keras-scaled", &Overrides::default()).unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(resolve(&text, "again", &Overrides::default()).unwrap(), config);
    }
}
