//! Ranks as threads of one process: for several devices of a process, and to try ranks without MPI.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Ranks;
use crate::error::Result;

/// One of a group of threads.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    group: Arc<Group>,
}

#[derive(Debug)]
struct Group {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    failed: bool,
    /// What each rank gives; cleared once all of them have taken it.
    given: Vec<Option<Arc<Given>>>,
    taken: usize,
}

#[derive(Debug)]
enum Given {
    Bytes(Vec<u8>),
    Numbers(Vec<f32>, Vec<Range<usize>>),
}

/// What ends a thread that waits for a failed one; the reason is known there.
struct AnotherFailed;

/// A group of so many ranks, at least one, each for a thread of its own.
pub fn group(size: usize) -> Vec<Arc<ThreadRank>> {
    let state = State { given: vec![None; size], ..State::default() };
    let group = Arc::new(Group { size, state: Mutex::new(state), changed: Condvar::new() });
    (0..size).map(|rank| Arc::new(ThreadRank { rank, group: Arc::clone(&group) })).collect()
}

/// Does `work` on so many ranks, each a thread; gives what they return, in their order.
///
/// # Errors
/// That of the first rank that fails. A panic in one goes on in the caller.
pub fn run<T: Send>(size: usize, work: impl Fn(Arc<dyn Ranks>) -> Result<T> + Sync) -> Result<Vec<T>> {
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let start = |rank: Arc<ThreadRank>| {
            let work = &work;
            scope.spawn(move || {
                let outcome = rank.watched(|| work(Arc::clone(&rank) as Arc<dyn Ranks>));
                if outcome.is_err() {
                    rank.fail();
                }
                outcome
            })
        };
        let threads: Vec<_> = group(size).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    let (mut done, mut panics) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(result) => done.push(result),
            Err(panic) => panics.push(panic),
        }
    }
    let done = done.into_iter().collect::<Result<Vec<T>>>()?;
    match panics.into_iter().min_by_key(|panic| panic.is::<AnotherFailed>()) {
        Some(panic) => resume_unwind(panic),
        None => Ok(done),
    }
}

impl ThreadRank {
    /// Does `work`; if it panics, the others do not wait for it.
    pub fn watched<T>(&self, work: impl FnOnce() -> T) -> T {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            self.fail();
            resume_unwind(panic)
        })
    }

    fn fail(&self) {
        self.state().failed = true;
        self.group.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.group.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        wait: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waiting = self.group.changed.wait_while(state, |state| !state.failed && wait(state));
        let state = waiting.unwrap_or_else(PoisonError::into_inner);
        if state.failed {
            drop(state);
            resume_unwind(Box::new(AnotherFailed) as Box<dyn Any + Send>);
        }
        state
    }

    /// What every rank gives.
    fn swap(&self, mine: Given) -> Vec<Arc<Given>> {
        let mut state = self.wait_while(self.state(), |state| state.given[self.rank].is_some());
        state.given[self.rank] = Some(Arc::new(mine));
        self.group.changed.notify_all();
        let mut state = self.wait_while(state, |state| state.given.iter().any(Option::is_none));
        let all = state.given.iter().flatten().cloned().collect();
        state.taken += 1;
        if state.taken == self.group.size {
            state.taken = 0;
            state.given.fill(None);
            self.group.changed.notify_all();
        }
        all
    }
}

impl Ranks for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.group.size
    }

    fn local(&self) -> [usize; 2] {
        [self.rank, self.group.size]
    }

    fn gather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        let all = self.swap(Given::Bytes(mine.to_vec()));
        let bytes = |given: &Arc<Given>| match &**given {
            Given::Bytes(bytes) => {
                assert_eq!(bytes.len(), mine.len(), "ranks give equally many bytes");
                bytes.clone()
            }
            Given::Numbers(..) => panic!("ranks call the same functions in the same order"),
        };
        all.iter().map(bytes).collect()
    }

    fn exchange(&self, numbers: &[f32], to: &[Range<usize>], from: &[usize]) -> Vec<f32> {
        let mut received = Vec::with_capacity(from.iter().sum());
        for (given, &length) in self.swap(Given::Numbers(numbers.to_vec(), to.to_vec())).iter().zip(from) {
            let Given::Numbers(numbers, to) = &**given else {
                panic!("ranks call the same functions in the same order");
            };
            assert_eq!(to[self.rank].len(), length, "a rank gives what is expected");
            received.extend_from_slice(&numbers[to[self.rank].clone()]);
        }
        received
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        let all = self.swap(Given::Bytes(bytes));
        match &*all[0] {
            Given::Bytes(bytes) => bytes.clone(),
            Given::Numbers(..) => panic!("ranks call the same functions in the same order"),
        }
    }

    fn abort(&self, _: u8) -> ! {
        self.fail();
        resume_unwind(Box::new(AnotherFailed) as Box<dyn Any + Send>)
    }
}
