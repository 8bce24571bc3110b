//! The normal equations of ridge regression, or their dual: sums over the samples, and their solution.

use rayon::prelude::*;

use super::Ridge;
use crate::judge::Labeled;
use crate::kernels::matrix_product;
use crate::math::cholesky::solve;
use crate::model::FeatureMoments;

/// Rows that a product sums in `f32` before the sums are added in `f64`.
const ROWS: usize = 256;
/// Columns of a product; with 1 KiB stride, a panel fits the second-level cache.
const COLUMNS: usize = 256;

/// The sums that the solution depends on, of standardised features: the normal equations, or their dual if there are
/// fewer samples than features.
pub(super) enum Problem {
    Primal(Sums),
    Dual {
        /// Centred on their own mean, `[samples, width]`.
        rows: Vec<f32>,
        /// The mean that was subtracted.
        mean: Vec<f64>,
        /// Products of the rows, `[samples, samples]`.
        gram: Vec<f64>,
        labels: Vec<u16>,
        width: usize,
        classes: usize,
    },
}

#[derive(Clone)]
pub(super) struct Sums {
    samples: usize,
    width: usize,
    /// Products of features summed over the samples, `[width, width]`, lower triangle.
    gram: Vec<f64>,
    /// Sum of the features of each class, `[classes, width]`.
    class_sums: Vec<f64>,
    class_counts: Vec<usize>,
}

impl Problem {
    /// The sums over the samples in `indices`. `rest`, if given, is the problem of a larger set and the samples to
    /// subtract.
    pub(super) fn new(
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

    pub(super) fn fit(&self, moments: &FeatureMoments, penalty: f64) -> Ridge {
        let (weight, bias) = self.solve(penalty);
        Ridge { moments: moments.clone(), weight, bias, penalty }
    }

    /// Weight `[width, classes]` and bias.
    pub(super) fn solve(&self, penalty: f64) -> (Vec<f32>, Vec<f32>) {
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

/// Bytes of a problem, and the bytes that solving it takes in addition.
pub(super) fn memory(samples: usize, width: usize, classes: usize) -> [u64; 2] {
    let (samples, width, classes) = (samples as u64, width as u64, classes as u64);
    let (float, double) = (size_of::<f32>() as u64, size_of::<f64>() as u64);
    match samples <= width {
        // The rows and their products; the products once more, and the weight.
        true => [
            samples * width * float + samples * samples * double,
            samples * samples * double + width * classes * double,
        ],
        // The products; centred, and to be factorised.
        false => {
            [(width + classes) * width * double, 2 * width * width * double + 2 * width * classes * double]
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
        let labels: Vec<u16> = indices.iter().map(|&index| data.labels[index as usize]).collect();
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

/// Rounds the weight, and returns the bias that maps the mean sample to the mean label.
fn finish(weight: &[f64], mean: &[f64], mut bias: Vec<f64>) -> (Vec<f32>, Vec<f32>) {
    for (row, mean) in weight.chunks_exact(bias.len()).zip(mean) {
        bias.iter_mut().zip(row).for_each(|(bias, weight)| *bias -= weight * mean);
    }
    let rounded = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
    (rounded(weight), rounded(&bias))
}

/// Solves `(gram + penalty) · x = right`. A penalty too small for the precision is raised.
fn solve_penalised(gram: &[f64], size: usize, penalty: f64, right: &mut [f64], columns: usize) {
    let trace: f64 = gram.iter().step_by(size + 1).sum();
    let mut penalty = penalty.max(trace / size.max(1) as f64 * 1e-10);
    for _ in 0..MOST_RAISES {
        let mut matrix = gram.to_vec();
        matrix.iter_mut().step_by(size + 1).for_each(|value| *value += penalty);
        if solve(&mut matrix, size, right, columns) {
            return;
        }
        penalty = penalty.max(f64::MIN_POSITIVE) * 10.0;
    }
    // NaN features, or all zero: nothing can be learned from them.
    right.fill(0.0);
}

/// Number of times the penalty is multiplied by 10; after that, any finite matrix is solvable.
const MOST_RAISES: usize = 12;

fn counts(labels: &[u16], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    counts
}

/// Features standardised one sample at a time.
pub(super) struct Standard<'a> {
    data: Labeled<'a>,
    mean: &'a [f32],
    factors: Vec<f32>,
}

impl<'a> Standard<'a> {
    pub(super) fn new(data: Labeled<'a>, moments: &'a FeatureMoments) -> Self {
        Self { data, mean: &moments.mean, factors: moments.factors() }
    }

    pub(super) fn write(&self, index: u32, target: &mut [f32]) {
        let source = self.data.row(index as usize).iter().zip(self.mean).zip(&self.factors);
        for (target, ((value, mean), factor)) in target.iter_mut().zip(source) {
            *target = (value - mean) * factor;
        }
    }
}

/// The lower triangle of `matrixᵀ · matrix` of a matrix `[rows, width]` whose rows `write` writes.
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
