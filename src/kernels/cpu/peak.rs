//! The most multiply-adds that this machine makes: what the kernels are measured against.

use std::hint::black_box;
use std::time::{Duration, Instant};

use pulp::{Simd, WithSimd};

use super::simd::arch;

/// Independent sums: over the 8 that hide a latency of 4 cycles at two multiply-adds a cycle.
const SUMS: usize = 12;
/// Multiply-adds of each sum between two looks at the clock: about 20 us.
const STEPS: usize = 10_000;

/// Floating-point operations a second of all threads of the calling pool together, a multiply-add counted as two, in the
/// best of the moments within `duration`.
pub fn peak(duration: Duration) -> f64 {
    let arch = arch();
    rayon::broadcast(|_| arch.dispatch(Peak { duration })).into_iter().sum()
}

struct Peak {
    duration: Duration,
}

impl WithSimd for Peak {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let begin = Instant::now();
        let [factor, addend] = black_box([0.999_f32, 1e-3]).map(|number| simd.splat_f32s(number));
        let mut sums = [simd.splat_f32s(1.0); SUMS];
        let operations = (2 * SUMS * STEPS * S::F32_LANES) as f64;
        let mut best = 0.0_f64;
        while begin.elapsed() < self.duration {
            let start = Instant::now();
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = simd.mul_add_e_f32s(*sum, factor, addend);
                }
            }
            black_box(&mut sums);
            best = best.max(operations / start.elapsed().as_secs_f64());
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No processor of today makes over 64 multiply-adds a cycle at 6 GHz, and no emulator under a hundredth of one a
    /// nanosecond.
    #[test]
    fn the_peak_is_that_of_a_processor() {
        let peak = peak(Duration::from_millis(20)) / rayon::current_num_threads() as f64;
        assert!((1e7..768e9).contains(&peak), "{peak}");
    }
}
