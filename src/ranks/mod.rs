//! Ranks, as MPI calls them: processes that do one work together, each a share of every step, and leave the bytes of one.
//!
//! A share is a whole subtree of the units of the batch (`math/units.rs`); what the shares make of it
//! is added along the rest of the tree, by every rank in the same order. MPI moves bytes and never adds.

mod launch;
#[cfg(feature = "mpi")]
pub mod mpi;
mod threads;

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::files::sha256;
use crate::math::units::{Unit, add_up, shares, units};
use crate::progress::Stop;

pub use launch::launched;
pub use threads::{ThreadRank, group, run};

/// One of several ranks, and what it needs of the others. All of them call the same functions in the same order, each
/// of which waits for the others; if one of them fails, the others do not come back.
pub trait Ranks: Debug + Send + Sync {
    /// Which one this is, counted from 0. The first one writes, logs and shows how far the work is.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Which of the ranks on this machine it is, and how many these are.
    fn local(&self) -> [usize; 2];

    /// What every rank gives, in their order; all give equally many bytes.
    fn gather(&self, mine: &[u8]) -> Vec<Vec<u8>>;

    /// Gives a piece of `numbers` to every rank, and gets as many numbers `from` each, one behind the other.
    fn exchange(&self, numbers: &[f32], to: &[Range<usize>], from: &[usize]) -> Vec<f32>;

    /// What the first rank gives; the others' bytes do not count.
    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8>;

    /// Ends all ranks at once, with that exit status where they are processes.
    fn abort(&self, status: u8) -> !;
}

/// The only rank.
#[derive(Debug)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn local(&self) -> [usize; 2] {
        [0, 1]
    }

    fn gather(&self, mine: &[u8]) -> Vec<Vec<u8>> {
        vec![mine.to_vec()]
    }

    fn exchange(&self, numbers: &[f32], to: &[Range<usize>], _: &[usize]) -> Vec<f32> {
        to.iter().flat_map(|piece| &numbers[piece.clone()]).copied().collect()
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }

    fn abort(&self, status: u8) -> ! {
        std::process::exit(status.into())
    }
}

/// Waits for all ranks.
pub fn barrier(ranks: &dyn Ranks) {
    ranks.gather(&[0]);
}

/// Refuses ranks that do not have the same of what is named.
///
/// # Errors
/// [`Error::Usage`].
pub fn agree(ranks: &dyn Ranks, things: &[(&str, Vec<u8>)]) -> Result<()> {
    let digests: Vec<String> = things.iter().map(|(_, bytes)| sha256(bytes)).collect();
    let all = ranks.gather(digests.concat().as_bytes());
    let mut from = 0;
    for ((name, _), digest) in things.iter().zip(&digests) {
        let of = |digests: &Vec<u8>| digests[from..from + digest.len()].to_vec();
        if let Some(rank) = all.iter().position(|digests| of(digests) != of(&all[0])) {
            return Err(Error::Usage {
                problem: format!("rank {rank} has another {name} than rank 0"),
                hint: "give every rank the same program, config and data, and one run directory that all of them see"
                    .into(),
            });
        }
        from += digest.len();
    }
    Ok(())
}

/// What every rank gives, in their order; each may give another number of them.
fn gather_numbers(ranks: &dyn Ranks, mine: Vec<f32>) -> Vec<Vec<f32>> {
    if ranks.size() == 1 {
        return vec![mine];
    }
    let lengths = lengths(ranks, &mine);
    let all = ranks.exchange(&mine, &vec![0..mine.len(); ranks.size()], &lengths);
    cut(&all, &lengths)
}

/// The same for the first rank alone; the others get nothing.
fn collect_numbers(ranks: &dyn Ranks, mine: Vec<f32>) -> Vec<Vec<f32>> {
    if ranks.size() == 1 {
        return vec![mine];
    }
    let mut lengths = lengths(ranks, &mine);
    let mut to = vec![0..0; ranks.size()];
    to[0] = 0..mine.len();
    if ranks.rank() > 0 {
        lengths.fill(0);
    }
    let all = ranks.exchange(&mine, &to, &lengths);
    cut(&all, &lengths)
}

/// Who gets what all ranks did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Every rank.
    All,
    /// The first one; the others get empty results.
    First,
}

/// Does `work` on every piece, each on one rank in turn, and passes what came of it to `take` in the order of the pieces.
///
/// # Errors
/// What `take` returns.
pub fn in_turn<P, E>(
    ranks: &dyn Ranks,
    pieces: impl Iterator<Item = P>,
    to: To,
    mut work: impl FnMut(&P) -> Vec<f32>,
    mut take: impl FnMut(&P, Vec<f32>) -> Result<(), E>,
) -> Result<(), E> {
    let mut pieces = pieces.peekable();
    while pieces.peek().is_some() {
        let round: Vec<P> = pieces.by_ref().take(ranks.size()).collect();
        let mine = round.get(ranks.rank()).map(&mut work).unwrap_or_default();
        let all = match to {
            To::All => gather_numbers(ranks, mine),
            To::First => collect_numbers(ranks, mine),
        };
        round.iter().zip(all).try_for_each(|(piece, result)| take(piece, result))?;
    }
    Ok(())
}

