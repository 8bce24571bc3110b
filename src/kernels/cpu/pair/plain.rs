//! What layers with factors of bfloat16 are defined to compute, in plain loops.

use super::super::naive;
use super::super::shape::ConvShape;
use super::UPPER;
use crate::math::units::{add_up, units};

/// A factor, found by comparing both neighbours.
pub fn rounded(number: f32) -> f32 {
    if number.is_nan() || number.is_infinite() {
        return number;
    }
    let below = f32::from_bits(number.to_bits() & UPPER);
    let above = f32::from_bits((number.to_bits() & UPPER) + 0x1_0000);
    let far = if above.is_infinite() { 2f64.powi(128) } else { f64::from(above.abs()) };
    let distances = [f64::from(number.abs() - below.abs()), far - f64::from(number.abs())];
    let even = below.to_bits() & 0x1_0000 == 0;
    let nearest = match distances[0] < distances[1] || distances[0] == distances[1] && even {
        true => below,
        false => above,
    };
    if f64::from(nearest.abs()) < 2f64.powi(-56) { 0.0 } else { nearest }
}

/// What a sum begins with: under 2^-103 nothing.
pub fn bias(number: f32) -> f32 {
    if f64::from(number.abs()) < 2f64.powi(-103) { 0.0 } else { number }
}

/// A sum with two products more.
pub fn pair_product(sum: f32, [a, b]: [[f32; 2]; 2]) -> f32 {
    rounded(a[0]).mul_add(rounded(b[0]), rounded(a[1]).mul_add(rounded(b[1]), sum))
}

/// The convolution's own output, `[batch, conv height, conv width, out]`, in plain loops.
pub fn sums(shape: &ConvShape, x: &[f32], weight: &[f32], start: &[f32]) -> Vec<f32> {
    let ConvShape { in_channels: channels, out_channels, kernel, .. } = *shape;
    let pixel = |image: usize, row: usize, column: usize, channel: usize| {
        naive::padded(shape, x, image, row, column, channel) as f32
    };
    let mut y = Vec::new();
    for index in 0..shape.batch * shape.conv_height() * shape.conv_width() * out_channels {
        let (output, position) = (index % out_channels, index / out_channels);
        let (row, column) =
            (position / shape.conv_width() % shape.conv_height(), position % shape.conv_width());
        let image = position / shape.conv_width() / shape.conv_height();
        let mut sum = bias(start[output]);
        for tap in 0..kernel * kernel {
            for channel in (0..channels).step_by(2) {
                let factors = [0, 1].map(|odd| {
                    let channel = channel + odd;
                    if channel == channels {
                        return [0.0; 2];
                    }
                    let x = pixel(image, row + tap / kernel, column + tap % kernel, channel);
                    [x, weight[(tap * channels + channel) * out_channels + output]]
                });
                sum = pair_product(sum, [0, 1].map(|side| factors.map(|pair| pair[side])));
            }
        }
        y.push(sum);
    }
    y
}

/// The gradient of the convolution's own output.
pub fn unfold(shape: &ConvShape, y: &[f32], argmax: &[u8], dy: &[f32]) -> Vec<f32> {
    let (height, width, channels) = (shape.conv_height(), shape.conv_width(), shape.out_channels);
    let mut dense = vec![0.0; shape.batch * height * width * channels];
    for (index, &gradient) in dy.iter().enumerate() {
        let (channel, position) = (index % channels, index / channels);
        let (column, row) = (position % shape.out_width(), position / shape.out_width() % shape.out_height());
        let image = position / shape.positions();
        let (place, step) = if shape.pool { (argmax[index], 2) } else { (0, 1) };
        if place != 255 && (shape.pool || !shape.relu || y[index] != 0.0) {
            let (row, column) = (step * row + place as usize / 2, step * column + place as usize % 2);
            dense[((image * height + row) * width + column) * channels + channel] = gradient;
        }
    }
    dense
}

