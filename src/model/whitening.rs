//! Statistics of image patches: principal components, and what is computed from them before training. No labels.

use rand::RngExt;
use rayon::prelude::*;

use super::ImageShape;
use crate::math::random::{Purpose, generator};
use crate::samples::Samples;

/// Patches that statistics are taken from; fewer in unit tests, which need no good ones.
pub const SAMPLED_PATCHES: usize = if cfg!(test) { 8_000 } else { 100_000 };
/// Rows that a task of a sum takes; the partial sums are added in their order.
const ROWS_A_TASK: usize = 4_096;
/// Images gathered at a time.
const GATHERED: usize = 1_000;
/// Added to the variance of each component, as a share of their mean: 5e-4 on pixels of deviation 1, as in
/// `init_whitening_conv` of <https://github.com/KellerJordan/cifar10-airbench>.
const WHITENING_EPSILON: f64 = 5e-4;

/// Square patches at random places of random images, one a row of `side * side * channels` numbers (row by row,
/// channels last). Patch n depends on the seed, n and the images alone.
pub fn sample_patches(
    images: &dyn Samples,
    [height, width, channels]: ImageShape,
    side: usize,
    count: usize,
    seed: u64,
) -> Vec<f32> {
    let mut patches = Vec::with_capacity(count * side * side * channels);
    for first in (0..count).step_by(GATHERED) {
        let draws = (first..count.min(first + GATHERED)).map(|patch| {
            let mut random = generator(seed, Purpose::Patches, 0, patch as u64);
            let image = random.random_range(0..images.len() as u32);
            (image, random.random_range(0..=height - side), random.random_range(0..=width - side))
        });
        let draws: Vec<(u32, usize, usize)> = draws.collect();
        let indices: Vec<u32> = draws.iter().map(|(image, _, _)| *image).collect();
        let (mut inputs, mut labels) = (vec![0.0; indices.len() * images.values()], vec![0; indices.len()]);
        images.fill(0, &indices, &mut inputs, &mut labels);
        for ((_, top, left), image) in draws.into_iter().zip(inputs.chunks(height * width * channels)) {
            for row in top..top + side {
                let start = (row * width + left) * channels;
                patches.extend_from_slice(&image[start..start + side * channels]);
            }
        }
    }
    patches
}

/// Mean and principal components of rows of numbers.
pub struct Components {
    /// Mean of each number.
    pub mean: Vec<f64>,
    /// Variance along each component, the largest first.
    pub variances: Vec<f64>,
    /// The components, of length 1, one a row.
    pub directions: Vec<Vec<f64>>,
}

impl Components {
    /// Those of rows of `width` numbers.
    pub fn new(rows: &[f32], width: usize) -> Self {
        let count = rows.len() / width;
        let total = |partial: Vec<Vec<f64>>| {
            partial.into_iter().reduce(|mut sums, more| {
                sums.iter_mut().zip(more).for_each(|(sum, value)| *sum += value);
                sums
            })
        };
        let tasks = || rows.par_chunks(ROWS_A_TASK * width);
        let sums = tasks().map(|rows| column_sums(rows, width)).collect();
        let mean: Vec<f64> =
            total(sums).unwrap_or_default().into_iter().map(|sum| sum / count as f64).collect();
        let products = tasks().map(|rows| product_sums(rows, &mean)).collect();
        let divisor = (count.max(2) - 1) as f64;
        let covariance = total(products).unwrap_or_default().into_iter().map(|sum| sum / divisor).collect();
        let (variances, directions) = eigen(covariance, width);
        Self { mean, variances, directions }
    }

    /// Rows of the symmetric matrix that whitens (ZCA): components scaled by 1 / sqrt(variance + `epsilon`), and back.
    pub fn zca(&self, epsilon: f64) -> Vec<Vec<f64>> {
        let width = self.mean.len();
        let mut matrix = vec![vec![0.0; width]; width];
        for (direction, variance) in self.directions.iter().zip(&self.variances) {
            let factor = 1.0 / (variance.max(0.0) + epsilon).sqrt();
            for (row, left) in matrix.iter_mut().zip(direction) {
                for (value, right) in row.iter_mut().zip(direction) {
                    *value += factor * left * right;
                }
            }
        }
        matrix
    }

    /// Weight `[width, 2 * width]` and bias `[2 * width]` of a layer that gives every component with variance about 1,
    /// then the negatives.
    pub fn whitening(&self) -> (Vec<f32>, Vec<f32>) {
        let width = self.mean.len();
        let epsilon = WHITENING_EPSILON * self.variances.iter().sum::<f64>() / width as f64;
        let mut weight = vec![0.0; width * 2 * width];
        let mut bias = vec![0.0; 2 * width];
        for (component, direction) in self.directions.iter().enumerate() {
            // Images of one colour have no variance; any number over zero does then.
            let factor = 1.0 / (self.variances[component].max(0.0) + epsilon.max(f64::MIN_POSITIVE)).sqrt();
            let mut shift = 0.0;
            for (input, value) in direction.iter().enumerate() {
                let value = value * factor;
                weight[input * 2 * width + component] = value as f32;
                weight[input * 2 * width + width + component] = -value as f32;
                shift -= value * self.mean[input];
            }
            bias[component] = shift as f32;
            bias[width + component] = -shift as f32;
        }
        (weight, bias)
    }
}

