//! Where the time of a training step goes: wall time of each operation by layer and direction, when asked for.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

static ENABLED: AtomicBool = AtomicBool::new(false);
static TIMES: Mutex<BTreeMap<String, Times>> = Mutex::new(BTreeMap::new());
static DENSE: AtomicU64 = AtomicU64::new(0);
static EXECUTED: AtomicU64 = AtomicU64::new(0);

#[derive(Default)]
struct Times {
    calls: u32,
    time: Duration,
    operations: Operations,
}

/// Floating-point operations of convolutions and dense layers; a multiplication and an addition count as two.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operations {
    /// Those of a direct computation with every number.
    pub dense: f64,
    /// Those of the products that are made; behind ReLU an estimate.
    pub executed: f64,
}

impl Operations {
    /// Of all kernels of this process so far.
    pub fn so_far() -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        Self { dense: read(&DENSE), executed: read(&EXECUTED) }
    }

    /// Of so many products, all of which are made.
    pub(super) fn of_products(products: usize) -> Self {
        let operations = 2.0 * products as f64;
        Self { dense: operations, executed: operations }
    }

    /// In billions a second.
    pub fn rate(self, before: Self, time: Duration) -> GigaflopRate {
        let rate = |now: f64, before: f64| (now - before) / time.as_secs_f64() / 1e9;
        GigaflopRate { dense: rate(self.dense, before.dense), executed: rate(self.executed, before.executed) }
    }
}

/// Billions of floating-point operations a second; see [`Operations`].
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GigaflopRate {
    /// As a direct computation would count them.
    pub dense: f64,
    /// As they are made.
    pub executed: f64,
}

/// The time of one operation.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Operation, shapes and direction.
    pub operation: String,
    /// Number of calls.
    pub calls: u32,
    /// Mean wall time of a call.
    pub microseconds: f64,
    /// Share of the time of all operations.
    pub percent: f64,
    /// Billions of operations a second; zero where they are not counted.
    pub gflops: GigaflopRate,
}

/// Begins to take times, from nothing.
pub fn start() {
    with_times(BTreeMap::clear);
    ENABLED.store(true, Ordering::Relaxed);
}

/// Stops, and gives what was taken, the longest first.
pub fn stop() -> Vec<Entry> {
    ENABLED.store(false, Ordering::Relaxed);
    with_times(|times| {
        let all: Duration = times.values().map(|times| times.time).sum();
        let mut entries: Vec<Entry> = times
            .iter()
            .map(|(operation, Times { calls, time, operations })| Entry {
                operation: operation.clone(),
                calls: *calls,
                microseconds: time.as_secs_f64() * 1e6 / f64::from(*calls),
                percent: 100.0 * time.as_secs_f64() / all.as_secs_f64(),
                gflops: operations.rate(Operations::default(), *time),
            })
            .collect();
        entries.sort_by(|a, b| b.percent.total_cmp(&a.percent));
        entries
    })
}

/// Does `work`, and takes its time if that was asked for.
pub(super) fn timed<T>(operation: impl FnOnce() -> String, work: impl FnOnce() -> T) -> T {
    counted(operation, Operations::default(), work)
}

/// The same for what makes so many operations.
pub(super) fn counted<T>(
    operation: impl FnOnce() -> String,
    operations: Operations,
    work: impl FnOnce() -> T,
) -> T {
    DENSE.fetch_add(operations.dense as u64, Ordering::Relaxed);
    EXECUTED.fetch_add(operations.executed as u64, Ordering::Relaxed);
    if !ENABLED.load(Ordering::Relaxed) {
        return work();
    }
    let begin = Instant::now();
    let result = work();
    let time = begin.elapsed();
    with_times(|times| {
        let entry = times.entry(operation()).or_default();
        entry.calls += 1;
        entry.time += time;
        entry.operations.dense += operations.dense;
        entry.operations.executed += operations.executed;
    });
    result
}

fn with_times<T>(work: impl FnOnce(&mut BTreeMap<String, Times>) -> T) -> T {
    // A panic elsewhere while the lock was held leaves times that are still whole.
    work(&mut TIMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}
