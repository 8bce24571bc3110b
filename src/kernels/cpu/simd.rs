//! Instruction set choice and the few vector helpers that pulp lacks.
//!
//! Every kernel is written once over pulp's `Simd` and compiled for AVX-512, AVX2 + FMA, NEON and plain code, which all
//! give the same bytes. The instruction set is chosen once per call, on the calling thread, and handed to the worker
//! threads: so tests and benchmarks can override it for their own calls only.

use std::cell::Cell;
use std::sync::OnceLock;

use pulp::{Scalar128b, Simd, WithSimd};

/// What kernels are compiled for.
#[derive(Clone, Copy, Debug)]
pub enum Arch {
    /// Vector instructions.
    Vectors(pulp::Arch),
    /// AVX-512 with `VDPBF16PS`, for which pulp has no token: [`NativePair`](super::pair::NativePair) knows it.
    #[cfg(target_arch = "x86_64")]
    Bf16(pulp::x86::V4),
    /// Four lanes as plain code, with fused multiply-adds: pulp's own scalar code rounds twice in each, and its one lane
    /// would take another order of sums in narrow layers.
    Scalar,
}

impl Arch {
    /// Runs `operation` compiled for it.
    #[inline(always)]
    pub fn dispatch<Operation: WithSimd>(self, operation: Operation) -> Operation::Output {
        match self {
            Self::Vectors(arch) => arch.dispatch(operation),
            #[cfg(target_arch = "x86_64")]
            Self::Bf16(simd) => pulp::Arch::V4(simd).dispatch(operation),
            Self::Scalar => operation.with_simd(Scalar128b),
        }
    }
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
        if let Some(simd) = pulp::x86::V4::try_new() {
            if std::arch::is_x86_feature_detected!("avx512bf16") {
                found.push(("avx512bf16", Arch::Bf16(simd)));
            }
            found.push(("avx512", Arch::Vectors(pulp::Arch::V4(simd))));
        }
        if let Some(simd) = pulp::x86::V3::try_new() {
            found.push(("avx2", Arch::Vectors(pulp::Arch::V3(simd))));
        }
    }
    #[cfg(target_arch = "aarch64")]
    found.push(("neon", Arch::Vectors(pulp::Arch::new())));
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
