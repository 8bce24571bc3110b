//! A config as written: what it says itself, and the configs that it extends.

use std::path::Path;

use serde_json::{Map, Value};

use super::messages::describe;
use super::overrides::decides_keys;
use super::preface::{Measured, OWN, PREFACE, Preface};
use super::recipes::{self, Source};
use super::{Config, Overrides};
use crate::error::{Error, Result};

/// A config file, read.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file itself, then what it extends, and so on.
    layers: Vec<Layer>,
    /// What was measured with it.
    pub measured: Measured,
}

#[derive(Clone, Debug)]
struct Layer {
    name: String,
    sections: Map<String, Value>,
}

impl Document {
    /// The config that `--config` names: a file that is there, else a recipe.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is neither, [`Error::Io`] if a file cannot be read, [`Error::Config`] if it or what it
    /// extends is not usable.
    pub fn named(name: &Path) -> Result<Self> {
        Self::read(recipes::named(name)?)
    }

    /// The recipe of that name, whatever files there are.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none.
    pub fn recipe(name: &str) -> Result<Self> {
        let hint = "`rotnet config list` lists the recipes".into();
        let source = Source::find(Path::new(name), None);
        Self::read(source.map_err(|problem| Error::Usage { problem, hint })?)
    }

    pub(super) fn read(source: Source) -> Result<Self> {
        let text = source.text()?;
        Self::parse(&text, &source.to_string(), Some(source))
    }

    /// The config in `text`, named `name` in messages. What lies in no file extends recipes only.
    pub(super) fn parse(text: &str, name: &str, source: Option<Source>) -> Result<Self> {
        let (layer, preface) = Layer::parse(text, name)?;
        let mut document = Self { layers: vec![layer], measured: preface.measured };
        let mut folder = source.as_ref().and_then(Source::folder).map(Path::to_path_buf);
        let mut seen: Vec<Source> = source.into_iter().collect();
        let mut extends = preface.extends;
        while let Some(name) = extends {
            let key = document.layers[document.layers.len() - 1].key("extends");
            let refuse = |problem| Error::config(&key, problem);
            let source = Source::find(Path::new(&name), folder.as_deref()).map_err(refuse)?;
            if seen.iter().any(|earlier| earlier.is(&source)) {
                return Err(refuse(format!("`{name}` extends this config in turn")));
            }
            let (layer, preface) = Layer::parse(&source.text()?, &source.to_string())?;
            document.layers.push(layer);
            folder = source.folder().map(Path::to_path_buf);
            seen.push(source);
            extends = preface.extends;
        }
        Ok(document)
    }

    /// The config with the overrides laid over it.
    ///
    /// # Errors
    /// [`Error::Config`] with the file and the path of the key, what is wrong and the value found.
    pub fn config(&self, overrides: &Overrides) -> Result<Config> {
        let mut sections = Map::new();
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let mut own = layer.sections.clone();
            if index > 0 {
                own.retain(|key, _| !OWN.contains(&key.as_str()));
            }
            merge(&mut sections, own, "");
        }
        overrides.lay_over(&mut sections)?;
        let place = |key: &str| overrides.place(self.file_of(key), key);
        let mut config: Config =
            serde_path_to_error::deserialize(Value::Object(sections)).map_err(|error| {
                let key = error.path().to_string();
                let problem = describe(&key, &error.into_inner().to_string());
                Error::config(place(&key), problem)
            })?;
        config.encoder.arithmetic = config.arithmetic();
        config.validate().map_err(|error| match error {
            Error::Config { path, problem } => Error::config(place(&path), problem),
            other => other,
        })?;
        Ok(config)
    }

    /// The file that a key is written in: of several, the one that counts.
    fn file_of(&self, key: &str) -> &str {
        let key = key.split('[').next().unwrap_or(key);
        let holds = |layer: &&Layer| {
            let mut names = key.split('.');
            let first = names.next().and_then(|name| layer.sections.get(name));
            names.try_fold(first, |value, name| value?.get(name).map(Some)).flatten().is_some()
        };
        &self.layers.iter().find(holds).unwrap_or(&self.layers[0]).name
    }
}

impl Layer {
    fn parse(text: &str, name: &str) -> Result<(Self, Preface)> {
        let document: Value = serde_json::from_str(text)
            .map_err(|error| Error::config(name, format!("not valid JSON: {error}")))?;
        let Value::Object(mut sections) = document else {
            return Err(Error::config(name, "must be a JSON object"));
        };
        let preface: Map<String, Value> =
            PREFACE.iter().filter_map(|key| sections.remove_entry(*key)).collect();
        let layer = Self { name: name.to_owned(), sections };
        let preface = serde_path_to_error::deserialize(Value::Object(preface)).map_err(|error| {
            let key = error.path().to_string();
            let problem = describe(&key, &error.into_inner().to_string());
            Error::config(layer.key(&key), problem)
        })?;
        Ok((layer, preface))
    }

    fn key(&self, key: &str) -> String {
        format!("{}: {key}", self.name)
    }
}

/// Lays sections over those of the config that is extended. A section of another kind takes nothing over.
fn merge(base: &mut Map<String, Value>, over: Map<String, Value>, path: &str) {
    for (key, value) in over {
        let path = format!("{path}{key}.");
        match (base.get_mut(&key), value) {
            (Some(Value::Object(base)), Value::Object(over)) if !is_other_kind(base, &over, &path) => {
                merge(base, over, &path);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn is_other_kind(base: &Map<String, Value>, over: &Map<String, Value>, path: &str) -> bool {
    let kinds = base.get("kind").zip(over.get("kind"));
    kinds.is_some_and(|(base, over)| base != over) && decides_keys(&format!("{path}kind"))
}
