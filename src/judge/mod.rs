//! How good features are and how reliable a number is: read-outs without training, and statistics of predictions.
//!
//! Pure functions of slices: no files, no configuration, no tensors. Features are stored row by row, `[samples,
//! width]`.

pub mod knn;
pub mod pseudo;
pub mod ridge;
pub mod statistics;
pub mod turns;

use crate::math::logits::argmax;

/// Labeled features: what a read-out is fitted to or evaluated on.
#[derive(Clone, Copy, Debug)]
pub struct Labeled<'a> {
    /// `[samples, width]`, row by row.
    pub values: &'a [f32],
    /// One per sample, each below `classes`.
    pub labels: &'a [u16],
    /// Features per sample.
    pub width: usize,
    /// Number of classes.
    pub classes: usize,
}

impl<'a> Labeled<'a> {
    /// The numbers of one sample.
    fn row(&self, index: usize) -> &'a [f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }
}

/// Share of rows of `scores` `[samples, classes]` whose largest number is at the label, in 0..=1.
pub fn accuracy(scores: &[f32], labels: &[u16], classes: usize) -> f64 {
    let right = scores.chunks_exact(classes).zip(labels);
    let right = right.filter(|(row, label)| argmax(row) == usize::from(**label)).count();
    right as f64 / labels.len().max(1) as f64
}
