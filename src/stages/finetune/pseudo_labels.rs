//! The labels that self-training gave: the file of a round, its record, and how many are right.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::mixture::Pseudo;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::judge::pseudo::Given;
use crate::store::stage_directory::StageDirectory;

/// A round of self-training, in the stage's summary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Counted from 1.
    pub round: usize,
    /// Images that were given a label.
    pub images: usize,
    /// The same for each class, with the least probability among them; null where there is none.
    pub classes: Vec<RoundClass>,
    /// Images among them whose true labels are in the data set. These are looked at once all is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<usize>,
    /// Share of them that was given its true label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// SHA-256 of the file of the labels.
    pub labels: String,
    /// What the labels follow from.
    pub made_from: String,
}

/// What a class was given in a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundClass {
    /// Images.
    pub images: usize,
    /// Probability of the least sure of them.
    pub threshold: Option<f32>,
}

pub(super) fn by_class(given: &[Given], classes: usize) -> Vec<RoundClass> {
    let of = |class: usize| {
        let probabilities = given.iter().filter(|given| given.label == class).map(|given| given.probability);
        RoundClass { images: probabilities.clone().count(), threshold: probabilities.reduce(f32::min) }
    };
    (0..classes).map(of).collect()
}

/// The first line of a file of labels.
const HEAD: &str = "image,label,probability";

/// Images by their number in the training set (those without labels behind those with), classes by theirs.
pub(super) fn write(path: &Path, indices: &[u32], given: &[Given]) -> Result<()> {
    write_atomically(path, |out| {
        writeln!(out, "{HEAD}")?;
        let mut lines = indices.iter().zip(given);
        lines.try_for_each(|(image, given)| writeln!(out, "{image},{},{}", given.label, given.probability))
    })
}

pub(super) fn read(path: &Path) -> Result<Pseudo> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let of_line = |line: &str| {
        let mut parts = line.split(',');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    let lines: Option<Vec<(u32, u16)>> = text.lines().skip(1).map(of_line).collect();
    let Some(lines) = lines else {
        return Err(Error::checkpoint(path, "is not readable", "start this stage over with --force"));
    };
    let (indices, labels) = lines.into_iter().unzip();
    Ok(Pseudo { indices, labels })
}

/// Compares the labels that were given with the true ones, where there are any; to be called when all is trained.
///
/// # Errors
/// [`Error::Io`], or a damaged file.
pub(super) fn judged(
    rounds: Vec<Round>,
    directory: &StageDirectory,
    dataset: &Dataset,
) -> Result<Vec<Round>> {
    let judge = |round: Round| {
        let Pseudo { indices, labels } = read(&directory.pseudo_labels(round.round))?;
        let truth = indices.iter().map(|&index| dataset.train.labels.get(index as usize));
        let known: Vec<bool> =
            truth.zip(&labels).filter_map(|(truth, label)| Some(truth? == label)).collect();
        let right = known.iter().filter(|right| **right).count();
        let accuracy = (!known.is_empty()).then(|| right as f64 / known.len() as f64);
        Ok(Round { known: Some(known.len()), accuracy, ..round })
    };
    rounds.into_iter().map(judge).collect()
}
