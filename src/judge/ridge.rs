//! Ridge regression of one-hot labels on standardised features, in closed form: the linear read-out that needs no
//! training.
//!
//! Minimises `sum over samples of |label - (w · feature + b)|² + penalty * samples * |w|²`. The penalty is counted a
//! sample, so that what suits a part of the training set suits the whole. The intercept `b` is not penalised.
//! [`choose_by_folds`] and [`choose_on`] take the penalty from a list; [`fit`] takes it as given.

use rayon::prelude::*;

use super::cholesky::solve;
use super::{Labeled, accuracy};
use crate::kernels::matrix_product;
use crate::model::FeatureMoments;

/// Rows that a product sums in `f32` before they are added up in `f64`.
const ROWS: usize = 256;
/// Columns of a product; with 1 KiB stride a panel stays in the second-level cache.
const COLUMNS: usize = 256;

/// Penalties that are tried by default: powers of the root of 10 from 1e-4 to 10, on features of deviation 1.
pub const PENALTIES: [f64; 11] =
    [1e-4, 3.162e-4, 1e-3, 3.162e-3, 1e-2, 3.162e-2, 0.1, 0.3162, 1.0, 3.162, 10.0];
/// Temperatures that are tried: the scores lie between about 0 and 1, far too close for a softmax.
const TEMPERATURES: [f64; 12] = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, 0.7, 1.0];

/// A fitted read-out: `score = (feature - mean) * factor · weight + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    /// Of the features it was fitted to; `factor` is [`FeatureMoments::factors`].
    pub moments: FeatureMoments,
    /// `[width, classes]`, of standardised features.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
    /// What the weights were penalised with.
    pub penalty: f64,
}

/// How good a penalty was on samples that were not fitted to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The penalty.
    pub penalty: f64,
    /// Share classified rightly, in 0..=1.
    pub accuracy: f64,
}

/// A read-out whose penalty was chosen, and all that were tried.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Fitted to all training samples.
    pub ridge: Ridge,
    /// In the order of the list.
    pub trials: Vec<Trial>,
    /// Probabilities are the softmax of the scores divided by this; it has the least log-loss on the samples that the
    /// penalty was chosen on.
    pub temperature: f64,
}

impl Ridge {
    /// Scores of samples, `[samples, classes]`, from features as they were before standardisation.
    pub fn scores(&self, values: &[f32]) -> Vec<f32> {
        let (width, classes) = (self.moments.mean.len(), self.bias.len());
        let samples = values.len() / width;
        let mut weight = self.weight.clone();
        let mut bias: Vec<f64> = self.bias.iter().map(|&bias| f64::from(bias)).collect();
        let factors = self.moments.factors();
        for ((row, factor), mean) in weight.chunks_exact_mut(classes).zip(factors).zip(&self.moments.mean) {
            for (weight, bias) in row.iter_mut().zip(&mut bias) {
                *weight *= factor;
                *bias -= f64::from(*weight) * f64::from(*mean);
            }
        }
        let mut scores = vec![0.0; samples * classes];
        matrix_product([samples, width, classes], values, &weight, &mut scores);
        for row in scores.chunks_exact_mut(classes) {
            row.iter_mut().zip(&bias).for_each(|(score, bias)| *score = (f64::from(*score) + bias) as f32);
        }
        scores
    }
}

/// Fits to `train` with one penalty.
pub fn fit(train: Labeled<'_>, penalty: f64) -> Ridge {
    let moments = FeatureMoments::of(train.values, train.width);
    let every: Vec<u32> = (0..train.labels.len() as u32).collect();
    let problem = Problem::new(train, &moments, &every, None);
    let (weight, bias) = problem.solve(penalty);
    Ridge { weight, bias, penalty, moments }
}

/// Fits to `train` with the penalty of the list that is best on `validation`.
pub fn choose_on(train: Labeled<'_>, validation: Labeled<'_>, penalties: &[f64]) -> Choice {
    let moments = FeatureMoments::of(train.values, train.width);
    let every: Vec<u32> = (0..train.labels.len() as u32).collect();
    let problem = Problem::new(train, &moments, &every, None);
    let fitted: Vec<Ridge> = penalties.iter().map(|&penalty| problem.fit(&moments, penalty)).collect();
    let scores: Vec<Vec<f32>> = fitted.iter().map(|ridge| ridge.scores(validation.values)).collect();
    let (trials, best) = judge(penalties, &scores, validation.labels, train.classes);
    let temperature = temperature(&scores[best], validation.labels, train.classes);
    Choice { ridge: fitted[best].clone(), trials, temperature }
}

