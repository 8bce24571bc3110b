//! What follows the convolution: deviation, activation, averaging.

use std::ops::Range;

use burn::module::Param;
use burn::tensor::Tensor;

use super::Activation;
use super::shape::PatchShape;
use crate::model::{ImageShape, Pool};

/// Soft threshold of the two-sided activation (`encParam = 0.25`).
pub(crate) const THRESHOLD: f32 = 0.25;

/// What follows the convolution, for one image.
pub(super) struct Tail {
    shape: PatchShape,
    image: ImageShape,
    bias: Vec<f32>,
    squares: Vec<f32>,
    contrast: f32,
    /// Rows and columns of the places that are averaged.
    cells: [Vec<Range<usize>>; 2],
}

impl Tail {
    /// Of a layer with this `bias` and these `squares` and `contrast`.
    pub(super) fn new(
        shape: PatchShape,
        [bias, squares, contrast]: [&Param<Tensor<1>>; 3],
        image: ImageShape,
        pool: Pool,
    ) -> Self {
        let numbers = |tensor: &Param<Tensor<1>>| tensor.val().into_data().iter::<f32>().collect::<Vec<_>>();
        let [height, width, _] = shape.places(image);
        // As adaptive pooling: cells overlap where the places do not divide.
        let cells = |places: usize| -> Vec<Range<usize>> {
            let side = pool.side().unwrap_or(places);
            (0..side).map(|cell| cell * places / side..((cell + 1) * places).div_ceil(side)).collect()
        };
        Self {
            shape,
            image,
            bias: numbers(bias),
            squares: numbers(squares),
            contrast: numbers(contrast).first().copied().unwrap_or_default(),
            cells: [cells(height), cells(width)],
        }
    }

    /// Activations of one image, averaged by cell; `responses` are those of the convolution at every place.
    pub(super) fn encode(&self, pixels: &[f32], responses: &[f32], features: &mut [f32]) {
        let [_, width, numbers] = self.shape.places(self.image);
        let factors = self.inverse_deviations(pixels);
        let mut distances = vec![0.0; self.shape.count];
        let [rows, columns] = &self.cells;
        let cells = rows.iter().flat_map(|rows| columns.iter().map(move |columns| (rows, columns)));
        for ((rows, columns), features) in cells.zip(features.chunks_exact_mut(numbers)) {
            for place in rows.clone().flat_map(|row| columns.clone().map(move |column| row * width + column))
            {
                let responses = &responses[place * self.shape.outputs()..][..self.shape.outputs()];
                match self.shape.activation {
                    Activation::TwoSided => self.add_two_sided(responses, factors[place], features),
                    Activation::Triangle => {
                        self.add_triangle(responses, factors[place], &mut distances, features);
                    }
                }
            }
            let share = 1.0 / (rows.len() * columns.len()) as f32;
            features.iter_mut().for_each(|sum| *sum *= share);
        }
    }

    fn add_two_sided(&self, responses: &[f32], factor: f32, sums: &mut [f32]) {
        let (positive, negative) = sums.split_at_mut(self.shape.count);
        let sums = positive.iter_mut().zip(negative);
        for ((response, bias), (positive, negative)) in responses.iter().zip(&self.bias).zip(sums) {
            let value = response * factor + bias;
            *positive += (value - THRESHOLD).max(0.0);
            *negative += (-value - THRESHOLD).max(0.0);
        }
    }

    fn add_triangle(&self, responses: &[f32], factor: f32, distances: &mut [f32], sums: &mut [f32]) {
        let count = self.shape.count;
        let value = |at: usize| responses[at] * factor + self.bias[at];
        let square: f32 = (count..self.shape.outputs()).map(|at| value(at) * value(at)).sum();
        for (at, distance) in distances.iter_mut().enumerate() {
            *distance = (square - 2.0 * value(at) + self.squares[at]).max(0.0).sqrt();
        }
        let mean = distances.iter().sum::<f32>() / count as f32;
        for (sum, distance) in sums.iter_mut().zip(distances) {
            *sum += (mean - *distance).max(0.0);
        }
    }

    /// One over the deviation of the patch at each place.
    fn inverse_deviations(&self, pixels: &[f32]) -> Vec<f32> {
        let [height, width, channels] = self.image;
        let side = self.shape.side;
        // Sums of values and squares of each pixel, then along rows, then along columns; in f64, as variance is a
        // difference of them.
        let pixel_sums = pixels.chunks_exact(channels).map(|pixel| {
            let values = pixel.iter().map(|&value| f64::from(value));
            [values.clone().sum::<f64>(), values.map(|value| value * value).sum()]
        });
        let pixel_sums: Vec<[f64; 2]> = pixel_sums.collect();
        let add = |sums: [f64; 2], more: [f64; 2]| [sums[0] + more[0], sums[1] + more[1]];
        let across = width + 1 - side;
        let mut row_sums = Vec::with_capacity(height * across);
        for row in pixel_sums.chunks_exact(width) {
            row_sums.extend(row.windows(side).map(|window| window.iter().copied().fold([0.0; 2], add)));
        }
        let count = self.shape.values() as f64;
        let mut factors = Vec::with_capacity((height + 1 - side) * across);
        for top in 0..=height - side {
            for left in 0..across {
                let rows = (top..top + side).map(|row| row_sums[row * across + left]);
                let [sum, squares] = rows.fold([0.0; 2], add);
                let variance = ((squares - sum * sum / count) / (count - 1.0)).max(0.0);
                factors.push((1.0 / (variance + f64::from(self.contrast)).sqrt()) as f32);
            }
        }
        factors
    }
}
