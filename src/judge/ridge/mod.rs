//! Ridge regression of one-hot labels on standardised features, in closed form: the linear read-out that needs no
//! training.
//!
//! Minimises `sum over samples of |label - (w · feature + b)|² + penalty * samples * |w|²`. The penalty is per sample,
//! so that the best value for a part of the training set suits the whole. The intercept `b` is not penalised.
//! [`choose_by_folds`] and [`choose_on`] take the penalty from a list; [`fit`] takes it as given.

mod problem;
#[cfg(test)]
mod tests;

use super::{Labeled, accuracy};
use crate::kernels::matrix_product;
use crate::math::functions::{exp, ln};
use crate::model::FeatureMoments;
use problem::Problem;

/// Penalties that are tried by default: powers of 10 from 1e-6 to 100, on features of deviation 1.
pub const PENALTIES: [f64; 9] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0];
/// Temperatures that are tried: the scores lie between about 0 and 1, far too close for a softmax.
const TEMPERATURES: [f64; 12] = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, 0.7, 1.0];

/// A fitted read-out: `score = (feature - mean) * factor · weight + bias`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    /// Moments of the features it was fitted to; `factor` is [`FeatureMoments::factors`].
    pub moments: FeatureMoments,
    /// `[width, classes]`, of standardised features.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
    /// The penalty on the weights.
    pub penalty: f64,
}

/// How good a penalty was on samples that were not part of the fit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trial {
    /// The penalty.
    pub penalty: f64,
    /// Share classified correctly, in 0..=1.
    pub accuracy: f64,
}

/// A read-out whose penalty was chosen, and all the penalties that were tried.
#[derive(Clone, Debug)]
pub struct RidgeChoice {
    /// Fitted to all training samples.
    pub ridge: Ridge,
    /// In the order of the list.
    pub trials: Vec<Trial>,
    /// Probabilities are the softmax of the scores divided by this; chosen for the least log-loss on the samples that
    /// the penalty was chosen on.
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

/// Peak memory of [`choose_on`] in bytes, including the features of `samples` and of `validation`.
pub fn memory_on(samples: usize, validation: usize, width: usize, classes: usize, penalties: usize) -> u64 {
    let [problem, solving] = problem::memory(samples, width, classes);
    let float = size_of::<f32>();
    let weights = penalties * (width + 1) * classes * float;
    let scores = penalties * validation * classes * float;
    ((samples + validation) * width * float + weights + scores) as u64 + problem + solving
}

/// Peak memory of [`choose_by_folds`] in bytes, including the features of `samples`.
pub fn memory_by_folds(samples: usize, width: usize, classes: usize, penalties: usize, folds: usize) -> u64 {
    let [whole, _] = problem::memory(samples, width, classes);
    let left_out = samples.div_ceil(folds.max(1));
    let [problem, solving] = problem::memory(samples - left_out, width, classes);
    let float = size_of::<f32>();
    let scores = penalties * samples * classes * float;
    ((samples + left_out) * width * float + scores) as u64 + whole + problem + solving
}

/// Fits to `train` with a given penalty.
pub fn fit(train: Labeled<'_>, penalty: f64) -> Ridge {
    let moments = FeatureMoments::of(train.values, train.width);
    let every: Vec<u32> = (0..train.labels.len() as u32).collect();
    let problem = Problem::new(train, &moments, &every, None);
    let (weight, bias) = problem.solve(penalty);
    Ridge { weight, bias, penalty, moments }
}

/// Fits to `train` with the penalty of the list that is best on `validation`.
pub fn choose_on(train: Labeled<'_>, validation: Labeled<'_>, penalties: &[f64]) -> RidgeChoice {
    let moments = FeatureMoments::of(train.values, train.width);
    let every: Vec<u32> = (0..train.labels.len() as u32).collect();
    let problem = Problem::new(train, &moments, &every, None);
    let fitted: Vec<Ridge> = penalties.iter().map(|&penalty| problem.fit(&moments, penalty)).collect();
    let scores: Vec<Vec<f32>> = fitted.iter().map(|ridge| ridge.scores(validation.values)).collect();
    let (trials, best) = judge(penalties, &scores, validation.labels, train.classes);
    let temperature = temperature(&scores[best], validation.labels, train.classes);
    RidgeChoice { ridge: fitted[best].clone(), trials, temperature }
}

/// Fits to `train` with the penalty of the list that is best on average over `folds` parts of it, each left out once;
/// every class is spread evenly over the parts, in the order of the samples.
pub fn choose_by_folds(train: Labeled<'_>, penalties: &[f64], folds: usize) -> RidgeChoice {
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
    RidgeChoice { ridge: whole.fit(&moments, penalties[best]), trials, temperature }
}

/// The fold of each sample.
fn folds_of(labels: &[u16], classes: usize, folds: usize) -> Vec<usize> {
    let mut seen = vec![0; classes];
    let next = |&label: &u16| {
        // Classes begin at different folds, so that small ones do not all fill the first.
        let count: &mut usize = &mut seen[usize::from(label)];
        *count += 1;
        (*count - 1 + usize::from(label)) % folds
    };
    labels.iter().map(next).collect()
}

/// All trials, and the index of the best: among equals, the one with the largest penalty.
fn judge(penalties: &[f64], scores: &[Vec<f32>], labels: &[u16], classes: usize) -> (Vec<Trial>, usize) {
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

fn temperature(scores: &[f32], labels: &[u16], classes: usize) -> f64 {
    let log_loss = |temperature: f64| -> f64 {
        let rows = scores.chunks_exact(classes).zip(labels);
        rows.map(|(row, &label)| {
            let most = row.iter().fold(f32::NEG_INFINITY, |most, &score| most.max(score));
            let scaled = |score: f32| f64::from(score - most) / temperature;
            ln(row.iter().map(|&score| exp(scaled(score))).sum::<f64>()) - scaled(row[usize::from(label)])
        })
        .sum()
    };
    let losses = TEMPERATURES.map(|temperature| (temperature, log_loss(temperature)));
    losses
        .into_iter()
        .reduce(|best, next| if next.1 < best.1 { next } else { best })
        .map_or(1.0, |best| best.0)
}
