//! Labels that probabilities stand for: balanced, propagated over a graph of neighbours, the surest chosen.

use rayon::prelude::*;

use super::knn::Neighbours;
use crate::math::logits::argmax;

/// A label that was given to a sample, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Given {
    /// Number of the sample.
    pub sample: usize,
    /// Its label.
    pub label: usize,
    /// Its probability, in 0..=1.
    pub probability: f32,
}

/// Divides the probabilities `[samples, classes]` of every class by their mean, so that no class is preferred as a whole;
/// each row then adds up to 1 again.
pub fn balance(probabilities: &mut [f32], classes: usize) {
    let mut sums = vec![0.0_f64; classes];
    for row in probabilities.chunks_exact(classes) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let samples = (probabilities.len() / classes).max(1) as f64;
    // A class that nothing is taken for stays one.
    let factors: Vec<f32> =
        sums.iter().map(|&sum| if sum > 0.0 { (samples / sum) as f32 } else { 1.0 }).collect();
    for row in probabilities.chunks_exact_mut(classes) {
        row.iter_mut().zip(&factors).for_each(|(value, factor)| *value *= factor);
        normalise(row);
    }
}

fn normalise(row: &mut [f32]) {
    let sum: f32 = row.iter().sum();
    if sum > 0.0 {
        row.iter_mut().for_each(|value| *value /= sum);
    }
}

/// Share of what the neighbours say in a round of [`propagate`]; the rest is what was said of the sample itself. With as
/// much of one as of the other, what a sample said is felt two or three edges away.
const FROM_NEIGHBOURS: f32 = 0.5;
/// Rounds; the next one would change a probability by less than `FROM_NEIGHBOURS` to this power, a thousandth.
const ROUNDS: usize = 10;

/// Probabilities `[samples, classes]` mixed with those of every sample's neighbours, weighted by their cosine, again and
/// again (label propagation: Zhou, Bousquet, Lal, Weston, Schoelkopf 2004). `neighbours` are among the same samples; a
/// sample itself, where it is among its own, and those that point away count for nothing.
pub fn propagate(probabilities: &[f32], classes: usize, neighbours: &Neighbours) -> Vec<f32> {
    let mut now = probabilities.to_vec();
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; now.len()];
        next.par_chunks_exact_mut(classes).enumerate().for_each(|(sample, row)| {
            let (indices, similarities) = neighbours.of(sample);
            for (&index, &similarity) in indices.iter().zip(similarities) {
                let index = index as usize;
                if index != sample && similarity > 0.0 {
                    let said = &now[index * classes..][..classes];
                    row.iter_mut().zip(said).for_each(|(sum, value)| *sum += similarity * value);
                }
            }
            normalise(row);
            let own = &probabilities[sample * classes..][..classes];
            for (value, own) in row.iter_mut().zip(own) {
                *value = FROM_NEIGHBOURS * *value + (1.0 - FROM_NEIGHBOURS) * own;
            }
            normalise(row);
        });
        now = next;
    }
    now
}

/// For every class the samples that are most surely of it, at most `count`: by class, the surest first, the lower number
/// first among equals. A sample is of the class of its largest probability. `eligible` says which may be chosen.
pub fn surest(
    probabilities: &[f32],
    classes: usize,
    count: usize,
    eligible: impl Fn(usize) -> bool,
) -> Vec<Given> {
    let mut by_class = vec![Vec::new(); classes];
    for (sample, row) in probabilities.chunks_exact(classes).enumerate() {
        let label = argmax(row);
        if eligible(sample) {
            by_class[label].push(Given { sample, label, probability: row[label] });
        }
    }
    for given in &mut by_class {
        given.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(a.sample.cmp(&b.sample)));
        given.truncate(count);
    }
    by_class.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::knn::nearest;

    #[test]
    fn balancing_prefers_no_class() {
        let mut probabilities = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3];
        balance(&mut probabilities, 2);
        // Means 0.8 and 0.2.
        let expected = [0.9 / 0.8, 0.1 / 0.2, 1.0, 1.0, 0.7 / 0.8, 0.3 / 0.2];
        for (row, expected) in probabilities.chunks(2).zip(expected.chunks(2)) {
            assert!((row[0] - expected[0] / (expected[0] + expected[1])).abs() < 1e-6);
            assert!((row[0] + row[1] - 1.0).abs() < 1e-6);
        }
        let mut without = [1.0, 0.0, 1.0, 0.0];
        balance(&mut without, 2);
        assert_eq!(without, [1.0, 0.0, 1.0, 0.0]);
    }

    #[test]
    fn what_is_known_spreads_to_neighbours_and_not_beyond_right_angles() {
        // Two directions; in each the first sample knows its class.
        let features = [1.0, 0.0, 1.0, 0.01, 0.98, 0.0, 0.0, 1.0, 0.0, 2.0];
        let neighbours = nearest(&features, &features, 2, 3);
        let unknown = [0.5, 0.5];
        let said = [[1.0, 0.0], unknown, unknown, [0.1, 0.9], unknown].concat();
        let spread = propagate(&said, 2, &neighbours);
        assert!(spread[2] > 0.6 && spread[4] > 0.6, "{spread:?}");
        assert!(spread[9] > 0.6, "{spread:?}");
        assert!(spread[0] > spread[2]);
        let alone = nearest(&features, &features, 2, 1);
        assert_eq!(propagate(&said, 2, &alone)[..2], [1.0, 0.0]);
    }

    #[test]
    fn the_surest_of_every_class_are_chosen() {
        let probabilities = [0.6, 0.4, 0.9, 0.1, 0.9, 0.1, 0.2, 0.8, 1.0, 0.0];
        let chosen = surest(&probabilities, 2, 2, |sample| sample != 4);
        let given = |sample, label, probability| Given { sample, label, probability };
        assert_eq!(chosen, [given(1, 0, 0.9), given(2, 0, 0.9), given(3, 1, 0.8)]);
        assert_eq!(surest(&probabilities, 2, 1, |_| true)[0].sample, 4);
    }
}
