//! The matrices of minimal filtering, each applied to vectors of channels.
//!
//! They are those of Toom and Cook for the points 0, 1, -1 and infinity, with 2 and -2 where six are needed, and 1/2 and
//! -1/2 where eight are; Aᵀ holds the powers of the points, G those divided by the products of their differences
//! ([`Points`]), Bᵀ the coefficients of the polynomials that vanish at the other points. Every sum has one order.

use std::marker::PhantomData;

use pulp::Simd;

/// Most numbers that a transform takes or gives.
pub const MOST: usize = 8;

/// One of the matrices, applied to vectors: those beyond `TAKES` are not read, those beyond `GIVES` are zero.
pub trait Transform {
    const TAKES: usize;
    const GIVES: usize;

    fn apply<S: Simd>(simd: S, values: [S::f32s; MOST]) -> [S::f32s; MOST];
}

/// Bᵀ for four points.
pub struct Input4;
/// Bᵀ for six points.
pub struct Input6;
/// Bᵀ for eight points.
pub struct Input8;
/// G for these points and so many taps.
pub struct Powers<P, const TAPS: usize>(PhantomData<P>);
/// Aᵀ for these points and so many outputs.
pub struct Output<P, const OUTPUTS: usize>(PhantomData<P>);
/// A for these points and so many outputs.
pub struct OutputGradient<P, const OUTPUTS: usize>(PhantomData<P>);
/// Gᵀ for these points and so many taps.
pub struct WeightGradient<P, const TAPS: usize>(PhantomData<P>);

/// Points 0, pairs of a number and its negative, and infinity.
pub trait Points: Send + Sync {
    /// Bᵀ for them.
    type Input: Transform;
    const PAIRS: &'static [f32];
    /// One by the product of a point's differences from the others, those of a pair alike.
    const SHARES: &'static [f32];
    /// The same for 0; for infinity it is 1.
    const SHARE_OF_ZERO: f32;
    const COUNT: usize = 2 + 2 * Self::PAIRS.len();
}

pub struct FourPoints;
pub struct SixPoints;
pub struct EightPoints;

/// The product at 0 is -1: both signs are changed, here and in [`Input4`].
impl Points for FourPoints {
    type Input = Input4;
    const PAIRS: &'static [f32] = &[1.0];
    const SHARES: &'static [f32] = &[0.5];
    const SHARE_OF_ZERO: f32 = 1.0;
}

impl Points for SixPoints {
    type Input = Input6;
    const PAIRS: &'static [f32] = &[1.0, 2.0];
    const SHARES: &'static [f32] = &[-1.0 / 6.0, 1.0 / 24.0];
    const SHARE_OF_ZERO: f32 = 0.25;
}

/// The product at 0 is -1, too.
impl Points for EightPoints {
    type Input = Input8;
    const PAIRS: &'static [f32] = &[1.0, 2.0, 0.5];
    const SHARES: &'static [f32] = &[-2.0 / 9.0, 1.0 / 90.0, 32.0 / 45.0];
    const SHARE_OF_ZERO: f32 = 1.0;
}

impl Transform for Input4 {
    const TAKES: usize = 4;
    const GIVES: usize = 4;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        with_zeros(simd, [simd.sub_f32s(a, c), simd.add_f32s(b, c), simd.sub_f32s(c, b), simd.sub_f32s(d, b)])
    }
}

impl Transform for Input6 {
    const TAKES: usize = 6;
    const GIVES: usize = 6;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e, f, ..]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let first = multiple(simd, 4.0, a, multiple(simd, -5.0, c, e));
        let last = multiple(simd, 4.0, b, multiple(simd, -5.0, d, f));
        let even = multiple(simd, -4.0, c, e);
        let odd = multiple(simd, -4.0, b, d);
        let far_even = simd.sub_f32s(e, c);
        let far_odd = simd.mul_f32s(simd.splat_f32s(2.0), simd.sub_f32s(d, b));
        let values = [
            first,
            simd.add_f32s(even, odd),
            simd.sub_f32s(even, odd),
            simd.add_f32s(far_even, far_odd),
            simd.sub_f32s(far_even, far_odd),
            last,
        ];
        with_zeros(simd, values)
    }
}

impl Transform for Input8 {
    const TAKES: usize = 8;
    const GIVES: usize = 8;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, [a, b, c, d, e, f, g, h]: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let first = multiple(simd, 5.25, simd.sub_f32s(e, c), simd.sub_f32s(a, g));
        let last = multiple(simd, 5.25, simd.sub_f32s(d, f), simd.sub_f32s(h, b));
        let near = multiple(simd, -4.25, e, simd.add_f32s(c, g));
        let near_odd = multiple(simd, -4.25, d, simd.add_f32s(b, f));
        let far = multiple(simd, 0.25, c, multiple(simd, -1.25, e, g));
        let far_odd = multiple(simd, 0.25, b, multiple(simd, -1.25, d, f));
        let far_odd = simd.mul_f32s(simd.splat_f32s(2.0), far_odd);
        let half = multiple(simd, 4.0, c, multiple(simd, -5.0, e, g));
        let half_odd = multiple(simd, 4.0, b, multiple(simd, -5.0, d, f));
        let half_odd = simd.mul_f32s(simd.splat_f32s(0.5), half_odd);
        [
            first,
            simd.add_f32s(near, near_odd),
            simd.sub_f32s(near, near_odd),
            simd.add_f32s(far, far_odd),
            simd.sub_f32s(far, far_odd),
            simd.add_f32s(half, half_odd),
            simd.sub_f32s(half, half_odd),
            last,
        ]
    }
}

