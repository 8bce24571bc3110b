//! What a run directory holds so far. Nothing has to be there, and what cannot be read is left out with a note: a page
//! about half a run is worth more than an error.

use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{self, Config, Overrides};
use crate::error::{Error, Result};
use crate::files::read_json_if_there;
use crate::judge::statistics::Mistake;
use crate::progress::{EpochMetrics, Stage};
use crate::stages::{EvaluateSummary, ExtractSummary, FinetuneSummary, PretrainSummary};
use crate::store::run_directory::RunDirectory;
use crate::store::run_record::RunRecord;
use crate::tools::sweep::SweepSummary;
use crate::training::Evaluation;

/// What the files of a run say.
pub(super) struct Facts {
    /// Where it is.
    pub run: RunDirectory,
    /// Its name on the page, unique on it.
    pub name: String,
    /// That of the stage finished last; absent if it is missing or of another version.
    pub config: Option<Config>,
    /// The settings of all stages (see [`RunDirectory::settings`]).
    pub settings: Value,
    /// `run.json`.
    pub record: Option<RunRecord>,
    /// The training stages that have begun.
    pub trainings: Vec<Training>,
    /// `pretrain/summary.json`.
    pub pretraining: Option<PretrainSummary>,
    /// `features/summary.json`.
    pub extraction: Option<ExtractSummary>,
    /// `finetune/summary.json`.
    pub classifier: Option<FinetuneSummary>,
    /// `evaluate/summary.json`.
    pub evaluation: Option<EvaluateSummary>,
    /// What could not be read.
    pub notes: Vec<String>,
}

/// A training stage.
pub(super) struct Training {
    /// Which one.
    pub stage: Stage,
    /// Epochs that are done.
    pub epochs: Vec<EpochMetrics>,
    /// Its config; absent if it is missing or of another version.
    pub config: Option<Config>,
    /// Whether it is finished.
    pub finished: bool,
}

impl Facts {
    /// Reads what is there.
    pub(super) fn read(directory: &Path, name: String) -> Self {
        let run = RunDirectory::new(directory);
        run.settle();
        let mut notes = Vec::new();
        let settings = noted(run.settings(), &mut notes).unwrap_or_default();
        let config = run.latest_config().and_then(|path| config(&path, &mut notes));
        let trainings =
            [Stage::Pretrain, Stage::Finetune].map(|stage| Training::read(&run, stage, &mut notes));
        Self {
            name,
            config,
            settings,
            record: document(&run.record(), &mut notes),
            trainings: trainings.into_iter().flatten().collect(),
            pretraining: document(&run.summary(Stage::Pretrain), &mut notes),
            extraction: document(&run.summary(Stage::Extract), &mut notes),
            classifier: document(&run.summary(Stage::Finetune), &mut notes),
            evaluation: document(&run.evaluation().summary(), &mut notes),
            notes,
            run,
        }
    }

    /// A training stage that has begun.
    pub(super) fn training(&self, stage: Stage) -> Option<&Training> {
        self.trainings.iter().find(|training| training.stage == stage)
    }

    /// The evaluation of the classifier on the test set.
    pub(super) fn test(&self) -> Option<&Evaluation> {
        self.classifier.as_ref()?.test.as_ref()
    }

    /// Names of the classes, by label; empty while there are neither features nor a classifier.
    pub(super) fn classes(&self) -> Vec<String> {
        match &self.classifier {
            Some(classifier) => classifier.classes.clone(),
            None => {
                self.run.features().read_manifest().map_or_else(|_| Vec::new(), |manifest| manifest.classes)
            }
        }
    }

    /// The most confident mistakes on the test set.
    pub(super) fn mistakes(&self) -> &[Mistake] {
        let statistics = self.classifier.as_ref().and_then(|classifier| classifier.statistics.as_ref());
        statistics.map_or(&[], |statistics| &statistics.mistakes)
    }

    /// Reasons not to trust the numbers of a training stage.
    pub(super) fn warnings(&self) -> impl Iterator<Item = (Stage, &String)> {
        let pretraining = self.pretraining.iter().flat_map(|summary| &summary.warnings);
        let classifier = self.classifier.iter().flat_map(|summary| &summary.warnings);
        let of = |stage| move |warning| (stage, warning);
        pretraining.map(of(Stage::Pretrain)).chain(classifier.map(of(Stage::Finetune)))
    }
}

