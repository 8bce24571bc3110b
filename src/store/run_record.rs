//! Reads and writes `run.json`, the record of what a run's configs do not say.

use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize};

use crate::device::environment::Environment;
use crate::error::{Error, Result};
use crate::files::{read_json, read_json_if_there, write_json};
use crate::progress::Stage;
use crate::store::checkpoint::DatasetLabel;
use crate::store::run_directory::RunDirectory;

/// The file `run.json`: what the config does not say.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunRecord {
    /// Program, processor, threads, kernels, device.
    pub environment: Environment,
    /// The data set of the last stage.
    pub dataset: DatasetLabel,
    /// How many numbers of this run were measured on the test set.
    pub test_evaluations: u32,
    /// Those measurements.
    #[serde(default, deserialize_with = "openings", skip_serializing_if = "Vec::is_empty")]
    pub tested: Vec<Opening>,
    /// The stage finished last; a later command starts from its config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Stage>,
    /// The finished stages and evaluations, latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Execution>,
}

/// A finished stage or evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// `pretrain`, `extract`, `finetune` or `evaluate`.
    pub work: String,
    /// The command line, the program first.
    pub command: Vec<String>,
    /// When the process started it (RFC 3339, UTC). Resumed work started earlier, in another process.
    pub started: String,
    /// When it was finished.
    pub ended: String,
    /// Program, processor, threads, kernels, device.
    pub environment: Environment,
}

impl Execution {
    /// Work of this process from `started` until now.
    pub fn ending_now(work: &str, started: SystemTime, environment: Environment) -> Self {
        let time = |time| humantime::format_rfc3339_seconds(time).to_string();
        let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let ended = time(SystemTime::now());
        Self { work: work.into(), command, started: time(started), ended, environment }
    }
}

/// An opening of the test set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// SHA-256 of the checkpoint that was evaluated (or of whatever else decided the number).
    pub digest: String,
    /// What it was for, in words.
    pub purpose: String,
}

/// A list of openings; earlier versions wrote only digests, or a single one.
fn openings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Opening>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Digest(String),
        Opening(Opening),
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Several(Vec<Entry>),
    }
    let opening = |entry| match entry {
        Entry::Digest(digest) => Opening { digest, purpose: "not recorded".into() },
        Entry::Opening(opening) => opening,
    };
    Ok(match Either::deserialize(deserializer)? {
        Either::One(digest) => vec![opening(Entry::Digest(digest))],
        Either::Several(entries) => entries.into_iter().map(opening).collect(),
    })
}

impl RunRecord {
    fn new(environment: Environment, dataset: DatasetLabel) -> Self {
        let (tested, history) = (Vec::new(), Vec::new());
        Self { environment, dataset, test_evaluations: 0, tested, latest: None, history }
    }
}

impl RunDirectory {
    /// `run.json`, if it is there.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, [`Error::Checkpoint`] if it is damaged.
    pub fn read_record(&self) -> Result<Option<RunRecord>> {
        read_json_if_there(&self.record()).map_err(|error| match error {
            Error::Checkpoint { path, problem, .. } => Error::checkpoint(
                path,
                problem,
                "move it away: the run goes on without it, and counts its evaluations on the test set anew",
            ),
            other => other,
        })
    }

    /// Updates `run.json`; `tested` is an opening of the test set, counted once per digest, however often an
    /// interrupted run repeats it.
    pub fn record_run(
        &self,
        environment: Environment,
        dataset: DatasetLabel,
        tested: Option<Opening>,
    ) -> Result<()> {
        let mut record = match self.read_record()? {
            Some(record) => RunRecord { environment, dataset, ..record },
            None => RunRecord::new(environment, dataset),
        };
        if let Some(tested) =
            tested.filter(|tested| !record.tested.iter().any(|known| known.digest == tested.digest))
        {
            record.test_evaluations += 1;
            record.tested.push(tested);
        }
        write_json(&self.record(), &record)
    }

    /// Records in `run.json` that work is finished, and which stage it was, if any.
    pub fn record_finished(&self, execution: Execution, stage: Option<Stage>) -> Result<()> {
        let mut record: RunRecord = read_json(&self.record())?;
        record.latest = stage.or(record.latest);
        record.history.push(execution);
        write_json(&self.record(), &record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openings_are_read_as_every_version_wrote_them() {
        let read = |tested: &str| -> Vec<Opening> {
            let document = format!(r#"{{"tested": {tested}}}"#);
            #[derive(Deserialize)]
            struct Tested {
                #[serde(deserialize_with = "openings")]
                tested: Vec<Opening>,
            }
            serde_json::from_str::<Tested>(&document).unwrap().tested
        };
        let old = |digest: &str| Opening { digest: digest.into(), purpose: "not recorded".into() };
        assert_eq!(read(r#""a""#), [old("a")]);
        assert_eq!(read(r#"["a", "b"]"#), [old("a"), old("b")]);
        let new = Opening { digest: "b".into(), purpose: "finetune: frozen".into() };
        assert_eq!(read(r#"["a", {"digest": "b", "purpose": "finetune: frozen"}]"#), [old("a"), new]);
    }
}
