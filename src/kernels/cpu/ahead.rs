//! Memory that is needed next, fetched into the caches while products are made.
//!
//! A processor fetches ahead by itself where one stream is read straight on; a register tile reads several rows a few numbers
//! at a time, and waits for each new line that lies beyond L2. Gains: `README.md` beside the kernels. Nothing is computed
//! here, so no byte depends on it; on processors other than x86-64 it does nothing.

/// Numbers of a cache line.
pub const LINE: usize = 16;

/// Numbers that are fetched a share at a time.
pub struct Ahead<'a> {
    numbers: &'a [f32],
    share: usize,
}

impl<'a> Ahead<'a> {
    /// All of `numbers` in so many steps.
    #[inline(always)]
    pub fn new(numbers: &'a [f32], steps: usize) -> Self {
        Self { numbers, share: numbers.len().div_ceil(steps.max(1)).next_multiple_of(LINE) }
    }

    #[inline(always)]
    pub fn step(&mut self) {
        let (share, later) = self.numbers.split_at(self.share.min(self.numbers.len()));
        for line in share.chunks(LINE) {
            prefetch(line.as_ptr());
        }
        self.numbers = later;
    }
}

/// Fetches the cache line of a number; the address may be any.
#[inline(always)]
pub fn prefetch(number: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch neither reads nor faults, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(number.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = number;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_numbers_are_fetched_in_so_many_steps_and_none_beyond() {
        let numbers = vec![0.0; 1000];
        for (length, steps) in
            [(0, 3), (1, 1), (15, 4), (16, 1), (17, 2), (1000, 7), (1000, 63), (1000, 5000)]
        {
            let mut ahead = Ahead::new(&numbers[..length], steps);
            let share = ahead.share;
            assert!(length == 0 || share < length / steps + 2 * LINE, "{share} of {length} in {steps} steps");
            (0..steps).for_each(|_| ahead.step());
            assert!(ahead.numbers.is_empty(), "{length} in {steps} steps");
        }
        Ahead::new(&numbers, 0).step();
    }
}