/// Fits to `train` with the penalty of the list that is best on average over `folds` parts of it, each left out once;
/// every class is spread evenly over the parts, in the order of the samples.
pub fn choose_by_folds(train: Labeled<'_>, penalties: &[f64], folds: usize) -> Choice {
    let (samples, classes) = (train.labels.len(), train.classes);
    let moments = FeatureMoments::of(train.values, train.width);
    let every: Vec<u32> = (0..samples as u32).collect();
    let whole = Problem::new(train, &moments, &every, None);
    let fold_of = folds_of(train.labels, classes, folds);
    let mut scores = vec![vec![0.0; samples * classes]; penalties.len()];
    for fold in 0..folds {
        let members = |inside: bool| -> Vec<u32> {
            every.iter().copied().filter(|&index| (fold_of[index as usize] == fold) == inside).collect()
        };
        let (kept, left_out) = (members(false), members(true));
        if kept.is_empty() || left_out.is_empty() {
            continue;
        }
        let problem = Problem::new(train, &moments, &kept, Some((&whole, &left_out)));
        let values: Vec<f32> =
            left_out.iter().flat_map(|&index| train.row(index as usize)).copied().collect();
        for (scores, &penalty) in scores.iter_mut().zip(penalties) {
            let found = problem.fit(&moments, penalty).scores(&values);
            for (&index, row) in left_out.iter().zip(found.chunks_exact(classes)) {
                scores[index as usize * classes..][..classes].copy_from_slice(row);
            }
        }
    }
    let (trials, best) = judge(penalties, &scores, train.labels, classes);
    let temperature = temperature(&scores[best], train.labels, classes);
    Choice { ridge: whole.fit(&moments, penalties[best]), trials, temperature }
}

/// The fold of each sample.
fn folds_of(labels: &[u8], classes: usize, folds: usize) -> Vec<usize> {
    let mut seen = vec![0; classes];
    let next = |&label: &u8| {
        // Classes begin at different folds, so that small ones do not all fill the first.
        let count: &mut usize = &mut seen[usize::from(label)];
        *count += 1;
        (*count - 1 + usize::from(label)) % folds
    };
    labels.iter().map(next).collect()
}

/// All trials, and which is the best: of equally good ones the one with the largest penalty.
fn judge(penalties: &[f64], scores: &[Vec<f32>], labels: &[u8], classes: usize) -> (Vec<Trial>, usize) {
    let trials: Vec<Trial> = penalties
        .iter()
        .zip(scores)
        .map(|(&penalty, scores)| Trial { penalty, accuracy: accuracy(scores, labels, classes) })
        .collect();
    let better = |a: &Trial, b: &Trial| (a.accuracy, a.penalty) > (b.accuracy, b.penalty);
    let best = (0..trials.len()).reduce(|best, index| match better(&trials[index], &trials[best]) {
        true => index,
        false => best,
    });
    (trials, best.unwrap_or(0))
}

fn temperature(scores: &[f32], labels: &[u8], classes: usize) -> f64 {
    let log_loss = |temperature: f64| -> f64 {
        let rows = scores.chunks_exact(classes).zip(labels);
        rows.map(|(row, &label)| {
            let most = row.iter().fold(f32::NEG_INFINITY, |most, &score| most.max(score));
            let scaled = |score: f32| f64::from(score - most) / temperature;
            row.iter().map(|&score| scaled(score).exp()).sum::<f64>().ln() - scaled(row[usize::from(label)])
        })
        .sum()
    };
    let losses = TEMPERATURES.map(|temperature| (temperature, log_loss(temperature)));
    losses
        .into_iter()
        .reduce(|best, next| if next.1 < best.1 { next } else { best })
        .map_or(1.0, |best| best.0)
}

/// The sums that the solution depends on, of standardised features: the normal equations, or where there are fewer
/// samples than features their dual.
enum Problem {
    Primal(Sums),
    Dual {
        /// Centred on their own mean, `[samples, width]`.
        rows: Vec<f32>,
        /// What was taken off.
        mean: Vec<f64>,
        /// Products of the rows, `[samples, samples]`.
        gram: Vec<f64>,
        labels: Vec<u8>,
        width: usize,
        classes: usize,
    },
}

#[derive(Clone)]
struct Sums {
    samples: usize,
    width: usize,
    /// Products of features summed over the samples, `[width, width]`, lower triangle.
    gram: Vec<f64>,
    /// Sum of the features of each class, `[classes, width]`.
    class_sums: Vec<f64>,
    class_counts: Vec<usize>,
}