impl Training {
    /// Absent if the stage has not begun.
    fn read(run: &RunDirectory, stage: Stage, notes: &mut Vec<String>) -> Option<Self> {
        let epochs = epochs(&run.metrics(stage), notes);
        let finished = run.files(stage).is_finished();
        let begun = !epochs.is_empty() || finished || run.checkpoint(stage).exists();
        let path = run.config(stage);
        let config = if begun && path.is_file() { config(&path, notes) } else { None };
        begun.then_some(Self { stage, epochs, config, finished })
    }

    /// Epochs that the config asks for; absent if it asks for steps.
    pub(super) fn planned(&self) -> Option<usize> {
        let config = self.config.as_ref()?;
        match self.stage {
            Stage::Pretrain => config.pretrain.steps.is_none().then_some(config.pretrain.epochs),
            _ => Some(config.finetune.epochs),
        }
    }
}

/// What was read; an error becomes a note.
fn noted<T>(found: Result<T>, notes: &mut Vec<String>) -> Option<T> {
    found.map_err(|error| note(format!("{error}; {}", error.hint()), notes)).ok()
}

fn note(text: String, notes: &mut Vec<String>) {
    if !notes.contains(&text) {
        notes.push(text);
    }
}

fn document<T: DeserializeOwned>(path: &Path, notes: &mut Vec<String>) -> Option<T> {
    noted(read_json_if_there(path), notes).flatten()
}

fn config(path: &Path, notes: &mut Vec<String>) -> Option<Config> {
    let found = config::load(path, &Overrides::default());
    found.map_err(|error| note(format!("{}: {error}", path.display()), notes)).ok()
}

/// The readable lines of a metrics file.
fn epochs(path: &Path, notes: &mut Vec<String>) -> Vec<EpochMetrics> {
    let Ok(text) = fs::read_to_string(path) else {
        return Vec::new();
    };
    let lines: Vec<Result<EpochMetrics, _>> = text.lines().map(serde_json::from_str).collect();
    let damaged = lines.iter().filter(|line| line.is_err()).count();
    if damaged > 0 {
        notes.push(format!("{}: {damaged} lines are not readable", path.display()));
    }
    lines.into_iter().flatten().collect()
}

/// Whether a directory holds at least the beginning of a run.
pub(super) fn is_run(directory: &Path) -> bool {
    RunDirectory::new(directory).exists()
}

/// The summary of the sweep in a directory; nothing if that is of a run, of no sweep, or of one that cannot be read, which
/// is noted.
pub(super) fn sweep(directory: &Path, notes: &mut Vec<String>) -> Option<SweepSummary> {
    if is_run(directory) { None } else { document(&directory.join("summary.json"), notes) }
}

/// The runs that a directory stands for: itself, or those below it if it is that of a sweep.
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
/// Where a sweep keeps what its runs share; not runs to show.
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
        assert_eq!((training.epochs.len(), training.finished), (1, false));
        assert!(facts.classes().is_empty() && facts.mistakes().is_empty());
    }

    #[test]
    fn summaries_of_the_first_version_are_read_and_unknown_ones_named() {
        let home = tempfile::tempdir().unwrap();
        let write = |stage: &str, document: serde_json::Value| {
            fs::create_dir_all(home.path().join(stage)).unwrap();
            fs::write(home.path().join(stage).join("summary.json"), document.to_string()).unwrap();
        };
        let dataset = serde_json::json!({"name": "drawn", "fingerprint": "f"});
        let test = serde_json::json!({
            "samples": 4, "loss": 1.0, "accuracy": 0.75, "per_class_accuracy": [0.5, 1.0],
            "confusion": [[1, 1], [0, 2]]
        });
        let epoch = serde_json::json!({
            "epoch": 3, "loss": 1.0, "accuracy": 0.5, "images_per_second": 1.0, "seconds": 1.0
        });
        let finetune = serde_json::json!({
            "protocol": "p", "dataset": dataset, "labels": 9, "epochs": 3, "last_epoch": epoch, "seconds": 2.0,
            "test_accuracy": 0.75, "classes": ["cat", "dog"], "test": test, "checkpoint": "c"
        });
        write("finetune", finetune);
        write("features", serde_json::json!({"dataset": dataset, "layer": "dense"}));
        let facts = Facts::read(home.path(), "a".into());
        assert_eq!(facts.test().unwrap().confusion, [[1, 1], [0, 2]]);
        assert_eq!((facts.classes(), facts.mistakes().len()), (vec!["cat".to_owned(), "dog".to_owned()], 0));
        let [note] = &facts.notes[..] else { panic!("{:?}", facts.notes) };
        assert!(note.contains("features/summary.json") && note.contains("missing field"), "{note}");
    }
}
