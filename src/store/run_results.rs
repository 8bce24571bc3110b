//! The results that must be the same whenever a run is repeated: the bytes of checkpoints and features, and metrics and
//! summaries except for the times in them.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::{sha256, sha256_file};
use crate::progress::Stage;
use crate::store::run_directory::RunDirectory;

/// Keys of wall times and of numbers computed from them.
const TIMES: [&str; 2] = ["seconds", "images_per_second"];

/// A result of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResultFile {
    /// The stage that wrote it.
    #[serde(skip)]
    pub stage: Stage,
    /// Its path in the run directory.
    pub file: String,
    /// SHA-256 of its bytes; for JSON, of its documents without times.
    pub digest: String,
}

/// The results of the finished stages, in the order in which they are made.
///
/// # Errors
/// [`Error::Io`] or [`Error::Checkpoint`] if a finished stage lacks a file or has a damaged one.
pub fn results(run: &RunDirectory) -> Result<Vec<ResultFile>> {
    let features = run.features();
    let mut found = Vec::new();
    for stage in [Stage::Pretrain, Stage::Extract, Stage::Finetune] {
        let summary = run.summary(stage);
        if !summary.exists() {
            continue;
        }
        let files = match stage {
            Stage::Extract => vec![features.train(), features.test(), features.manifest(), summary],
            _ => {
                let optional = [run.best(stage), run.metrics(stage)].into_iter().filter(|path| path.exists());
                [run.checkpoint(stage)].into_iter().chain(optional).chain([summary]).collect()
            }
        };
        let predictions = Some(run.predictions()).filter(|path| stage == Stage::Finetune && path.exists());
        for path in files.into_iter().chain(predictions) {
            found.push(ResultFile {
                stage,
                digest: digest(&path)?,
                file: path.strip_prefix(run.root()).unwrap_or(&path).display().to_string(),
            });
        }
    }
    Ok(found)
}

/// The results that differ between two lists or are missing in one.
pub fn differences<'a>(expected: &'a [ResultFile], found: &'a [ResultFile]) -> Vec<&'a ResultFile> {
    let missing = expected.iter().filter(|file| !found.contains(file));
    let unexpected = found.iter().filter(|file| {
        let mut names = expected.iter().map(|expected| &expected.file);
        !names.any(|name| *name == file.file)
    });
    missing.chain(unexpected).collect()
}

fn digest(path: &Path) -> Result<String> {
    if !matches!(path.extension().and_then(|name| name.to_str()), Some("json" | "jsonl")) {
        return sha256_file(path);
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let mut documents = serde_json::Deserializer::from_slice(&bytes)
        .into_iter()
        .collect::<Result<Vec<Value>, _>>()
        .map_err(|error| {
            let problem = format!("not readable: {error}");
            Error::checkpoint(path, problem, "run the stage that writes it again")
        })?;
    documents.iter_mut().for_each(remove_times);
    Ok(sha256(Value::Array(documents).to_string().as_bytes()))
}

fn remove_times(document: &mut Value) {
    match document {
        Value::Object(map) => {
            map.retain(|key, _| !TIMES.contains(&key.as_str()));
            map.values_mut().for_each(remove_times);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_times),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_compared_without_times_and_other_files_by_their_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            digest(&path).unwrap()
        };
        let one = write("a.jsonl", "{\"loss\": 1.5, \"seconds\": 2}\n{\"loss\": 1}\n");
        let same = write("b.jsonl", "{\"loss\": 1.5, \"seconds\": 9}\n{\"loss\": 1}\n");
        let other = write("c.jsonl", "{\"loss\": 1.6, \"seconds\": 2}\n{\"loss\": 1}\n");
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_ne!(write("a.safetensors", "a"), write("b.safetensors", "b"));
    }
}
