//! Mean and deviation of features.

use std::convert::Infallible;

/// Mean and deviation of each feature over the training samples.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMoments {
    /// Mean.
    pub mean: Vec<f32>,
    /// Standard deviation.
    pub deviation: Vec<f32>,
}

/// A feature with a smaller deviation counts as constant.
const LEAST_DEVIATION: f32 = 1e-6;

impl FeatureMoments {
    /// Of `values` `[samples, width]`.
    pub fn of(values: &[f32], width: usize) -> Self {
        let shape = [values.len() / width, width];
        let Ok(moments) = Self::of_blocks(shape, |take| {
            take(values);
            Ok::<(), Infallible>(())
        });
        moments
    }

    /// Of samples `[samples, width]`. Each call of `pass` goes through all rows in order, some at a time; how many at a
    /// time changes no bit.
    ///
    /// # Errors
    /// What `pass` fails with.
    pub fn of_blocks<E>(
        [samples, width]: [usize; 2],
        mut pass: impl FnMut(&mut dyn FnMut(&[f32])) -> Result<(), E>,
    ) -> Result<Self, E> {
        let count = samples as f64;
        let mut mean = vec![0f64; width];
        let mut squares = vec![0f64; width];
        pass(&mut |rows| {
            for row in rows.chunks_exact(width) {
                for (sum, value) in mean.iter_mut().zip(row) {
                    *sum += f64::from(*value);
                }
            }
        })?;
        mean.iter_mut().for_each(|sum| *sum /= count);
        pass(&mut |rows| {
            for row in rows.chunks_exact(width) {
                for ((sum, value), mean) in squares.iter_mut().zip(row).zip(&mean) {
                    *sum += (f64::from(*value) - mean) * (f64::from(*value) - mean);
                }
            }
        })?;
        Ok(Self {
            mean: mean.into_iter().map(|mean| mean as f32).collect(),
            deviation: squares.into_iter().map(|sum| (sum / count).sqrt() as f32).collect(),
        })
    }

    /// Gives every feature of `values` `[samples, width]` mean 0 and deviation 1.
    pub fn standardise(&self, values: &mut [f32]) {
        let factors = self.factors();
        for row in values.chunks_exact_mut(factors.len().max(1)) {
            for ((value, mean), factor) in row.iter_mut().zip(&self.mean).zip(&factors) {
                *value = (*value - mean) * factor;
            }
        }
    }

    /// Factors that scale each feature to deviation 1; features that hardly vary keep their scale.
    pub fn factors(&self) -> Vec<f32> {
        let inverse = |&deviation: &f32| if deviation < LEAST_DEVIATION { 1.0 } else { 1.0 / deviation };
        self.deviation.iter().map(inverse).collect()
    }
}
