//! Settings that win over a config file: `--set`, options, the grid of a sweep.

use serde_json::{Map, Value, json};

use super::schema::is_list;
use crate::error::{Error, Result};

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

    /// Whether a key is set, in part or as a part of another.
    pub fn names(&self, key: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.0.iter().any(|set| within(&set.key, key) || within(key, &set.key))
    }

    /// Sets one key; messages have `origin` in front of it.
    pub fn set_by(&mut self, origin: &str, key: impl Into<String>, value: impl Into<Value>) {
        self.0.push(Override { key: key.into(), value: value.into(), origin: origin.into() });
    }

    /// Takes a `section.key=value` of the command line. A value that is not JSON is a string; where the key takes a
    /// list, values separated by commas, or a single one, are a list.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no `=` or no key.
    pub fn parse(&mut self, assignment: &str) -> Result<()> {
        let Some((key, text)) = assignment.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(Error::Usage {
                problem: format!("--set {assignment}: not of the form section.key=value"),
                hint: "for example --set pretrain.epochs=2".into(),
            });
        };
        let key = key.trim();
        let value = if is_list(key) { list(text) } else { scalar(text) };
        self.set_by("--set ", key, value);
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
    pub(super) fn place(&self, file: &str, key: &str) -> String {
        match self.0.iter().rev().find(|one| is_within(key, &one.key) || is_within(&one.key, key)) {
            _ if key == "." => file.to_owned(),
            Some(one) => format!("{}{key}", one.origin),
            None => format!("{file}: {key}"),
        }
    }

    /// Lays the settings over a config, those that decide which other keys there are first.
    pub(super) fn lay_over(&self, sections: &mut Map<String, Value>) -> Result<()> {
        let (kinds, others): (Vec<_>, Vec<_>) = self.0.iter().partition(|one| decides_keys(&one.key));
        let kinds = kinds.into_iter().map(|one| (one, change_kind as Change));
        for (Override { key, value, origin }, change) in
            kinds.chain(others.into_iter().map(|one| (one, assign as Change)))
        {
            change(sections, key, value.clone())
                .map_err(|problem| Error::config(format!("{origin}{key}"), problem))?;
        }
        Ok(())
    }
}

type Change = fn(&mut Map<String, Value>, &str, Value) -> Result<(), String>;

fn scalar(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()))
}

fn list(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Array(_) | Value::Null)) => value,
        Ok(value) => json!([value]),
        Err(_) if text.trim().is_empty() => json!([]),
        Err(_) => text.split(',').map(|item| scalar(item.trim())).collect(),
    }
}

/// Whether a key is another one or lies below it.
fn is_within(key: &str, other: &str) -> bool {
    key.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether a key says which other keys its section has.
pub(super) fn decides_keys(path: &str) -> bool {
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

fn assign(sections: &mut Map<String, Value>, path: &str, value: Value) -> Result<(), String> {
    let Some((section, rest)) = path.split_once('.') else {
        sections.insert(path.to_owned(), value);
        return Ok(());
    };
    let inner = sections.entry(section).or_insert(Value::Null);
    if inner.is_null() {
        *inner = Value::Object(Map::new());
    }
    match inner {
        Value::Object(inner) => assign(inner, rest, value),
        other => Err(format!("`{section}` is {other}, not a section")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Baseline, Config, KERAS, ProbeHead, resolve};

    fn keras(assignments: &[&str]) -> Config {
        let mut overrides = Overrides::default();
        assignments.iter().for_each(|text| overrides.parse(text).unwrap());
        resolve(KERAS, "keras-scaled", &overrides).unwrap()
    }

    #[test]
    fn a_problem_is_named_by_where_the_value_comes_from() {
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
    fn settings_win_and_strings_need_no_quotes() {
        let config = keras(&["pretrain.epochs=3", "finetune.mode=full", "pretrain.augment.crop_padding=2"]);
        assert_eq!(config.pretrain.epochs, 3);
        assert_eq!(config.finetune.mode, super::super::FinetuneMode::Full);
        assert_eq!(config.pretrain.augment.unwrap().crop_padding, 2);
        assert!(Overrides::default().parse("epochs").is_err());
    }

    #[test]
    fn a_list_needs_neither_brackets_nor_quotes() {
        for text in ["ridge,mlp", "ridge, mlp", r#""ridge","mlp""#, r#"["ridge", "mlp"]"#] {
            let config = keras(&[&format!("evaluate.heads={text}")]);
            assert_eq!(config.evaluate.heads, [ProbeHead::Ridge, ProbeHead::Mlp], "{text}");
        }
        let config = keras(&[
            "evaluate.baselines=random",
            "evaluate.labels_per_class=20",
            "finetune.hidden=512,256",
            "pretrain.schedule.kind=steps",
            "pretrain.schedule.milestones=0.5,0.9",
            "pretrain.probe.layers=block2",
            "data.validation_images=100",
            "extract.layers=",
            "encoder.kind=compact",
            "encoder.pools=true,false,true,false,false",
        ]);
        assert_eq!(config.evaluate.baselines, [Baseline::Random]);
        assert_eq!(config.evaluate.labels_per_class, [20]);
        assert_eq!(config.finetune.hidden, Some(vec![512, 256]));
        assert_eq!(json!(config.pretrain.schedule)["milestones"], json!([0.5, 0.9]));
        assert_eq!(config.pretrain.probe.unwrap().layers, ["block2"]);
        assert!(config.extract.layers.is_empty());
        assert_eq!(config.encoder.pools.unwrap()[..2], [true, false]);
        assert_eq!(keras(&["finetune.hidden=null"]).finetune.hidden, None);
        assert_eq!(keras(&["description=a, b"]).description, "a, b");
    }

    #[test]
    fn another_kind_takes_its_own_defaults_whatever_the_order() {
        let rate = "pretrain.optimizer.learning_rate=0.5";
        let kind = "pretrain.optimizer.kind=sgd";
        for [first, second] in [[rate, kind], [kind, rate]] {
            let config = keras(&[first, second, "finetune.optimizer.kind=adam"]);
            let sgd = json!({"kind": "sgd", "learning_rate": 0.5, "momentum": 0.9, "nesterov": true, "weight_decay": 5e-4});
            assert_eq!(json!(config.pretrain.optimizer), sgd);
            assert_eq!(config.finetune.optimizer, Default::default());
        }
    }
}
