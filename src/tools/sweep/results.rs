//! The results of a sweep: one row per run, and means and deviations over seeds and label draws.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::plan::Planned;
use super::shared::Shared;
use crate::error::{Error, Result};
use crate::files::{AtomicFile, read_json_if_there, write_json};
use crate::judge::statistics::{Interval, mean_and_deviation};
use crate::progress::Stage;
use crate::stages::{ExtractSummary, FinetuneSummary, PretrainSummary};
use crate::store::run_directory::RunDirectory;

/// The file `summary.json` of a sweep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepSummary {
    /// What the sweep is about, from its file.
    pub description: String,
    /// Runs that are planned.
    pub planned: usize,
    /// Runs that are finished or have failed.
    pub done: usize,
    /// By variant and point of the grid, in the order of the file.
    pub groups: Vec<Group>,
    /// All runs.
    pub runs: Vec<Row>,
}

/// Runs that differ only in seed and label draw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// The variant; absent if the file names none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
    /// The point of the grid.
    pub values: Map<String, Value>,
    /// Runs with a result.
    pub runs: usize,
    /// Runs that failed.
    pub failed: usize,
    /// Accuracy on the validation split; absent if nothing is held out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub validation: Option<Spread>,
    /// Accuracy on the test set; absent until it is opened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub test: Option<Spread>,
    /// Mean rotation accuracy in the last epoch of pretraining; absent without pretraining.
    pub rotation_accuracy: Option<f64>,
}

/// How a number varies between runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Runs that have it.
    pub runs: usize,
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation between runs (dividing by one less than their number); absent for a single run.
    pub deviation: Option<f64>,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Name of its directory.
    pub name: String,
    /// The variant.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
    /// The point of the grid.
    pub values: Map<String, Value>,
    /// Its seed.
    pub seed: u64,
    /// Which draw of labels.
    pub label_draw: u64,
    /// Labels that the classifier was shown.
    pub labels: Option<usize>,
    /// Labels a class that the config asks for; absent for all there are.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub labels_per_class: Option<usize>,
    /// Accuracy of the classifier that was kept on the validation split; absent if nothing is held out.
    pub validation_accuracy: Option<f64>,
    /// Accuracy on the test set; absent until it is opened.
    pub test_accuracy: Option<f64>,
    /// Its bootstrap interval, 95 %, over the test images.
    pub test_interval: Option<Interval>,
    /// Rotation accuracy in the last epoch of pretraining.
    pub rotation_accuracy: Option<f64>,
    /// Wall time of pretraining and extraction (shared with other runs), in seconds.
    pub shared_seconds: f64,
    /// Wall time of fine-tuning, in seconds.
    pub seconds: Option<f64>,
    /// The run that holds the encoder; absent for training from scratch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub encoder: Option<PathBuf>,
    /// Why it has no result; absent if it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failure: Option<String>,
}

impl Row {
    /// Whether there is a result, or a reason why there is none.
    pub(super) fn is_done(&self) -> bool {
        self.seconds.is_some() || self.failure.is_some()
    }

    pub(super) fn read(
        planned: &Planned,
        run: &RunDirectory,
        shared: Option<&Shared>,
        failure: Option<String>,
    ) -> Result<Self> {
        let finetune: Option<FinetuneSummary> = match failure {
            None => read_json_if_there(&run.summary(Stage::Finetune))?,
            Some(_) => None,
        };
        let pretrain = shared.map(|shared| shared.pretrain.summary(Stage::Pretrain));
        let pretrain: Option<PretrainSummary> = read(pretrain)?;
        let extract = shared.map(|shared| shared.features.summary(Stage::Extract));
        let extract: Option<ExtractSummary> = read(extract)?;
        let pretrain_seconds = pretrain.as_ref().map_or(0.0, |summary| summary.seconds);
        let finetune = finetune.as_ref();
        let statistics = finetune.and_then(|summary| summary.statistics.as_ref());
        Ok(Self {
            name: planned.name.clone(),
            variant: planned.variant.clone(),
            values: planned.values.iter().cloned().collect(),
            seed: planned.config.seed,
            label_draw: planned.config.data.label_draw,
            labels: finetune.map(|summary| summary.labels),
            labels_per_class: planned.config.data.labels_per_class,
            validation_accuracy: finetune.and_then(|summary| summary.validation_accuracy),
            test_accuracy: finetune.and_then(|summary| summary.test_accuracy),
            test_interval: statistics.map(|statistics| statistics.accuracy_interval),
            rotation_accuracy: pretrain.as_ref().and_then(PretrainSummary::accuracy),
            shared_seconds: pretrain_seconds + extract.map_or(0.0, |summary| summary.seconds),
            seconds: finetune.map(|summary| summary.seconds),
            encoder: shared.map(|shared| shared.pretrain.root().to_path_buf()),
            failure,
        })
    }
}

/// The summary at a path, if there is one.
fn read<T: DeserializeOwned>(path: Option<PathBuf>) -> Result<Option<T>> {
    path.map_or(Ok(None), |path| read_json_if_there(&path))
}

impl SweepSummary {
    pub(super) fn new(description: &str, planned: usize, rows: &[Row]) -> Self {
        let mut groups: Vec<(&Row, Vec<&Row>)> = Vec::new();
        for row in rows {
            let same =
                |(first, _): &&mut (&Row, _)| first.variant == row.variant && first.values == row.values;
            match groups.iter_mut().find(same) {
                Some((_, members)) => members.push(row),
                None => groups.push((row, vec![row])),
            }
        }
        Self {
            description: description.to_owned(),
            planned,
            done: rows.len(),
            groups: groups.iter().map(|(first, members)| Group::new(first, members)).collect(),
            runs: rows.to_vec(),
        }
    }

