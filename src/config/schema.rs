//! The JSON schema of a config file, from the types and their doc comments: what editors read, which keys take lists, and
//! what there is besides the keys that a config writes.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::preface::Preface;
use super::{Config, Overrides, resolve};
use crate::error::Error;

/// Sections whose key `kind` decides which other keys they have.
const KINDS: [&str; 4] = ["data", "encoder", "pretrain.optimizer", "pretrain.schedule"];

/// The JSON schema of a config file.
pub fn schema() -> Value {
    let mut root = types().clone();
    let preface = schemars::schema_for!(Preface).to_value();
    for (key, value) in [("properties", &preface), ("$defs", &preface)] {
        if let (Some(Value::Object(all)), Some(Value::Object(more))) = (root.get_mut(key), value.get(key)) {
            all.extend(more.clone());
        }
    }
    add_defaults(&mut root);
    if let Some(definitions) = root["$defs"].as_object_mut() {
        definitions.values_mut().for_each(add_defaults);
    }
    for section in KINDS {
        let conditions = conditions(section);
        if let Some(definition) = section_mut(&mut root, section) {
            definition.insert("allOf".into(), conditions);
        }
    }
    join_lines(&mut root);
    root
}

/// Writes out the defaults of keys that a config leaves out where they are at them. Keys whose default depends on the kind
/// of their section have none here.
fn add_defaults(schema: &mut Value) {
    let by_kind = schema["properties"]["kind"].is_object() && schema["properties"]["directory"].is_null();
    if by_kind || schema["required"].is_array() {
        return;
    }
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(Map::values_mut) {
        let inner = follow(types(), property);
        if property["default"].is_null() && !is_of(inner, "object") {
            property["default"] = default(property, inner);
        }
    }
}

/// Joins the lines of descriptions, which doc comments break where the source does.
fn join_lines(schema: &mut Value) {
    match schema {
        Value::Object(keys) => keys.iter_mut().for_each(|(key, value)| match value {
            Value::String(text) if key == "description" => *text = text.replace('\n', " "),
            value => join_lines(value),
        }),
        Value::Array(values) => values.iter_mut().for_each(join_lines),
        _ => {}
    }
}

/// The schema of [`Config`] as its type has it.
pub(super) fn types() -> &'static Value {
    static TYPES: OnceLock<Value> = OnceLock::new();
    TYPES.get_or_init(|| schemars::schema_for!(Config).to_value())
}

/// Whether a dotted key takes a list.
pub(super) fn is_list(key: &str) -> bool {
    find(types(), key).is_some_and(|schema| is_of(schema, "array"))
}

pub(super) fn is_of(schema: &Value, name: &str) -> bool {
    let kind = &schema["type"];
    kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
}

/// The schema of a key.
pub(super) fn find<'a>(root: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(root, |at, name| Some(follow(root, at.get("properties")?.get(name)?)))
}

/// What a schema refers to, of a value that may be null what it is otherwise.
pub(super) fn follow<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let of_option = schema["anyOf"].as_array().and_then(|any| match &any[..] {
        [schema, null] if null["type"] == "null" => Some(schema),
        _ => None,
    });
    let schema = of_option.unwrap_or(schema);
    let definition = schema["$ref"].as_str().and_then(|to| root.pointer(to.strip_prefix('#')?));
    definition.unwrap_or(schema)
}

/// The definition of a section, to be added to.
fn section_mut<'a>(root: &'a mut Value, section: &str) -> Option<&'a mut Map<String, Value>> {
    let mut pointer = String::new();
    for name in section.split('.') {
        let property = root.pointer(&format!("{pointer}/properties/{name}"))?;
        pointer = property["$ref"].as_str()?.strip_prefix('#')?.to_owned();
    }
    root.pointer_mut(&pointer)?.as_object_mut()
}

