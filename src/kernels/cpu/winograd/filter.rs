//! The transforms of minimal filtering, in one dimension and in two.
//!
//! A filter F(m, r) gives m outputs of a convolution with r taps from m + r - 1 products (Winograd 1980; for
//! convolutional networks Lavin and Gray 2016, arXiv 1509.09308): `y = Aᵀ[(G g) ⊙ (Bᵀ d)]`. In two dimensions each matrix is
//! applied to columns and to rows. The gradients are the transposed transforms: by the weights
//! `Gᵀ[(Bᵀ d) ⊙ (A dy)]`.

use std::marker::PhantomData;

use pulp::Simd;

use super::super::simd::{load, store};
use super::matrices::{
    EightPoints, FourPoints, MOST, Output, OutputGradient, Points, Powers, SixPoints, Transform,
    WeightGradient,
};

/// Square filters F(`OUTPUTS` x `OUTPUTS`, `TAPS` x `TAPS`).
pub trait Filter: Send + Sync {
    const OUTPUTS: usize;
    const TAPS: usize;
    /// Rows and columns of products.
    const SIDE: usize = Self::OUTPUTS + Self::TAPS - 1;
    const PRODUCTS: usize = Self::SIDE * Self::SIDE;

    /// Bᵀ.
    type Input: Transform;
    /// G.
    type Weight: Transform;
    /// Aᵀ.
    type Output: Transform;
    /// A.
    type OutputGradient: Transform;
    /// Gᵀ.
    type WeightGradient: Transform;
}

/// F(`OUTPUTS` x `OUTPUTS`, `TAPS` x `TAPS`) by these points.
pub struct By<P, const OUTPUTS: usize, const TAPS: usize>(PhantomData<P>);

/// F(2x2, 3x3): 16 products for 36.
pub type Two = By<FourPoints, 2, 3>;
/// F(4x4, 3x3): 36 products for 144.
pub type Four = By<SixPoints, 4, 3>;
/// F(2x2, 5x5): 36 products for 100.
pub type TwoOfFive = By<SixPoints, 2, 5>;
/// F(4x4, 5x5): 64 products for 400.
pub type FourOfFive = By<EightPoints, 4, 5>;

impl<P: Points, const OUTPUTS: usize, const TAPS: usize> Filter for By<P, OUTPUTS, TAPS> {
    const OUTPUTS: usize = OUTPUTS;
    const TAPS: usize = TAPS;
    type Input = P::Input;
    type Weight = Powers<P, TAPS>;
    type Output = Output<P, OUTPUTS>;
    type OutputGradient = OutputGradient<P, OUTPUTS>;
    type WeightGradient = WeightGradient<P, TAPS>;
}

/// Vectors in rows and columns of memory.
#[derive(Clone, Copy)]
pub struct Grid<P> {
    pub at: P,
    /// Floats from row to row.
    pub row: usize,
    /// Floats from column to column.
    pub column: usize,
}

impl Grid<*const f32> {
    /// The columns, transformed: `GIVES` rows of `TAKES` vectors.
    ///
    /// # Safety
    /// A vector can be read at each of `TAKES` x `TAKES` places.
    #[inline(always)]
    unsafe fn columns<T: Transform, S: Simd>(self, simd: S, rows: &mut [[S::f32s; MOST]; MOST]) {
        for index in 0..T::TAKES {
            let mut values = [simd.splat_f32s(0.0); MOST];
            for (row, value) in values.iter_mut().enumerate().take(T::TAKES) {
                // SAFETY: by the contract.
                *value = unsafe { load::<S>(self.at.add(row * self.row + index * self.column)) };
            }
            let column = T::apply(simd, values);
            for (row, &value) in rows.iter_mut().zip(&column).take(T::GIVES) {
                row[index] = value;
            }
        }
    }

    /// Transforms columns and rows: `GIVES` rows of `GIVES` vectors.
    ///
    /// # Safety
    /// A vector can be read at each of `TAKES` x `TAKES` places.
    #[inline(always)]
    pub unsafe fn transformed<T: Transform, S: Simd>(self, simd: S) -> [[S::f32s; MOST]; MOST] {
        let mut rows = [[simd.splat_f32s(0.0); MOST]; MOST];
        // SAFETY: by the contract.
        unsafe { self.columns::<T, S>(simd, &mut rows) };
        for row in rows.iter_mut().take(T::GIVES) {
            *row = T::apply(simd, *row);
        }
        rows
    }

    /// Transforms columns and rows, to `target`.
    ///
    /// # Safety
    /// A vector can be read at each of `TAKES` x `TAKES` places, and written at each of `GIVES` x `GIVES` of `target`, which
    /// nothing else accesses meanwhile.
    #[inline(always)]
    pub unsafe fn transform<T: Transform, S: Simd>(self, simd: S, target: Grid<*mut f32>) {
        let mut rows = [[simd.splat_f32s(0.0); MOST]; MOST];
        // SAFETY: by the contract.
        unsafe {
            self.columns::<T, S>(simd, &mut rows);
            for (index, &row) in rows.iter().enumerate().take(T::GIVES) {
                for (column, &value) in T::apply(simd, row).iter().enumerate().take(T::GIVES) {
                    store::<S>(target.at.add(index * target.row + column * target.column), value);
                }
            }
        }
    }
}
