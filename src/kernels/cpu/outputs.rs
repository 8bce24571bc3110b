//! What follows the products of a convolution, in registers: ReLU, pooling, and writing.

use pulp::Simd;
use pulp::bytemuck::cast_slice;

use super::simd::{beats, store};

/// Outputs `[pixels, channels]`, and the places of their maxima if they are kept (else empty).
pub struct Outputs<'a> {
    pub y: &'a mut [f32],
    pub argmax: &'a mut [u8],
    pub channels: usize,
}

#[inline(always)]
pub fn rectified<S: Simd>(simd: S, value: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(beats(simd, value, zero), value, zero)
}

impl Outputs<'_> {
    /// Writes the maximum of a pooling window (row by row) of one vector of channels, and its place: the first of several.
    #[inline(always)]
    pub fn pool<S: Simd>(&mut self, simd: S, [pixel, channel]: [usize; 2], window: [S::f32s; 4], relu: bool) {
        let mut best = window[0];
        let mut position = simd.splat_u32s(0);
        for (candidate, &value) in window.iter().enumerate().skip(1) {
            let better = beats(simd, value, best);
            best = simd.select_f32s(better, value, best);
            position = simd.select_u32s(better, simd.splat_u32s(candidate as u32), position);
        }
        if relu {
            let kept = beats(simd, best, simd.splat_f32s(0.0));
            best = simd.select_f32s(kept, best, simd.splat_f32s(0.0));
            position = simd.select_u32s(kept, position, simd.splat_u32s(255));
        }
        self.write::<S>([pixel, channel], best);
        if !self.argmax.is_empty() {
            self.write_position::<S>([pixel, channel], position);
        }
    }

    /// Writes a channel vector of an output pixel, of the last vector only the real channels.
    #[inline(always)]
    pub fn write<S: Simd>(&mut self, [pixel, channel]: [usize; 2], value: S::f32s) {
        let real = (self.channels - channel).min(S::F32_LANES);
        let target = &mut self.y[pixel * self.channels + channel..][..real];
        if real == S::F32_LANES {
            // SAFETY: `target` is a whole vector long.
            unsafe { store::<S>(target.as_mut_ptr(), value) }
        } else {
            target.copy_from_slice(&cast_slice(&[value])[..real]);
        }
    }

    /// Writes the places of a channel vector of an output pixel.
    #[inline(always)]
    pub fn write_position<S: Simd>(&mut self, [pixel, channel]: [usize; 2], position: S::u32s) {
        let real = (self.channels - channel).min(S::F32_LANES);
        let target = &mut self.argmax[pixel * self.channels + channel..][..real];
        let positions = [position];
        let positions: &[u32] = cast_slice(&positions);
        for (target, &position) in target.iter_mut().zip(positions) {
            *target = position as u8;
        }
    }
}