    /// Indices of the runs of the group with the best mean validation accuracy; of the first such group.
    pub(super) fn best(&self) -> Vec<usize> {
        let mean = |group: &Group| group.validation.map_or(f64::NEG_INFINITY, |spread| spread.mean);
        let best =
            self.groups.iter().reduce(|best, group| if mean(group) > mean(best) { group } else { best });
        let Some(best) = best else {
            return Vec::new();
        };
        let of_best = |row: &Row| row.variant == best.variant && row.values == best.values;
        self.runs.iter().enumerate().filter(|(_, row)| of_best(row)).map(|(index, _)| index).collect()
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.collect();
        let (mean, deviation) = (!values.is_empty()).then(|| mean_and_deviation(&values))?;
        Some(Self { runs: values.len(), mean, deviation })
    }
}

impl Group {
    fn new(first: &Row, members: &[&Row]) -> Self {
        Self {
            variant: first.variant.clone(),
            values: first.values.clone(),
            runs: members.iter().filter(|row| row.failure.is_none()).count(),
            failed: members.iter().filter(|row| row.failure.is_some()).count(),
            validation: Spread::of(members.iter().filter_map(|row| row.validation_accuracy)),
            test: Spread::of(members.iter().filter_map(|row| row.test_accuracy)),
            rotation_accuracy: Spread::of(members.iter().filter_map(|row| row.rotation_accuracy))
                .map(|spread| spread.mean),
        }
    }
}

/// Writes `summary.json` and `sweep.csv`.
pub(super) fn write(out: &Path, summary: &SweepSummary) -> Result<()> {
    write_json(&out.join("summary.json"), summary)?;
    let path = out.join("sweep.csv");
    let mut table = AtomicFile::create(&path)?;
    csv(&summary.runs, &mut table).map_err(|error| Error::io("write", &path)(error.into()))?;
    table.commit()
}

/// A header, then one line per run.
fn csv(rows: &[Row], out: &mut dyn Write) -> Result<(), csv::Error> {
    let keys: Vec<&String> = rows.first().map(|row| row.values.keys().collect()).unwrap_or_default();
    let mut titles = vec!["run", "variant"];
    titles.extend(keys.iter().map(|key| key.as_str()));
    titles.extend(["seed", "label_draw", "labels", "validation_accuracy", "test_accuracy", "test_low"]);
    titles.extend(["test_high", "rotation_accuracy", "shared_seconds", "seconds", "failure"]);
    let mut table = csv::Writer::from_writer(out);
    table.write_record(titles)?;
    for row in rows {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let mut cells = vec![row.name.clone(), row.variant.clone().unwrap_or_default()];
        cells.extend(keys.iter().map(|&key| match &row.values[key] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }));
        cells.extend([row.seed.to_string(), row.label_draw.to_string()]);
        cells.push(row.labels.map_or_else(String::new, |labels| labels.to_string()));
        cells.push(number(row.validation_accuracy));
        cells.push(number(row.test_accuracy));
        cells.push(number(row.test_interval.map(|interval| interval[0])));
        cells.push(number(row.test_interval.map(|interval| interval[1])));
        cells.push(number(row.rotation_accuracy));
        cells.push(row.shared_seconds.to_string());
        cells.push(number(row.seconds));
        cells.push(row.failure.clone().unwrap_or_default());
        table.write_record(cells)?;
    }
    Ok(table.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epochs: u64, seed: u64, accuracy: Option<f64>) -> Row {
        Row {
            name: format!("{epochs}-{seed}"),
            variant: None,
            values: Map::from_iter([("pretrain.epochs".to_owned(), epochs.into())]),
            seed,
            label_draw: 0,
            labels: None,
            labels_per_class: None,
            validation_accuracy: accuracy.map(|accuracy| accuracy + 0.125),
            test_accuracy: accuracy,
            test_interval: accuracy.map(|accuracy| [accuracy, accuracy]),
            rotation_accuracy: Some(0.5),
            shared_seconds: 2.0,
            seconds: Some(1.5),
            encoder: Some("shared".into()),
            failure: accuracy.is_none().then(|| "diverged, \"badly\"".to_owned()),
        }
    }

    #[test]
    fn runs_are_grouped_over_seeds_and_failures_counted() {
        let rows = [row(1, 1, Some(0.4)), row(2, 1, Some(0.7)), row(1, 2, Some(0.6)), row(2, 2, None)];
        let summary = SweepSummary::new("d", 5, &rows);
        let [first, second] = &summary.groups[..] else { panic!("two groups") };
        let test = first.test.unwrap();
        assert_eq!((first.runs, first.failed, test.runs, test.mean), (2, 0, 2, 0.5));
        assert!((test.deviation.unwrap() - 0.02_f64.sqrt()).abs() < 1e-12);
        assert_eq!(first.validation.unwrap().mean, 0.625);
        assert_eq!((second.runs, second.failed, second.test.unwrap().deviation), (1, 1, None));
        assert_eq!(summary.best(), [1, 3]);
        assert_eq!((summary.planned, summary.done), (5, 4));
    }

    #[test]
    fn the_table_quotes_what_needs_it() {
        let mut table = Vec::new();
        csv(&[row(1, 7, Some(0.25)), row(1, 8, None)], &mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("run,variant,pretrain.epochs,seed,"));
        assert_eq!(lines[1], "1-7,,1,7,0,,0.375,0.25,0.25,0.25,0.5,2,1.5,");
        assert_eq!(lines[2], "1-8,,1,8,0,,,,,,0.5,2,1.5,\"diverged, \"\"badly\"\"\"");
    }
}
