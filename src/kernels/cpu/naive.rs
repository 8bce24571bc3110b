//! The naive twin of every kernel: plain loops, sums in `f64`. Tests compare against it.

use super::shape::ConvShape;

/// `x[image, row, column, channel]` with zeros outside the image.
pub fn padded(shape: &ConvShape, x: &[f32], image: usize, row: usize, column: usize, channel: usize) -> f64 {
    let (row, column) = (row.wrapping_sub(shape.padding), column.wrapping_sub(shape.padding));
    if row >= shape.height || column >= shape.width {
        return 0.0;
    }
    x[((image * shape.height + row) * shape.width + column) * shape.in_channels + channel] as f64
}

fn relu(value: f32) -> f32 {
    if value.is_nan() || value > 0.0 { value } else { 0.0 }
}

/// Returns `y` and, with pooling, the argmax.
pub fn conv_forward(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
) -> (Vec<f32>, Vec<u8>) {
    let (mut y, mut argmax) = (Vec::new(), Vec::new());
    let conv = |image: usize, row: usize, column: usize, channel: usize| {
        let mut sum = bias.map_or(0.0, |bias| bias[channel] as f64);
        for kernel_row in 0..shape.kernel {
            for kernel_column in 0..shape.kernel {
                for input in 0..shape.in_channels {
                    let tap = (kernel_row * shape.kernel + kernel_column) * shape.in_channels + input;
                    sum += padded(shape, x, image, row + kernel_row, column + kernel_column, input)
                        * weight[tap * shape.out_channels + channel] as f64;
                }
            }
        }
        sum as f32
    };
    for image in 0..shape.batch {
        for row in 0..shape.out_height() {
            for column in 0..shape.out_width() {
                for channel in 0..shape.out_channels {
                    if !shape.pool {
                        let value = conv(image, row, column, channel);
                        y.push(if shape.relu { relu(value) } else { value });
                        continue;
                    }
                    let (mut best, mut position) = (f32::NEG_INFINITY, 0);
                    for window in 0..4 {
                        let value = conv(image, 2 * row + window / 2, 2 * column + window % 2, channel);
                        if window == 0 || value > best || value.is_nan() {
                            (best, position) = (value, window as u8);
                        }
                    }
                    if shape.relu && relu(best) == 0.0 {
                        (best, position) = (0.0, 255);
                    }
                    y.push(best);
                    argmax.push(position);
                }
            }
        }
    }
    (y, argmax)
}

/// Returns the gradients of weight, bias and input.
pub fn conv_backward(
    shape: &ConvShape,
    x: &[f32],
    weight: &[f32],
    y: &[f32],
    argmax: &[u8],
    dy: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut dweight = vec![0f64; shape.weight_len()];
    let mut dbias = vec![0f64; shape.out_channels];
    let mut dx = vec![0f64; shape.batch * shape.input_len()];
    for (index, &gradient) in dy.iter().enumerate() {
        let channel = index % shape.out_channels;
        let position = index / shape.out_channels % shape.positions();
        let image = index / shape.output_len();
        let (mut row, mut column) = (position / shape.out_width(), position % shape.out_width());
        if shape.pool {
            if argmax[index] == 255 {
                continue;
            }
            (row, column) = (2 * row + argmax[index] as usize / 2, 2 * column + argmax[index] as usize % 2);
        } else if shape.relu && y[index] == 0.0 {
            continue;
        }
        let gradient = gradient as f64;
        dbias[channel] += gradient;
        for kernel_row in 0..shape.kernel {
            for kernel_column in 0..shape.kernel {
                for input in 0..shape.in_channels {
                    let tap = (kernel_row * shape.kernel + kernel_column) * shape.in_channels + input;
                    dweight[tap * shape.out_channels + channel] +=
                        gradient * padded(shape, x, image, row + kernel_row, column + kernel_column, input);
                    let in_row = (row + kernel_row).wrapping_sub(shape.padding);
                    let in_column = (column + kernel_column).wrapping_sub(shape.padding);
                    if in_row < shape.height && in_column < shape.width {
                        let pixel = (image * shape.height + in_row) * shape.width + in_column;
                        dx[pixel * shape.in_channels + input] +=
                            gradient * weight[tap * shape.out_channels + channel] as f64;
                    }
                }
            }
        }
    }
    let narrow = |sums: Vec<f64>| sums.into_iter().map(|sum| sum as f32).collect();
    (narrow(dweight), narrow(dbias), narrow(dx))
}

/// A dense layer as a 1x1 convolution of 1x1 images.
pub fn linear_as_conv(batch: usize, inputs: usize, outputs: usize, relu: bool) -> ConvShape {
    ConvShape {
        batch,
        height: 1,
        width: 1,
        in_channels: inputs,
        out_channels: outputs,
        kernel: 1,
        padding: 0,
        pool: false,
        relu,
    }
}
