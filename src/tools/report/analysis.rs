//! What is computed from features and counts for the page: neighbours, projection, intervals.

use rayon::prelude::*;

/// Features of images, a row an image.
pub(super) struct Rows {
    values: Vec<f32>,
    width: usize,
}

/// The first two principal components.
pub(super) struct Projection {
    /// Coordinates of each row.
    pub points: Vec<(f64, f64)>,
    /// Share of the variance that each component carries.
    pub shares: [f64; 2],
}

/// Rounds of power iteration; a further one no longer moves a point by a pixel.
const ROUNDS: usize = 60;

impl Rows {
    /// `values` holds `width` numbers a row; they are centred.
    pub(super) fn centred(mut values: Vec<f32>, width: usize) -> Self {
        let width = width.max(1);
        let count = (values.len() / width).max(1) as f64;
        let mut mean = vec![0.0_f64; width];
        for row in values.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        for row in values.chunks_exact_mut(width) {
            row.iter_mut().zip(&mean).for_each(|(value, sum)| *value -= (sum / count) as f32);
        }
        Self { values, width }
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.values.len() / self.width
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// The rows most like row `index` by cosine, best first, without itself.
    pub(super) fn neighbours(&self, index: usize, count: usize) -> Vec<usize> {
        let row = self.row(index);
        let likeness = |other: usize| {
            let other = self.row(other);
            let lengths = dot(other, other).sqrt();
            if lengths > 0.0 { dot(row, other) / lengths } else { f64::NEG_INFINITY }
        };
        let mut others: Vec<(usize, f64)> =
            (0..self.len()).filter(|&other| other != index).map(|other| (other, likeness(other))).collect();
        others.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        others.into_iter().take(count).map(|(other, _)| other).collect()
    }

    /// Share of the `count` nearest neighbours of the first `queries` rows that have the label of their row.
    pub(super) fn same_label(&self, labels: &[u8], queries: usize, count: usize) -> f64 {
        let queries = queries.min(self.len());
        let same: usize = (0..queries)
            .into_par_iter()
            .map(|query| {
                let neighbours = self.neighbours(query, count).into_iter();
                neighbours.filter(|&other| labels[other] == labels[query]).count()
            })
            .sum();
        same as f64 / (queries * count.min(self.len().saturating_sub(1))).max(1) as f64
    }

    /// The two directions of most variance, by power iteration from a fixed start.
    pub(super) fn principal(&self) -> Projection {
        let total: f64 = self.values.iter().map(|&value| f64::from(value).powi(2)).sum();
        let first = self.direction(&[]);
        let second = self.direction(std::slice::from_ref(&first));
        let coordinates = [&first, &second].map(|direction| self.times(direction));
        let shares = [0, 1].map(|axis| {
            let variance: f64 = coordinates[axis].iter().map(|value| value * value).sum();
            if total > 0.0 { variance / total } else { 0.0 }
        });
        let [xs, ys] = coordinates;
        Projection { points: xs.into_iter().zip(ys).collect(), shares }
    }

    /// The direction of most variance that is at right angles to all of `others`.
    fn direction(&self, others: &[Vec<f64>]) -> Vec<f64> {
        let mut direction: Vec<f64> = (0..self.width).map(|index| 1.0 + (index as f64).sin()).collect();
        for _ in 0..ROUNDS {
            let weights = self.times(&direction);
            direction = vec![0.0; self.width];
            for (row, weight) in self.values.chunks_exact(self.width).zip(weights) {
                direction.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * f64::from(value));
            }
            for other in others {
                let along: f64 = direction.iter().zip(other).map(|(a, b)| a * b).sum();
                direction.iter_mut().zip(other).for_each(|(value, b)| *value -= along * b);
            }
            let length = direction.iter().map(|value| value * value).sum::<f64>().sqrt();
            if length > 0.0 {
                direction.iter_mut().for_each(|value| *value /= length);
            }
        }
        direction
    }

    fn times(&self, direction: &[f64]) -> Vec<f64> {
        let rows = self.values.chunks_exact(self.width);
        rows.map(|row| row.iter().zip(direction).map(|(&a, b)| f64::from(a) * b).sum()).collect()
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>().into()
}

/// Softmax of a row of logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Index and value of the largest number, the first one where several are.
pub(super) fn best(row: &[f32]) -> (usize, f32) {
    let better = |best: (usize, f32), (index, &value): (usize, &f32)| {
        if value > best.1 { (index, value) } else { best }
    };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), better)
}

/// The 95 % interval of a share found in `count` independent samples (Wilson 1927).
pub(super) fn interval(share: f64, count: f64) -> (f64, f64) {
    const Z: f64 = 1.96;
    if count <= 0.0 {
        return (0.0, 1.0);
    }
    let z2 = Z * Z / count;
    let middle = (share + z2 / 2.0) / (1.0 + z2);
    let half = Z * (share * (1.0 - share) / count + z2 / (4.0 * count)).sqrt() / (1.0 + z2);
    (middle - half, middle + half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_found_in_order_of_their_variance() {
        // Variance 100 along (0, 1, 0), 4 along (1, 0, 0), none along the last.
        let values: Vec<f32> =
            [[2.0, 0.0], [-2.0, 0.0], [0.0, 10.0], [0.0, -10.0]].map(|[a, b]| [a + 5.0, b, 1.0]).concat();
        let projection = Rows::centred(values, 3).principal();
        let close = |a: f64, b: f64| (a.abs() - b).abs() < 1e-6;
        assert!(close(projection.shares[0], 200.0 / 208.0) && close(projection.shares[1], 8.0 / 208.0));
        assert!(close(projection.points[2].0, 10.0) && close(projection.points[2].1, 0.0));
        assert!(close(projection.points[0].1, 2.0));
    }

    #[test]
    fn neighbours_point_the_same_way_whatever_their_length() {
        let rows = Rows { values: vec![1.0, 0.0, 5.0, 0.5, 0.0, 1.0, -1.0, 0.0], width: 2 };
        assert_eq!(rows.neighbours(0, 2), [1, 2]);
        assert_eq!(rows.same_label(&[7, 7, 3, 3], 2, 1), 1.0);
        assert_eq!(rows.same_label(&[7, 1, 3, 3], 2, 1), 0.0);
    }

    #[test]
    fn intervals_hold_their_share_and_narrow_with_the_count() {
        // Newcombe 1998, table I, method 3: 81 of 263.
        let (low, high) = interval(81.0 / 263.0, 263.0);
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4, "{low} {high}");
        assert_eq!(interval(0.5, 0.0), (0.0, 1.0));
    }

    #[test]
    fn probabilities_add_up_and_the_first_best_wins() {
        let probabilities = softmax(&[1000.0, 1000.0, 0.0]);
        assert_eq!(best(&probabilities), (0, 0.5));
    }
}
