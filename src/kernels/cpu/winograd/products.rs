//! Register tiles of the products of transformed numbers: what minimal filtering leaves of a convolution. Each is a call of
//! its own, so that it is compiled once for all filters.

use pulp::{Simd, WithSimd};

use super::super::ahead::{LINE, prefetch};
use super::super::shape::pieces;
use super::super::simd::{load, store};

/// Rows of a register tile, as in `forward`.
const ROWS: usize = 6;
/// Channels whose weights lie together, or whose transformed inputs do in a weight gradient.
pub const BLOCK: usize = 16;
/// Floats between planes, so that they do not lie a power of two apart. Without them the transforms of F(4x4, 3x3) took four
/// times as long (prototype in C, Zen 5).
pub const APART: usize = 48;

/// Vectors of output channels in a register tile.
pub const fn vectors<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 4 } else { 2 }
}

/// `products[tile, output] = sum over channels of inputs[tile, channel] * weights[channel, output]`, channels ascending.
pub struct WeightProduct<'a> {
    pub inputs: &'a [f32],
    /// Floats a tile of the inputs.
    pub stride: usize,
    /// Of a group, from the first block on.
    pub weights: &'a [f32],
    /// Floats from block to block.
    pub block: usize,
    pub products: &'a mut [f32],
    /// Floats a tile of the products, and a channel of the weights.
    pub width: usize,
    pub vectors: usize,
    pub channels: usize,
}

impl WithSimd for WeightProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.vectors {
            1 => self.multiply::<S, 1>(simd),
            2 => self.multiply::<S, 2>(simd),
            3 => self.multiply::<S, 3>(simd),
            4 => self.multiply::<S, 4>(simd),
            _ => unreachable!("no such group"),
        }
    }
}

impl WeightProduct<'_> {
    #[inline(always)]
    fn multiply<S: Simd, const VECTORS: usize>(self, simd: S) {
        let tiles = self.products.len() / self.width;
        assert!(self.inputs.len() == tiles * self.stride && self.channels <= self.stride);
        assert!(VECTORS * S::F32_LANES <= self.width && self.channels > 0);
        assert!(self.weights.len() >= (self.channels - 1) / BLOCK * self.block + BLOCK * self.width);
        for range in pieces(tiles, ROWS) {
            // SAFETY: the tiles of `range` lie within inputs and products, and `channels` rows within the blocks of weights,
            // by the assertions.
            unsafe {
                let inputs = self.inputs.as_ptr().add(range.start * self.stride);
                let products = self.products.as_mut_ptr().add(range.start * self.width);
                match range.len() {
                    1 => self.tile::<S, 1, VECTORS>(simd, inputs, products),
                    2 => self.tile::<S, 2, VECTORS>(simd, inputs, products),
                    3 => self.tile::<S, 3, VECTORS>(simd, inputs, products),
                    4 => self.tile::<S, 4, VECTORS>(simd, inputs, products),
                    5 => self.tile::<S, 5, VECTORS>(simd, inputs, products),
                    _ => self.tile::<S, ROWS, VECTORS>(simd, inputs, products),
                }
            }
        }
    }

    /// # Safety
    /// `HEIGHT` tiles lie at `inputs` and `products`; the group holds `channels` rows of `VECTORS` vectors, in blocks.
    #[inline(always)]
    unsafe fn tile<S: Simd, const HEIGHT: usize, const VECTORS: usize>(
        &self,
        simd: S,
        inputs: *const f32,
        products: *mut f32,
    ) {
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; HEIGHT];
        // SAFETY: by the contract.
        unsafe {
            let mut weights = self.weights.as_ptr();
            for first in (0..self.channels).step_by(BLOCK) {
                for tile in HEIGHT..2 * HEIGHT {
                    prefetch(inputs.wrapping_add(tile * self.stride + first));
                }
                let mut row = weights;
                for channel in first..(first + BLOCK).min(self.channels) {
                    let mut factors = [simd.splat_f32s(0.0); VECTORS];
                    for (vector, factor) in factors.iter_mut().enumerate() {
                        *factor = load::<S>(row.add(vector * S::F32_LANES));
                    }
                    row = row.add(self.width);
                    for (tile, sums) in sums.iter_mut().enumerate() {
                        let input = simd.splat_f32s(*inputs.add(tile * self.stride + channel));
                        for (sum, &factor) in sums.iter_mut().zip(&factors) {
                            *sum = simd.mul_add_e_f32s(input, factor, *sum);
                        }
                    }
                }
                weights = weights.wrapping_add(self.block);
            }
            for (tile, sums) in sums.iter().enumerate() {
                for (vector, &sum) in sums.iter().enumerate() {
                    store::<S>(products.add(tile * self.width + vector * S::F32_LANES), sum);
                }
            }
        }
    }
}

