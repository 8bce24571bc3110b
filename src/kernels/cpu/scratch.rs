//! Pooled scratch memory, aligned to cache lines.
//!
//! A training step runs the same shapes again and again, so each thread keeps the buffers it has used. A
//! misaligned 64-byte load touches two cache lines and halves the load rate; buffers here start on a line.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

thread_local! {
    static POOL: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers a thread keeps: more are in use at once nowhere here.
const KEPT: usize = 16;

/// A line-aligned `[f32]` whose contents are unspecified (but initialised) when taken.
pub struct Scratch {
    lines: Vec<Line>,
    len: usize,
}

impl Scratch {
    pub fn take(len: usize) -> Self {
        let needed = len.div_ceil(16);
        let mut lines = POOL
            .with_borrow_mut(|pool| {
                let fitting =
                    (0..pool.len()).filter(|&i| pool[i].len() >= needed).min_by_key(|&i| pool[i].len());
                fitting.or(pool.len().checked_sub(1)).map(|i| pool.swap_remove(i))
            })
            .unwrap_or_default();
        if lines.len() < needed {
            lines.resize(needed, Line([0.0; 16]));
        }
        Self { lines, len }
    }

    pub fn take_zeroed(len: usize) -> Self {
        let mut scratch = Self::take(len);
        scratch.fill(0.0);
        scratch
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        debug_assert!(self.len <= 16 * self.lines.len());
        // SAFETY: `lines` holds at least `len` initialised floats in one allocation (`Line` is 16 floats
        // without padding), borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        debug_assert!(self.len <= 16 * self.lines.len());
        // SAFETY: as in `deref`; `&mut self` makes the borrow unique.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // A thread that is ending has no pool any more: then the memory is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                pool.push(lines);
            }
        });
    }
}