/// Refuses more ranks than a step has units, which no two ranks can share; `key` sets its number of samples.
///
/// # Errors
/// [`Error::Usage`].
pub fn refuse_too_many(ranks: &dyn Ranks, key: &str, samples: usize) -> Result<()> {
    let most = units(samples).len();
    match ranks.size() > most {
        false => Ok(()),
        true => Err(Error::Usage {
            problem: format!(
                "{} ranks are too many: {key} makes steps of {samples} samples, which {most} can share",
                ranks.size()
            ),
            hint: format!("start at most {most}, or make the batch larger, which changes the result"),
        }),
    }
}

/// What any of the ranks was asked to stop by.
pub fn any_stop(ranks: &dyn Ranks, mine: Option<Stop>) -> Option<Stop> {
    if ranks.size() == 1 {
        return mine;
    }
    let codes = ranks.gather(&[mine.map_or(0, Stop::exit_code)]).concat();
    Stop::ALL.into_iter().find(|stop| codes.contains(&stop.exit_code()))
}

fn lengths(ranks: &dyn Ranks, mine: &[f32]) -> Vec<usize> {
    let lengths = ranks.gather(&(mine.len() as u64).to_le_bytes());
    let length = |bytes: Vec<u8>| u64::from_le_bytes(bytes.try_into().unwrap_or_default()) as usize;
    lengths.into_iter().map(length).collect()
}

fn cut(numbers: &[f32], lengths: &[usize]) -> Vec<Vec<f32>> {
    let mut rest = numbers;
    let mut piece = |&length: &usize| {
        let (piece, more) = rest.split_at(length);
        rest = more;
        piece.to_vec()
    };
    lengths.iter().map(&mut piece).collect()
}

/// A rank's share of a batch.
#[derive(Clone, Debug)]
pub struct Share {
    ranks: Arc<dyn Ranks>,
    /// In the order of the ranks. Where they are fewer than the ranks, the others do the last one again, so that all
    /// ranks come by the same exchanges, and their results do not count.
    shares: Arc<[Unit]>,
}

impl Share {
    /// That of `ranks` in a batch of so many samples.
    pub fn new(ranks: Arc<dyn Ranks>, samples: usize) -> Self {
        let shares = shares(samples, ranks.size()).into();
        Self { ranks, shares }
    }

    /// The samples of this share.
    pub fn samples(&self) -> Range<usize> {
        self.shares[self.ranks.rank().min(self.shares.len() - 1)].samples.clone()
    }

    /// Samples of the whole batch.
    pub fn of(&self) -> usize {
        self.shares[self.shares.len() - 1].samples.end
    }

    /// Adds up what every share's rank gives along the tree of the batch: few numbers, equally many of each.
    pub fn total<T>(&self, mine: &[f64], read: impl Fn(&[f64]) -> T, add: impl FnMut(&mut T, T)) -> T {
        let mine: Vec<u8> = mine.iter().flat_map(|number| number.to_le_bytes()).collect();
        let given = self.ranks.gather(&mine);
        let parts = given.iter().zip(&*self.shares).map(|(bytes, share)| {
            let numbers: Vec<f64> =
                bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
            (read(&numbers), share.merges)
        });
        add_up(parts, add).pop().expect("a batch has at least one share").0
    }

    /// The same for many numbers, number by number: every rank adds up one piece of them for all.
    pub fn sum(&self, mine: &[f32]) -> Vec<f32> {
        let (size, rank) = (self.ranks.size(), self.ranks.rank());
        let place = |rank: usize| rank * mine.len() / size;
        let pieces: Vec<Range<usize>> = (0..size).map(|rank| place(rank)..place(rank + 1)).collect();
        let length = pieces[rank].len();
        let given = self.ranks.exchange(mine, &pieces, &vec![length; size]);
        let parts = self.shares.iter().enumerate().map(|(rank, share)| {
            let piece = given[rank * length..(rank + 1) * length].to_vec();
            (piece, share.merges)
        });
        let add = |sum: &mut Vec<f32>, other: Vec<f32>| {
            sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other)
        };
        let sum = add_up(parts, add).pop().expect("a batch has at least one share").0;
        let lengths: Vec<usize> = pieces.iter().map(Range::len).collect();
        self.ranks.exchange(&sum, &vec![0..length; size], &lengths)
    }
}

#[cfg(test)]
mod tests;
