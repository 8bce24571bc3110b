//! What a config file says besides the config: its schema, what it extends, what was measured with it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a file says besides the config; no run depends on it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Preface {
    /// The JSON schema, for editors.
    #[serde(rename = "$schema")]
    _schema: String,
    /// A recipe by name, or a file relative to this one, with which this config begins: sections are merged key by key,
    /// all other values replace those before.
    pub(super) extends: Option<String>,
    /// What runs of it took and came to; shown by `rotnet config list`.
    pub(super) measured: Measured,
}

/// What runs of a config took and came to; only what was measured.
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
