//! What a run directory holds, as far as it has come. Nothing of it has to be there, and what is not understood is
//! left out with a note: a page about half a run is worth more than an error.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::config::{self, Config, Overrides};
use crate::error::{Error, Result};
use crate::files::read_json;
use crate::progress::Stage;
use crate::store::run_directory::RunDirectory;

/// A run as its files tell it.
pub(super) struct Facts {
    /// Its place.
    pub run: RunDirectory,
    /// Its name on the page, unique on it.
    pub name: String,
    /// As resolved; absent if it is missing or of another version.
    pub config: Option<Config>,
    /// The same as it is in the file.
    pub settings: Value,
    /// `run.json`.
    pub record: Value,
    /// The stages that train and have begun.
    pub trainings: Vec<Training>,
    /// `features/summary.json`.
    pub extraction: Value,
    /// `evaluate/summary.json`.
    pub evaluation: Value,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// A stage that trains.
pub(super) struct Training {
    /// Which one.
    pub stage: Stage,
    /// Epochs that are done.
    pub epochs: Vec<Epoch>,
    /// Epochs that the config asks for.
    pub planned: Option<usize>,
    /// `summary.json`; null until the stage is done.
    pub summary: Value,
}

/// A line of `metrics.jsonl`, of this version or an older one.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Mean cross-entropy (nats) while training.
    pub loss: f64,
    /// Share classified rightly while training, in 0..=1.
    pub accuracy: f64,
    /// Loss on the validation split.
    pub validation_loss: Option<f64>,
    /// Accuracy on the validation split.
    pub validation_accuracy: Option<f64>,
    /// Accuracy of the nearest neighbours on frozen features, where pretraining looked at them.
    pub knn_accuracy: Option<f64>,
    /// The same of ridge regression.
    pub ridge_accuracy: Option<f64>,
    /// Samples trained on a second.
    pub images_per_second: f64,
    /// Wall time of the training, in seconds.
    pub seconds: f64,
}

/// A test image that was classified wrongly, as `finetune/summary.json` lists it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Mistake {
    /// Number of the image in the test set.
    pub index: usize,
    /// Its class.
    pub truth: usize,
    /// The class it was taken for.
    pub predicted: usize,
    /// Probability of that class, in 0..=1.
    pub confidence: f64,
}

impl Facts {
    /// Reads what is there.
    pub(super) fn read(directory: &Path, name: String) -> Self {
        let mut notes = Vec::new();
        let run = RunDirectory::new(directory);
        run.settle();
        let settings = run.settings().unwrap_or_else(|error| {
            notes.push(error.to_string());
            Value::Null
        });
        let mut json = |path: PathBuf| match path.exists() {
            false => Value::Null,
            true => read_json(&path).unwrap_or_else(|error: Error| {
                notes.push(error.to_string());
                Value::Null
            }),
        };
        let record = json(run.record());
        let extraction = json(run.summary(Stage::Extract));
        let evaluation = json(directory.join("evaluate").join("summary.json"));
        let summaries = [Stage::Pretrain, Stage::Finetune].map(|stage| (stage, json(run.summary(stage))));
        let trainings = summaries.into_iter().filter_map(|(stage, summary)| {
            let epochs = epochs(&run.metrics(stage), &mut notes);
            // Where steps are asked for, epochs are not.
            let steps = !settings[stage.name()]["steps"].is_null();
            let planned = settings[stage.name()]["epochs"].as_u64().filter(|_| !steps);
            let begun = !epochs.is_empty() || !summary.is_null() || run.checkpoint(stage).exists();
            begun.then_some(Training { stage, epochs, planned: planned.map(|count| count as usize), summary })
        });
        let trainings = trainings.collect();
        let config = run.any_config().ok().and_then(|path| {
            let config = config::load(&path, &Overrides::default());
            config.map_err(|error| notes.push(format!("{}: {error}", path.display()))).ok()
        });
        Self { run, name, config, settings, record, trainings, extraction, evaluation, notes }
    }

    /// A stage that has begun.
    pub(super) fn training(&self, stage: Stage) -> Option<&Training> {
        self.trainings.iter().find(|training| training.stage == stage)
    }