/// `products[channel, output] += sum over tiles of inputs[tile, channel] * gradients[tile, output]`, tiles ascending.
pub struct GradientProduct<'a> {
    /// `[tiles, BLOCK]`.
    pub inputs: &'a [f32],
    /// `[tiles, group]`.
    pub gradients: &'a [f32],
    pub group: usize,
    /// Channels of the block, and vectors of the group, that there are.
    pub rows: usize,
    pub vectors: usize,
    /// `[BLOCK, group]`.
    pub products: &'a mut [f32],
    /// Whether the products hold something already.
    pub more: bool,
    /// Floats to the inputs and to the gradients of the product that is made next.
    pub next: [usize; 2],
}

impl WithSimd for GradientProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.vectors {
            1 => self.add::<S, 1>(simd),
            2 => self.add::<S, 2>(simd),
            3 => self.add::<S, 3>(simd),
            4 => self.add::<S, 4>(simd),
            _ => unreachable!("no such group"),
        }
    }
}

impl GradientProduct<'_> {
    #[inline(always)]
    fn add<S: Simd, const VECTORS: usize>(self, simd: S) {
        let tiles = self.inputs.len() / BLOCK;
        assert!(self.gradients.len() == tiles * self.group && VECTORS * S::F32_LANES <= self.group);
        assert!(self.rows <= BLOCK && self.products.len() == BLOCK * self.group);
        for range in pieces(self.rows, ROWS) {
            // SAFETY: the channels of `range` are of the block, and there are `tiles` tiles of both, by the assertions.
            unsafe {
                let inputs = self.inputs.as_ptr().add(range.start);
                let products = self.products.as_mut_ptr().add(range.start * self.group);
                let fetch = range.start == 0;
                match range.len() {
                    1 => self.tile::<S, 1, VECTORS>(simd, tiles, fetch, inputs, products),
                    2 => self.tile::<S, 2, VECTORS>(simd, tiles, fetch, inputs, products),
                    3 => self.tile::<S, 3, VECTORS>(simd, tiles, fetch, inputs, products),
                    4 => self.tile::<S, 4, VECTORS>(simd, tiles, fetch, inputs, products),
                    5 => self.tile::<S, 5, VECTORS>(simd, tiles, fetch, inputs, products),
                    _ => self.tile::<S, ROWS, VECTORS>(simd, tiles, fetch, inputs, products),
                }
            }
        }
    }

    /// # Safety
    /// `HEIGHT` channels of `tiles` tiles lie at `inputs`, and as many rows of the group at `products`. With `fetch`, what is
    /// needed next is fetched on the way.
    #[inline(always)]
    unsafe fn tile<S: Simd, const HEIGHT: usize, const VECTORS: usize>(
        &self,
        simd: S,
        tiles: usize,
        fetch: bool,
        mut inputs: *const f32,
        products: *mut f32,
    ) {
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; HEIGHT];
        // SAFETY: by the contract.
        unsafe {
            if self.more {
                for (row, sums) in sums.iter_mut().enumerate() {
                    for (vector, sum) in sums.iter_mut().enumerate() {
                        *sum = load::<S>(products.add(row * self.group + vector * S::F32_LANES));
                    }
                }
            }
            let mut gradients = self.gradients.as_ptr();
            for _ in 0..tiles {
                if fetch {
                    prefetch(inputs.wrapping_add(self.next[0]));
                    for vector in (0..VECTORS * S::F32_LANES).step_by(LINE) {
                        prefetch(gradients.wrapping_add(self.next[1] + vector));
                    }
                }
                let mut factors = [simd.splat_f32s(0.0); VECTORS];
                for (vector, factor) in factors.iter_mut().enumerate() {
                    *factor = load::<S>(gradients.add(vector * S::F32_LANES));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let input = simd.splat_f32s(*inputs.add(row));
                    for (sum, &factor) in sums.iter_mut().zip(&factors) {
                        *sum = simd.mul_add_e_f32s(input, factor, *sum);
                    }
                }
                inputs = inputs.wrapping_add(BLOCK);
                gradients = gradients.wrapping_add(self.group);
            }
            for (row, sums) in sums.iter().enumerate() {
                for (vector, &sum) in sums.iter().enumerate() {
                    store::<S>(products.add(row * self.group + vector * S::F32_LANES), sum);
                }
            }
        }
    }
}
