//! Instruction set choice and the few vector helpers that pulp lacks.
//!
//! Every kernel is written once over pulp's `Simd` and compiled for AVX-512, AVX2 + FMA, NEON and plain code, which all
//! give the same bytes. The instruction set is chosen once per call, on the calling thread, and handed to the worker
//! threads: so tests and benchmarks can override it for their own calls only.

use std::cell::Cell;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use pulp::x86::{V3, V4};
use pulp::{Scalar128b, Simd, WithSimd};

/// What kernels are compiled for.
#[derive(Clone, Copy, Debug)]
pub enum Arch {
    /// AVX-512 with `VDPBF16PS`, for which pulp has no token: [`NativePair`](super::pair::NativePair) knows it.
    #[cfg(target_arch = "x86_64")]
    Bf16(V4),
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512(V4),
    /// AVX2 with fused multiply-adds.
    #[cfg(target_arch = "x86_64")]
    Avx2(V3),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// Four lanes as plain code, with fused multiply-adds: pulp's own scalar code rounds twice in each, and its one lane
    /// would take another order of sums in narrow layers.
    Scalar,
}

impl Arch {
    /// Runs `operation` compiled for it.
    #[inline(always)]
    pub fn dispatch<Operation: WithSimd>(self, operation: Operation) -> Operation::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Bf16(simd) | Self::Avx512(simd) => Simd::vectorize(simd, operation),
            narrower => narrower.dispatch_narrow(operation),
        }
    }

    /// Runs a closure, marked `#[inline(always)]`, compiled for it. It is called by reference: a closure that need not be called by
    /// value may go through a function of its own there, which is compiled without the instructions, and the closure with it.
    #[inline(always)]
    pub fn run<Result>(self, work: impl FnMut() -> Result) -> Result {
        self.dispatch(Run(work))
    }

    /// The same, but AVX2 in place of AVX-512, where half the width does: a third less code to compile.
    #[inline(always)]
    pub fn dispatch_narrow<Operation: WithSimd>(self, operation: Operation) -> Operation::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Bf16(simd) | Self::Avx512(simd) => Simd::vectorize(*simd, operation),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(simd, operation),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => Simd::vectorize(simd, operation),
            Self::Scalar => plain(operation),
        }
    }
}

struct Run<Work>(Work);

impl<Result, Work: FnMut() -> Result> WithSimd for Run<Work> {
    type Output = Result;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) -> Result {
        (self.0)()
    }
}

/// Compiled once, not at every call.
#[inline(never)]
fn plain<Operation: WithSimd>(operation: Operation) -> Operation::Output {
    operation.with_simd(Scalar128b)
}

thread_local! {
    static OVERRIDE: Cell<Option<Arch>> = const { Cell::new(None) };
}

static CHOSEN: OnceLock<(&str, Arch)> = OnceLock::new();

/// The instruction set for calls from this thread.
pub fn arch() -> Arch {
    OVERRIDE.get().unwrap_or_else(|| chosen().1)
}

/// Name and kind of what this process computes with: the widest, unless [`choose`] said otherwise.
pub fn chosen() -> (&'static str, Arch) {
    *CHOSEN.get_or_init(|| arches()[0])
}

/// From now on, this process computes with the instruction set of that name. False where the machine has it not, or
/// something was computed with another one already.
pub fn choose(name: &str) -> bool {
    let found = arches().into_iter().find(|(known, _)| *known == name);
    found.is_some_and(|found| CHOSEN.get_or_init(|| found).0 == name)
}

/// Runs `work` with every kernel call of this thread on `arch`.
#[cfg(test)]
pub fn with_arch<T>(arch: Arch, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Arch>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.set(self.0);
        }
    }
    let _restore = Restore(OVERRIDE.replace(Some(arch)));
    work()
}

/// The instruction sets that this machine can run, widest first.
pub fn arches() -> Vec<(&'static str, Arch)> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(simd) = V4::try_new() {
            if std::arch::is_x86_feature_detected!("avx512bf16") {
                found.push(("avx512bf16", Arch::Bf16(simd)));
            }
            found.push(("avx512", Arch::Avx512(simd)));
        }
        if let Some(simd) = V3::try_new() {
            found.push(("avx2", Arch::Avx2(simd)));
        }
    }
    #[cfg(target_arch = "aarch64")]
    found.extend(pulp::aarch64::Neon::try_new().map(|simd| ("neon", Arch::Neon(simd))));
    found.push(("scalar", Arch::Scalar));
    found
}

/// Vector lanes of the widest instruction set.
pub const MOST_LANES: usize = 16;

/// Vector lanes of `arch`.
pub fn lanes(arch: Arch) -> usize {
    arch.dispatch(Lanes)
}

/// An operation that gives the number of lanes.
pub struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Loads one vector.
///
/// # Safety
/// `from` must be valid for reads of `S::F32_LANES` floats; no alignment is needed.
#[inline(always)]
pub unsafe fn load<S: Simd>(from: *const f32) -> S::f32s {
    // SAFETY: by the contract above; `f32s` is plain data of that many floats.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// The numbers of a slice that is at most a vector long, and zeros.
#[inline(always)]
pub fn load_part<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    if from.len() == S::F32_LANES {
        // SAFETY: the slice is a vector long.
        return unsafe { load::<S>(from.as_ptr()) };
    }
    let mut vector = [simd.splat_f32s(0.0)];
    let numbers: &mut [f32] = pulp::bytemuck::cast_slice_mut(&mut vector);
    numbers[..from.len()].copy_from_slice(from);
    vector[0]
}

/// Stores one vector.
///
/// # Safety
/// `to` must be valid for writes of `S::F32_LANES` floats; no alignment is needed.
#[inline(always)]
pub unsafe fn store<S: Simd>(to: *mut f32, value: S::f32s) {
    // SAFETY: by the contract above.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// Lanes where `candidate` beats `best` in a maximum that lets NaN through: greater, or itself NaN.
#[inline(always)]
pub fn beats<S: Simd>(simd: S, candidate: S::f32s, best: S::f32s) -> S::m32s {
    let number = simd.equal_f32s(candidate, candidate);
    simd.or_m32s(simd.greater_than_f32s(candidate, best), simd.not_m32s(number))
}