    /// Names of the classes, by label; empty until features or a classifier are there.
    pub(super) fn classes(&self) -> Vec<String> {
        let finetune = self.training(Stage::Finetune).map_or(&Value::Null, |training| &training.summary);
        let manifest = || read_json::<Value>(&self.run.features().manifest()).unwrap_or_default();
        let names = match &finetune["classes"] {
            Value::Null => manifest()["classes"].clone(),
            names => names.clone(),
        };
        serde_json::from_value(names).unwrap_or_default()
    }

    /// The most confident mistakes on the test set; none in runs of versions that did not list them.
    pub(super) fn mistakes(&self) -> Vec<Mistake> {
        let finetune = self.training(Stage::Finetune).map_or(&Value::Null, |training| &training.summary);
        serde_json::from_value(finetune["statistics"]["mistakes"].clone()).unwrap_or_default()
    }
}

impl Training {
    /// Whether the stage has ended.
    pub(super) fn finished(&self) -> bool {
        !self.summary.is_null()
    }
}

/// The lines of a metrics file that are readable.
fn epochs(path: &Path, notes: &mut Vec<String>) -> Vec<Epoch> {
    let Ok(text) = fs::read_to_string(path) else {
        return Vec::new();
    };
    let lines: Vec<_> = text.lines().map(serde_json::from_str::<Epoch>).collect();
    let damaged = lines.iter().filter(|line| line.is_err()).count();
    if damaged > 0 {
        notes.push(format!("{}: {damaged} lines are not readable", path.display()));
    }
    lines.into_iter().flatten().collect()
}

/// Whether there is anything of a run in a directory.
pub(super) fn is_run(directory: &Path) -> bool {
    RunDirectory::new(directory).exists()
}

/// The runs that a directory stands for: itself, or those below it where it is that of a sweep.
///
/// # Errors
/// [`Error::Data`] if there are none.
pub(super) fn runs_in(directory: &Path) -> Result<Vec<PathBuf>> {
    if is_run(directory) {
        return Ok(vec![directory.to_path_buf()]);
    }
    let mut runs = below(directory, DEPTH);
    runs.sort();
    match runs.is_empty() {
        false => Ok(runs),
        true => {
            let problem = match directory.is_dir() {
                true => "holds no run",
                false => "there is no such directory",
            };
            Err(Error::data(directory, problem, "name the --out directory of a run or of a sweep"))
        }
    }
}

/// How far below the directory of a sweep its runs may lie.
const DEPTH: usize = 2;
/// Where a sweep keeps what its runs have in common: no runs of their own.
const SHARED: &str = "shared";

fn below(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let directories = entries.filter(|entry| entry.file_name() != SHARED).map(|entry| entry.path());
    let directories = directories.filter(|path| path.is_dir());
    directories
        .flat_map(|path| match is_run(&path) {
            true => vec![path],
            false if depth > 1 => below(&path, depth - 1),
            false => Vec::new(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_from_a_sweep_and_from_nothing() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        for name in ["sweep/b/pretrain", "sweep/a/seed1/finetune", "sweep/shared/e/pretrain", "sweep/notes"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        assert_eq!(runs_in(&path("sweep/b")).unwrap(), [path("sweep/b")]);
        assert_eq!(runs_in(&path("sweep")).unwrap(), [path("sweep/a/seed1"), path("sweep/b")]);
        assert!(runs_in(&path("sweep/notes")).unwrap_err().to_string().contains("holds no run"));
        assert!(runs_in(&path("elsewhere")).unwrap_err().to_string().contains("no such directory"));
    }

    #[test]
    fn what_is_damaged_is_noted_and_the_rest_is_read() {
        let home = tempfile::tempdir().unwrap();
        let pretrain = home.path().join("pretrain");
        fs::create_dir_all(&pretrain).unwrap();
        fs::write(home.path().join("run.json"), "{").unwrap();
        let line = r#"{"epoch": 1, "loss": 1.5, "accuracy": 0.5, "images_per_second": 1.0, "seconds": 1.0}"#;
        fs::write(pretrain.join("metrics.jsonl"), format!("{line}\n{{\"epoch\"\n")).unwrap();
        let facts = Facts::read(home.path(), "a".into());
        assert_eq!(facts.notes.len(), 2, "{:?}", facts.notes);
        let training = facts.training(Stage::Pretrain).unwrap();
        assert_eq!((training.epochs.len(), training.finished()), (1, false));
        assert!(facts.classes().is_empty() && facts.mistakes().is_empty());
    }
}
