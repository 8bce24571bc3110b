//! Principal components of rows of numbers.

use rayon::prelude::*;

/// Rows that a task of a sum takes; the partial sums are added in their order.
const ROWS_A_TASK: usize = 4_096;

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
    use rand::RngExt;

    use super::*;
    use crate::math::random::{Purpose, generator};

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
    fn threads_change_no_bit_of_the_components() {
        let mut random = generator(5, Purpose::Patches, 0, 0);
        let rows: Vec<f32> = (0..30_000).map(|_| random.random_range(-1.0..1.0)).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let components = pool.install(|| Components::new(&rows, 3));
            components.variances.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(3));
    }
}