impl Problem {
    /// Of the samples in `indices`; with `rest` they are those of a whole without some.
    fn new(
        data: Labeled<'_>,
        moments: &FeatureMoments,
        indices: &[u32],
        rest: Option<(&Problem, &[u32])>,
    ) -> Self {
        if indices.len() <= data.width {
            return Self::dual(data, moments, indices);
        }
        Self::Primal(match rest {
            Some((Self::Primal(whole), left_out)) => whole.without(&Sums::new(data, moments, left_out)),
            _ => Sums::new(data, moments, indices),
        })
    }

    fn dual(data: Labeled<'_>, moments: &FeatureMoments, indices: &[u32]) -> Self {
        let (samples, width) = (indices.len(), data.width);
        let mut rows = vec![0.0; samples * width];
        let standard = Standard::new(data, moments);
        rows.par_chunks_exact_mut(width).zip(indices).for_each(|(row, &index)| standard.write(index, row));
        let mut mean = vec![0.0; width];
        for row in rows.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        mean.iter_mut().for_each(|sum| *sum /= samples as f64);
        rows.par_chunks_exact_mut(width).for_each(|row| {
            row.iter_mut().zip(&mean).for_each(|(value, mean)| *value = (f64::from(*value) - mean) as f32);
        });
        let gram = gram(width, samples, |feature, target| {
            for (sample, target) in target.iter_mut().enumerate() {
                *target = rows[sample * width + feature];
            }
        });
        let labels = indices.iter().map(|&index| data.labels[index as usize]).collect();
        Self::Dual { rows, mean, gram, labels, width, classes: data.classes }
    }

    fn fit(&self, moments: &FeatureMoments, penalty: f64) -> Ridge {
        let (weight, bias) = self.solve(penalty);
        Ridge { moments: moments.clone(), weight, bias, penalty }
    }

    /// Weight `[width, classes]` and bias.
    fn solve(&self, penalty: f64) -> (Vec<f32>, Vec<f32>) {
        match self {
            Self::Primal(sums) => sums.solve(penalty),
            Self::Dual { rows, mean, gram, labels, width, classes } => {
                let samples = labels.len();
                let counts = counts(labels, *classes);
                let share = |class: usize| counts[class] as f64 / samples as f64;
                let mut right = vec![0.0; samples * classes];
                for (row, &label) in right.chunks_exact_mut(*classes).zip(labels) {
                    for (class, value) in row.iter_mut().enumerate() {
                        *value = f64::from(u8::from(class == usize::from(label))) - share(class);
                    }
                }
                solve_penalised(gram, samples, penalty * samples as f64, &mut right, *classes);
                let mut weight = vec![0.0; width * classes];
                for (row, factors) in rows.chunks_exact(*width).zip(right.chunks_exact(*classes)) {
                    for (target, &value) in weight.chunks_exact_mut(*classes).zip(row) {
                        let terms = target.iter_mut().zip(factors);
                        terms.for_each(|(weight, factor)| *weight += factor * f64::from(value));
                    }
                }
                finish(&weight, mean, (0..*classes).map(share).collect())
            }
        }
    }
}

