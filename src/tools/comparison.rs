//! Runs side by side: results, times, the settings in which they differ, and whether accuracies differ by more than
//! chance. Reads what the runs left; opens no data set.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::error::Result;
use crate::files::read_json_if_there;
use crate::judge::statistics::{Difference, Interval};
use crate::progress::Stage;
use crate::stages::{ExtractSummary, FinetuneSummary, PretrainSummary};
use crate::store::predictions::Predictions;
use crate::store::run_directory::RunDirectory;
use crate::store::run_record::RunRecord;
use crate::tools::paths::shown;

/// What `compare` finds.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// In the order they were named.
    pub runs: Vec<RunResults>,
    /// The config keys that are not the same in all runs.
    pub differing: Vec<DifferingKey>,
    /// Every pair of runs.
    pub pairs: Vec<Pair>,
}

/// The results of a run; those of a stage that has not been run are absent.
#[derive(Clone, Debug, Serialize)]
pub struct RunResults {
    /// Its directory.
    #[serde(serialize_with = "shown")]
    pub run: PathBuf,
    /// The data set.
    pub dataset: Option<String>,
    /// Rotation accuracy in the last epoch of pretraining.
    pub rotation_accuracy: Option<f64>,
    /// Labels that the classifier was shown.
    pub labels: Option<usize>,
    /// Accuracy on the test set.
    pub test_accuracy: Option<f64>,
    /// Its bootstrap interval, 95 %.
    pub test_interval: Option<Interval>,
    /// Expected calibration error on the test set.
    pub calibration_error: Option<f64>,
    /// Wall times of pretraining, extraction and fine-tuning, in seconds.
    pub seconds: [Option<f64>; 3],
    /// How many of its numbers were taken on the test set.
    pub test_evaluations: Option<u32>,
    /// Processor and threads.
    pub machine: Option<String>,
}

/// A key in which configs differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DifferingKey {
    /// Dotted.
    pub key: String,
    /// Its value in each run; null if the run does not set it.
    pub values: Vec<Value>,
}

/// Two runs on the same test images.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    /// Index of the first run.
    pub first: usize,
    /// Index of the second.
    pub second: usize,
    /// Accuracy of the second minus that of the first; absent if they cannot be compared.
    pub difference: Option<Difference>,
    /// Why they cannot be compared.
    pub refused: Option<String>,
    /// The outcome in a sentence.
    pub sentence: String,
}

/// Compares two or more runs.
///
/// # Errors
/// [`crate::Error::Checkpoint`] for a directory that holds no run, and for a file in it that is damaged or of another
/// version.
pub fn compare(runs: &[RunDirectory]) -> Result<Comparison> {
    let results = runs.iter().map(RunResults::read).collect::<Result<_>>()?;
    let configs = runs.iter().map(RunDirectory::settings).collect::<Result<Vec<Value>>>()?;
    let predictions = runs.iter().map(predictions).collect::<Result<Vec<_>>>()?;
    let indices = 0..runs.len();
    let pairs = indices.clone().flat_map(|first| (first + 1..runs.len()).map(move |second| (first, second)));
    let pairs = pairs.map(|(first, second)| pair(runs, &predictions, first, second)).collect();
    Ok(Comparison { runs: results, differing: differing(&configs.iter().collect::<Vec<_>>()), pairs })
}

impl RunResults {
    fn read(run: &RunDirectory) -> Result<Self> {
        run.any_config()?;
        let pretrain: Option<PretrainSummary> = read_json_if_there(&run.summary(Stage::Pretrain))?;
        let extract: Option<ExtractSummary> = read_json_if_there(&run.summary(Stage::Extract))?;
        let finetune: Option<FinetuneSummary> = read_json_if_there(&run.summary(Stage::Finetune))?;
        let record: Option<RunRecord> = read_json_if_there(&run.record())?;
        let statistics = finetune.as_ref().and_then(|summary| summary.statistics.as_ref());
        Ok(Self {
            run: run.root().to_path_buf(),
            dataset: record.as_ref().map(|record| record.dataset.name.clone()),
            rotation_accuracy: pretrain.as_ref().and_then(PretrainSummary::accuracy),
            labels: finetune.as_ref().map(|summary| summary.labels),
            test_accuracy: finetune.as_ref().and_then(|summary| summary.test_accuracy),
            test_interval: statistics.map(|statistics| statistics.accuracy_interval),
            calibration_error: statistics.map(|statistics| statistics.calibration_error),
            seconds: [
                pretrain.map(|summary| summary.seconds),
                extract.map(|summary| summary.seconds),
                finetune.as_ref().map(|summary| summary.seconds),
            ],
            test_evaluations: record.as_ref().map(|record| record.test_evaluations),
            machine: record.map(|record| {
                let environment = record.environment;
                format!("{}, {} threads", environment.processor, environment.threads)
            }),
        })
    }
}

