//! Memory of tensors that are done with, kept for those to come: a training step needs what the step before it needed.
//!
//! A vector of zeros costs one thread a pass over its memory, and the system one more where the allocator had given the pages
//! back, while the other threads wait. Measurements: `README.md` beside the kernels.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use burn::backend::TensorMetadata;

use super::storage::Floats;

/// Shorter vectors are left to the allocator, whose own caches serve them.
const LEAST: usize = if cfg!(test) { 1 } else { 1 << 14 };
/// What nothing has asked for in so many requests is freed; a step of Network in Network makes 45.
const PATIENCE: u64 = 200;
/// How many times as long as what is asked for a vector may be: the last batch of an epoch takes the memory of the others.
const MOST: usize = 2;

static STOCK: LazyLock<Mutex<Stock>> = LazyLock::new(Mutex::default);

fn stock() -> MutexGuard<'static, Stock> {
    // Every change to the stock is whole.
    STOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A vector of so many numbers, whatever they are: each is to be written before it is read. In tests they are NaN.
pub(super) fn room(length: usize) -> Vec<f32> {
    if length < LEAST {
        return vec![0.0; length];
    }
    let kept = stock().take(length);
    // Made while nobody waits for the stock.
    let mut numbers = kept.unwrap_or_else(|| {
        let mut numbers = vec![0.0; size(length)];
        numbers.truncate(length);
        numbers
    });
    if cfg!(test) {
        numbers.fill(f32::NAN);
    }
    stock().issue(&numbers);
    numbers
}

/// A power of two, or one and a half, so that tensors of layers of nearly the same width can take each other's memory. The system
/// gives no memory for what is never written.
fn size(length: usize) -> usize {
    let power = length.next_power_of_two();
    if length <= power / 4 * 3 { power / 4 * 3 } else { power }
}

/// Keeps the memory of a tensor if it came from [`room`] and nothing else uses it.
pub(super) fn reuse(tensor: Floats) {
    if let Some(numbers) = sole_owned(tensor) {
        stock().keep(numbers);
    }
}

/// The numbers of a tensor, where they are all that lies in its memory and no other tensor shares it.
fn sole_owned(tensor: Floats) -> Option<Vec<f32>> {
    let length = tensor.shape().num_elements();
    let whole = tensor.is_unique() && tensor.storage::<f32>().len() == length;
    (whole && length >= LEAST).then(|| tensor.into_data().try_into_vec().ok()).flatten()
}

/// Frees what is kept, where other work begins that needs other sizes.
pub fn release() {
    *stock() = Stock::default();
}

#[derive(Default)]
struct Stock {
    kept: Vec<Kept>,
    /// Where the vectors begin that were given out. What else is as large, such as batches, comes anew at every step and would
    /// pile up here.
    issued: HashSet<usize>,
    requests: u64,
}

/// A vector that nobody uses.
struct Kept {
    numbers: Vec<f32>,
    /// The number of requests when it came.
    since: u64,
}

fn address(numbers: &[f32]) -> usize {
    numbers.as_ptr().addr()
}

impl Stock {
    /// The smallest vector that is large enough.
    fn take(&mut self, length: usize) -> Option<Vec<f32>> {
        self.requests += 1;
        let oldest = self.requests.saturating_sub(PATIENCE);
        self.kept.retain(|kept| kept.since >= oldest);
        let sizes = self.kept.iter().map(|kept| kept.numbers.capacity()).enumerate();
        let fitting = sizes.filter(|(_, size)| (length..=MOST * length).contains(size));
        let (index, _) = fitting.min_by_key(|&(_, size)| size)?;
        let mut numbers = self.kept.swap_remove(index).numbers;
        numbers.resize(length, 0.0);
        Some(numbers)
    }

    fn issue(&mut self, numbers: &[f32]) {
        self.issued.insert(address(numbers));
    }

    fn keep(&mut self, numbers: Vec<f32>) {
        if self.issued.remove(&address(&numbers)) {
            self.kept.push(Kept { numbers, since: self.requests });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::storage::tensor;
    use super::*;

    fn stock_of(lengths: &[usize]) -> Stock {
        let mut stock = Stock::default();
        for &length in lengths {
            let numbers = vec![1.0; length];
            stock.issue(&numbers);
            stock.keep(numbers);
        }
        stock
    }

    #[test]
    fn the_smallest_vector_that_is_large_enough_is_used_again() {
        let mut stock = stock_of(&[40, 100, 60]);
        assert_eq!(stock.take(50).unwrap().len(), 50);
        assert_eq!(stock.take(50).unwrap().len(), 50);
        assert_eq!(stock.take(50), None);
        // The capacity stays, also of a vector that was shortened.
        let mut stock = stock_of(&[100]);
        let short = stock.take(60).unwrap();
        stock.issue(&short);
        stock.keep(short);
        assert_eq!(stock.take(100).unwrap()[60..], [0.0; 40]);
        assert_eq!(stock_of(&[101]).take(50), None);
    }

    #[test]
    fn tensors_of_nearly_the_same_size_take_each_others_memory() {
        assert_eq!([129, 160, 192].map(size), [192; 3]);
        assert!((1..5000).all(|length| (length..=2 * length).contains(&size(length))));
        let narrow = room(160);
        assert!(narrow.len() == 160 && narrow.capacity() >= 192);
    }

    #[test]
    fn vectors_from_elsewhere_and_those_that_nothing_asks_for_are_freed() {
        let mut stock = stock_of(&[]);
        stock.keep(vec![1.0; 50]);
        assert_eq!(stock.take(50), None);
        let mut stock = stock_of(&[50]);
        for _ in 0..PATIENCE {
            assert_eq!(stock.take(1000), None);
        }
        assert_eq!(stock.kept.len(), 1);
        stock.take(1000);
        assert_eq!(stock.take(50), None);
    }

    #[test]
    fn memory_that_another_tensor_shares_is_not_taken() {
        let numbers = tensor(vec![1.0; 6], &[2, 3]);
        let other = numbers.clone();
        assert_eq!(sole_owned(numbers), None);
        assert_eq!(sole_owned(other), Some(vec![1.0; 6]));
    }
}
