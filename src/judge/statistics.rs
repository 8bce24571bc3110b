//! What test predictions say beyond their accuracy: intervals, calibration, mistakes, and whether two classifiers
//! differ by more than chance.
//!
//! Probabilities are `[samples, classes]`, row by row. Resampling draws samples (images) with replacement; it tells
//! how much a number would vary with other test images, not with another training seed.

use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::math::functions::{exp, ln};
use crate::math::logits::argmax;
use crate::math::random::{Purpose, generator};

/// Resamples of the bootstrap: the ends of a 95 % interval then vary by about a twentieth of its width.
const RESAMPLES: u64 = 2_000;
/// Seed of the resamples, independent of the run's seed: the same predictions have the same interval.
const SEED: u64 = 0;
/// Bins of the calibration error (Guo, Pleiss, Sun, Weinberger 2017).
const BINS: usize = 15;
/// Maximum number of mistakes listed.
const MISTAKES: usize = 25;

/// The two ends between which 95 % of the resamples lie.
pub type Interval = [f64; 2];

/// A classifier on samples it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Number of samples.
    pub samples: usize,
    /// Share classified correctly, in 0..=1.
    pub accuracy: f64,
    /// Bootstrap interval of the accuracy, 95 %, over the samples.
    pub accuracy_interval: Interval,
    /// Expected calibration error over 15 bins of confidence, in 0..=1: how far confidence is from accuracy.
    pub calibration_error: f64,
    /// By class.
    pub classes: Vec<ClassStatistics>,
    /// `confusion[true class][predicted class]`, counts.
    pub confusion: Vec<Vec<u64>>,
    /// The most confident mistakes, most confident first.
    pub mistakes: Vec<Mistake>,
}

/// One class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassStatistics {
    /// Samples of the class.
    pub samples: u64,
    /// Precision: share of the predictions of this class that are correct; null if there are none.
    pub precision: Option<f64>,
    /// Recall: share of the class that was recognised; null for a class without samples.
    pub recall: Option<f64>,
}

/// A misclassified sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mistake {
    /// Number of the sample, counted from 0 in the order of the data set.
    pub index: usize,
    /// Its class.
    pub truth: u16,
    /// The predicted class.
    pub predicted: u16,
    /// Probability of that class, in 0..=1.
    pub confidence: f64,
}

impl Statistics {
    /// Statistics of probabilities `[samples, classes]`, given the labels.
    pub fn new(probabilities: &[f32], labels: &[u16], classes: usize) -> Self {
        let rows = || probabilities.chunks_exact(classes).zip(labels);
        let mut confusion = vec![vec![0_u64; classes]; classes];
        let mut mistakes = Vec::new();
        let mut right = Vec::with_capacity(labels.len());
        for (index, (row, &truth)) in rows().enumerate() {
            let predicted = argmax(row);
            confusion[usize::from(truth)][predicted] += 1;
            right.push(predicted == usize::from(truth));
            if predicted != usize::from(truth) {
                let confidence = f64::from(row[predicted]);
                mistakes.push(Mistake { index, truth, predicted: predicted as u16, confidence });
            }
        }
        mistakes.sort_by(|a, b| b.confidence.total_cmp(&a.confidence).then(a.index.cmp(&b.index)));
        mistakes.truncate(MISTAKES);
        let gains: Vec<i8> = right.iter().map(|&right| i8::from(right)).collect();
        Self {
            samples: labels.len(),
            accuracy: mean(&gains),
            accuracy_interval: interval(&gains),
            calibration_error: calibration_error(rows().map(|(row, _)| row[argmax(row)]), &right),
            classes: (0..classes).map(|class| ClassStatistics::new(&confusion, class)).collect(),
            confusion,
            mistakes,
        }
    }
}

impl ClassStatistics {
    fn new(confusion: &[Vec<u64>], class: usize) -> Self {
        let samples = confusion[class].iter().sum();
        let answers: u64 = confusion.iter().map(|row| row[class]).sum();
        let share = |all: u64| (all > 0).then(|| confusion[class][class] as f64 / all as f64);
        Self { samples, precision: share(answers), recall: share(samples) }
    }
}

