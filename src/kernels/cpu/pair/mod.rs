//! bfloat16 products: two factors in a lane, sums in 32 bits.
//!
//! **Definition.** A factor is a number rounded to bfloat16, to nearest, ties to even. A pair of products is added to its
//! sum as `fma(even, even, fma(odd, odd, sum))`: what `VDPBF16PS` does, so plain fused multiply-adds give the same bytes.
//! The instruction takes and gives zeros for denormal numbers and finds a result denormal *after* rounding to 24 bits of
//! any exponent (2^-126 - 2^-150 becomes 0, where IEEE rounding gives 2^-126: seen on Zen 4); ARM's flush finds it before.
//! So no denormal number may ever arise: **factors under 2^-56 count as zero.** Others are multiples of 2^-63, products
//! of 2^-126, and with a bias of such multiples every sum is one, exact or rounded to a coarser grid: zero or at
//! least 2^-126, the least normal number. 2^-56 is 1.4e-17; beside anything larger than 1e-14 it is below bfloat16's own rounding.
//!
//! NaN is packed as one NaN, whatever its payload, and stays NaN in sums, with an unspecified sign and payload; infinity
//! stays infinity.

use pulp::bytemuck::{Pod, Zeroable};
use pulp::{Simd, WithSimd};

use super::pack::Operand;
use super::simd::{Arch, load};

/// The least factor that is not zero, 2^-56.
const LEAST: u32 = (127 - 56) << 23;
/// The least sum to begin with: multiples of 2^-126 only are left above it.
const LEAST_BIAS: u32 = (127 - 103) << 23;
const NAN: u32 = 0x7FC0_0000;
const INFINITY: u32 = 0x7F80_0000;
const SIZE: u32 = 0x7FFF_FFFF;
const UPPER: u32 = 0xFFFF_0000;

/// The bits of `number` as a factor, in the upper half.
#[inline(always)]
fn round(number: f32) -> u32 {
    let bits = number.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) & UPPER;
    let kept = if rounded & SIZE < LEAST { 0 } else { rounded };
    if bits & SIZE > INFINITY { NAN } else { kept }
}

#[inline(always)]
fn bias(number: f32) -> f32 {
    if number.to_bits() & SIZE < LEAST_BIAS { 0.0 } else { number }
}

/// Two factors, that of the even product in the lower half; multiplied by plain fused multiply-adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Pair(u32);

// SAFETY: transparent over `u32`, for which both hold.
unsafe impl Zeroable for Pair {}
// SAFETY: as above.
unsafe impl Pod for Pair {}

impl Pair {
    #[inline(always)]
    fn new(even: f32, odd: f32) -> Self {
        Self(round(even) >> 16 | round(odd))
    }
}

/// The odd and the even factors of a vector of pairs.
#[derive(Clone, Copy)]
pub struct Halves<V> {
    odd: V,
    even: V,
}

impl Operand for Pair {
    type Vector<S: Simd> = Halves<S::f32s>;

    const FACTORS: usize = 2;

    /// Only where the instruction is missing, so the width is not worth its compilation.
    #[inline(always)]
    fn dispatch<Operation: WithSimd>(arch: Arch, operation: Operation) -> Operation::Output {
        arch.dispatch_narrow(operation)
    }

    #[inline(always)]
    fn pack(numbers: &[f32], operands: &mut [Self]) {
        let (pairs, rest) = numbers.as_chunks::<2>();
        for (operand, &[even, odd]) in operands.iter_mut().zip(pairs) {
            *operand = Self::new(even, odd);
        }
        if let [even] = rest {
            operands[pairs.len()] = Self::new(*even, 0.0);
        }
    }

    #[inline(always)]
    fn pack_rows(first: &[f32], second: Option<&[f32]>, operands: &mut [Self]) {
        match second {
            Some(second) => {
                for ((operand, &even), &odd) in operands.iter_mut().zip(first).zip(second) {
                    *operand = Self::new(even, odd);
                }
            }
            None => {
                for (operand, &even) in operands.iter_mut().zip(first) {
                    *operand = Self::new(even, 0.0);
                }
            }
        }
    }

    #[inline(always)]
    fn as_they_are(_: &[f32]) -> Option<&[Self]> {
        None
    }

    #[inline(always)]
    fn splat<S: Simd>(simd: S, Self(bits): Self) -> Halves<S::f32s> {
        let [odd, even] = [bits & UPPER, bits << 16].map(|bits| simd.splat_f32s(f32::from_bits(bits)));
        Halves { odd, even }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> Halves<S::f32s> {
        // SAFETY: by the contract.
        let bits = simd.transmute_u32s_f32s(unsafe { load::<S>(from.cast()) });
        let odd = simd.and_u32s(bits, simd.splat_u32s(UPPER));
        let even = simd.wrapping_dyn_shl_u32s(bits, simd.splat_u32s(16));
        Halves { odd: simd.transmute_f32s_u32s(odd), even: simd.transmute_f32s_u32s(even) }
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, a: Halves<S::f32s>, b: Halves<S::f32s>, sum: S::f32s) -> S::f32s {
        let sum = simd.mul_add_e_f32s(a.odd, b.odd, sum);
        simd.mul_add_e_f32s(a.even, b.even, sum)
    }

    #[inline(always)]
    fn bias(number: f32) -> f32 {
        bias(number)
    }
}

/// `$work` with `$operand` for the operands of `$precision` on `$arch`.
macro_rules! with_operand {
    ($precision:expr, $arch:expr, $operand:ident => $work:expr) => {
        match ($precision, $arch) {
            (Precision::F32, _) => {
                type $operand = f32;
                $work
            }
            #[cfg(target_arch = "x86_64")]
            (Precision::Bf16, $crate::kernels::cpu::simd::Arch::Bf16(_)) => {
                type $operand = $crate::kernels::cpu::pair::NativePair;
                $work
            }
            (Precision::Bf16, _) => {
                type $operand = $crate::kernels::cpu::pair::Pair;
                $work
            }
        }
    };
}
pub(super) use with_operand;

#[cfg(target_arch = "x86_64")]
mod native;
#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub use native::NativePair;
