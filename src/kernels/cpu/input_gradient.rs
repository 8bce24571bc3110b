//! Sparse input gradient of a group of images.
//!
//! One vector of input channels at a time, so that the weights for it (`[out_channels, taps, lanes]`, 36 KiB
//! for 64 channels and 3x3) stay in L1. Behind a pool, the 4x4 pixels under one window are 16 sums in
//! registers (AVX-512): the channels of the window's four places, found by bit masks, add 9 products each, and
//! the pixels are loaded and stored once. 15x15x32 -> 64, one Zen 5 core: 8.4 us an image place by place,
//! 5.9 window by window. With 16 registers it goes place by place with 9 sums.
//!
//! The order of each pixel's sum is window, place, channel, whatever the vector width.

use pulp::Simd;

use super::simd::{load, store};
use super::weight_gradient::Gradient;

impl<S: Simd> Gradient<'_, S> {
    /// Adds this image's input gradient to `dx`, `[padded height, padded width, stride]` where `stride` is
    /// the channel count rounded up to whole vectors. `weights` as packed for the input gradient; `bases`
    /// and `steps` address `dx`.
    #[inline(always)]
    pub fn add_input_gradient(&self, weights: &[f32], stride: usize, dx: &mut [f32]) {
        match self.shape.kernel {
            3 if self.shape.pool && S::REGISTER_COUNT >= 32 => self.add_windows(weights, stride, dx),
            1 => self.add_taps::<1, 1>(weights, stride, 0, dx),
            3 => self.add_taps::<3, 3>(weights, stride, 0, dx),
            5 => (0..5).for_each(|row| self.add_taps::<1, 5>(weights, stride, row, dx)),
            kernel => {
                for row in 0..kernel {
                    for column in 0..kernel {
                        self.add_one_tap(weights, stride, row, column, dx);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn add_taps<const ROWS: usize, const COLUMNS: usize>(
        &self,
        weights: &[f32],
        stride: usize,
        row: usize,
        dx: &mut [f32],
    ) {
        self.add::<ROWS, COLUMNS>(weights, stride, row, 0, dx);
    }

    #[inline(always)]
    fn add_one_tap(&self, weights: &[f32], stride: usize, row: usize, column: usize, dx: &mut [f32]) {
        self.add::<1, 1>(weights, stride, row, column, dx);
    }

    /// `ROWS` x `COLUMNS` taps from (`row`, `column`) on: for one vector of input channels, one position and
    /// one place in its window, the sums of all taps stay in registers while the channels pass by.
    #[inline(always)]
    fn add<const ROWS: usize, const COLUMNS: usize>(
        &self,
        weights: &[f32],
        stride: usize,
        row: usize,
        column: usize,
        dx: &mut [f32],
    ) {
        let (simd, shape) = (self.simd, self.shape);
        let (channels, taps, kernel) = (shape.out_channels, shape.kernel * shape.kernel, shape.kernel);
        let row_stride = self.row_stride;
        let window = if shape.pool { 4 } else { 1 };
        let vectors = stride / S::F32_LANES;
        assert!(weights.len() == vectors * channels * taps * S::F32_LANES);
        assert!(row + ROWS <= kernel && column + COLUMNS <= kernel);
        assert!(self.dy.len() >= self.bases.len() * channels);
        let behind = (row + ROWS - 1) * row_stride + (column + COLUMNS) * stride;
        assert!(self.bases.is_empty() || self.furthest(self.bases) + behind <= dx.len());
        assert!(stride.is_multiple_of(S::F32_LANES) && self.routes.fit(channels, window));
        for vector in 0..vectors {
            for (position, &base) in self.bases.iter().enumerate() {
                for place in 0..window {
                    let words = self.routes.channels(position, place);
                    if words.iter().all(|&word| word == 0) {
                        continue;
                    }
                    let offset = base as usize
                        + self.steps[place]
                        + row * row_stride
                        + column * stride
                        + vector * S::F32_LANES;
                    let first_tap = vector * channels * taps + row * kernel + column;
                    // SAFETY: set bits are channels, so `dy` and `weights` are read within the asserted
                    // lengths; `dx` is read and written within the bound asserted for the furthest base.
                    unsafe {
                        let dx = dx.as_mut_ptr().add(offset);
                        let weights = weights.as_ptr().add(first_tap * S::F32_LANES);
                        let mut sums = load_pixels::<S, ROWS, COLUMNS>(simd, dx, row_stride, stride);
                        self.add_channels(position, words, weights, &mut sums);
                        store_pixels::<S, ROWS, COLUMNS>(&sums, dx, row_stride, stride);
                    }
                }
            }
        }
    }

    /// Adds to `sums` the products of the gradients of one position with the taps that `weights` points to, of every
    /// channel whose bit is set in `words`.
    ///
    /// # Safety
    /// Set bits are below the number of output channels; `dy` holds the gradients of `position`; from `weights` on there
    /// are `taps` vectors for each channel, the taps of the last one up to (`ROWS`, `COLUMNS`) only.
    #[inline(always)]
    unsafe fn add_channels<const ROWS: usize, const COLUMNS: usize>(
        &self,
        position: usize,
        words: &[u64],
        weights: *const f32,
        sums: &mut [[S::f32s; COLUMNS]; ROWS],
    ) {
        let (channels, kernel) = (self.shape.out_channels, self.shape.kernel);
        for (word, &bits) in words.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let channel = 64 * word + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                debug_assert!(channel < channels);
                // SAFETY: by the contract.
                unsafe {
                    let gradient =
                        self.simd.splat_f32s(*self.dy.get_unchecked(position * channels + channel));
                    let weights = weights.add(channel * kernel * kernel * S::F32_LANES);
                    for (row, sums) in sums.iter_mut().enumerate() {
                        for (column, sum) in sums.iter_mut().enumerate() {
                            let weight = load::<S>(weights.add((row * kernel + column) * S::F32_LANES));
                            *sum = self.simd.mul_add_e_f32s(gradient, weight, *sum);
                        }
                    }
                }
            }
        }
    }

    /// 3x3 behind a pool: the 4x4 pixels under one pooling window stay in registers (16 of one channel
    /// vector each) while the channels of all four places pass by.
    #[inline(always)]
    fn add_windows(&self, weights: &[f32], stride: usize, dx: &mut [f32]) {
        let (simd, shape) = (self.simd, self.shape);
        let channels = shape.out_channels;
        let row_stride = self.row_stride;
        let vectors = stride / S::F32_LANES;
        assert!(weights.len() == vectors * channels * 9 * S::F32_LANES);
        assert!(self.dy.len() >= self.bases.len() * channels);
        assert!(self.bases.is_empty() || self.furthest(self.bases) + 2 * row_stride + 3 * stride <= dx.len());
        assert!(stride.is_multiple_of(S::F32_LANES) && self.routes.fit(channels, 4));
        debug_assert!(self.steps[3] == row_stride + stride);
        for (vector, weights) in weights.chunks_exact(channels * 9 * S::F32_LANES).enumerate() {
            for (position, &base) in self.bases.iter().enumerate() {
                // SAFETY: `dx` is read and written within the bound asserted for the furthest base, whose window
                // reaches one row and one pixel beyond its last place.
                unsafe {
                    let dx = dx.as_mut_ptr().add(base as usize + vector * S::F32_LANES);
                    let mut sums = load_pixels::<S, 4, 4>(simd, dx, row_stride, stride);
                    self.add_place::<0, 0>(position, weights, &mut sums);
                    self.add_place::<0, 1>(position, weights, &mut sums);
                    self.add_place::<1, 0>(position, weights, &mut sums);
                    self.add_place::<1, 1>(position, weights, &mut sums);
                    store_pixels::<S, 4, 4>(&sums, dx, row_stride, stride);
                }
            }
        }
    }

    #[inline(always)]
    fn add_place<const ROW: usize, const COLUMN: usize>(
        &self,
        position: usize,
        weights: &[f32],
        sums: &mut [[S::f32s; 4]; 4],
    ) {
        let channels = self.shape.out_channels;
        let dy = &self.dy[position * channels..][..channels];
        debug_assert!(weights.len() == channels * 9 * S::F32_LANES);
        for (word, &bits) in self.routes.channels(position, 2 * ROW + COLUMN).iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let channel = 64 * word + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                debug_assert!(channel < channels);
                // SAFETY: set bits are channels, and `weights` holds 9 vectors for each.
                unsafe {
                    let gradient = self.simd.splat_f32s(*dy.get_unchecked(channel));
                    let weights = weights.as_ptr().add(channel * 9 * S::F32_LANES);
                    for row in 0..3 {
                        for column in 0..3 {
                            let weight = load::<S>(weights.add((row * 3 + column) * S::F32_LANES));
                            let sum = &mut sums[ROW + row][COLUMN + column];
                            *sum = self.simd.mul_add_e_f32s(gradient, weight, *sum);
                        }
                    }
                }
            }
        }
    }
}

