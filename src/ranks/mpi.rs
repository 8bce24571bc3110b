//! Ranks as processes that `mpirun` or `srun` started, on one machine or many.
//!
//! MPI ends all processes when one of them dies; while one of them merely takes long, the others wait.

use std::ops::Range;
use std::panic;
use std::process::exit;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mpi::Threading;
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};

use super::Ranks;
use crate::error::{Error, Result};

/// What ends MPI when it is dropped.
static UNIVERSE: Mutex<Option<Universe>> = Mutex::new(None);

/// How long the end of MPI may take: after a SIGTERM to `mpirun` it does not come.
const LONGEST_END: Duration = Duration::from_secs(3);

/// All processes.
#[derive(Debug)]
struct World {
    rank: usize,
    size: usize,
    local: [usize; 2],
}

/// Joins the other processes; to be called once. A panic from now on ends all of them.
///
/// # Errors
/// [`Error::Usage`] if MPI does not start.
pub fn join() -> Result<Arc<dyn Ranks>> {
    // Calls come from threads of a pool, one at a time.
    let Some((universe, threading)) = mpi::initialize_with_threading(Threading::Serialized) else {
        return Err(refused("MPI does not start"));
    };
    if threading < Threading::Serialized {
        return Err(refused("this MPI library cannot be called from threads"));
    }
    let world = universe.world();
    let here = world.split_shared(world.rank());
    let number = |number: i32| usize::try_from(number).unwrap_or_default();
    let ranks = World {
        rank: number(world.rank()),
        size: number(world.size()),
        local: [number(here.rank()), number(here.size())],
    };
    *UNIVERSE.lock().unwrap_or_else(PoisonError::into_inner) = Some(universe);
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        previous(info);
        SimpleCommunicator::world().abort(101);
    }));
    Ok(Arc::new(ranks))
}

fn refused(problem: &str) -> Error {
    Error::Usage {
        problem: problem.into(),
        hint: "start the program with the mpirun of the MPI library that it was built with".into(),
    }
}

/// Leaves the other processes, and ends this one with that exit status.
pub fn leave(status: u8) -> ! {
    thread::spawn(move || {
        thread::sleep(LONGEST_END);
        exit(status.into())
    });
    drop(UNIVERSE.lock().unwrap_or_else(PoisonError::into_inner).take());
    exit(status.into())
}

/// As MPI counts.
fn count(number: usize) -> i32 {
    i32::try_from(number).expect("ranks exchange fewer than 2^31 numbers at a time")
}

fn starts(lengths: impl Iterator<Item = i32>) -> Vec<i32> {
    let before = |end: &mut i32, length: i32| {
        let start = *end;
        *end += length;
        Some(start)
    };
    lengths.scan(0, before).collect()
}

impl Ranks for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local(&self) -> [usize; 2] {
        self.local
    }

    fn gather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        let mut all = vec![0; count(mine.len() * self.size) as usize];
        SimpleCommunicator::world().all_gather_into(mine, &mut all[..]);
        all.chunks(mine.len()).map(<[u8]>::to_vec).collect()
    }

    fn exchange(&self, numbers: &[f32], to: &[Range<usize>], from: &[usize]) -> Vec<f32> {
        let total: usize = from.iter().sum();
        count(total);
        let mut received = vec![0.0; total];
        let lengths: Vec<i32> = to.iter().map(|piece| count(piece.len())).collect();
        // A piece without numbers may lie anywhere.
        let places: Vec<i32> =
            to.iter().map(|piece| count(if piece.is_empty() { 0 } else { piece.start })).collect();
        let given = Partition::new(numbers, lengths, places);
        let lengths: Vec<i32> = from.iter().map(|&length| count(length)).collect();
        let places = starts(lengths.iter().copied());
        let mut wanted = PartitionMut::new(&mut received[..], lengths, places);
        SimpleCommunicator::world().all_to_all_varcount_into(&given, &mut wanted);
        received
    }

    fn broadcast(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        let world = SimpleCommunicator::world();
        let first = world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        first.broadcast_into(&mut length);
        bytes.resize(count(length as usize) as usize, 0);
        first.broadcast_into(&mut bytes[..]);
        bytes
    }

    fn abort(&self, status: u8) -> ! {
        SimpleCommunicator::world().abort(status.into())
    }
}