fn predictions(run: &RunDirectory) -> Result<Option<Predictions>> {
    let path = run.predictions();
    path.exists().then(|| Predictions::load(&path)).transpose()
}

fn pair(runs: &[RunDirectory], predictions: &[Option<Predictions>], first: usize, second: usize) -> Pair {
    let name = |index: usize| runs[index].root().display().to_string();
    let outcome = match (&predictions[first], &predictions[second]) {
        (Some(one), Some(two)) => match one.mismatch(two) {
            None => Ok(Difference::new(&one.predicted(), &two.predicted(), &one.labels)),
            Some(reason) => Err(reason),
        },
        (one, _) => {
            let lacking = if one.is_none() { first } else { second };
            Err(format!("{} holds no test predictions; `rotnet finetune` writes them", name(lacking)))
        }
    };
    let sentence = match &outcome {
        Ok(difference) => sentence(&name(first), &name(second), difference),
        Err(reason) => format!("{} and {}: no test of the difference, {reason}", name(first), name(second)),
    };
    let (difference, refused) = match outcome {
        Ok(difference) => (Some(difference), None),
        Err(reason) => (None, Some(reason)),
    };
    Pair { first, second, difference, refused, sentence }
}

fn sentence(first: &str, second: &str, found: &Difference) -> String {
    let points = |share: f64| format!("{:+.2}", 100.0 * share);
    let judgement = match found.is_more_than_chance() {
        true => "more than chance",
        false => "no more than chance",
    };
    format!(
        "{second} against {first}: {} points (95 % interval {} to {}), {judgement}; {} images gained, {} lost",
        points(found.difference),
        points(found.interval[0]),
        points(found.interval[1]),
        found.gained,
        found.lost
    )
}

/// The keys in which documents differ, apart from their descriptions and from sections that some of them lack, as runs do that
/// were not evaluated.
pub fn differing(documents: &[&Value]) -> Vec<DifferingKey> {
    let flat: Vec<Vec<(String, Value)>> = documents.iter().copied().map(flatten).collect();
    let keys: BTreeSet<&String> = flat.iter().flatten().map(|(key, _)| key).collect();
    let value = |pairs: &[(String, Value)], wanted: &String| {
        let found = pairs.iter().find(|(key, _)| key == wanted);
        found.map_or(Value::Null, |(_, value)| value.clone())
    };
    let in_all = |key: &&String| match key.split_once('.') {
        Some((section, _)) => documents.iter().all(|document| document[section].is_object()),
        None => key.as_str() != "description",
    };
    keys.into_iter()
        .filter(in_all)
        .map(|key| DifferingKey {
            key: key.clone(),
            values: flat.iter().map(|pairs| value(pairs, key)).collect(),
        })
        .filter(|found| found.values.iter().any(|value| *value != found.values[0]))
        .collect()
}

/// All values that are not objects, with their dotted keys.
fn flatten(document: &Value) -> Vec<(String, Value)> {
    let Value::Object(sections) = document else {
        return Vec::new();
    };
    let inner = |(key, value): (&String, &Value)| match value {
        Value::Object(_) => {
            flatten(value).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)).collect()
        }
        value => vec![(key.clone(), value.clone())],
    };
    sections.iter().flat_map(inner).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_section_that_one_lacks_is_not_listed() {
        let found = differing(&[&json!({"seed": 1}), &json!({"seed": 2, "evaluate": {"heads": ["ridge"]}})]);
        assert_eq!(found, [DifferingKey { key: "seed".into(), values: vec![json!(1), json!(2)] }]);
    }

    #[test]
    fn only_keys_with_other_values_are_listed() {
        let found = differing(&[
            &json!({"description": "a", "seed": 1, "pretrain": {"epochs": 2, "augment": {"flip": true}}}),
            &json!({"description": "b", "seed": 1, "pretrain": {"epochs": 3, "augment": null}}),
        ]);
        let expected = [
            ("pretrain.augment.flip", [json!(true), json!(null)]),
            ("pretrain.epochs", [json!(2), json!(3)]),
        ];
        let expected =
            expected.map(|(key, values)| DifferingKey { key: key.into(), values: values.to_vec() });
        assert_eq!(found, expected);
    }
}
