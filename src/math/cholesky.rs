//! Solving symmetric positive definite systems by Cholesky's factorisation, in blocks, on all threads.
//!
//! Sums have one order, whatever the number of threads and the instruction set.

use pulp::Arch;
use rayon::prelude::*;

/// Columns factorised at a time: a diagonal block of 32 KiB.
const BLOCK: usize = 64;
/// Rows and columns of a tile of the update: with AVX-512, 16 vectors of sums.
const ROWS: usize = 4;
const COLUMNS: usize = 32;

/// Solves `matrix · x = right` in place of `right` `[size, columns]`; `matrix` `[size, size]`, of which the lower
/// triangle is read, is lost. False where it is not positive definite.
pub(crate) fn solve(matrix: &mut [f64], size: usize, right: &mut [f64], columns: usize) -> bool {
    if !factorise(matrix, size) {
        return false;
    }
    let mut scratch = vec![0.0; columns];
    for row in 0..size {
        let (done, rest) = right.split_at_mut(row * columns);
        let rest = &mut rest[..columns];
        for (known, factor) in done.chunks_exact(columns).zip(&matrix[row * size..]) {
            subtract(rest, *factor, known);
        }
        rest.iter_mut().for_each(|value| *value /= matrix[row * size + row]);
    }
    for row in (0..size).rev() {
        let (rest, done) = right.split_at_mut(row * columns);
        done[..columns].iter_mut().for_each(|value| *value /= matrix[row * size + row]);
        scratch.copy_from_slice(&done[..columns]);
        for (unknown, factor) in rest.chunks_exact_mut(columns).zip(&matrix[row * size..]) {
            subtract(unknown, *factor, &scratch);
        }
    }
    true
}

/// `target -= factor * row`.
#[inline(always)]
fn subtract(target: &mut [f64], factor: f64, row: &[f64]) {
    for (target, value) in target.iter_mut().zip(row) {
        *target -= factor * value;
    }
}

/// Puts the lower factor in place of the lower triangle; what lies above it is lost.
fn factorise(matrix: &mut [f64], size: usize) -> bool {
    let mut panel = Vec::new();
    for first in (0..size).step_by(BLOCK) {
        let width = BLOCK.min(size - first);
        let end = first + width;
        if !factorise_diagonal(matrix, size, first, width) {
            return false;
        }
        let (above, below) = matrix.split_at_mut(end * size);
        let diagonal = &above[first * size..];
        below.par_chunks_exact_mut(size).with_min_len(16).for_each(|row| {
            for column in 0..width {
                let factors = &diagonal[column * size + first..][..=column];
                let mut value = row[first + column];
                for (known, factor) in row[first..first + column].iter().zip(factors) {
                    value -= known * factor;
                }
                row[first + column] = value / factors[column];
            }
        });
        let rest = size - end;
        panel.clear();
        panel.resize(width * rest, 0.0);
        panel.par_chunks_exact_mut(rest.max(1)).enumerate().for_each(|(step, target)| {
            for (target, row) in target.iter_mut().zip(below.chunks_exact(size)) {
                *target = row[first + step];
            }
        });
        let arch = Arch::new();
        below.par_chunks_mut(ROWS * size).enumerate().for_each(|(index, rows)| {
            arch.dispatch(|| update(rows, size, [first, width, index * ROWS], &panel, rest));
        });
    }
    true
}

fn factorise_diagonal(matrix: &mut [f64], size: usize, first: usize, width: usize) -> bool {
    for row in first..first + width {
        let (above, rest) = matrix.split_at_mut(row * size);
        let current = &mut rest[..size];
        for column in first..row {
            let factors = &above[column * size + first..][..=column - first];
            let mut value = current[column];
            for (known, factor) in current[first..column].iter().zip(factors) {
                value -= known * factor;
            }
            current[column] = value / factors[column - first];
        }
        let square = current[first..row].iter().fold(current[row], |rest, value| rest - value * value);
        if square.is_nan() || square <= 0.0 {
            return false;
        }
        current[row] = square.sqrt();
    }
    true
}