/// Gradients of weights and biases, given the gradient of the convolution's own output.
pub fn weight_gradient(shape: &ConvShape, x: &[f32], dy: &[f32]) -> [Vec<f32>; 2] {
    let ConvShape { in_channels: channels, out_channels, kernel, .. } = *shape;
    let (height, width) = (shape.conv_height(), shape.conv_width());
    let sums = units(shape.batch).into_iter().map(|unit| {
        let mut weights = vec![0.0; shape.weight_len()];
        let mut biases = vec![0.0; out_channels];
        for first in unit.samples.clone().step_by(2) {
            let both = [first, first + 1];
            for position in 0..height * width {
                let (row, column) = (position / width, position % width);
                let dy =
                    |image: usize, output| dy[(image * height * width + position) * out_channels + output];
                for (index, sum) in weights.iter_mut().enumerate() {
                    let (output, number) = (index % out_channels, index / out_channels);
                    let (tap, channel) = (number / channels, number % channels);
                    let factors = both.map(|image| match unit.samples.contains(&image) {
                        true => [
                            naive::padded(shape, x, image, row + tap / kernel, column + tap % kernel, channel)
                                as f32,
                            dy(image, output),
                        ],
                        false => [0.0; 2],
                    });
                    *sum = pair_product(*sum, [0, 1].map(|side| factors.map(|pair| pair[side])));
                }
            }
        }
        for image in unit.samples {
            for position in 0..height * width {
                let gradients = &dy[(image * height * width + position) * out_channels..];
                biases.iter_mut().zip(gradients).for_each(|(sum, gradient)| *sum += gradient);
            }
        }
        ([weights, biases], unit.merges)
    });
    let sums = add_up(sums, |earlier, later| {
        for (earlier, later) in earlier.iter_mut().zip(later) {
            earlier.iter_mut().zip(later).for_each(|(earlier, later)| *earlier += later);
        }
    });
    sums.into_iter().next().unwrap().0
}

/// The gradient of the input, given that of the convolution's own output.
pub fn input_gradient(shape: &ConvShape, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let ConvShape { in_channels, out_channels, kernel, .. } = *shape;
    let turned = ConvShape {
        height: shape.conv_height(),
        width: shape.conv_width(),
        in_channels: out_channels,
        out_channels: in_channels,
        padding: kernel - 1 - shape.padding,
        ..*shape
    };
    let mut flipped = vec![0.0; weight.len()];
    for (index, &value) in weight.iter().enumerate() {
        let (output, number) = (index % out_channels, index / out_channels);
        let (tap, input) = (number / in_channels, number % in_channels);
        flipped[((kernel * kernel - 1 - tap) * out_channels + output) * in_channels + input] = value;
    }
    sums(&turned, dy, &flipped, &vec![0.0; in_channels])
}

/// The output, and the place of each maximum, behind ReLU and pool, if the layer has them.
pub fn pool(shape: &ConvShape, sums: &[f32]) -> (Vec<f32>, Vec<u8>) {
    let relu = |value: f32| if value.is_nan() || value > 0.0 || !shape.relu { value } else { 0.0 };
    if !shape.pool {
        return (sums.iter().map(|&sum| relu(sum)).collect(), Vec::new());
    }
    let (height, width, channels) = (shape.conv_height(), shape.conv_width(), shape.out_channels);
    let (mut y, mut argmax) = (Vec::new(), Vec::new());
    for index in 0..shape.batch * shape.output_len() {
        let (channel, position) = (index % channels, index / channels);
        let (column, row) = (position % shape.out_width(), position / shape.out_width() % shape.out_height());
        let image = position / shape.positions();
        let value = |place: usize| {
            let (row, column) = (2 * row + place / 2, 2 * column + place % 2);
            sums[((image * height + row) * width + column) * channels + channel]
        };
        let best = (1..4).fold(0, |best, place| {
            let better = value(place) > value(best) || value(place).is_nan();
            if better { place } else { best }
        });
        let kept = !shape.relu || value(best) > 0.0 || value(best).is_nan();
        y.push(if kept { value(best) } else { 0.0 });
        argmax.push(if kept { best as u8 } else { 255 });
    }
    (y, argmax)
}
