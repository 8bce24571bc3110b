//! The patches to compare with, and how they become filters.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::shape::{PatchShape, floats};
use crate::kernels::{self, Arithmetic, DenseOptions};
use crate::math::logits::argmax;

/// Rounds of k-means (`run_kmeans(patches, numCentroids, 50)`).
const KMEANS_ROUNDS: usize = 50;
/// Patches multiplied at a time.
const ROWS_AT_A_TIME: usize = 4_096;

/// Subtracts the mean of a patch and divides by its deviation.
pub(super) fn normalise(patch: &mut [f32], contrast: f32) {
    let count = patch.len() as f32;
    let mean = patch.iter().sum::<f32>() / count;
    let variance = patch.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>() / (count - 1.0);
    let factor = 1.0 / (variance + contrast).sqrt();
    patch.iter_mut().for_each(|value| *value = (*value - mean) * factor);
}

pub(super) fn to_length_one(patch: &mut [f32]) {
    let length = patch.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        patch.iter_mut().for_each(|value| *value /= length);
    }
}

/// Normalised patches less the mean times the whitening matrix.
pub(super) fn whiten(patches: &[f32], mean: &[f64], zca: &[Vec<f64>], device: &Device) -> Vec<f32> {
    let width = mean.len();
    let shift = zca.iter().map(|row| -dot(row, mean) as f32).collect();
    // The matrix is symmetric.
    let matrix = zca.iter().flatten().map(|&value| value as f32).collect();
    let matrix = Tensor::from_data(TensorData::new(matrix, [width, width]), device);
    let shift = Tensor::from_data(TensorData::new(shift, [width]), device);
    products(patches, width, matrix, shift)
}

/// `rows · matrix + shift`, a piece at a time.
fn products(rows: &[f32], width: usize, matrix: Tensor<2>, shift: Tensor<1>) -> Vec<f32> {
    let device = matrix.device();
    let mut results = Vec::new();
    for rows in rows.chunks(ROWS_AT_A_TIME * width) {
        let piece = TensorData::new(rows.to_vec(), [rows.len() / width, width]);
        let piece = Tensor::from_data(piece, &device);
        let options = DenseOptions { relu: false, arithmetic: Arithmetic::default() };
        let result = kernels::dense_block(piece, matrix.clone(), shift.clone(), options).into_data();
        results.extend_from_slice(&floats(&result));
    }
    results
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// The dictionary (and for the triangle the whitening itself) as filters of raw patches, `[values, outputs]`, and what
/// is added after the division by the deviation.
pub(super) fn folded(
    dictionary: &[f32],
    mean: &[f64],
    zca: &[Vec<f64>],
    shape: PatchShape,
) -> (Vec<f32>, Vec<f32>) {
    let values = shape.values();
    let patches = dictionary.chunks_exact(values).map(|patch| {
        let patch: Vec<f64> = patch.iter().map(|&value| f64::from(value)).collect();
        zca.iter().map(|row| dot(row, &patch)).collect::<Vec<f64>>()
    });
    let itself = zca.iter().take(shape.outputs() - shape.count).cloned();
    let mut filters = vec![0.0; values * shape.outputs()];
    let mut bias = Vec::with_capacity(shape.outputs());
    for (output, filter) in patches.chain(itself).enumerate() {
        bias.push(-dot(&filter, mean) as f32);
        // Less its mean, a filter gives the same on a patch as on the patch less its mean.
        let own_mean = filter.iter().sum::<f64>() / values as f64;
        for (input, value) in filter.iter().enumerate() {
            filters[input * shape.outputs() + output] = (value - own_mean) as f32;
        }
    }
    (filters, bias)
}

/// Lloyd's k-means, from the first `count` rows; a mean that no row is nearest to stays where it is.
pub(super) fn kmeans(rows: &[f32], width: usize, count: usize, device: &Device) -> Vec<f32> {
    let mut means = rows[..count * width].to_vec();
    for _ in 0..KMEANS_ROUNDS {
        let transposed =
            Tensor::from_data(TensorData::new(means.clone(), [count, width]), device).transpose();
        let half = |mean: &[f32]| -0.5 * mean.iter().map(|value| value * value).sum::<f32>();
        let halves = means.chunks_exact(width).map(half).collect();
        let halves = Tensor::from_data(TensorData::new(halves, [count]), device);
        let mut sums = vec![0f64; count * width];
        let mut members = vec![0u32; count];
        for rows in rows.chunks(ROWS_AT_A_TIME * width) {
            // The nearest mean is that with the largest product less half its squared length.
            let nearness = products(rows, width, transposed.clone(), halves.clone());
            let nearest: Vec<usize> = nearness.par_chunks_exact(count).map(argmax).collect();
            for (row, nearest) in rows.chunks_exact(width).zip(nearest) {
                members[nearest] += 1;
                for (sum, value) in sums[nearest * width..].iter_mut().zip(row) {
                    *sum += f64::from(*value);
                }
            }
        }
        let places = means.chunks_exact_mut(width).zip(sums.chunks_exact(width)).zip(&members);
        for ((mean, sums), &members) in places.filter(|(_, members)| **members > 0) {
            for (mean, sum) in mean.iter_mut().zip(sums) {
                *mean = (sum / f64::from(members)) as f32;
            }
        }
    }
    means
}
