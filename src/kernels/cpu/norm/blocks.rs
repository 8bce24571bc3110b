//! Channels in blocks whose sums stay in registers while the rows of a chunk pass by.
//!
//! Row by row through memory, each row waits for the sums of the one before it.

/// Channels of a block: four vectors of AVX-512.
pub const WIDE: usize = 64;
/// Channels of a block where fewer are left: a vector.
pub const NARROW: usize = 16;

/// The first channel and the width of each block: [`WIDE`], [`NARROW`], or 1.
pub fn blocks(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    std::iter::successors(Some((0, 0)), move |(first, width)| {
        let first = first + width;
        [WIDE, NARROW, 1].into_iter().find(|width| first + width <= channels).map(|width| (first, width))
    })
    .skip(1)
}

/// The numbers of a block.
#[inline(always)]
pub fn at<const N: usize>(row: &[f32], first: usize) -> [f32; N] {
    *row[first..].first_chunk().expect("a block lies within its channels")
}
