//! What a config file says besides the config: its schema, what it extends, what was measured with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a file says besides the config; no run depends on it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Preface {
    /// Where editors find the JSON schema of this file.
    #[serde(rename = "$schema")]
    _schema: String,
    /// The recipe (by name) or file (path relative to this one) to start from. Sections are merged key by key; any
    /// other value replaces the inherited one.
    pub(super) extends: Option<String>,
    /// Measured time and accuracy, shown by `rotnet config list`.
    pub(super) measured: Measured,
}

/// Time and accuracy of a config, as far as they were measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Measured {
    /// Wall time of `rotnet run`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub time: String,
    /// Test accuracy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub accuracy: String,
}

/// Keys of the preface; the schema's test holds them against it.
pub(super) const PREFACE: [&str; 3] = ["$schema", "extends", "measured"];
/// Keys that tell of one file and not of those that extend it.
pub(super) const OWN: [&str; 1] = ["description"];
