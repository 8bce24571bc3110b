//! Sums over a batch on all threads, along the tree of its halves (see [`units`](crate::math::units)).

use pulp::{Simd, WithSimd};

use super::simd::Arch;
use rayon::prelude::*;

use super::scratch::Scratch;
use crate::math::units::halves;

/// A piece of a batch with what its sums are made of.
pub trait Piece: Send + Sized {
    /// Its first samples, so many of them, and the others.
    fn cut(self, samples: usize) -> [Self; 2];

    /// Runs `operation` compiled for the instructions of `arch` that [`sum`](Self::sum) needs.
    #[inline(always)]
    fn dispatch<Operation: WithSimd>(arch: Arch, operation: Operation) -> Operation::Output {
        arch.dispatch(operation)
    }

    /// Writes its sums, as one unit.
    fn sum<S: Simd>(self, simd: S, sums: &mut [f32]);
}

/// Numbers that one task adds. What decides it is that the sums of a wide layer (3x3x128 -> 128: 147,000) make tasks for
/// other threads where the last halves meet and nothing else is left to do.
const TASK: usize = 16_384;

/// Writes the sums over `samples`. A thread walks down to the units and adds them on its way back, while they are in its
/// caches; no more than one buffer a level is alive.
pub fn sum_units<P: Piece>(arch: Arch, samples: usize, piece: P, sums: &mut [f32]) {
    let Some([first, _]) = halves(samples) else { return P::dispatch(arch, Unit { piece, sums }) };
    let [piece, other] = piece.cut(first);
    // Made and dropped here, whoever fills it: so it comes from this thread's pool and goes back there.
    let mut others = Scratch::take(sums.len());
    rayon::join(
        || sum_units(arch, first, piece, sums),
        || sum_units(arch, samples - first, other, &mut others),
    );
    sums.par_chunks_mut(TASK).zip(others.par_chunks(TASK)).for_each(|(sums, others)| {
        arch.run(
            #[inline(always)]
            || sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other),
        );
    });
}

struct Unit<'a, P> {
    piece: P,
    sums: &'a mut [f32],
}

impl<P: Piece> WithSimd for Unit<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.piece.sum(simd, self.sums);
    }
}
