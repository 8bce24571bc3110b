//! Transcendental functions that give the same bits on every processor.
//!
//! Hardware and compilers agree on `+ - * /`, the square root and the fused multiply-add alone. The standard library
//! hands the rest to the system's mathematics library, which chooses by processor among its own versions (glibc has an
//! `exp` with and without fused multiply-add, one bit apart). The crate `libm` computes them in plain Rust from the
//! operations that agree; its version is pinned, since another one may round otherwise. `clippy.toml` forbids the
//! standard library's.

/// e to the power of `x`.
pub(crate) fn exp(x: f64) -> f64 {
    libm::exp(x)
}

/// [`exp`] of 32 bits.
pub(crate) fn exp_f32(x: f32) -> f32 {
    libm::expf(x)
}

/// Natural logarithm.
pub(crate) fn ln(x: f64) -> f64 {
    libm::log(x)
}

/// [`ln`] of 32 bits.
pub(crate) fn ln_f32(x: f32) -> f32 {
    libm::logf(x)
}

/// `base` to the power of `exponent`.
pub(crate) fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}

/// Cosine of an angle in radians.
pub(crate) fn cos(x: f64) -> f64 {
    libm::cos(x)
}

/// Sine and cosine of an angle in radians.
pub(crate) fn sin_cos_f32(x: f32) -> (f32, f32) {
    libm::sincosf(x)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::files::hexadecimal;

    fn points() -> impl Iterator<Item = f64> {
        (1..=40_000).map(|index| f64::from(index) * 1e-3)
    }

    #[test]
    fn they_are_within_two_units_of_the_systems() {
        let near = |name: &str, x: f64, found: f64, expected: f64| {
            assert!(
                (found - expected).abs() <= expected.abs() * 4.5e-16 + 1e-18,
                "{name}({x}): {found} {expected}"
            );
        };
        let near_f32 = |name: &str, x: f64, found: f32, expected: f32| {
            let gap = (found - expected).abs();
            assert!(gap <= expected.abs() * 2.4e-7 + 1e-12, "{name}({x}) of 32 bits: {found} {expected}");
        };
        for x in points() {
            near("exp", -x, exp(-x), (-x).exp());
            near("ln", x, ln(x), x.ln());
            near("cos", x, cos(x), x.cos());
            near("pow", x, pow(0.999, x), 0.999_f64.powf(x));
            let single = x as f32;
            near_f32("exp", x, exp_f32(-single), (-single).exp());
            near_f32("ln", x, ln_f32(single), single.ln());
            near_f32("sin", x, sin_cos_f32(single).0, single.sin());
            near_f32("cos", x, sin_cos_f32(single).1, single.cos());
        }
    }

    /// Of every function at 40,000 points; made by this test, which prints what it finds.
    const DIGEST: &str = "5793d20301c11ec2444262b423ccac37766f213d1d6cbd37dcb90780461c9fae";

    #[test]
    fn every_processor_gives_these_bits() {
        let mut hasher = Sha256::new();
        for x in points() {
            for value in [exp(-x), ln(x), cos(x), pow(0.999, x)] {
                hasher.update(value.to_le_bytes());
            }
            let single = x as f32;
            let (sine, cosine) = sin_cos_f32(single);
            for value in [exp_f32(-single), ln_f32(single), sine, cosine] {
                hasher.update(value.to_le_bytes());
            }
        }
        assert_eq!(hexadecimal(&hasher.finalize()), DIGEST);
    }
}
