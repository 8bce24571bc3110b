//! The runs that a sweep file asks for.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::{self, Config, Document, Overrides};
use crate::error::{Error, Result};
use crate::files::sha256;

/// A sweep file; unknown keys are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    /// The command, the machine and the result to expect, in words.
    #[serde(default)]
    pub description: String,
    /// The config that all runs start from: a recipe, or a file relative to the working directory.
    pub config: PathBuf,
    /// Values by dotted key of the config; every combination is run, the last key changing fastest.
    #[serde(default)]
    pub grid: Map<String, Value>,
    /// Named sets of values, for settings that change together; every one is combined with the grid. With the key `like`
    /// a variant begins with the values of one before it.
    #[serde(default)]
    pub variants: Map<String, Value>,
    /// Values of `seed`; if empty, that of the config.
    #[serde(default)]
    pub seeds: Vec<u64>,
    /// Values of `data.label_draw`; if empty, that of the config.
    #[serde(default)]
    pub label_draws: Vec<u64>,
    /// Path of the file, for messages.
    #[serde(skip)]
    origin: String,
}

/// A run to carry out.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Name of its directory: what is set, and a digest of everything that decides the result.
    pub name: String,
    /// The variant; absent if the file names none.
    pub variant: Option<String>,
    /// What the grid sets.
    pub values: Vec<(String, Value)>,
    /// As resolved.
    pub config: Config,
}

/// Key of a variant that names the one it begins with.
const LIKE: &str = "like";
/// Most runs of a sweep, so that a mistyped grid is noticed.
const MAX_RUNS: usize = 10_000;
/// Longest readable part of a name, well under what file systems take.
const LONGEST_NAME: usize = 100;
/// Digits of a digest in a name.
const DIGITS: usize = 8;

/// Reads a sweep file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Config`] if it is not usable.
pub fn read(path: &Path) -> Result<SweepFile> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let origin = path.display().to_string();
    let mut document = serde_json::Deserializer::from_str(&text);
    let file: SweepFile = serde_path_to_error::deserialize(&mut document).map_err(|error| {
        let key = error.path().to_string();
        let problem = config::describe(&key, &error.into_inner().to_string());
        Error::config(if key == "." { origin.clone() } else { format!("{origin}: {key}") }, problem)
    })?;
    document.end().map_err(|error| Error::config(&origin, format!("not valid JSON: {error}")))?;
    Ok(SweepFile { origin, ..file })
}

impl SweepFile {
    /// What messages put in front of a key of the file.
    fn prefix(&self) -> String {
        if self.origin.is_empty() { String::new() } else { format!("{}: ", self.origin) }
    }

    fn refuse(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::config(self.prefix() + key, problem)
    }
}

/// All runs of a sweep, each checked before the first one starts; `common` is laid over every config, under what the
/// file sets.
///
/// # Errors
/// [`Error::Config`] naming the key, for the first config that is not usable.
pub fn plan(file: &SweepFile, common: &Overrides) -> Result<Vec<Planned>> {
    let prefix = file.prefix();
    let variants = variants(file)?;
    let points = points(file)?;
    let document = Document::named(&file.config)?;
    let one_or_all = |values: &[u64]| -> Vec<Option<u64>> {
        if values.is_empty() { vec![None] } else { values.iter().copied().map(Some).collect() }
    };
    refuse_set_twice(file, &variants)?;
    let (seeds, draws) = (one_or_all(&file.seeds), one_or_all(&file.label_draws));
    let total = [variants.len(), points.len(), seeds.len(), draws.len()];
    let total = total.into_iter().try_fold(1_usize, usize::checked_mul).unwrap_or(usize::MAX);
    if total > MAX_RUNS {
        return Err(file.refuse("grid", format!("makes {total} runs, at most {MAX_RUNS} are taken")));
    }
    let mut planned: Vec<Planned> = Vec::with_capacity(total);
    for (variant, settings) in &variants {
        for values in &points {
            for &seed in &seeds {
                for &draw in &draws {
                    let mut overrides = common.clone();
                    for (key, value) in settings.iter().chain(values) {
                        overrides.set_by(&prefix, key, value.clone());
                    }
                    seed.into_iter().for_each(|seed| overrides.set_by(&prefix, "seed", seed));
                    draw.into_iter().for_each(|draw| overrides.set_by(&prefix, "data.label_draw", draw));
                    let config = document.config(&overrides)?;
                    let name = name(variant.as_deref(), values, &config);
                    if planned.iter().any(|other| other.name == name) {
                        return Err(file.refuse("grid", format!("makes the run {name} twice")));
                    }
                    planned.push(Planned { name, variant: variant.clone(), values: values.clone(), config });
                }
            }
        }
    }
    Ok(planned)
}