impl Sums {
    fn new(data: Labeled<'_>, moments: &FeatureMoments, indices: &[u32]) -> Self {
        let (width, classes) = (data.width, data.classes);
        let standard = Standard::new(data, moments);
        let gram = gram(indices.len(), width, |row, target| standard.write(indices[row], target));
        let mut class_sums = vec![0.0; classes * width];
        let mut row = vec![0.0; width];
        for &index in indices {
            standard.write(index, &mut row);
            let class = usize::from(data.labels[index as usize]);
            let sums = &mut class_sums[class * width..][..width];
            sums.iter_mut().zip(&row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        let labels: Vec<u8> = indices.iter().map(|&index| data.labels[index as usize]).collect();
        let class_counts = counts(&labels, classes);
        Self { samples: indices.len(), width, gram, class_sums, class_counts }
    }

    fn without(&self, part: &Self) -> Self {
        let differ = |whole: &[f64], part: &[f64]| -> Vec<f64> {
            whole.par_iter().zip(part).map(|(whole, part)| whole - part).collect()
        };
        Self {
            samples: self.samples - part.samples,
            width: self.width,
            gram: differ(&self.gram, &part.gram),
            class_sums: differ(&self.class_sums, &part.class_sums),
            class_counts: self.class_counts.iter().zip(&part.class_counts).map(|(a, b)| a - b).collect(),
        }
    }

    fn solve(&self, penalty: f64) -> (Vec<f32>, Vec<f32>) {
        let (width, classes, samples) = (self.width, self.class_counts.len(), self.samples as f64);
        let mut mean = vec![0.0; width];
        for sums in self.class_sums.chunks_exact(width) {
            mean.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum / samples);
        }
        let mut centred = self.gram.clone();
        centred.par_chunks_exact_mut(width).enumerate().for_each(|(row, target)| {
            let factor = samples * mean[row];
            target[..=row].iter_mut().zip(&mean).for_each(|(value, mean)| *value -= factor * mean);
        });
        let mut right = vec![0.0; width * classes];
        for (feature, row) in right.chunks_exact_mut(classes).enumerate() {
            for (class, value) in row.iter_mut().enumerate() {
                let count = self.class_counts[class] as f64;
                *value = self.class_sums[class * width + feature] - count * mean[feature];
            }
        }
        solve_penalised(&centred, width, penalty * samples, &mut right, classes);
        finish(&right, &mean, self.class_counts.iter().map(|&count| count as f64 / samples).collect())
    }
}

/// Rounds the weight, and gives the bias for which the mean sample has the mean label.
fn finish(weight: &[f64], mean: &[f64], mut bias: Vec<f64>) -> (Vec<f32>, Vec<f32>) {
    for (row, mean) in weight.chunks_exact(bias.len()).zip(mean) {
        bias.iter_mut().zip(row).for_each(|(bias, weight)| *bias -= weight * mean);
    }
    let rounded = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    (rounded(weight), rounded(&bias))
}

/// Solves `(gram + penalty) · x = right`. A penalty that is too small for the precision is raised until it is not.
fn solve_penalised(gram: &[f64], size: usize, penalty: f64, right: &mut [f64], columns: usize) {
    let trace: f64 = gram.iter().step_by(size + 1).sum();
    let mut penalty = penalty.max(trace / size.max(1) as f64 * 1e-10);
    for _ in 0..MOST_RAISES {
        let mut matrix = gram.to_vec();
        matrix.iter_mut().step_by(size + 1).for_each(|value| *value += penalty);
        let mut solution = right.to_vec();
        if solve(&mut matrix, size, &mut solution, columns) {
            right.copy_from_slice(&solution);
            return;
        }
        penalty = penalty.max(f64::MIN_POSITIVE) * 10.0;
    }
    // Features that are no numbers, or all zero: nothing can be learned from them.
    right.fill(0.0);
}

/// Raises of the penalty by 10 after which the matrix would have to be solvable if its numbers were any.
const MOST_RAISES: usize = 12;

fn counts(labels: &[u8], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    counts
}

/// Features standardised one sample at a time.
struct Standard<'a> {
    data: Labeled<'a>,
    mean: &'a [f32],
    factors: Vec<f32>,
}

impl<'a> Standard<'a> {
    fn new(data: Labeled<'a>, moments: &'a FeatureMoments) -> Self {
        Self { data, mean: &moments.mean, factors: moments.factors() }
    }

    fn write(&self, index: u32, target: &mut [f32]) {
        let source = self.data.row(index as usize).iter().zip(self.mean).zip(&self.factors);
        for (target, ((value, mean), factor)) in target.iter_mut().zip(source) {
            *target = (value - mean) * factor;
        }
    }
}

/// The lower triangle of `matrixᵀ · matrix` of a matrix `[rows, width]` whose rows `write` gives.
fn gram(rows: usize, width: usize, write: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f64> {
    let mut sums = vec![0.0; width * width];
    let mut block = vec![0.0; ROWS * width];
    let mut turned = vec![0.0; ROWS * width];
    let mut panel = vec![0.0; ROWS * COLUMNS];
    let mut product = vec![0.0; width * COLUMNS];
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        let block = &mut block[..count * width];
        block.par_chunks_exact_mut(width).enumerate().for_each(|(row, target)| write(first + row, target));
        let turned = &mut turned[..count * width];
        turned.par_chunks_exact_mut(count).enumerate().for_each(|(feature, target)| {
            for (row, target) in target.iter_mut().enumerate() {
                *target = block[row * width + feature];
            }
        });
        for column in (0..width).step_by(COLUMNS) {
            let columns = COLUMNS.min(width - column);
            let panel = &mut panel[..count * columns];
            for (target, row) in panel.chunks_exact_mut(columns).zip(block.chunks_exact(width)) {
                target.copy_from_slice(&row[column..column + columns]);
            }
            let height = width - column;
            let product = &mut product[..height * columns];
            matrix_product([height, count, columns], &turned[column * count..], panel, &mut *product);
            let targets = sums[column * width..].par_chunks_exact_mut(width);
            targets.zip(product.par_chunks_exact(columns)).for_each(|(target, row)| {
                let target = target[column..].iter_mut().zip(row);
                target.for_each(|(sum, &value)| *sum += f64::from(value));
            });
        }
    }
    sums
}

#[cfg(test)]
#[path = "ridge_tests.rs"]
mod tests;
