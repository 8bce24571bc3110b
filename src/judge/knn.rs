//! Nearest neighbours by cosine similarity, and their weighted vote (Wu, Xiong, Yu, Lin 2018).
//!
//! [`nearest`] is the search, done once for the most neighbours wanted; [`Neighbours::vote`] and
//! [`Neighbours::grid`] then answer for any number of neighbours and any temperature.

use rayon::prelude::*;

use super::{Labeled, accuracy};
use crate::kernels::matrix_product;
use crate::math::functions::exp_f32;

/// Reference rows per product: with 256 columns of 1 KiB stride, a panel fits the second-level cache.
const REFERENCES: usize = 256;
/// Query rows per product, which bounds memory: 4 MiB of similarities. Searched for in pieces of so many, neighbours take no
/// more time.
pub const QUERIES: usize = 4096;
/// Stands for a similarity of NaN features: the least possible.
const LEAST: f32 = -1.0;

/// The neighbours of queries, nearest first; among equally near ones the lower index comes first.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    count: usize,
    indices: Vec<u32>,
    similarities: Vec<f32>,
}

/// Numbers of neighbours and temperatures to try.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Numbers of neighbours.
    pub k: Vec<usize>,
    /// Temperatures.
    pub temperatures: Vec<f32>,
}

impl Default for Grid {
    /// 200 neighbours at temperature 0.07 are those of Wu and others (2018); 10, 20 and 100 those that DINO (Caron and
    /// others 2021) reports beside them.
    fn default() -> Self {
        Self { k: vec![10, 20, 50, 100, 200], temperatures: vec![0.02, 0.07, 0.2] }
    }
}

/// A point of the grid and its accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GridPoint {
    /// Number of neighbours.
    pub k: usize,
    /// Temperature.
    pub temperature: f32,
    /// Share of queries classified correctly, in 0..=1.
    pub accuracy: f64,
}

/// Peak memory of [`nearest`] in bytes, including the features of both.
pub fn memory(references: usize, queries: usize, width: usize, count: usize) -> u64 {
    let float = size_of::<f32>() as u64;
    let found = queries as u64 * count as u64 * size_of::<(u32, f32)>() as u64;
    let ranked = QUERIES.min(queries) as u64 * count as u64 * size_of::<(u32, f32)>() as u64;
    let working = (width + QUERIES.min(queries)) as u64 * REFERENCES as u64 * float;
    (references as u64 + queries as u64) * width as u64 * float
        + references as u64 * float
        + found
        + ranked
        + working
}

/// The `count` rows of `references` nearest to each row of `queries` (all of them if there are fewer), each row `width`
/// numbers long.
///
/// Features are used as they are, not centred. A row of zeros is equally near to everything. The result does not depend
/// on the number of threads.
pub fn nearest(references: &[f32], queries: &[f32], width: usize, count: usize) -> Neighbours {
    let rows = references.len() / width;
    let count = count.min(rows);
    let scales: Vec<f32> = references.par_chunks_exact(width).map(inverse_length).collect();
    let mut found = Neighbours { count, indices: Vec::new(), similarities: Vec::new() };
    if count == 0 {
        return found;
    }
    let mut panel = vec![0.0; width * REFERENCES];
    let mut products = vec![0.0; QUERIES.min(queries.len() / width) * REFERENCES];
    for queries in queries.chunks(QUERIES * width) {
        let mut ranks = vec![Ranks::new(count); queries.len() / width];
        for first in (0..rows).step_by(REFERENCES) {
            let columns = REFERENCES.min(rows - first);
            transpose(&references[first * width..][..columns * width], width, &scales[first..], &mut panel);
            let products = &mut products[..ranks.len() * columns];
            matrix_product([ranks.len(), width, columns], queries, &panel[..width * columns], &mut *products);
            let work = ranks.par_iter_mut().zip(products.par_chunks_exact(columns));
            work.zip(queries.par_chunks_exact(width)).for_each(|((ranks, products), query)| {
                let scale = inverse_length(query);
                for (column, &product) in products.iter().enumerate() {
                    ranks.offer((first + column) as u32, product * scale);
                }
            });
        }
        for ranks in ranks {
            found.indices.extend(ranks.best.iter().map(|(index, _)| index));
            found.similarities.extend(ranks.best.iter().map(|(_, similarity)| similarity));
        }
    }
    found
}