/// Refuses a key that two parts of the file set: one of them would be ignored, and shown as if it were not.
fn refuse_set_twice(file: &SweepFile, variants: &[(Option<String>, Settings)]) -> Result<()> {
    let lists = [("seed", "seeds", &file.seeds), ("data.label_draw", "label_draws", &file.label_draws)];
    for (variant, settings) in variants {
        let place = variant.as_ref().map_or_else(|| "variants".into(), |name| format!("variants.{name}"));
        for (key, _) in settings {
            let list = lists.iter().find(|(of, _, values)| of == key && !values.is_empty());
            let other = list.map(|(_, list, _)| *list).or(file.grid.contains_key(key).then_some("grid"));
            if let Some(other) = other {
                return Err(file.refuse(&place, format!("sets {key}, which `{other}` sets, too; keep one")));
            }
        }
    }
    for (key, list, _) in lists {
        if file.grid.contains_key(key) {
            return Err(file.refuse("grid", format!("has {key}; name the values in `{list}`")));
        }
    }
    Ok(())
}

type Settings = Vec<(String, Value)>;

fn variants(file: &SweepFile) -> Result<Vec<(Option<String>, Settings)>> {
    if file.variants.is_empty() {
        return Ok(vec![(None, Vec::new())]);
    }
    let mut variants: Vec<(Option<String>, Settings)> = Vec::new();
    for (name, settings) in &file.variants {
        let refused = |problem: String| file.refuse(&format!("variants.{name}"), problem);
        let Value::Object(settings) = settings else {
            return Err(refused(format!("must be an object, got {settings}")));
        };
        let mut all = match settings.get(LIKE) {
            None => Settings::new(),
            Some(like) => {
                let earlier = variants.iter().find(|(name, _)| name.as_deref() == like.as_str());
                let (_, settings) = earlier
                    .ok_or_else(|| refused(format!("`{LIKE}` must name a variant before it, got {like}")))?;
                settings.clone()
            }
        };
        let own = settings.iter().filter(|(key, _)| *key != LIKE);
        all.extend(own.map(|(key, value)| (key.clone(), value.clone())));
        variants.push((Some(name.clone()), all));
    }
    Ok(variants)
}

/// Every combination of the grid.
fn points(file: &SweepFile) -> Result<Vec<Settings>> {
    let mut points = vec![Settings::new()];
    for (key, values) in &file.grid {
        let values = match values {
            Value::Array(values) if !values.is_empty() => values,
            other => {
                let problem = format!("must be a list of one value or more, got {other}");
                return Err(file.refuse(&format!("grid.{key}"), problem));
            }
        };
        if points.len().saturating_mul(values.len()) > MAX_RUNS {
            return Err(file.refuse("grid", format!("makes more than {MAX_RUNS} runs")));
        }
        let extended = points.into_iter().flat_map(|point| {
            values.iter().map(move |value| {
                let mut point = point.clone();
                point.push((key.clone(), value.clone()));
                point
            })
        });
        points = extended.collect();
    }
    Ok(points)
}

fn name(variant: Option<&str>, values: &[(String, Value)], config: &Config) -> String {
    let mut parts: Vec<String> = variant.into_iter().map(str::to_owned).collect();
    for (key, value) in values {
        let short = key.rsplit('.').next().unwrap_or(key);
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        parts.push(format!("{short}={text}"));
    }
    parts.push(format!("seed={}", config.seed));
    if config.data.label_draw != 0 {
        parts.push(format!("draw={}", config.data.label_draw));
    }
    let readable: String = parts
        .join("-")
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "=.-_".contains(letter) { letter } else { '_' })
        .take(LONGEST_NAME)
        .collect();
    format!(
        "{readable}-{}",
        digest(&json!(Config { description: String::new(), threads: None, ..config.clone() }))
    )
}