/// Takes off what the columns `first..first + width` contribute to the columns behind them, of up to [`ROWS`] rows
/// that begin `offset` rows behind the diagonal block. `panel` is those columns of all rows behind it, turned:
/// `[width, rest]`.
#[inline(always)]
fn update(rows: &mut [f64], size: usize, [first, width, offset]: [usize; 3], panel: &[f64], rest: usize) {
    let count = rows.len() / size;
    let start = first + width;
    let needed = offset + count;
    let mut column = 0;
    while column < needed {
        if count == ROWS && column + COLUMNS <= rest {
            tile(rows, size, [first, width, column], panel, rest);
            column += COLUMNS;
            continue;
        }
        let last = (column + COLUMNS).min(rest);
        for row in rows.chunks_exact_mut(size) {
            let (factors, targets) = row[first..].split_at_mut(width);
            debug_assert_eq!(start + targets.len(), size);
            for (step, factor) in factors.iter().enumerate() {
                subtract(&mut targets[column..last], *factor, &panel[step * rest..][column..last]);
            }
        }
        column = last.max(column + 1);
    }
}

#[inline(always)]
fn tile(rows: &mut [f64], size: usize, [first, width, column]: [usize; 3], panel: &[f64], rest: usize) {
    let mut sums = [[0.0; COLUMNS]; ROWS];
    for step in 0..width {
        let factors = &panel[step * rest + column..][..COLUMNS];
        for (row, sums) in sums.iter_mut().enumerate() {
            let value = rows[row * size + first + step];
            for (sum, factor) in sums.iter_mut().zip(factors) {
                *sum += value * factor;
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let targets = &mut rows[row * size + first + width + column..][..COLUMNS];
        targets.iter_mut().zip(sums).for_each(|(target, sum)| *target -= sum);
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::math::random::{Purpose, generator};

    /// `B Bᵀ + I` of random numbers.
    fn positive(size: usize) -> Vec<f64> {
        let mut random = generator(size as u64, Purpose::Shuffle, 0, 0);
        let factor: Vec<f64> =
            (0..size * size).map(|_| f64::from(random.next_u32()) / f64::from(u32::MAX) - 0.5).collect();
        let rows: Vec<&[f64]> = factor.chunks_exact(size).collect();
        let mut matrix = Vec::with_capacity(size * size);
        for (i, a) in rows.iter().enumerate() {
            for (j, b) in rows.iter().enumerate() {
                let dot: f64 = a.iter().zip(*b).map(|(a, b)| a * b).sum();
                matrix.push(dot + f64::from(u8::from(i == j)));
            }
        }
        matrix
    }

    #[test]
    fn what_is_solved_multiplies_back() {
        for size in [1, 3, 64, 65, 100, 131, 200] {
            let matrix = positive(size);
            let right: Vec<f64> = (0..size * 3).map(|index| (index % 11) as f64 - 4.0).collect();
            let mut solution = right.clone();
            assert!(solve(&mut matrix.clone(), size, &mut solution, 3));
            for (row, expected) in matrix.chunks_exact(size).zip(right.chunks_exact(3)) {
                for (column, expected) in expected.iter().enumerate() {
                    let terms = row.iter().zip(solution.chunks_exact(3));
                    let found: f64 = terms.map(|(factor, x)| factor * x[column]).sum();
                    assert!((found - expected).abs() < 1e-9, "size {size}: {found} for {expected}");
                }
            }
        }
    }

    #[test]
    fn a_matrix_that_is_not_positive_definite_is_refused() {
        assert!(!solve(&mut [1.0, 2.0, 2.0, 1.0], 2, &mut [1.0, 1.0], 1));
        assert!(!solve(&mut [f64::NAN], 1, &mut [1.0], 1));
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut right = vec![1.0; 300];
            assert!(pool.install(|| solve(&mut positive(300), 300, &mut right, 1)));
            right
        };
        assert_eq!(with(1), with(3));
    }
}
