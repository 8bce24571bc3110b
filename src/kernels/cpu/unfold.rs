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
    if !shape.pool {
        let room = &mut room[..saved.dy.len()];
        for ((target, &gradient), &y) in room.iter_mut().zip(saved.dy).zip(saved.y) {
            *target = if y != 0.0 { gradient } else { 0.0 };
        }
        return room;
    }
    let channels = shape.out_channels;
    let (rows, columns, line) = (shape.out_height(), shape.out_width(), shape.conv_width() * channels);
    let image = shape.conv_height() * line;
    let room = &mut room[..saved.dy.len() / shape.output_len() * image];
    // Odd last rows and columns have no window.
    if shape.conv_height() % 2 + shape.conv_width() % 2 > 0 {
        room.fill(0.0);
    }
    let outputs = saved.dy.chunks_exact(channels).zip(saved.argmax.chunks_exact(channels));
    for (index, (gradients, places)) in outputs.enumerate() {
        let (row, column) = (index / columns, index % columns);
        let first = row / rows * image + 2 * (row % rows) * line + 2 * column * channels;
        for place in 0..4 {
            let target = &mut room[first + place / 2 * line + place % 2 * channels..][..channels];
            for ((target, &gradient), &at) in target.iter_mut().zip(gradients).zip(places) {
                *target = if at == place as u8 { gradient } else { 0.0 };
            }
        }
    }
    room
}
