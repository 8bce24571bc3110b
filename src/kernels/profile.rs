//! Where the time of a training step goes: wall time of each operation by layer and direction, when asked for.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

static ENABLED: AtomicBool = AtomicBool::new(false);
static TIMES: Mutex<BTreeMap<String, (u32, Duration)>> = Mutex::new(BTreeMap::new());

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
        let all: Duration = times.values().map(|(_, time)| *time).sum();
        let mut entries: Vec<Entry> = times
            .iter()
            .map(|(operation, (calls, time))| Entry {
                operation: operation.clone(),
                calls: *calls,
                microseconds: time.as_secs_f64() * 1e6 / f64::from(*calls),
                percent: 100.0 * time.as_secs_f64() / all.as_secs_f64(),
            })
            .collect();
        entries.sort_by(|a, b| b.percent.total_cmp(&a.percent));
        entries
    })
}

/// Does `work`, and takes its time if that was asked for.
pub(super) fn timed<T>(operation: impl FnOnce() -> String, work: impl FnOnce() -> T) -> T {
    if !ENABLED.load(Ordering::Relaxed) {
        return work();
    }
    let begin = Instant::now();
    let result = work();
    let time = begin.elapsed();
    with_times(|times| {
        let entry = times.entry(operation()).or_default();
        entry.0 += 1;
        entry.1 += time;
    });
    result
}

fn with_times<T>(work: impl FnOnce(&mut BTreeMap<String, (u32, Duration)>) -> T) -> T {
    // A panic elsewhere while the lock was held leaves times that are still whole.
    work(&mut TIMES.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}
