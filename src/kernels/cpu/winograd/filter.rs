//! The transforms of minimal filtering, in one dimension and in two.
//!
//! A filter F(m, r) gives m outputs of a convolution with r taps from m + r - 1 products (Winograd 1980; for
//! convolutional networks Lavin and Gray 2016, arXiv 1509.09308): `y = Aᵀ[(G g) ⊙ (Bᵀ d)]`. In two dimensions each matrix is
//! applied to columns and to rows. The gradients are the transposed transforms: by the weights
//! `Gᵀ[(Bᵀ d) ⊙ (A dy)]`.
//!
//! The matrices are those of Toom and Cook for the points 0, 1, -1 and infinity, with 2 and -2 where six are needed; Aᵀ
//! holds the powers of the points, G those divided by the products of their differences (1/4, -1/6, 1/24), Bᵀ the
//! coefficients of the polynomials that vanish at the other points. Every sum has one order.

use pulp::Simd;

use super::super::simd::{load, store};

/// Most numbers that a transform takes or gives.
const MOST: usize = 6;

/// One of the matrices, applied to vectors: those beyond `TAKES` are not read, those beyond `GIVES` are zero.
pub trait Transform {
    const TAKES: usize;
    const GIVES: usize;

    fn apply<S: Simd>(simd: S, values: [S::f32s; MOST]) -> [S::f32s; MOST];
}

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

/// F(2x2, 3x3): 16 products for 36.
pub struct Two;
/// F(4x4, 3x3): 36 products for 144.
pub struct Four;
/// F(2x2, 5x5): 36 products for 100.
pub struct TwoOfFive;

impl Filter for Two {
    const OUTPUTS: usize = 2;
    const TAPS: usize = 3;
    type Input = Input4;
    type Weight = Weight4;
    type Output = Output4;
    type OutputGradient = OutputGradient4;
    type WeightGradient = WeightGradient4;
}

impl Filter for Four {
    const OUTPUTS: usize = 4;
    const TAPS: usize = 3;
    type Input = Input6;
    type Weight = Powers<3>;
    type Output = Output6<4>;
    type OutputGradient = OutputGradient6<4>;
    type WeightGradient = WeightGradient6<3>;
}

impl Filter for TwoOfFive {
    const OUTPUTS: usize = 2;
    const TAPS: usize = 5;
    type Input = Input6;
    type Weight = Powers<5>;
    type Output = Output6<2>;
    type OutputGradient = OutputGradient6<2>;
    type WeightGradient = WeightGradient6<5>;
}

/// Bᵀ for four points.
pub struct Input4;
/// G for four points and three taps.
pub struct Weight4;
/// Aᵀ for four points and two outputs.
pub struct Output4;
/// A for four points and two outputs.
pub struct OutputGradient4;
/// Gᵀ for four points and three taps.
pub struct WeightGradient4;
/// Bᵀ for six points.
pub struct Input6;
/// G for six points and so many taps.
pub struct Powers<const TAPS: usize>;
/// Aᵀ for six points and so many outputs.
pub struct Output6<const OUTPUTS: usize>;
/// A for six points and so many outputs.
pub struct OutputGradient6<const OUTPUTS: usize>;
/// Gᵀ for six points and so many taps.
pub struct WeightGradient6<const TAPS: usize>;

impl Transform for Input4 {
    const TAKES: usize = 4;
    const GIVES: usize = 4;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        with_zeros(simd, [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(b, d)])
    }
}

impl Transform for Weight4 {
    const TAKES: usize = 3;
    const GIVES: usize = 4;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let half = simd.splat_f32s(0.5);
        let even = simd.mul_f32s(half, simd.add_f32s(a, c));
        let odd = simd.mul_f32s(half, b);
        with_zeros(simd, [a, simd.add_f32s(even, odd), simd.sub_f32s(even, odd), c])
    }
}

impl Transform for Output4 {
    const TAKES: usize = 4;
    const GIVES: usize = 2;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let first = simd.add_f32s(a, simd.add_f32s(b, c));
        let second = simd.sub_f32s(simd.sub_f32s(b, c), d);
        with_zeros(simd, [first, second])
    }
}

