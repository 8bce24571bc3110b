//! Reasons not to trust the numbers of a summary.

use crate::progress::EpochMetrics;
use crate::training::Evaluation;

/// Standard deviations above chance at which an accuracy counts as learned.
const DEVIATIONS: f64 = 3.0;
/// Accuracy of guessing one of four rotations.
const ROTATION_CHANCE: f64 = 0.25;

/// Warnings about pretraining whose last epoch saw `samples` rotated images.
pub(super) fn of_pretraining(last: Option<&EpochMetrics>, samples: usize) -> Vec<String> {
    let Some(last) = last.filter(|last| at_chance(last.accuracy, ROTATION_CHANCE, samples)) else {
        return Vec::new();
    };
    vec![format!(
        "rotation accuracy {:.4} in the last epoch is no better than guessing ({ROTATION_CHANCE}): the encoder \
         learned nothing; scale the pixels (data.scale_pixels=true), train longer, or try another seed or \
         learning rate",
        last.accuracy
    )]
}

/// Warnings about a classifier, from its evaluation on the test set.
pub(super) fn of_classifier(test: &Evaluation, classes: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    let sums = |class: usize| test.confusion.iter().map(|row| row[class]).sum::<u64>();
    if let Some(only) = (0..classes.len()).find(|&class| sums(class) == test.samples as u64) {
        warnings
            .push(format!("the classifier collapsed: it answers `{}` to every test image", classes[only]));
    }
    let counts = test.confusion.iter().map(|row| row.iter().sum::<u64>());
    let chance = counts.max().unwrap_or(0) as f64 / test.samples.max(1) as f64;
    if at_chance(test.accuracy, chance, test.samples) {
        warnings.push(format!(
            "test accuracy {:.4} is no better than always answering with the most frequent class ({chance:.4})",
            test.accuracy
        ));
    }
    warnings
}

fn at_chance(accuracy: f64, chance: f64, samples: usize) -> bool {
    let deviation = (chance * (1.0 - chance) / samples.max(1) as f64).sqrt();
    accuracy <= chance + DEVIATIONS * deviation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_told_from_learning_by_the_number_of_samples() {
        assert!(at_chance(0.2501, 0.25, 200_000));
        assert!(!at_chance(0.26, 0.25, 200_000));
        assert!(at_chance(0.26, 0.25, 400));
    }

    #[test]
    fn a_collapsed_classifier_is_named_with_its_answer() {
        let classes = ["cat".to_owned(), "dog".to_owned()];
        let evaluation = |confusion: [[u64; 2]; 2], accuracy| Evaluation {
            samples: 200,
            loss: 1.0,
            accuracy,
            per_class_accuracy: Vec::new(),
            confusion: confusion.map(Vec::from).to_vec(),
        };
        let collapsed = of_classifier(&evaluation([[0, 100], [0, 100]], 0.5), &classes);
        assert_eq!(collapsed.len(), 2);
        assert!(collapsed[0].contains("`dog`"), "{collapsed:?}");
        assert!(of_classifier(&evaluation([[90, 10], [10, 90]], 0.9), &classes).is_empty());
    }
}