impl<P: Points, const TAPS: usize> Transform for Powers<P, TAPS> {
    const TAKES: usize = TAPS;
    const GIVES: usize = P::COUNT;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, taps: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let mut powers = OutputGradient::<P, TAPS>::apply(simd, taps);
        powers[0] = simd.mul_f32s(simd.splat_f32s(P::SHARE_OF_ZERO), powers[0]);
        for (pair, &share) in P::SHARES.iter().enumerate() {
            for power in &mut powers[1 + 2 * pair..][..2] {
                *power = simd.mul_f32s(simd.splat_f32s(share), *power);
            }
        }
        powers
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

/// Of each pair of points the sum and the difference.
#[inline(always)]
fn sums_and_differences<P: Points, S: Simd>(simd: S, values: [S::f32s; MOST]) -> [[S::f32s; 2]; 3] {
    let mut pairs = [[simd.splat_f32s(0.0); 2]; 3];
    for (index, pair) in pairs.iter_mut().enumerate().take(P::PAIRS.len()) {
        let (plus, minus) = (values[1 + 2 * index], values[2 + 2 * index]);
        *pair = [simd.add_f32s(plus, minus), simd.sub_f32s(plus, minus)];
    }
    pairs
}

/// The sum over the pairs of their part of this power of their points.
#[inline(always)]
fn moment<P: Points, S: Simd>(simd: S, power: usize, pairs: [[S::f32s; 2]; 3]) -> S::f32s {
    let mut sum = pairs[0][power % 2];
    for (pair, &point) in P::PAIRS.iter().enumerate().skip(1) {
        let mut factor = 1.0;
        for _ in 0..power {
            factor *= point;
        }
        sum = multiple(simd, factor, pairs[pair][power % 2], sum);
    }
    sum
}

impl<P: Points, const OUTPUTS: usize> Transform for Output<P, OUTPUTS> {
    const TAKES: usize = P::COUNT;
    const GIVES: usize = OUTPUTS;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, products: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let pairs = sums_and_differences::<P, S>(simd, products);
        let mut outputs = [simd.splat_f32s(0.0); MOST];
        for (power, output) in outputs.iter_mut().enumerate().take(OUTPUTS) {
            *output = moment::<P, S>(simd, power, pairs);
        }
        outputs[0] = simd.add_f32s(products[0], outputs[0]);
        outputs[OUTPUTS - 1] = simd.add_f32s(outputs[OUTPUTS - 1], products[P::COUNT - 1]);
        outputs
    }
}

impl<P: Points, const OUTPUTS: usize> Transform for OutputGradient<P, OUTPUTS> {
    const TAKES: usize = OUTPUTS;
    const GIVES: usize = P::COUNT;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, gradients: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let mut values = [simd.splat_f32s(0.0); MOST];
        values[0] = gradients[0];
        for (pair, &point) in P::PAIRS.iter().enumerate() {
            let [even, odd] = at_point::<S, OUTPUTS>(simd, point, gradients);
            values[1 + 2 * pair] = simd.add_f32s(even, odd);
            values[2 + 2 * pair] = simd.sub_f32s(even, odd);
        }
        values[P::COUNT - 1] = gradients[OUTPUTS - 1];
        values
    }
}

impl<P: Points, const TAPS: usize> Transform for WeightGradient<P, TAPS> {
    const TAKES: usize = P::COUNT;
    const GIVES: usize = TAPS;

    #[inline(always)]
    fn apply<S: Simd>(simd: S, products: [S::f32s; MOST]) -> [S::f32s; MOST] {
        let mut pairs = sums_and_differences::<P, S>(simd, products);
        for (pair, &share) in pairs.iter_mut().zip(P::SHARES) {
            for part in pair {
                *part = simd.mul_f32s(simd.splat_f32s(share), *part);
            }
        }
        let mut gradients = [simd.splat_f32s(0.0); MOST];
        for (power, gradient) in gradients.iter_mut().enumerate().take(TAPS) {
            *gradient = moment::<P, S>(simd, power, pairs);
        }
        let share = simd.splat_f32s(P::SHARE_OF_ZERO);
        gradients[0] = simd.mul_add_e_f32s(share, products[0], gradients[0]);
        gradients[TAPS - 1] = simd.add_f32s(gradients[TAPS - 1], products[P::COUNT - 1]);
        gradients
    }
}

/// `factor * value + sum`.
#[inline(always)]
fn multiple<S: Simd>(simd: S, factor: f32, value: S::f32s, sum: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(simd.splat_f32s(factor), value, sum)
}

#[inline(always)]
fn with_zeros<S: Simd, const COUNT: usize>(simd: S, values: [S::f32s; COUNT]) -> [S::f32s; MOST] {
    let mut all = [simd.splat_f32s(0.0); MOST];
    all[..COUNT].copy_from_slice(&values);
    all
}