impl Transform for OutputGradient4 {
    const TAKES: usize = 2;
    const GIVES: usize = 4;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        with_zeros(simd, [a, simd.add_f32s(a, b), simd.sub_f32s(a, b), simd.neg_f32s(b)])
    }
}

impl Transform for WeightGradient4 {
    const TAKES: usize = 4;
    const GIVES: usize = 3;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let half = simd.splat_f32s(0.5);
        let sum = simd.mul_f32s(half, simd.add_f32s(b, c));
        let difference = simd.mul_f32s(half, simd.sub_f32s(b, c));
        with_zeros(simd, [simd.add_f32s(a, sum), difference, simd.add_f32s(sum, d)])
    }
}

impl Transform for Input6 {
    const TAKES: usize = 6;
    const GIVES: usize = 6;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let [four, minus_four, minus_five] = [4.0, -4.0, -5.0].map(|number| simd.splat_f32s(number));
        let first = simd.mul_add_e_f32s(four, a, simd.mul_add_e_f32s(minus_five, c, e));
        let last = simd.mul_add_e_f32s(four, b, simd.mul_add_e_f32s(minus_five, d, f));
        let even = simd.mul_add_e_f32s(minus_four, c, e);
        let odd = simd.mul_add_e_f32s(minus_four, b, d);
        let far_even = simd.sub_f32s(e, c);
        let far_odd = simd.mul_f32s(simd.splat_f32s(2.0), simd.sub_f32s(d, b));
        [
            first,
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            simd.add_f32s(far_even, far_odd),
            simd.sub_f32s(far_even, far_odd),
            last,
        ]
    }
}

impl<const TAPS: usize> Transform for Powers<TAPS> {
    const TAKES: usize = TAPS;
    const GIVES: usize = 6;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, taps: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let [quarter, sixth, twenty_fourth] =
            [0.25, -1.0 / 6.0, 1.0 / 24.0].map(|number| simd.splat_f32s(number));
        let [first, plus, minus, far_plus, far_minus, last] = OutputGradient6::<TAPS>::apply(simd, taps);
        [
            simd.mul_f32s(quarter, first),
            simd.mul_f32s(sixth, plus),
            simd.mul_f32s(sixth, minus),
            simd.mul_f32s(twenty_fourth, far_plus),
            simd.mul_f32s(twenty_fourth, far_minus),
            last,
        ]
    }
}

/// The even and the odd part of the polynomial with these coefficients at a point.
#[inline(always)]
fn at_point<S: Simd, const COUNT: usize>(simd: S, point: f32, coefficients: [S::f32s; MOST]) -> [S::f32s; 2] {
    let square = simd.splat_f32s(point * point);
    let mut parts = [simd.splat_f32s(0.0); 2];
    for (parity, part) in parts.iter_mut().enumerate() {
        let highest = COUNT - 1 - (COUNT - 1 - parity) % 2;
        *part = coefficients[highest];
        let mut power = highest;
        while power >= 2 {
            power -= 2;
            *part = simd.mul_add_e_f32s(square, *part, coefficients[power]);
        }
    }
    [parts[0], simd.mul_f32s(simd.splat_f32s(point), parts[1])]
}

impl<const OUTPUTS: usize> Transform for Output6<OUTPUTS> {
    const TAKES: usize = 6;
    const GIVES: usize = OUTPUTS;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let (near, near_odd) = (simd.add_f32s(b, c), simd.sub_f32s(b, c));
        let (far, far_odd) = (simd.add_f32s(d, e), simd.sub_f32s(d, e));
        let factor = |power: f32| simd.splat_f32s(power);
        let first = simd.add_f32s(a, simd.add_f32s(near, far));
        let second = simd.mul_add_e_f32s(factor(2.0), far_odd, near_odd);
        if OUTPUTS == 2 {
            return with_zeros(simd, [first, simd.add_f32s(second, f)]);
        }
        let third = simd.mul_add_e_f32s(factor(4.0), far, near);
        let fourth = simd.add_f32s(simd.mul_add_e_f32s(factor(8.0), far_odd, near_odd), f);
        with_zeros(simd, [first, second, third, fourth])
    }
}

