//! What follows the products of a convolution, in registers: pooling, normalisation, ReLU, and writing.

use pulp::Simd;
use pulp::bytemuck::cast_slice;

use super::norm::Normalisation;
use super::shape::ConvShape;
use super::simd::{beats, store};

/// Where some outputs `[pixels, channels]` go, and what they pass on the way.
pub struct Outputs<'a> {
    pub y: &'a mut [f32],
    /// The places of maxima, if they are kept; else empty.
    pub argmax: &'a mut [u8],
    pub channels: usize,
    /// Behind the pooling.
    pub norm: Option<&'a Normalisation>,
}

impl<'a> Outputs<'a> {
    /// Outputs without normalisation.
    pub fn new(channels: usize, y: &'a mut [f32], argmax: Option<&'a mut [u8]>) -> Self {
        assert!(argmax.as_ref().is_none_or(|argmax| argmax.len() == y.len()));
        Self { y, argmax: argmax.unwrap_or_default(), channels, norm: None }
    }

    /// Panics unless these are the outputs of so many images of a layer.
    pub fn check(&self, shape: &ConvShape, images: usize) {
        assert_eq!((self.y.len(), self.channels), (images * shape.output_len(), shape.out_channels));
        assert!(self.argmax.is_empty() || shape.pool && self.argmax.len() == self.y.len());
    }

    /// Takes the first `length` numbers off, or all if there are fewer.
    pub fn take(&mut self, length: usize) -> Self {
        let length = length.min(self.y.len());
        let (y, later) = std::mem::take(&mut self.y).split_at_mut(length);
        let places = length.min(self.argmax.len());
        let (argmax, later_argmax) = std::mem::take(&mut self.argmax).split_at_mut(places);
        (self.y, self.argmax) = (later, later_argmax);
        Self { y, argmax, channels: self.channels, norm: self.norm }
    }
}

#[inline(always)]
pub fn rectified<S: Simd>(simd: S, value: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    // A NaN is not below zero.
    simd.select_f32s(simd.less_than_or_equal_f32s(value, zero), zero, value)
}

/// The maximum of a pooling window.
#[inline(always)]
fn maximum<S: Simd>(simd: S, window: [S::f32s; 4]) -> S::f32s {
    let mut best = window[0];
    for &value in &window[1..] {
        best = simd.select_f32s(beats(simd, value, best), value, best);
    }
    best
}

/// The maximum of a pooling window, and its place: the first of several, or 255 where ReLU zeroed it.
#[inline(always)]
fn maximum_and_place<S: Simd>(simd: S, window: [S::f32s; 4], relu: bool) -> (S::f32s, S::u32s) {
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
    (best, position)
}

impl Outputs<'_> {
    /// Writes the maximum of a pooling window (row by row) of one vector of channels, and its place if places are kept.
    #[inline(always)]
    pub fn pool<S: Simd>(&mut self, simd: S, at: [usize; 2], window: [S::f32s; 4], relu: bool) {
        if self.argmax.is_empty() {
            let best = maximum(simd, window);
            self.write(simd, at, if relu { rectified(simd, best) } else { best });
        } else {
            let (best, position) = maximum_and_place(simd, window, relu);
            self.write(simd, at, best);
            self.write_position::<S>(at, position);
        }
    }

    /// Writes a channel vector of an output pixel, of the last vector only the real channels.
    #[inline(always)]
    pub fn write<S: Simd>(&mut self, simd: S, [pixel, channel]: [usize; 2], value: S::f32s) {
        let value = match self.norm {
            Some(norm) => norm.apply(simd, channel, value),
            None => value,
        };
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
