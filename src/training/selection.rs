//! Which epoch's weights a stage leaves, and when it stops early: by an accuracy on the validation split.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::progress::EpochMetrics;

/// Which epoch's weights a stage leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Those of the last epoch.
    #[default]
    Last,
    /// Those of the epoch with the highest accuracy on the validation images; of the first one if several have it.
    Best,
}

/// The accuracy that decides which epoch is best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeepBy {
    /// Accuracy on the task trained for.
    #[default]
    Task,
    /// Accuracy of the probe: ridge regression if it is on, otherwise nearest neighbours.
    Probe,
}

impl KeepBy {
    fn accuracy(self, metrics: &EpochMetrics) -> Option<f64> {
        match self {
            Self::Task => metrics.validation_accuracy,
            Self::Probe => metrics.ridge_accuracy.or(metrics.knn_accuracy),
        }
    }
}

/// The best epoch so far. It follows from the metrics of the epochs alone, so that a resumed run finds the same.
#[derive(Clone, Debug)]
pub struct Selection {
    by: KeepBy,
    patience: Option<usize>,
    best: Option<(usize, f64)>,
}

impl Selection {
    /// After the epochs in `history`; `patience` is the number of epochs without a new best after which to stop.
    pub fn new(by: KeepBy, patience: Option<usize>, history: &[EpochMetrics]) -> Self {
        let mut selection = Self { by, patience, best: None };
        for metrics in history {
            selection.add(metrics);
        }
        selection
    }

    /// Records an epoch; returns whether it is the best so far.
    pub fn add(&mut self, metrics: &EpochMetrics) -> bool {
        let Some(accuracy) = self.by.accuracy(metrics) else {
            return false;
        };
        let better = self.best.is_none_or(|(_, best)| accuracy > best);
        if better {
            self.best = Some((metrics.epoch, accuracy));
        }
        better
    }

    /// The best epoch, counted from 1.
    pub fn best_epoch(&self) -> Option<usize> {
        self.best.map(|(epoch, _)| epoch)
    }

    /// Whether to continue after `epochs` epochs.
    pub fn goes_on(&self, epochs: usize) -> bool {
        match (self.patience, self.best) {
            (Some(patience), Some((best, _))) => epochs < best + patience,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(epoch: usize, validation_accuracy: Option<f64>) -> EpochMetrics {
        EpochMetrics {
            epoch,
            loss: 1.0,
            accuracy: 0.5,
            rotation_loss: None,
            rotation_accuracy: None,
            validation_loss: None,
            validation_accuracy,
            knn_accuracy: validation_accuracy.map(|accuracy| 1.0 - accuracy),
            ridge_accuracy: None,
            learning_rate: 0.1,
            images_per_second: 1.0,
            seconds: 1.0,
        }
    }

    #[test]
    fn training_stops_when_so_many_epochs_brought_no_new_best() {
        let mut selection = Selection::new(KeepBy::Task, Some(2), &[]);
        let accuracies = [0.3, 0.5, 0.5, 0.4];
        let seen = accuracies.into_iter().enumerate().map(|(index, accuracy)| {
            let best = selection.add(&metrics(index + 1, Some(accuracy)));
            (best, selection.goes_on(index + 1))
        });
        let seen: Vec<_> = seen.collect();
        assert_eq!(seen, [(true, true), (true, true), (false, true), (false, false)]);
        assert_eq!(selection.best_epoch(), Some(2));
        let history: Vec<_> = (1..=4).map(|epoch| metrics(epoch, Some(accuracies[epoch - 1]))).collect();
        assert!(!Selection::new(KeepBy::Task, Some(2), &history).goes_on(4));
        assert!(Selection::new(KeepBy::Task, None, &history).goes_on(4));
    }

    #[test]
    fn the_probe_may_decide() {
        let history: Vec<_> = [0.3, 0.5, 0.2].into_iter().map(Some).collect();
        let best = |by| {
            let history: Vec<_> = (1..=3).map(|epoch| metrics(epoch, history[epoch - 1])).collect();
            Selection::new(by, None, &history).best_epoch()
        };
        assert_eq!((best(KeepBy::Task), best(KeepBy::Probe)), (Some(2), Some(3)));
    }

    #[test]
    fn without_validation_nothing_is_best_and_nothing_stops() {
        let mut selection = Selection::new(KeepBy::Task, Some(1), &[]);
        assert!(!selection.add(&metrics(1, None)));
        assert!(selection.goes_on(9) && selection.best_epoch().is_none());
    }
}
