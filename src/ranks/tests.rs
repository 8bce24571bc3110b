use std::time::{Duration, Instant};

use super::*;
use crate::error::{Error, Result};

#[test]
fn every_rank_gets_what_all_give() {
    let results = run(3, |ranks| {
        let rank = ranks.rank() as u8;
        let mut found = Vec::new();
        for round in 0..50 {
            assert_eq!(ranks.gather(&[rank, round]), [[0, round], [1, round], [2, round]]);
            found = gather_numbers(&*ranks, vec![f32::from(rank); ranks.rank()]);
        }
        let first = collect_numbers(&*ranks, vec![f32::from(rank); 2]);
        assert_eq!(first.concat().len(), if rank == 0 { 6 } else { 0 });
        assert_eq!(ranks.broadcast(vec![rank + 7; 1 + ranks.rank()]), [7]);
        let asked = (rank == 1).then_some(Stop::Terminate);
        assert_eq!(any_stop(&*ranks, asked), Some(Stop::Terminate));
        assert_eq!(any_stop(&*ranks, None), None);
        let same = agree(&*ranks, &[("data", vec![1]), ("config", vec![rank / 2])]);
        let Err(Error::Usage { problem, .. }) = same else { panic!("ranks differ") };
        assert_eq!(problem, "rank 2 has another config than rank 0");
        barrier(&*ranks);
        Ok(found)
    });
    assert_eq!(results.unwrap(), vec![vec![vec![], vec![1.0], vec![2.0, 2.0]]; 3]);
}

/// 1e8 + 1 is 1e8 in 32 bits, so that each order has its own sum.
fn uneven(samples: Range<usize>) -> f32 {
    samples.map(|sample| if sample % 16 == 0 { 1e8 } else { 1.0 + sample as f32 }).sum()
}

#[test]
fn any_number_of_ranks_adds_along_the_tree() {
    for samples in [5, 40, 64, 100, 128] {
        let units = crate::math::units::units(samples);
        let units = units.into_iter().map(|unit| (uneven(unit.samples), unit.merges));
        let expected = add_up(units, |sum, other| *sum += other)[0].0;
        for size in 1..=8 {
            let sums = run(size, |ranks| {
                let share = Share::new(ranks, samples);
                assert_eq!(share.of(), samples);
                let start = share.samples().start;
                let units = crate::math::units::units(share.samples().len()).into_iter();
                let units = units
                    .map(|unit| (uneven(unit.samples.start + start..unit.samples.end + start), unit.merges));
                let mine = add_up(units, |sum, other| *sum += other)[0].0;
                let few =
                    share.total(&[f64::from(mine)], |numbers| numbers[0] as f32, |sum, other| *sum += other);
                Ok((few, share.sum(&[mine, 1.0, mine, 2.0, mine])))
            });
            let shares = shares(samples, size).len() as f32;
            for (few, many) in sums.unwrap() {
                assert_eq!(few, expected, "{samples} samples, {size} ranks");
                assert_eq!(many, [expected, shares, expected, 2.0 * shares, expected]);
            }
        }
    }
}

#[test]
fn a_rank_that_fails_leaves_no_other_waiting() {
    let start = Instant::now();
    let failed: Result<Vec<()>> = run(3, |ranks| {
        if ranks.rank() == 1 {
            return Err(Error::config("key", "is wrong"));
        }
        barrier(&*ranks);
        Ok(())
    });
    assert!(matches!(failed, Err(Error::Config { .. })));
    let panicked = std::panic::catch_unwind(|| {
        run(3, |ranks| {
            if ranks.rank() == 2 {
                std::panic::resume_unwind(Box::new("the reason"));
            }
            barrier(&*ranks);
            Ok(())
        })
    });
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"the reason"));
    assert!(start.elapsed() < Duration::from_secs(20));
}
