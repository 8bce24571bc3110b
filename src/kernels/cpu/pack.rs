//! Copies into the layouts that the kernels read.

use super::scratch::Scratch;
use super::shape::ConvShape;

/// Floats that a kernel may read beyond a row piece: one vector of the widest instruction set.
pub const SLACK: usize = 16;

/// Weights for the forward pass: groups of `vectors * lanes` output channels, each `[depth, group width]`,
/// the last group only as many vectors wide as it needs and padded with zeros. A register tile then reads
/// its weights as one stream.
pub struct PackedWeights {
    pub data: Scratch,
    pub bias: Scratch,
    pub depth: usize,
    pub out_channels: usize,
    pub lanes: usize,
    pub vectors: usize,
}

impl PackedWeights {
    pub fn new(
        shape: &ConvShape,
        weight: &[f32],
        bias: Option<&[f32]>,
        lanes: usize,
        vectors: usize,
    ) -> Self {
        let (depth, out_channels) = (shape.depth(), shape.out_channels);
        assert_eq!(weight.len(), depth * out_channels);
        let padded = out_channels.next_multiple_of(lanes);
        let mut packed = Self {
            data: Scratch::take(depth * padded),
            bias: Scratch::take_zeroed(padded),
            depth,
            out_channels,
            lanes,
            vectors,
        };
        if let Some(bias) = bias {
            packed.bias[..out_channels].copy_from_slice(bias);
        }
        for group in 0..packed.groups() {
            let first = group * lanes * vectors;
            let width = packed.group_vectors(group) * lanes;
            let real = width.min(out_channels - first);
            let target = &mut packed.data[first * depth..(first + width) * depth];
            for (row, source) in target.chunks_exact_mut(width).zip(weight.chunks_exact(out_channels)) {
                row[..real].copy_from_slice(&source[first..first + real]);
                row[real..].fill(0.0);
            }
        }
        packed
    }

    pub fn groups(&self) -> usize {
        self.out_channels.div_ceil(self.lanes * self.vectors)
    }

    /// Vectors in `group`: `vectors`, or fewer in the last one.
    pub fn group_vectors(&self, group: usize) -> usize {
        (self.out_channels.div_ceil(self.lanes) - group * self.vectors).min(self.vectors)
    }

    pub fn group(&self, group: usize) -> (&[f32], &[f32]) {
        let first = group * self.lanes * self.vectors;
        let width = self.group_vectors(group) * self.lanes;
        (&self.data[first * self.depth..(first + width) * self.depth], &self.bias[first..first + width])
    }
}

/// Weights for the sparse input gradient: `[channel vector, out_channels, kernel * kernel, lanes]`, where a
/// channel vector is `lanes` consecutive input channels (the last one padded with zeros): what one
/// non-zero of the gradient multiplies is one contiguous piece.
pub fn pack_for_input_gradient(shape: &ConvShape, weight: &[f32], lanes: usize) -> Scratch {
    let taps = shape.kernel * shape.kernel;
    let vectors = shape.in_channels.div_ceil(lanes);
    let mut packed = Scratch::take(vectors * shape.out_channels * taps * lanes);
    for vector in 0..vectors {
        let first = vector * lanes;
        let real = lanes.min(shape.in_channels - first);
        let block =
            &mut packed[vector * shape.out_channels * taps * lanes..][..shape.out_channels * taps * lanes];
        if real < lanes {
            block.fill(0.0);
        }
        for tap in 0..taps {
            for lane in 0..real {
                let source = &weight[(tap * shape.in_channels + first + lane) * shape.out_channels..];
                for channel in 0..shape.out_channels {
                    block[(channel * taps + tap) * lanes + lane] = source[channel];
                }
            }
        }
    }
    packed
}

/// Weights of the convolution that computes the dense input gradient: both kernel axes flipped, in and out
/// channels swapped.
pub fn flip_weights(shape: &ConvShape, weight: &[f32]) -> Scratch {
    let taps = shape.kernel * shape.kernel;
    let (inputs, outputs) = (shape.in_channels, shape.out_channels);
    let mut flipped = Scratch::take(weight.len());
    for tap in 0..taps {
        let source = &weight[tap * inputs * outputs..][..inputs * outputs];
        let target = &mut flipped[(taps - 1 - tap) * inputs * outputs..][..inputs * outputs];
        for (input, row) in source.chunks_exact(outputs).enumerate() {
            for (output, &value) in row.iter().enumerate() {
                target[output * inputs + input] = value;
            }
        }
    }
    flipped
}

/// Copies one image between its zero frame: `target` is `[padded height, padded width, channels]`, its frame
/// already zero, plus slack.
pub fn copy_padded(shape: &ConvShape, image: &[f32], target: &mut [f32]) {
    let row = shape.width * shape.in_channels;
    let target_row = shape.padded_width() * shape.in_channels;
    let first = (shape.padding * shape.padded_width() + shape.padding) * shape.in_channels;
    for (index, source) in image.chunks_exact(row).enumerate() {
        target[first + index * target_row..][..row].copy_from_slice(source);
    }
}

/// Copies one image out of its frame: `framed` is `[padded height, padded width, stride]`.
pub fn copy_unframed(shape: &ConvShape, framed: &[f32], stride: usize, image: &mut [f32]) {
    for (index, pixel) in image.chunks_exact_mut(shape.in_channels).enumerate() {
        let (row, column) = (index / shape.width + shape.padding, index % shape.width + shape.padding);
        pixel.copy_from_slice(&framed[(row * shape.padded_width() + column) * stride..][..shape.in_channels]);
    }
}

/// Floats that a spread row piece takes: one line.
pub const SPREAD: usize = 16;

/// Copies one image so that every convolution column of every padded row has its row piece (at most `SPREAD`
/// floats) on a line of its own: `target` is `[padded height, conv width, SPREAD]`. What lies beyond a piece
/// is unspecified.
#[inline(always)]
pub fn copy_spread(shape: &ConvShape, image: &[f32], target: &mut [f32]) {
    debug_assert!(shape.row_piece() <= SPREAD);
    let mut row = Scratch::take_zeroed(shape.padded_width() * shape.in_channels + SPREAD);
    let source_row = shape.width * shape.in_channels;
    let (lines, _) = target.as_chunks_mut::<SPREAD>();
    for (index, lines) in lines.chunks_exact_mut(shape.conv_width()).take(shape.padded_height()).enumerate() {
        let inside = index.wrapping_sub(shape.padding);
        let real = &mut row[shape.padding * shape.in_channels..][..source_row];
        if inside < shape.height {
            real.copy_from_slice(&image[inside * source_row..][..source_row]);
        } else {
            real.fill(0.0);
        }
        for (column, line) in lines.iter_mut().enumerate() {
            *line = *row[column * shape.in_channels..].first_chunk().expect("the row has slack");
        }
    }
}
