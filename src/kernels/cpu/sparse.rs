//! Which numbers of a gradient are non-zero, as bit masks.
//!
//! Behind a 2x2 max-pool at most one in four numbers of the convolution's gradient is non-zero, behind a ReLU
//! about half of those. One byte per pooled output says where its gradient goes (0..=3, or 255: nowhere).
//! From these bytes come, per image,
//! - per position and window position: the channels whose gradient goes there (input gradient),
//! - per channel: the positions that have a gradient (weight gradient): the same bits transposed, 64x64 at
//!   a time, instead of index lists. A list costs a read-modify-write per entry, zero or not; the bits cost
//!   a few cycles per 64 entries, and the loop over set bits hides behind the multiply-adds.

/// Bit masks of one image's gradient.
pub struct Routes {
    out_channels: usize,
    words: usize,
    window: usize,
    /// Positions read so far; bits of others are of an earlier image.
    filled: usize,
    /// `[position, window position, word]`: bit = channel.
    channels: Vec<u64>,
    /// `[block of 64 positions, word * 64 + channel]`: bit = position in the block.
    positions: Vec<u64>,
}

/// Positions per block.
pub const BLOCK: usize = 64;

impl Routes {
    /// For `positions` outputs a channel; `window` is 4 behind a pool, else 1, or 0
    /// if `channels` will not be asked for.
    pub fn new(positions: usize, out_channels: usize, window: usize) -> Self {
        let words = out_channels.div_ceil(64);
        Self {
            out_channels,
            words,
            window,
            filled: 0,
            channels: vec![0; positions * window * words],
            positions: vec![0; positions.div_ceil(BLOCK) * words * 64],
        }
    }

    /// Reads the routes (`[position, channel]`) of one image. Inlined into the caller's instruction set.
    #[inline(always)]
    pub fn fill(&mut self, routes: &[u8]) {
        let (words, window) = (self.words, self.window);
        self.filled = routes.len() / self.out_channels;
        for word in 0..words {
            let width = (self.out_channels - 64 * word).min(64);
            for (block, rows) in routes.chunks(BLOCK * self.out_channels).enumerate() {
                let mut bits = [0u64; 64];
                for (index, row) in rows.chunks_exact(self.out_channels).enumerate() {
                    let row = &row[64 * word..][..width];
                    let position = block * BLOCK + index;
                    bits[index] = !equal_mask(row, 255) & (u64::MAX >> (64 - width));
                    for place in 0..window {
                        let mask = equal_mask(row, place as u8);
                        self.channels[(position * window + place) * words + word] = mask;
                    }
                }
                transpose(&mut bits);
                self.positions[(block * words + word) * 64..][..64].copy_from_slice(&bits);
            }
        }
    }

    /// Whether bits of `channels` are below `out_channels`, for windows of so many places.
    #[inline(always)]
    pub fn fit(&self, out_channels: usize, window: usize) -> bool {
        self.out_channels == out_channels && self.window == window
    }

    /// Whether `positions` of `block` are among those that were filled, for so many channels.
    #[inline(always)]
    pub fn fit_positions(&self, block: usize, positions: usize, out_channels: usize) -> bool {
        self.out_channels == out_channels && block * BLOCK + positions <= self.filled
    }

    /// The channels whose gradient at `position` goes to `place` in the window, as words of 64 bits.
    #[inline(always)]
    pub fn channels(&self, position: usize, place: usize) -> &[u64] {
        &self.channels[(position * self.window + place) * self.words..][..self.words]
    }

    /// The positions of `block` at which `channel` has a gradient.
    #[inline(always)]
    pub fn positions(&self, block: usize, channel: usize) -> u64 {
        self.positions[block * self.words * 64 + channel]
    }
}

/// Bit i says whether `bytes[i] == value`, for at most 64 bytes.
#[inline(always)]
fn equal_mask(bytes: &[u8], value: u8) -> u64 {
    debug_assert!(bytes.len() <= 64);
    let mut mask = 0;
    let (parts, rest) = bytes.as_chunks::<16>();
    for (index, part) in parts.iter().enumerate() {
        mask |= (equal_mask_16(part, value) as u64) << (16 * index);
    }
    if !rest.is_empty() {
        let mut part = [!value; 16];
        part[..rest.len()].copy_from_slice(rest);
        mask |= (equal_mask_16(&part, value) as u64) << (16 * parts.len());
    }
    mask
}

#[inline(always)]
fn equal_mask_16(bytes: &[u8; 16], value: u8) -> u16 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
        // SAFETY: SSE2 is part of x86-64, and 16 bytes are read from an array of 16.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(value as i8))) as u16
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        bytes.iter().enumerate().fold(0, |mask, (index, &byte)| mask | ((byte == value) as u16) << index)
    }
}

/// Transposes a 64x64 bit matrix: bit j of word i becomes bit i of word j.
#[inline(always)]
fn transpose(matrix: &mut [u64; 64]) {
    let mut size = 32;
    let mut low = u64::MAX >> 32;
    while size > 0 {
        let mut start = 0;
        while start < 64 {
            for i in start..start + size {
                let swapped = ((matrix[i] >> size) ^ matrix[i + size]) & low;
                matrix[i] ^= swapped << size;
                matrix[i + size] ^= swapped;
            }
            start += 2 * size;
        }
        size /= 2;
        low ^= low << size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_agree_with_the_bytes() {
        for (positions, channels) in [(1, 1), (36, 64), (225, 32), (70, 130), (64, 100)] {
            let bytes: Vec<u8> = (0..positions * channels)
                .map(|i| [0, 1, 255, 2, 3, 255, 255][i * 31 % 7 * (i / 5) % 7])
                .collect();
            let mut routes = Routes::new(positions, channels, 4);
            routes.fill(&bytes);
            for position in 0..positions {
                for channel in 0..channels {
                    let byte = bytes[position * channels + channel];
                    for place in 0..4 {
                        let bit = routes.channels(position, place)[channel / 64] >> (channel % 64) & 1;
                        assert_eq!(bit == 1, byte as usize == place);
                    }
                    let bit = routes.positions(position / BLOCK, channel) >> (position % BLOCK) & 1;
                    assert_eq!(bit == 1, byte != 255);
                }
            }
        }
    }
}