/// For each kind of a section: the keys that it does not have, and its defaults of those that it has.
fn conditions(section: &str) -> Value {
    let kinds = kinds(section).into_iter().map(|kind| {
        let defaults = with_kind(section, &kind, None).map(|config| config.in_full()).unwrap_or_default();
        let defaults = &defaults[section.split('.').next().unwrap_or(section)];
        let defaults = section.split('.').skip(1).fold(defaults, |at, name| &at[name]);
        let mut keys = Map::new();
        for (key, property) in properties(section).into_iter().flatten().filter(|(key, _)| *key != "kind") {
            if refuses(section, &kind, key, property) {
                keys.insert(key.clone(), json!(false));
            } else if let Some(default) =
                defaults.get(key).filter(|default| property.get("default") != Some(default))
            {
                keys.insert(key.clone(), json!({ "default": default }));
            }
        }
        json!({
            "if": { "properties": { "kind": { "const": kind } }, "required": ["kind"] },
            "then": { "properties": keys },
        })
    });
    kinds.collect()
}

fn properties(section: &str) -> Option<&'static Map<String, Value>> {
    find(types(), section)?["properties"].as_object()
}

/// The values of a section's `kind`.
pub(super) fn kinds(section: &str) -> Vec<Value> {
    find(types(), &format!("{section}.kind")).map(names).unwrap_or_default()
}

/// The values of an enumeration.
fn names(schema: &Value) -> Vec<Value> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let described = schema["oneOf"].as_array().into_iter().flatten();
    plain.chain(described.filter_map(|one| one.get("const"))).cloned().collect()
}

/// Whether a section of a kind does not have a key: what [`Config`] says of a value that is right in itself.
pub(super) fn refuses(section: &str, kind: &Value, key: &str, property: &Value) -> bool {
    let schema = follow(types(), property);
    let value = match names(schema).into_iter().next() {
        Some(name) => name,
        None if is_of(schema, "boolean") => json!(true),
        None if is_of(schema, "array") => json!([]),
        None if is_of(schema, "object") => json!({}),
        None => schema["maximum"].as_u64().map_or(json!(0), |most| json!(most)),
    };
    match with_kind(section, kind, Some((key, value))) {
        Err(Error::Config { problem, .. }) => {
            problem.contains("goes with") || problem.contains("is not a key of")
        }
        _ => false,
    }
}

/// The default config with a kind of a section, and a key of it.
fn with_kind(section: &str, kind: &Value, key: Option<(&str, Value)>) -> Result<Config, Error> {
    let mut overrides = Overrides::default();
    // What every encoder takes.
    overrides.set("pretrain.epochs", 0);
    overrides.set(format!("{section}.kind"), kind.clone());
    if let Some((key, value)) = key {
        overrides.set(format!("{section}.{key}"), value);
    }
    resolve("{}", "schema", &overrides)
}

impl Config {
    /// Every key with its value, also those that a config leaves out where they are at their default.
    pub fn in_full(&self) -> Value {
        let encoder = self.encoder.with_defaults();
        let hidden = Some(self.finetune.hidden_widths());
        let finetune = super::FinetuneConfig { hidden, ..self.finetune.clone() };
        let mut config = json!(Self { encoder, finetune, ..self.clone() });
        fill(types(), "", &mut config);
        config
    }
}

/// Adds the keys of `schema` that `value` lacks, with their defaults.
fn fill(schema: &Value, path: &str, value: &mut Value) {
    let (Some(properties), Some(present)) = (schema["properties"].as_object(), value.as_object_mut()) else {
        return;
    };
    let kind = section_like(path).zip(present.get("kind").cloned());
    for (key, property) in properties {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let inner = follow(types(), property);
        if !present.contains_key(key) {
            if kind.as_ref().is_some_and(|(section, kind)| refuses(section, kind, key, property)) {
                continue;
            }
            present.insert(key.clone(), default(property, inner));
        }
        if let Some(value) = present.get_mut(key) {
            fill(inner, &path, value);
        }
    }
}

/// The one of [`KINDS`] that has the same keys.
pub(super) fn section_like(path: &str) -> Option<&'static str> {
    let name = path.rsplit('.').next()?;
    let name = if name == "others" { "optimizer" } else { name };
    KINDS.into_iter().find(|section| section.rsplit('.').next() == Some(name))
}

/// The value of a key that is left out.
fn default(property: &Value, schema: &Value) -> Value {
    match property.get("default") {
        Some(default) => default.clone(),
        None if is_of(schema, "null") || property["anyOf"].is_array() => Value::Null,
        None if is_of(schema, "object") => json!({}),
        None if is_of(schema, "array") => json!([]),
        None if is_of(schema, "boolean") => json!(false),
        None if is_of(schema, "string") => json!(""),
        None => json!(0),
    }
}