/// One vector of channels of `ROWS` x `COLUMNS` pixels.
///
/// # Safety
/// From `dx` on, a vector can be read at each of these pixels, `stride` floats apart in rows `row_stride` apart.
#[inline(always)]
unsafe fn load_pixels<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    simd: S,
    dx: *const f32,
    row_stride: usize,
    stride: usize,
) -> [[S::f32s; COLUMNS]; ROWS] {
    let mut pixels = [[simd.splat_f32s(0.0); COLUMNS]; ROWS];
    for (row, pixels) in pixels.iter_mut().enumerate() {
        for (column, pixel) in pixels.iter_mut().enumerate() {
            // SAFETY: by the contract.
            *pixel = unsafe { load::<S>(dx.add(row * row_stride + column * stride)) };
        }
    }
    pixels
}

/// The way back.
///
/// # Safety
/// As of [`load_pixels`], for writing.
#[inline(always)]
unsafe fn store_pixels<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    pixels: &[[S::f32s; COLUMNS]; ROWS],
    dx: *mut f32,
    row_stride: usize,
    stride: usize,
) {
    for (row, pixels) in pixels.iter().enumerate() {
        for (column, &pixel) in pixels.iter().enumerate() {
            // SAFETY: by the contract.
            unsafe { store::<S>(dx.add(row * row_stride + column * stride), pixel) };
        }
    }
}
