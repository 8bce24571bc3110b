//! Loss and accuracy of a network on samples it was not trained on.

use std::convert::Infallible;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::kernels;
use crate::math::logits::argmax;
use crate::model::{Mode, Network};
use crate::ranks::{Alone, Ranks, To, in_turn};
use crate::samples::{Batch, Samples};

/// Samples evaluated at a time; affects nothing but the rounding of the loss.
const BATCH: usize = 512;

/// Loss and accuracy, overall and by class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Number of samples.
    pub samples: usize,
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// Share classified correctly, in 0..=1.
    pub accuracy: f64,
    /// The same, by true class; null for a class without samples.
    pub per_class_accuracy: Vec<Option<f64>>,
    /// `confusion[true class][predicted class]`, counts.
    pub confusion: Vec<Vec<u64>>,
}

/// Evaluates `network`, which is on `device`, without automatic differentiation; `ranks` share the samples out.
pub fn evaluate<N: Network>(
    network: &N,
    samples: &dyn Samples,
    device: &Device,
    ranks: &dyn Ranks,
) -> Evaluation {
    predict_shared(network, samples, device, ranks).0
}

/// [`evaluate`] on this rank alone, with the logits `[samples, classes]`, row by row.
pub fn predict<N: Network>(network: &N, samples: &dyn Samples, device: &Device) -> (Evaluation, Vec<f32>) {
    predict_shared(network, samples, device, &Alone)
}

fn predict_shared<N: Network>(
    network: &N,
    samples: &dyn Samples,
    device: &Device,
    ranks: &dyn Ranks,
) -> (Evaluation, Vec<f32>) {
    let mut confusion: Vec<Vec<u64>> = Vec::new();
    let mut loss_sum = 0.0;
    let mut all = Vec::new();
    let indices: Vec<u32> = (0..samples.len() as u32).collect();
    // Loss, labels, logits.
    let answers = |indices: &&[u32]| {
        let batch = Batch::new(samples, 0, indices);
        let truth = batch.labels.clone();
        let (inputs, labels) = batch.into_tensors(device);
        let logits = network.logits(inputs, Mode::Evaluate);
        let (losses, _) = kernels::cross_entropy(logits.clone(), labels, 0.0);
        let mut answers = vec![losses.into_scalar::<f32>()];
        answers.extend(truth.into_iter().map(f32::from));
        answers.extend(logits.into_data().iter::<f32>());
        answers
    };
    let take = |indices: &&[u32], answers: Vec<f32>| {
        let (truth, logits) = answers[1..].split_at(indices.len());
        let classes = logits.len() / indices.len();
        confusion.resize_with(classes, || vec![0; classes]);
        loss_sum += f64::from(answers[0]);
        for (&label, row) in truth.iter().zip(logits.chunks(classes)) {
            confusion[label as usize][argmax(row)] += 1;
        }
        all.extend_from_slice(logits);
        Ok::<(), Infallible>(())
    };
    let Ok(()) = in_turn(ranks, indices.chunks(BATCH), To::All, answers, take);
    kernels::release_memory();
    (Evaluation::new(confusion, loss_sum, samples.len()), all)
}

impl Evaluation {
    fn new(confusion: Vec<Vec<u64>>, loss_sum: f64, samples: usize) -> Self {
        let share = |right: u64, all: u64| right as f64 / all as f64;
        let rows = || confusion.iter().enumerate();
        let right: u64 = rows().map(|(class, row)| row[class]).sum();
        let per_class_accuracy = rows()
            .map(|(class, row)| match row.iter().sum() {
                0 => None,
                all => Some(share(row[class], all)),
            })
            .collect();
        Self {
            samples,
            loss: loss_sum / samples as f64,
            accuracy: share(right, samples as u64),
            per_class_accuracy,
            confusion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracies_follow_from_the_confusion_matrix() {
        let evaluation = Evaluation::new(vec![vec![3, 1, 0], vec![0, 2, 2], vec![0, 0, 0]], 4.0, 8);
        assert_eq!(evaluation.accuracy, 5.0 / 8.0);
        assert_eq!(evaluation.loss, 0.5);
        assert_eq!(evaluation.per_class_accuracy, [Some(0.75), Some(0.5), None]);
    }
}