fn column_sums(rows: &[f32], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    sums
}

/// Sums of the products of every two centred numbers of a row, `[width, width]`.
fn product_sums(rows: &[f32], mean: &[f64]) -> Vec<f64> {
    let width = mean.len();
    let mut sums = vec![0.0; width * width];
    let mut centred = vec![0.0; width];
    for row in rows.chunks_exact(width) {
        for ((target, value), mean) in centred.iter_mut().zip(row).zip(mean) {
            *target = f64::from(*value) - mean;
        }
        for (sums, left) in sums.chunks_exact_mut(width).zip(&centred) {
            for (sum, right) in sums.iter_mut().zip(&centred) {
                *sum += left * right;
            }
        }
    }
    sums
}

/// Sweeps after which the rotations are given up; 6 to 10 are needed.
const SWEEPS: usize = 60;
/// What the numbers beside the diagonal may add up to (squared), as a share of those on it.
const NEGLIGIBLE: f64 = 1e-26;

/// Eigenvalues of a symmetric matrix, the largest first, and their vectors (Jacobi's cyclic rotations; Golub and
/// Van Loan, Matrix Computations, section 8.5). No operation depends on the machine's vector width.
fn eigen(mut matrix: Vec<f64>, size: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut vectors: Vec<f64> =
        (0..size * size).map(|at| if at % (size + 1) == 0 { 1.0 } else { 0.0 }).collect();
    for _ in 0..SWEEPS {
        let mut beside = 0.0;
        let mut diagonal = 0.0;
        for (at, value) in matrix.iter().enumerate() {
            *(if at % (size + 1) == 0 { &mut diagonal } else { &mut beside }) += value * value;
        }
        if beside <= NEGLIGIBLE * diagonal {
            break;
        }
        for p in 0..size {
            for q in p + 1..size {
                rotate(&mut matrix, &mut vectors, size, [p, q]);
            }
        }
    }
    let mut order: Vec<usize> = (0..size).collect();
    let value = |index: usize| matrix[index * (size + 1)];
    order.sort_by(|&a, &b| value(b).total_cmp(&value(a)));
    let vector = |index: usize| (0..size).map(|row| vectors[row * size + index]).collect();
    (order.iter().map(|&index| value(index)).collect(), order.iter().map(|&index| vector(index)).collect())
}

/// Makes element (p, q) zero.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], size: usize, [p, q]: [usize; 2]) {
    let off = matrix[p * size + q];
    if off == 0.0 {
        return;
    }
    let theta = (matrix[q * size + q] - matrix[p * size + p]) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    let turn = |values: &mut [f64], a: usize, b: usize| {
        let (one, other) = (values[a], values[b]);
        values[a] = cosine * one - sine * other;
        values[b] = sine * one + cosine * other;
    };
    for k in 0..size {
        turn(matrix, k * size + p, k * size + q);
        turn(vectors, k * size + p, k * size + q);
    }
    for k in 0..size {
        turn(matrix, p * size + k, q * size + k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows with known relations: the second number follows the first one, the third is noise.
    fn rows() -> Vec<f32> {
        let mut random = generator(5, Purpose::Patches, 0, 0);
        let mut draw = || random.random_range(-1.0f32..1.0);
        (0..20_000)
            .flat_map(|_| {
                let (one, two) = (draw(), draw());
                [3.0 * one + 7.0, 2.0 * one + 0.3 * two, 0.1 * draw()]
            })
            .collect()
    }

    #[test]
    fn eigenvectors_satisfy_their_equation() {
        let size = 20;
        let mut random = generator(1, Purpose::Patches, 0, 0);
        let half: Vec<f64> = (0..size * size).map(|_| random.random_range(-1.0..1.0)).collect();
        let matrix: Vec<f64> =
            (0..size * size).map(|at| half[at] + half[at % size * size + at / size]).collect();
        let (values, vectors) = eigen(matrix.clone(), size);
        assert!(values.is_sorted_by(|a, b| a >= b));
        for (value, vector) in values.iter().zip(&vectors) {
            for (row, expected) in matrix.chunks(size).zip(vector) {
                let product: f64 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
                assert!((product - value * expected).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn whitened_rows_have_mean_zero_and_unit_covariance() {
        let rows = rows();
        let components = Components::new(&rows, 3);
        let (weight, bias) = components.whitening();
        let whitened: Vec<f32> = rows
            .chunks(3)
            .flat_map(|row| {
                let output = |out: usize| -> f32 {
                    bias[out] + (0..3).map(|input| row[input] * weight[input * 6 + out]).sum::<f32>()
                };
                [output(0), output(1), output(2)]
            })
            .collect();
        let found = Components::new(&whitened, 3);
        assert!(found.mean.iter().all(|mean| mean.abs() < 1e-4), "{:?}", found.mean);
        // The smallest one is held down by the epsilon.
        assert!(
            found.variances.iter().all(|variance| (0.5..1.001).contains(variance)),
            "{:?}",
            found.variances
        );
        assert!(weight.chunks(6).all(|row| (0..3).all(|out| row[out] == -row[out + 3])));
    }

    #[test]
    fn threads_change_no_bit_of_the_components() {
        let rows = rows();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let components = pool.install(|| Components::new(&rows, 3));
            components.variances.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(3));
    }
}