/// For each row in `queries` the `count` other rows of `rows` that are nearest to it, nearest first (see [`nearest`]).
pub fn nearest_others(rows: &[f32], queries: &[usize], width: usize, count: usize) -> Vec<Vec<usize>> {
    let values: Vec<f32> =
        queries.iter().flat_map(|&query| &rows[query * width..][..width]).copied().collect();
    let found = nearest(rows, &values, width, count + 1);
    let others = queries.iter().enumerate().map(|(place, &query)| {
        let indices = found.of(place).0.iter().map(|&index| index as usize);
        indices.filter(|&index| index != query).take(count).collect()
    });
    others.collect()
}

fn inverse_length(row: &[f32]) -> f32 {
    let length = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    if length > 0.0 { (1.0 / length) as f32 } else { 0.0 }
}

/// Writes rows, each multiplied by its scale, as the columns of `panel`.
fn transpose(rows: &[f32], width: usize, scales: &[f32], panel: &mut [f32]) {
    let columns = rows.len() / width;
    panel[..width * columns].par_chunks_exact_mut(columns).enumerate().for_each(|(feature, target)| {
        for (column, (target, scale)) in target.iter_mut().zip(scales).enumerate() {
            *target = rows[column * width + feature] * scale;
        }
    });
}

/// The nearest references so far of one query, nearest first.
#[derive(Clone)]
struct Ranks {
    count: usize,
    best: Vec<(u32, f32)>,
}

impl Ranks {
    fn new(count: usize) -> Self {
        Self { count, best: Vec::with_capacity(count) }
    }

    /// References must come in the order of their indices.
    fn offer(&mut self, index: u32, similarity: f32) {
        let similarity = if similarity.is_nan() { LEAST } else { similarity };
        if self.best.len() == self.count {
            match self.best.last() {
                Some(&(_, worst)) if similarity > worst => self.best.pop(),
                _ => return,
            };
        }
        let place = self.best.partition_point(|&(_, better)| better >= similarity);
        self.best.insert(place, (index, similarity));
    }
}

impl Neighbours {
    /// Neighbours of each query.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.indices.len() / self.count.max(1)
    }

    /// Adds those of the queries behind them, with as many neighbours.
    pub fn append(&mut self, other: Self) {
        assert_eq!(self.count, other.count);
        self.indices.extend(other.indices);
        self.similarities.extend(other.similarities);
    }

    /// Indices of the neighbours of a query, and how similar they are (cosine, -1..=1).
    pub fn of(&self, query: usize) -> (&[u32], &[f32]) {
        let range = query * self.count..(query + 1) * self.count;
        (&self.indices[range.clone()], &self.similarities[range])
    }

    /// Shares of the classes in the vote of the `k` nearest (all if there are fewer), each with weight
    /// `exp(similarity / temperature)`: `[queries, classes]`, each row adding up to 1. `labels` are those of the
    /// references.
    pub fn vote(&self, labels: &[u16], classes: usize, k: usize, temperature: f32) -> Vec<f32> {
        let mut shares = vec![0.0; self.queries() * classes];
        shares.par_chunks_exact_mut(classes).enumerate().for_each(|(query, row)| {
            let (indices, similarities) = self.of(query);
            // Weights relative to the nearest: the same shares, and no overflow.
            let nearest = similarities.first().copied().unwrap_or_default();
            for (&index, similarity) in indices.iter().zip(similarities).take(k) {
                row[usize::from(labels[index as usize])] += exp_f32((similarity - nearest) / temperature);
            }
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|share| *share /= sum);
        });
        shares
    }

    /// Accuracy at every point of a grid; `references` are the labels that vote, `truth` the labels of the queries.
    pub fn grid(&self, references: &[u16], truth: &[u16], classes: usize, grid: &Grid) -> Vec<GridPoint> {
        let points = grid.k.iter().flat_map(|&k| grid.temperatures.iter().map(move |&t| (k, t)));
        points
            .map(|(k, temperature)| GridPoint {
                k,
                temperature,
                accuracy: accuracy(&self.vote(references, classes, k, temperature), truth, classes),
            })
            .collect()
    }
}

/// The point with the highest accuracy, the first one among equals; `None` for an empty grid.
pub fn best(points: &[GridPoint]) -> Option<GridPoint> {
    points.iter().copied().reduce(|best, point| if point.accuracy > best.accuracy { point } else { best })
}