/// The first digits of the digest of a document and the version of the program.
pub(super) fn digest(document: &Value) -> String {
    let version = env!("CARGO_PKG_VERSION");
    sha256(format!("{version} {document}").as_bytes())[..DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SweepFile {
        serde_json::from_str(text).unwrap()
    }

    fn planned(text: &str) -> Result<Vec<Planned>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("base.json");
        fs::write(&path, config::KERAS).unwrap();
        plan(&SweepFile { config: path, ..file(text) }, &Overrides::default())
    }

    #[test]
    fn every_combination_is_planned_once_and_named_by_what_it_sets() {
        let runs = planned(
            r#"{"config": "", "grid": {"pretrain.epochs": [1, 2], "finetune.mode": ["full"]}, "seeds": [5, 6],
                "label_draws": [0, 1], "variants": {"wide": {"finetune.hidden": [9]}}}"#,
        )
        .unwrap();
        assert_eq!(runs.len(), 8);
        assert!(runs[1].name.starts_with("wide-epochs=1-mode=full-seed=5-draw=1-"), "{}", runs[1].name);
        assert_eq!(runs[7].config.pretrain.epochs, 2);
        assert_eq!((runs[7].config.seed, runs[7].config.data.label_draw), (6, 1));
        assert_eq!(runs[7].config.finetune.hidden, Some(vec![9]));
    }

    #[test]
    fn a_variant_may_begin_with_the_values_of_one_before_it() {
        let runs = planned(
            r#"{"config": "", "variants": {"a": {"finetune.hidden": [9], "finetune.epochs": 3},
                "b": {"like": "a", "finetune.epochs": 4}, "c": {"like": "b", "finetune.hidden": []}}}"#,
        )
        .unwrap();
        let settings = |run: &Planned| (run.config.finetune.hidden.clone(), run.config.finetune.epochs);
        let expected = [(Some(vec![9]), 3), (Some(vec![9]), 4), (Some(vec![]), 4)];
        assert_eq!(runs.iter().map(settings).collect::<Vec<_>>(), expected);
        for like in [r#""b""#, r#""a""#, "1"] {
            let text = format!(r#"{{"config": "", "variants": {{"a": {{"like": {like}}}, "b": {{}}}}}}"#);
            let problem = planned(&text).unwrap_err().to_string();
            assert!(problem.starts_with("variants.a") && problem.contains("before it"), "{problem}");
        }
    }

    #[test]
    fn a_key_that_two_parts_set_is_refused() {
        for (text, place) in [
            (r#"{"config": "", "grid": {"seed": [1]}, "seeds": [2]}"#, "grid"),
            (r#"{"config": "", "grid": {"data.label_draw": [1]}}"#, "grid"),
            (r#"{"config": "", "variants": {"a": {"seed": 1}}, "seeds": [2]}"#, "variants.a"),
            (
                r#"{"config": "", "variants": {"a": {"pretrain.epochs": 1}}, "grid": {"pretrain.epochs": [2]}}"#,
                "variants.a",
            ),
        ] {
            let problem = planned(text).unwrap_err().to_string();
            assert!(
                problem.starts_with(place)
                    && problem.contains("seed")
                        | problem.contains("data.label_draw")
                        | problem.contains("pretrain.epochs"),
                "{problem}"
            );
        }
        assert_eq!(planned(r#"{"config": "", "variants": {"a": {"seed": 7}}}"#).unwrap()[0].config.seed, 7);
    }

    #[test]
    fn the_name_changes_with_the_config_and_not_with_description_or_threads() {
        let name = |text: &str| planned(text).unwrap()[0].name.clone();
        let base = name(r#"{"config": ""}"#);
        assert_eq!(base, name(r#"{"config": "", "variants": {}, "grid": {}}"#));
        let digest = |name: String| name[name.len() - DIGITS..].to_owned();
        let threads = name(r#"{"config": "", "grid": {"threads": [3]}}"#);
        assert_eq!(digest(threads), digest(base.clone()));
        let batch = name(r#"{"config": "", "grid": {"finetune.batch_size": [3]}}"#);
        assert_ne!(digest(batch), digest(base));
    }

    #[test]
    fn the_page_about_sweeps_names_every_key() {
        let page = include_str!("../../../docs/reference/sweeps.md");
        let rows = page.lines().skip_while(|line| !line.starts_with("| key |")).skip(2);
        let named = rows.take_while(|line| line.starts_with("| `")).filter_map(|line| line.split('`').nth(1));
        let refused = serde_json::from_str::<SweepFile>(r#"{"": 1}"#).unwrap_err().to_string();
        let known = refused.split('`').skip(3).step_by(2);
        assert_eq!(named.collect::<Vec<_>>(), known.collect::<Vec<_>>(), "{refused}");
    }

    #[test]
    fn bad_grids_are_refused_by_key() {
        let problem = |text: &str| planned(text).unwrap_err().to_string();
        assert!(problem(r#"{"config": "", "grid": {"pretrain.epoch": [1]}}"#).contains("epoch"));
        assert!(
            problem(r#"{"config": "", "grid": {"pretrain.epochs": 1}}"#).starts_with("grid.pretrain.epochs")
        );
        assert!(problem(r#"{"config": "", "seeds": [1, 1]}"#).contains("twice"));
        assert!(serde_json::from_str::<SweepFile>(r#"{"config": "", "seed": [1]}"#).is_err());
    }
}
