//! How sums over a batch are made: it is halved into units of samples, each unit is summed by itself, and the units are
//! added along the tree of the halves.
//!
//! Whether and where a piece of a batch is halved depends on its number of samples alone. So a sum depends on the batch
//! alone, whoever makes it: a thread, device or process that has a half (or a quarter, ...) of the batch arrives by itself
//! at that half's part of the tree, without knowing of the rest.

use std::ops::Range;

/// Fewest samples of a unit; there are fewer only in a batch that is smaller itself. No more threads or processes than units
/// can share a sum: a batch of 32 makes 4, one of 512 makes 64. A unit costs one pass over a layer's weights, when it is
/// added to its neighbour. That is hard to measure: `compact`, whose widest layer has 147,000, batch 256, one Zen 5 core,
/// processor time of 12 steps with other work beside, 6 pairs: 0.99 (0.94 to 1.03) of what left-to-right sums over units
/// of 16 took; with 4 images the weight gradient of 6x6x64 -> 64 alone was 5.2 us an image, with 8 and with 16 4.6.
pub const FEWEST: usize = 8;

/// Halves are multiples of so many samples where they can be: the four rotations of an image stay together.
const TOGETHER: usize = 4;

/// A piece of a batch, and what happens once it is summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its samples.
    pub samples: Range<usize>,
    /// How often the last sum but one then takes up the last: the tree in postfix notation.
    pub merges: usize,
}

/// Samples of the two halves of a piece, or nothing if it is a unit.
pub fn halves(samples: usize) -> Option<[usize; 2]> {
    let first = (samples + TOGETHER) / (2 * TOGETHER) * TOGETHER;
    (samples >= 2 * FEWEST).then_some([first, samples - first])
}

/// The units of a batch, at least one.
pub fn units(samples: usize) -> Vec<Unit> {
    let mut units = Vec::with_capacity(samples / FEWEST + 1);
    push_units(&mut units, Unit { samples: 0..samples, merges: 0 });
    units
}

fn push_units(units: &mut Vec<Unit>, piece: Unit) {
    match piece.in_two() {
        Some(two) => two.into_iter().for_each(|half| push_units(units, half)),
        None => units.push(piece),
    }
}

/// At most `count` (and at least one) pieces of a batch that are whole subtrees, as even as these allow: the largest is
/// halved again and again.
pub fn shares(samples: usize, count: usize) -> Vec<Unit> {
    let mut shares = vec![Unit { samples: 0..samples, merges: 0 }];
    while shares.len() < count {
        let size = |&index: &usize| shares[index].samples.len();
        let largest = (0..shares.len()).rev().max_by_key(size).unwrap_or_default();
        let Some(two) = shares[largest].in_two() else { break };
        shares.splice(largest..=largest, two);
    }
    shares
}

impl Unit {
    fn in_two(&self) -> Option<[Self; 2]> {
        let Range { start, end } = self.samples;
        let [first, _] = halves(end - start)?;
        Some([
            Self { samples: start..start + first, merges: 0 },
            Self { samples: start + first..end, merges: self.merges + 1 },
        ])
    }
}

/// Adds up the sums of consecutive pieces of a batch, each with its merges, as far as they go without the other pieces;
/// of all pieces one sum is left. What is left of several runs of pieces, one run behind the other, adds up to the same.
pub fn add_up<T>(
    sums: impl IntoIterator<Item = (T, usize)>,
    mut add: impl FnMut(&mut T, T),
) -> Vec<(T, usize)> {
    let mut left: Vec<(T, usize)> = Vec::new();
    for (mut sum, mut merges) in sums {
        // What itself waits for an earlier sum cannot take up a later one yet.
        while merges > 0
            && let Some((mut earlier, _)) = left.pop_if(|(_, waiting)| *waiting == 0)
        {
            add(&mut earlier, sum);
            (sum, merges) = (earlier, merges - 1);
        }
        left.push((sum, merges));
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sum that shows its order.
    fn trees(pieces: &[Unit]) -> Vec<(String, usize)> {
        let sums = pieces.iter().map(|unit| (format!("{}", unit.samples.len()), unit.merges));
        joined(sums)
    }

    fn joined(sums: impl IntoIterator<Item = (String, usize)>) -> Vec<(String, usize)> {
        add_up(sums, |earlier, later| *earlier = format!("({earlier} {later})"))
    }

    #[test]
    fn a_batch_is_halved_down_to_units() {
        for (samples, tree) in [
            (0, "0"),
            (5, "5"),
            (15, "15"),
            (16, "(8 8)"),
            (20, "(12 8)"),
            (28, "((8 8) 12)"),
            (37, "((12 8) (8 9))"),
            (64, "(((8 8) (8 8)) ((8 8) (8 8)))"),
        ] {
            assert_eq!(trees(&units(samples)), [(tree.to_owned(), 0)]);
        }
        assert_eq!(units(512).len(), 64);
        assert_eq!(units(128).iter().map(|unit| unit.samples.len()).collect::<Vec<_>>(), [8; 16]);
    }

    proptest! {
        #[test]
        fn units_cover_the_batch_and_keep_groups_of_four_whole(groups in 1usize..300) {
            let units = units(4 * groups);
            prop_assert_eq!(units[0].samples.start, 0);
            prop_assert_eq!(units[units.len() - 1].samples.end, 4 * groups);
            prop_assert!(units.windows(2).all(|pair| pair[0].samples.end == pair[1].samples.start));
            for unit in &units {
                prop_assert!(unit.samples.start % 4 == 0);
                prop_assert!(units.len() == 1 || (FEWEST..2 * FEWEST).contains(&unit.samples.len()));
            }
        }

        #[test]
        fn a_sum_over_any_ranges_of_units_is_the_sum_over_all(samples in 1usize..400, seed in any::<u64>()) {
            let units = units(samples);
            let whole = trees(&units);
            prop_assert_eq!(whole.len(), 1);
            for ranks in 1..=units.len() {
                // Borders in even places, and in any places.
                for shift in [0, seed as usize] {
                    let place = |rank: usize| match rank {
                        0 => 0,
                        rank if rank == ranks => units.len(),
                        rank => (rank * units.len() / ranks + shift % (rank + 1)).min(units.len()),
                    };
                    let mut borders: Vec<usize> = (0..=ranks).map(place).collect();
                    borders.sort_unstable();
                    let parts = borders.windows(2).flat_map(|pair| trees(&units[pair[0]..pair[1]]));
                    prop_assert_eq!(&joined(parts), &whole);
                }
            }
        }

        #[test]
        fn a_share_arrives_by_itself_at_its_part_of_the_tree(samples in 1usize..400, count in 1usize..20) {
            let shares = shares(samples, count);
            let parts = shares.iter().map(|share| (trees(&units(share.samples.len())).remove(0).0, share.merges));
            prop_assert_eq!(joined(parts), trees(&units(samples)));
            prop_assert!(shares.len() == count.min(units(samples).len()) || count > 1 && shares.len() < count);
        }

        #[test]
        fn a_power_of_two_shares_evenly(power in 0u32..5, more in 0usize..200) {
            let count = 1 << power;
            let shares = shares(2 * FEWEST * count + more, count);
            let sizes = || shares.iter().map(|share| share.samples.len());
            prop_assert_eq!(shares.len(), count);
            prop_assert!(sizes().max() <= sizes().min().map(|least| least + 2 * TOGETHER));
        }
    }
}
