//! The gradient of a convolution's own output, made of that behind its ReLU and pool.

use super::backward::Saved;
use super::shape::ConvShape;

/// Whether it is what the layer above gives.
pub fn is_dense(shape: &ConvShape) -> bool {
    !shape.pool && !shape.relu
}

/// The gradient `[conv height, conv width, out]` of some images: as `saved` has it, or written to `room`.
#[inline(always)]
pub fn unfold<'a>(shape: &ConvShape, saved: Saved<'a>, room: &'a mut [f32]) -> &'a [f32] {
    if is_dense(shape) {
        return saved.dy;
    }
    let gradient = OutputGradient { shape, saved };
    let (rows, line) = (shape.conv_height(), shape.conv_width() * shape.out_channels);
    let room = &mut room[..saved.dy.len() / shape.output_len() * rows * line];
    for (index, target) in room.chunks_exact_mut(line).enumerate() {
        gradient.write_row(index / rows, index % rows, target, shape.out_channels);
    }
    room
}

/// Writes as many pixels of `channels` numbers as the target takes, `stride` floats each.
#[inline(always)]
pub fn write_pixels(source: &[f32], channels: usize, target: &mut [f32], stride: usize) {
    if stride == channels {
        target.copy_from_slice(&source[..target.len()]);
        return;
    }
    for (target, source) in target.chunks_mut(stride).zip(source.chunks_exact(channels)) {
        target[..channels].copy_from_slice(source);
    }
}

/// Adds pixels of `stride` numbers, channel by channel, to sums if there are any.
#[inline(always)]
pub fn add_pixels(numbers: &[f32], stride: usize, sums: &mut [f32]) {
    if sums.is_empty() {
        return;
    }
    for pixel in numbers.chunks_exact(stride) {
        sums.iter_mut().zip(pixel).for_each(|(sum, number)| *sum += number);
    }
}

/// The gradient of a convolution's own output, before ReLU and pooling: zeros where these let nothing through.
#[derive(Clone, Copy)]
pub struct OutputGradient<'a> {
    pub shape: &'a ConvShape,
    pub saved: Saved<'a>,
}

impl OutputGradient<'_> {
    /// The gradient of the first images, so many of them, and of the others.
    pub fn cut(self, images: usize) -> [Self; 2] {
        self.saved.split_at(images * self.shape.output_len()).map(|saved| Self { saved, ..self })
    }

    /// Writes as much of a row as the target takes, `stride` floats a pixel.
    #[inline(always)]
    pub fn write_row(&self, image: usize, row: usize, target: &mut [f32], stride: usize) {
        let (width, channels) = (self.shape.out_width(), self.shape.out_channels);
        let pooled = if self.shape.pool { row / 2 } else { row };
        if pooled >= self.shape.out_height() {
            // The last row of an odd number, which pooling drops.
            target.fill(0.0);
            return;
        }
        let start = (image * self.shape.out_height() + pooled) * width * channels;
        let range = start..start + width * channels;
        let dy = &self.saved.dy[range.clone()];
        if self.shape.pool {
            let argmax = &self.saved.argmax[range];
            let first = 2 * (row % 2) as u8;
            if self.shape.conv_width() % 2 == 1 {
                target[2 * width * stride..].fill(0.0);
            }
            let pairs = target.chunks_mut(2 * stride);
            for ((pair, dy), argmax) in
                pairs.zip(dy.chunks_exact(channels)).zip(argmax.chunks_exact(channels))
            {
                let (left, right) = pair.split_at_mut(stride);
                for (((left, right), &dy), &place) in left.iter_mut().zip(right).zip(dy).zip(argmax) {
                    *left = if place == first { dy } else { 0.0 };
                    *right = if place == first + 1 { dy } else { 0.0 };
                }
            }
        } else if self.shape.relu {
            let y = self.saved.y[range].chunks_exact(channels);
            for ((target, dy), y) in target.chunks_mut(stride).zip(dy.chunks_exact(channels)).zip(y) {
                for ((target, &dy), &y) in target.iter_mut().zip(dy).zip(y) {
                    *target = if y != 0.0 { dy } else { 0.0 };
                }
            }
        } else {
            write_pixels(dy, channels, target, stride);
        }
    }
}
