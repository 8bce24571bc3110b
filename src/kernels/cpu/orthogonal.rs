//! The orthogonalisation of Muon (see [`crate::kernels::orthogonalise`]) on register tiles.
//!
//! The matrix is held with its longer side as rows, each row filled up with zeros to whole vectors of every instruction
//! set. An iteration is then two products that the tiles read along rows: the Gram matrix `xᵀ x`, of which one half is
//! computed and mirrored (which changes no bit: products commute), and `x` times a polynomial of it.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::linear::{LinearShape, linear_forward};
use super::matmul::{Over, Product};
use super::scratch::Scratch;
use super::simd::{MOST_LANES, arch};
use crate::kernels::{ITERATIONS, LEAST_NORM, Precision, QUINTIC};

/// Columns whose products with all columns from them on are one task.
const BLOCK: usize = MOST_LANES;
/// Partial sums of the norm.
const PARTS: usize = 16;

/// `matrix` `[inputs, outputs]` with its singular values brought near 1.
pub fn orthogonalise([inputs, outputs]: [usize; 2], matrix: &[f32]) -> Vec<f32> {
    assert_eq!(matrix.len(), inputs * outputs);
    let wide = outputs > inputs;
    let [rows, columns] = if wide { [outputs, inputs] } else { [inputs, outputs] };
    let width = columns.next_multiple_of(MOST_LANES);
    let factor = 1.0 / (norm(matrix) + LEAST_NORM);
    // Element (row, column) of what is iterated on lies at this place of the matrix.
    let place = |row: usize, column: usize| if wide { column * rows + row } else { row * columns + column };
    let mut x = vec![0.0; rows * width];
    for (row, target) in x.chunks_exact_mut(width.max(1)).enumerate() {
        for (column, target) in target[..columns].iter_mut().enumerate() {
            *target = matrix[place(row, column)] * factor;
        }
    }
    let [mut gram, mut square] = [(); 2].map(|()| vec![0.0; width * width]);
    let mut next = vec![0.0; x.len()];
    for _ in 0..ITERATIONS {
        gram_matrix(&x, width, &mut gram);
        product(width, &gram, &gram, &mut square);
        let [a, b, c] = QUINTIC;
        gram.iter_mut().zip(&square).for_each(|(gram, square)| *gram = *gram * b + square * c);
        gram.iter_mut().step_by(width + 1).for_each(|value| *value += a);
        product(width, &x, &gram, &mut next);
        std::mem::swap(&mut x, &mut next);
    }
    let mut result = vec![0.0; matrix.len()];
    for (row, values) in x.chunks_exact(width.max(1)).enumerate() {
        for (column, value) in values[..columns].iter().enumerate() {
            result[place(row, column)] = *value;
        }
    }
    result
}

/// Root of the sum of squares.
fn norm(values: &[f32]) -> f32 {
    let mut sums = [0f64; PARTS];
    for values in values.chunks(PARTS) {
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += f64::from(*value) * f64::from(*value);
        }
    }
    sums.iter().sum::<f64>().sqrt() as f32
}

/// `y = a · b` with `b` `[width, width]`.
fn product(width: usize, a: &[f32], b: &[f32], y: &mut [f32]) {
    let shape = LinearShape { batch: a.len() / width.max(1), inputs: width, outputs: width, relu: false };
    linear_forward(&shape, Precision::F32, a, b, None, y);
}

/// `gram = xᵀ x` for `x` `[rows, width]`.
fn gram_matrix(x: &[f32], width: usize, gram: &mut [f32]) {
    let arch = arch();
    gram.par_chunks_mut((BLOCK * width).max(1)).enumerate().for_each(|(block, gram)| {
        arch.dispatch(Gram { x, width, first: block * BLOCK, gram });
    });
    for row in 0..width {
        for column in (row / BLOCK + 1) * BLOCK..width {
            gram[column * width + row] = gram[row * width + column];
        }
    }
}

/// The rows from `first` on of a Gram matrix, from the diagonal block on.
struct Gram<'a> {
    x: &'a [f32],
    width: usize,
    first: usize,
    gram: &'a mut [f32],
}

impl WithSimd for Gram<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, width, first, gram } = self;
        assert!(gram.len() == BLOCK * width && first + BLOCK <= width && x.len().is_multiple_of(width));
        let depth = x.len() / width;
        // A copy of the columns: in `x` itself they are often a power of two apart and share cache sets.
        let mut columns = Scratch::take(depth * BLOCK);
        for (target, source) in columns.chunks_exact_mut(BLOCK).zip(x.chunks_exact(width)) {
            target.copy_from_slice(&source[first..first + BLOCK]);
        }
        let product = Product::<f32> {
            a: &columns,
            a_row: 1,
            a_step: BLOCK,
            b: &x[first.min(x.len())..],
            b_row: width,
            depth,
            rows: BLOCK,
            columns: width - first,
            bias: None,
            relu: false,
            over: Over::Channels,
            onto: false,
        };
        // SAFETY: `gram` holds `BLOCK` rows of `width` floats, checked above, of which the columns from `first` on are
        // written, and is borrowed mutably.
        unsafe { product.write(simd, gram.as_mut_ptr().add(first), width) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Random, bits, in_pools};
    use super::super::simd::{arches, with_arch};
    use super::*;

    #[test]
    fn threads_and_vector_width_leave_every_bit() {
        let mut random = Random::new(5);
        for shape in [[27, 32], [70, 33], [288, 64], [1, 1], [5, 0]] {
            let matrix = random.floats(shape[0] * shape[1]);
            let mut results = Vec::new();
            for (_, arch) in arches() {
                results.extend(in_pools(|| with_arch(arch, || bits(&orthogonalise(shape, &matrix)))));
            }
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{shape:?}");
        }
    }

    #[test]
    fn a_turned_matrix_gives_the_turned_result() {
        let (matrix, [rows, columns]) = (Random::new(6).floats(40 * 27), [40, 27]);
        let turn = |values: &[f32], [rows, columns]: [usize; 2]| -> Vec<f32> {
            (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect()
        };
        let turned = orthogonalise([columns, rows], &turn(&matrix, [rows, columns]));
        let found = turn(&orthogonalise([rows, columns], &matrix), [rows, columns]);
        let near = turned.iter().zip(&found).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near);
    }
}