/// Mean over the samples of |confidence - accuracy| in their bin of confidence.
fn calibration_error(confidences: impl Iterator<Item = f32>, right: &[bool]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for (confidence, &right) in confidences.zip(right) {
        let bin = ((f64::from(confidence) * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += f64::from(confidence);
        bins[bin].1 += f64::from(u8::from(right));
    }
    let gaps: f64 = bins.iter().map(|(confidence, right)| (confidence - right).abs()).sum();
    gaps / right.len().max(1) as f64
}

/// Two classifiers on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Accuracy of the second minus that of the first.
    pub difference: f64,
    /// Paired bootstrap interval of the difference, 95 %, over the samples.
    pub interval: Interval,
    /// Samples that only the second classifies correctly.
    pub gained: usize,
    /// Samples that only the first classifies correctly.
    pub lost: usize,
    /// p-value of McNemar's exact test (two-sided): the chance of gains and losses at least this unequal if both were
    /// equally likely.
    pub p_value: f64,
}

impl Difference {
    /// Compares the classes that two classifiers predict for the same samples.
    pub fn new(first: &[u16], second: &[u16], labels: &[u16]) -> Self {
        let gains: Vec<i8> = (first.iter().zip(second).zip(labels))
            .map(|((first, second), label)| i8::from(second == label) - i8::from(first == label))
            .collect();
        let count = |value: i8| gains.iter().filter(|&&gain| gain == value).count();
        let (gained, lost) = (count(1), count(-1));
        Self {
            difference: mean(&gains),
            interval: interval(&gains),
            gained,
            lost,
            p_value: mcnemar(gained, lost),
        }
    }

    /// Whether the interval excludes 0: the choice of samples alone does not explain the difference.
    pub fn is_more_than_chance(&self) -> bool {
        self.interval[0] > 0.0 || self.interval[1] < 0.0
    }
}

/// The class with the largest score in each row, the first one among equals.
pub fn predicted(scores: &[f32], classes: usize) -> Vec<u16> {
    scores.chunks_exact(classes).map(|row| argmax(row) as u16).collect()
}

/// Mean and standard deviation (divided by one less than the count; absent for a single number).
pub fn mean_and_deviation(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

/// McNemar's test (1947) in its exact form: a two-sided sign test on the samples that only one classifies correctly.
fn mcnemar(gained: usize, lost: usize) -> f64 {
    let (count, fewer) = (gained + lost, gained.min(lost));
    // Binomial coefficients of `count`, each from the one before, over 2^count, in logarithms.
    let mut logarithm = -(count as f64) * std::f64::consts::LN_2;
    let mut tail = exp(logarithm);
    for chosen in 1..=fewer {
        logarithm += ln((count - chosen + 1) as f64 / chosen as f64);
        tail += exp(logarithm);
    }
    (2.0 * tail).min(1.0)
}

/// p-values adjusted for their number (Holm 1979): the chance that any of those below a level is a false alarm is at
/// most that level, however they depend on each other.
pub fn holm(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut adjusted = vec![0.0; values.len()];
    let mut least = 0.0_f64;
    for (rank, &index) in order.iter().enumerate() {
        least = least.max(((values.len() - rank) as f64 * values[index]).min(1.0));
        adjusted[index] = least;
    }
    adjusted
}

fn mean(gains: &[i8]) -> f64 {
    let sum: i64 = gains.iter().map(|&gain| i64::from(gain)).sum();
    sum as f64 / gains.len().max(1) as f64
}

/// Percentile bootstrap (Efron 1979) of the mean.
fn interval(gains: &[i8]) -> Interval {
    let count = gains.len();
    if count == 0 {
        return [0.0; 2];
    }
    let resample = |number: u64| {
        let mut random = generator(SEED, Purpose::Bootstrap, 0, number);
        // Of 32 random bits, scaled (Lemire 2019, without the rejection: a bias under 1 in 400,000 for 10,000 samples).
        let draw = |bits: u32| ((u64::from(bits) * count as u64) >> 32) as usize;
        (0..count).map(|_| i64::from(gains[draw(random.next_u32())])).sum::<i64>()
    };
    let mut sums: Vec<i64> = (0..RESAMPLES).into_par_iter().map(resample).collect();
    sums.sort_unstable();
    let at = |share: f64| sums[((RESAMPLES - 1) as f64 * share).round() as usize] as f64 / count as f64;
    [at(0.025), at(0.975)]
}

/// 95 % interval of a share found in `count` independent samples (Wilson 1927): for shares known only with their number
/// of samples, where nothing can be resampled.
pub fn wilson(share: f64, count: f64) -> Interval {
    const Z: f64 = 1.96;
    if count <= 0.0 {
        return [0.0, 1.0];
    }
    let z2 = Z * Z / count;
    let middle = (share + z2 / 2.0) / (1.0 + z2);
    let half = Z * (share * (1.0 - share) / count + z2 / (4.0 * count)).sqrt() / (1.0 + z2);
    [middle - half, middle + half]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_shares_and_mistakes_follow_from_the_probabilities() {
        let probabilities = [0.9, 0.1, 0.4, 0.6, 0.2, 0.8, 0.3, 0.7];
        let statistics = Statistics::new(&probabilities, &[0, 0, 1, 0], 2);
        assert_eq!((statistics.samples, statistics.accuracy), (4, 0.5));
        assert_eq!(statistics.confusion, [[1, 2], [0, 1]]);
        let [first, second] = &statistics.classes[..] else { panic!("two classes") };
        assert_eq!((first.samples, first.precision, first.recall), (3, Some(1.0), Some(1.0 / 3.0)));
        assert_eq!((second.precision, second.recall), (Some(1.0 / 3.0), Some(1.0)));
        let order: Vec<usize> = statistics.mistakes.iter().map(|mistake| mistake.index).collect();
        assert_eq!(order, [3, 1]);
        assert_eq!((statistics.mistakes[0].truth, statistics.mistakes[0].predicted), (0, 1));
    }

    #[test]
    fn calibration_error_is_the_gap_between_confidence_and_accuracy() {
        let error = |pairs: &[(f32, bool)]| {
            let right: Vec<bool> = pairs.iter().map(|pair| pair.1).collect();
            calibration_error(pairs.iter().map(|pair| pair.0), &right)
        };
        assert!((error(&[(0.75, true), (0.75, true), (0.75, true), (0.75, false)])).abs() < 1e-9);
        assert!((error(&[(1.0, true), (1.0, false)]) - 0.5).abs() < 1e-9);
        // Two bins, each off by a quarter: 0.5 said and 0.75 right, 0.95 said and 0.7 right would cancel in one.
        assert!((error(&[(0.5, true), (1.0, false)]) - 0.75).abs() < 1e-9);
    }

    #[test]
    fn the_interval_is_that_of_the_normal_approximation() {
        let gains: Vec<i8> = (0..10_000).map(|index| i8::from(index % 5 != 0)).collect();
        let [low, high] = interval(&gains);
        let half = 1.96 * (0.8_f64 * 0.2 / 10_000.0).sqrt();
        assert!((low - (0.8 - half)).abs() < 0.0008 && (high - (0.8 + half)).abs() < 0.0008, "{low} {high}");
        assert_eq!(interval(&[1; 50]), [1.0, 1.0]);
        assert_eq!(interval(&gains), [low, high]);
    }

    #[test]
    fn a_paired_difference_sees_what_intervals_side_by_side_do_not() {
        let labels = vec![0; 1_000];
        let wrong = |from: usize, to: usize| -> Vec<u16> {
            (0..1_000).map(|index| u16::from((from..to).contains(&index))).collect()
        };
        // 300 against 280 mistakes, all of the 280 among the 300.
        let nested = Difference::new(&wrong(0, 300), &wrong(0, 280), &labels);
        assert_eq!((nested.gained, nested.lost), (20, 0));
        assert!((nested.difference - 0.02).abs() < 1e-12 && nested.is_more_than_chance());
        // As many mistakes, none in common.
        let apart = Difference::new(&wrong(0, 300), &wrong(500, 780), &labels);
        assert_eq!((apart.gained, apart.lost), (300, 280));
        assert!(!apart.is_more_than_chance());
    }

    #[test]
    fn the_exact_test_is_the_binomial_tail_of_the_samples_that_differ() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(3, 3), 1.0);
        assert!((mcnemar(5, 0) - 2.0 / 32.0).abs() < 1e-12);
        // (1 + 10 + 45) / 1024, twice; the same whichever of both is ahead.
        assert!((mcnemar(8, 2) - 112.0 / 1024.0).abs() < 1e-12);
        assert_eq!(mcnemar(2, 8), mcnemar(8, 2));
        // Computed with fractions; 2^10,000 is beyond any f64.
        assert!((mcnemar(600, 400) - 2.728_464e-10).abs() < 1e-13, "{:e}", mcnemar(600, 400));
        assert!((mcnemar(5_100, 4_900) - 0.046_60).abs() < 1e-4, "{}", mcnemar(5_100, 4_900));
    }

    #[test]
    fn holm_multiplies_the_smallest_most_and_keeps_the_order() {
        let near = |found: Vec<f64>, expected: &[f64]| {
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12)
        };
        // The example of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm").
        assert!(near(holm(&[0.01, 0.04, 0.03, 0.005]), &[0.03, 0.06, 0.06, 0.02]));
        assert!(near(holm(&[0.6, 0.5]), &[1.0, 1.0]));
        assert!(near(holm(&[0.02]), &[0.02]) && holm(&[]).is_empty());
    }

    #[test]
    fn the_interval_of_a_share_is_that_of_the_literature() {
        // Newcombe 1998, table I, method 3: 81 of 263.
        let [low, high] = wilson(81.0 / 263.0, 263.0);
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson(0.5, 0.0), [0.0, 1.0]);
    }

    #[test]
    fn moments_are_as_by_hand() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, Some(2.0_f64.sqrt())));
        assert_eq!(mean_and_deviation(&[4.0]), (4.0, None));
        assert_eq!(predicted(&[0.1, 0.9, 0.5, 0.5], 2), [1, 0]);
    }
}
