//! Pairs for the processor's own instruction.

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_and_si512, _mm512_castsi512_ps, _mm512_cmpge_epu16_mask,
    _mm512_cmpgt_epu16_mask, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_mov_epi16, _mm512_maskz_mov_epi16, _mm512_permutexvar_epi16, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_si512,
};
use std::mem::transmute;

use pulp::x86::V4;
use pulp::{Simd, WithSimd, cast};

use super::super::pack::Operand;
use super::super::simd::Arch;
use super::{INFINITY, LEAST, NAN, Pair, Pod, SIZE, Zeroable, bias};

/// Pairs multiplied by `VDPBF16PS`; exists only in what [`Operand::dispatch`] runs.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct NativePair(Pair);

// SAFETY: transparent over `Pair`, for which both hold.
unsafe impl Zeroable for NativePair {}
// SAFETY: as above.
unsafe impl Pod for NativePair {}

/// Operands of a vector.
const LANES: usize = 16;

/// Compiles `operation` for AVX-512 with bfloat16: all features of pulp's `V4`, whose methods are inlined into it, and
/// one more.
#[target_feature(
    enable = "sse,sse2,fxsr,sse3,ssse3,sse4.1,sse4.2,popcnt,avx,avx2,bmi1,bmi2,fma,lzcnt,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16"
)]
fn run<Operation: WithSimd>(simd: V4, operation: Operation) -> Operation::Output {
    operation.with_simd(simd)
}

/// 32 numbers as factors: those of `first` in the lower half.
///
/// # Safety
/// The machine has AVX-512 with bfloat16.
#[inline(always)]
unsafe fn round(first: __m512, second: __m512) -> __m512i {
    // SAFETY: by the contract; both types are 512 plain bits.
    unsafe {
        let rounded: __m512i = transmute(_mm512_cvtne2ps_pbh(second, first));
        let size = _mm512_and_si512(rounded, _mm512_set1_epi16((SIZE >> 16) as i16));
        let kept = _mm512_cmpge_epu16_mask(size, _mm512_set1_epi16((LEAST >> 16) as i16));
        let nan = _mm512_cmpgt_epu16_mask(size, _mm512_set1_epi16((INFINITY >> 16) as i16));
        let kept = _mm512_maskz_mov_epi16(kept, rounded);
        _mm512_mask_mov_epi16(kept, nan, _mm512_set1_epi16((NAN >> 16) as i16))
    }
}

/// Which of 32 factors goes where, so that the halves are shuffled into each other.
const SHUFFLE: [u16; 32] = {
    let mut from = [0; 32];
    let mut lane = 0;
    while lane < LANES {
        from[2 * lane] = lane as u16;
        from[2 * lane + 1] = (LANES + lane) as u16;
        lane += 1;
    }
    from
};

impl Operand for NativePair {
    type Vector<S: Simd> = __m512i;

    const FACTORS: usize = 2;

    #[inline(always)]
    fn dispatch<Operation: WithSimd>(arch: Arch, operation: Operation) -> Operation::Output {
        let Arch::Bf16(simd) = arch else { unreachable!("chosen for `Arch::Bf16` alone") };
        // SAFETY: `simd` shows that the machine has the features of `V4`, `Arch::Bf16` that it has the other one.
        unsafe { run(simd, operation) }
    }

    #[inline(always)]
    fn pack(numbers: &[f32], operands: &mut [Self]) {
        let (vectors, rest) = numbers.as_chunks::<{ 2 * LANES }>();
        let (whole, others) = operands.split_at_mut(vectors.len() * LANES);
        for (numbers, operands) in vectors.iter().zip(whole.as_chunks_mut::<LANES>().0) {
            // SAFETY: reads 2 x 16 of 32 numbers, writes 16 operands; this type is used on such machines alone.
            unsafe {
                let [first, second] = [0, LANES].map(|start| _mm512_loadu_ps(numbers.as_ptr().add(start)));
                _mm512_storeu_si512(operands.as_mut_ptr().cast(), round(first, second));
            }
        }
        let (pairs, rest) = rest.as_chunks::<2>();
        for (operand, &[even, odd]) in others.iter_mut().zip(pairs) {
            *operand = Self(Pair::new(even, odd));
        }
        if let [even] = rest {
            others[pairs.len()] = Self(Pair::new(*even, 0.0));
        }
    }

    #[inline(always)]
    fn pack_rows(first: &[f32], second: Option<&[f32]>, operands: &mut [Self]) {
        let (vectors, rest) = first.as_chunks::<LANES>();
        let (whole, others) = operands.split_at_mut(vectors.len() * LANES);
        assert!(second.is_none_or(|second| second.len() == first.len()));
        for (index, (even, operands)) in vectors.iter().zip(whole.as_chunks_mut::<LANES>().0).enumerate() {
            // SAFETY: reads 16 numbers of each row, which are equally long, and the shuffle's 32 numbers; writes 16
            // operands; this type is used on such machines alone.
            unsafe {
                let odd = match second {
                    Some(second) => _mm512_loadu_ps(second.as_ptr().add(index * LANES)),
                    None => _mm512_setzero_ps(),
                };
                let rounded = round(_mm512_loadu_ps(even.as_ptr()), odd);
                let shuffle = _mm512_loadu_si512(SHUFFLE.as_ptr().cast());
                let pairs = _mm512_permutexvar_epi16(shuffle, rounded);
                _mm512_storeu_si512(operands.as_mut_ptr().cast(), pairs);
            }
        }
        for (index, (operand, &even)) in others.iter_mut().zip(rest).enumerate() {
            let odd = second.map_or(0.0, |second| second[vectors.len() * LANES + index]);
            *operand = Self(Pair::new(even, odd));
        }
    }

    #[inline(always)]
    fn as_they_are(_: &[f32]) -> Option<&[Self]> {
        None
    }

    #[inline(always)]
    fn splat<S: Simd>(_: S, Self(Pair(bits)): Self) -> __m512i {
        // SAFETY: this type is used on machines with AVX-512 alone.
        unsafe { _mm512_set1_epi32(bits as i32) }
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(_: S, from: *const Self) -> __m512i {
        // SAFETY: by the contract; this type is used on machines with AVX-512 alone.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    fn multiply_add<S: Simd>(_: S, a: __m512i, b: __m512i, sum: S::f32s) -> S::f32s {
        const { assert!(size_of::<__m512>() == size_of::<__m512i>()) };
        // SAFETY: this type is used on machines with the instruction alone; all types are 512 plain bits (`cast` checks
        // it of `f32s`).
        unsafe {
            let [a, b] = [a, b].map(|pairs| transmute::<__m512i, __m512bh>(pairs));
            let sum: __m512 = _mm512_castsi512_ps(cast(sum));
            cast(transmute::<__m512, __m512i>(_mm512_dpbf16_ps(sum, a, b)))
        }
    }

    #[inline(always)]
    fn bias(number: f32) -> f32 {
        bias(number)
    }
}