impl<const OUTPUTS: usize> Transform for OutputGradient6<OUTPUTS> {
    const TAKES: usize = OUTPUTS;
    const GIVES: usize = 6;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, gradients: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let near = at_point::<S, OUTPUTS>(simd, 1.0, gradients);
        let far = at_point::<S, OUTPUTS>(simd, 2.0, gradients);
        [
            gradients[0],
            simd.add_f32s(near[0], near[1]),
            simd.sub_f32s(near[0], near[1]),
            simd.add_f32s(far[0], far[1]),
            simd.sub_f32s(far[0], far[1]),
            gradients[OUTPUTS - 1],
        ]
    }
}

impl<const TAPS: usize> Transform for WeightGradient6<TAPS> {
    const TAKES: usize = 6;
    const GIVES: usize = TAPS;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e, f]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let [quarter, sixth, twenty_fourth] =
            [0.25, -1.0 / 6.0, 1.0 / 24.0].map(|number| simd.splat_f32s(number));
        let near = [simd.add_f32s(b, c), simd.sub_f32s(b, c)].map(|sum| simd.mul_f32s(sixth, sum));
        let far = [simd.add_f32s(d, e), simd.sub_f32s(d, e)].map(|sum| simd.mul_f32s(twenty_fourth, sum));
        let mut gradients = [simd.splat_f32s(0.0); MOST];
        for (power, gradient) in gradients.iter_mut().enumerate().take(TAPS) {
            let factor = simd.splat_f32s((1 << power) as f32);
            *gradient = simd.mul_add_e_f32s(factor, far[power % 2], near[power % 2]);
        }
        gradients[0] = simd.mul_add_e_f32s(quarter, a, gradients[0]);
        gradients[TAPS - 1] = simd.add_f32s(gradients[TAPS - 1], f);
        gradients
    }
}

#[inline(always)]
fn with_zeros<S: Simd, const COUNT: usize>(simd: S, values: [S::f32s; COUNT]) -> [S::f32s; MOST] {
    let mut all = [simd.splat_f32s(0.0); MOST];
    all[..COUNT].copy_from_slice(&values);
    all
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
    /// The columns, transformed: of each column `GIVES` vectors.
    ///
    /// # Safety
    /// A vector can be read at each of `TAKES` x `TAKES` places.
    #[inline(always)]
    unsafe fn columns<T: Transform, S: Simd>(self, simd: S) -> [[S::f32s; MOST]; MOST] {
        let zero = simd.splat_f32s(0.0);
        let mut columns = [[zero; MOST]; MOST];
        for (index, column) in columns.iter_mut().enumerate().take(T::TAKES) {
            let mut values = [zero; MOST];
            for (row, value) in values.iter_mut().enumerate().take(T::TAKES) {
                // SAFETY: by the contract.
                *value = unsafe { load::<S>(self.at.add(row * self.row + index * self.column)) };
            }
            *column = T::apply(simd, values);
        }
        columns
    }

    /// Transforms columns and rows: `GIVES` rows of `GIVES` vectors.
    ///
    /// # Safety
    /// A vector can be read at each of `TAKES` x `TAKES` places.
    #[inline(always)]
    pub unsafe fn transformed<T: Transform, S: Simd>(self, simd: S) -> [[S::f32s; MOST]; MOST] {
        // SAFETY: by the contract.
        let columns = unsafe { self.columns::<T, S>(simd) };
        let mut rows = [[simd.splat_f32s(0.0); MOST]; MOST];
        for (index, row) in rows.iter_mut().enumerate().take(T::GIVES) {
            *row = T::apply(simd, row_of::<T, S>(simd, &columns, index));
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
        // SAFETY: by the contract.
        unsafe {
            let columns = self.columns::<T, S>(simd);
            for index in 0..T::GIVES {
                let row = T::apply(simd, row_of::<T, S>(simd, &columns, index));
                for (column, &value) in row.iter().enumerate().take(T::GIVES) {
                    store::<S>(target.at.add(index * target.row + column * target.column), value);
                }
            }
        }
    }
}

#[inline(always)]
fn row_of<T: Transform, S: Simd>(
    simd: S,
    columns: &[[S::f32s; MOST]; MOST],
    index: usize,
) -> [S::f32s; MOST] {
    let mut row = [simd.splat_f32s(0.0); MOST];
    for (value, column) in row.iter_mut().zip(columns).take(T::TAKES) {
        *value = column[index];
    }
    row
}