/// Accuracy of the vote at every point of a grid, and the neighbours it was taken among.
pub fn judge(train: Labeled<'_>, queries: Labeled<'_>, grid: &Grid) -> (Vec<GridPoint>, Neighbours) {
    let most = grid.k.iter().copied().max().unwrap_or(0);
    let neighbours = nearest(train.values, queries.values, train.width, most);
    (neighbours.grid(train.labels, queries.labels, train.classes, grid), neighbours)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;
    use crate::math::logits::argmax;
    use crate::math::random::{Purpose, generator};

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut random = generator(seed, Purpose::Shuffle, 0, 0);
        (0..count).map(|_| random.next_u32() as f32 / u32::MAX as f32 - 0.4).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn neighbours_are_those_of_comparing_all_with_all() {
        let (width, references, queries) = (19, numbers(600 * 19, 1), numbers(37 * 19, 2));
        let found = nearest(&references, &queries, width, 11);
        assert_eq!((found.queries(), found.count()), (37, 11));
        let pieces = queries.chunks(10 * width).map(|queries| nearest(&references, queries, width, 11));
        let pieces = pieces.reduce(|mut all, piece| {
            all.append(piece);
            all
        });
        assert_eq!(pieces.as_ref(), Some(&found));
        for (query, row) in queries.chunks_exact(width).enumerate() {
            let mut all: Vec<(u32, f64)> = references
                .chunks_exact(width)
                .enumerate()
                .map(|(index, reference)| (index as u32, cosine(row, reference)))
                .collect();
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            let (indices, similarities) = found.of(query);
            assert_eq!(indices, all[..11].iter().map(|pair| pair.0).collect::<Vec<_>>());
            let expected = all.iter().map(|pair| pair.1);
            assert!(similarities.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6));
        }
    }

    #[test]
    fn equally_near_rows_come_in_their_order_and_bad_rows_last() {
        let references = [1.0, 0.0, f32::NAN, 1.0, 2.0, 0.0, 0.0, 0.0];
        let found = nearest(&references, &[3.0, 0.0], 2, 9);
        assert_eq!(found.of(0).0, [0, 2, 3, 1]);
        assert_eq!(found.of(0).1, [1.0, 1.0, 0.0, -1.0]);
        assert_eq!(nearest(&[], &[1.0, 2.0], 2, 3).queries(), 0);
    }

    #[test]
    fn the_nearest_others_point_the_same_way_whatever_their_length_and_leave_the_row_itself_out() {
        let rows = [1.0, 0.0, 5.0, 0.5, 0.0, 1.0, -1.0, 0.0, 2.0, 0.0];
        assert_eq!(nearest_others(&rows, &[0, 2], 2, 2), [[4, 1], [1, 0]]);
        assert_eq!(nearest_others(&rows, &[4], 2, 9), [[0, 1, 2, 3]]);
    }

    #[test]
    fn a_vote_weighs_by_similarity_and_temperature() {
        let found = nearest(&[1.0, 0.0, 0.6, 0.8, 0.6, -0.8], &[1.0, 0.0], 2, 3);
        let votes = |k, temperature| found.vote(&[0, 1, 1], 2, k, temperature);
        // One neighbour at similarity 1 against two at 0.6.
        let expected = 1.0 / (1.0 + 2.0 * exp_f32(-0.4 / 0.5));
        assert!((votes(3, 0.5)[0] - expected).abs() < 1e-6);
        assert_eq!(argmax(&votes(3, 0.1)), 0);
        assert_eq!(argmax(&votes(3, 10.0)), 1);
        assert_eq!(votes(1, 10.0), [1.0, 0.0]);
        assert!(votes(3, 1e-30).iter().all(|share| share.is_finite()));
    }

    #[test]
    fn the_grid_gives_the_accuracy_of_each_vote() {
        let (train, queries) = (numbers(300 * 8, 3), numbers(50 * 8, 4));
        let labels = |count: u32| (0..count).map(|index| (index % 3) as u16).collect::<Vec<_>>();
        let (references, truth) = (labels(300), labels(50));
        let labeled = |values, labels| Labeled { values, labels, width: 8, classes: 3 };
        let grid = Grid { k: vec![1, 7], temperatures: vec![0.1, 1.0] };
        let (points, found) = judge(labeled(&train, &references), labeled(&queries, &truth), &grid);
        assert_eq!(points.len(), 4);
        for point in &points {
            let votes = found.vote(&references, 3, point.k, point.temperature);
            assert_eq!(point.accuracy, accuracy(&votes, &truth, 3));
        }
        let most = points.iter().map(|point| point.accuracy).fold(0.0, f64::max);
        assert_eq!(best(&points).unwrap().accuracy, most);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let (references, queries) = (numbers(700 * 33, 5), numbers(90 * 33, 6));
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| nearest(&references, &queries, 33, 20))
        };
        assert_eq!(with(1), with(3));
    }
}
