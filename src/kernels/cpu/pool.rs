//! Overlapping pooling: windows of 3x3, two places apart, one place of padding (Network in Network, RotNet).
//!
//! Images are tasks, so an image's sums have one order. The loops run along channels; all but that of maxima, which needs
//! their places, are left to the compiler: the passes wait for memory, not for arithmetic.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::outputs::Outputs;
use super::simd::{arch, beats, load_part};
use crate::kernels::OverlappingPool;

/// Shape of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub kind: OverlappingPool,
}

/// Places of a window, padding included.
const WINDOW: f32 = 9.0;

impl PoolShape {
    pub fn out_height(&self) -> usize {
        OverlappingPool::side(self.height)
    }

    pub fn out_width(&self) -> usize {
        OverlappingPool::side(self.width)
    }

    pub fn input_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    pub fn output_len(&self) -> usize {
        self.out_height() * self.out_width() * self.channels
    }

    /// The places of the window of output (row, column) that lie within the image: number in the window (row * 3 +
    /// column) and the start of the pixel.
    fn window(&self, row: usize, column: usize) -> impl Iterator<Item = (usize, usize)> {
        let Self { height, width, channels, .. } = *self;
        let along = |start: usize, end: usize| {
            let first = (2 * start).saturating_sub(1);
            (first..(2 * start + 2).min(end)).map(move |place| (place + 1 - 2 * start, place))
        };
        along(row, height).flat_map(move |(y, row)| {
            along(column, width).map(move |(x, column)| (y * 3 + x, (row * width + column) * channels))
        })
    }

    fn places(&self) -> impl Iterator<Item = (usize, usize)> {
        let columns = self.out_width();
        (0..self.out_height()).flat_map(move |row| (0..columns).map(move |column| (row, column)))
    }
}

/// `x` `[batch, height, width, channels]` to `y`. For maxima, `argmax` (one byte an output) says which place of the
/// window holds it, the first one where several do; it is left empty for averages.
pub fn pool_forward(shape: &PoolShape, x: &[f32], y: &mut [f32], argmax: &mut [u8]) {
    assert_eq!((x.len(), y.len()), (shape.batch * shape.input_len(), shape.batch * shape.output_len()));
    if y.is_empty() {
        return;
    }
    let images = x.par_chunks_exact(shape.input_len()).zip(y.par_chunks_exact_mut(shape.output_len()));
    match shape.kind {
        OverlappingPool::Average => images.for_each(|(x, y)| average(shape, x, y)),
        OverlappingPool::Max => {
            assert_eq!(argmax.len(), shape.batch * shape.output_len());
            let arch = arch();
            images.zip(argmax.par_chunks_exact_mut(shape.output_len())).for_each(|((x, y), argmax)| {
                let outputs = Outputs::new(shape.channels, y, Some(argmax));
                arch.dispatch(Maxima { shape, x, outputs });
            });
        }
    }
}

fn average(shape: &PoolShape, x: &[f32], y: &mut [f32]) {
    for ((row, column), y) in shape.places().zip(y.chunks_exact_mut(shape.channels)) {
        y.fill(0.0);
        for (_, start) in shape.window(row, column) {
            for (sum, value) in y.iter_mut().zip(&x[start..start + shape.channels]) {
                *sum += value;
            }
        }
        y.iter_mut().for_each(|sum| *sum /= WINDOW);
    }
}

/// The maxima of one image.
struct Maxima<'a> {
    shape: &'a PoolShape,
    x: &'a [f32],
    outputs: Outputs<'a>,
}

impl WithSimd for Maxima<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let channels = self.shape.channels;
        for (pixel, (row, column)) in self.shape.places().enumerate() {
            for channel in (0..channels).step_by(S::F32_LANES) {
                let length = S::F32_LANES.min(channels - channel);
                let mut largest: Option<(S::f32s, S::u32s)> = None;
                for (number, start) in self.shape.window(row, column) {
                    let value = load_part::<S>(simd, &self.x[start + channel..][..length]);
                    let place = simd.splat_u32s(number as u32);
                    largest = Some(match largest {
                        None => (value, place),
                        Some((best, places)) => {
                            let better = beats(simd, value, best);
                            (simd.select_f32s(better, value, best), simd.select_u32s(better, place, places))
                        }
                    });
                }
                if let Some((best, place)) = largest {
                    self.outputs.write(simd, [pixel, channel], best);
                    self.outputs.write_position::<S>([pixel, channel], place);
                }
            }
        }
    }
}

/// Gradient of the input, `dx`, from that of the output.
pub fn pool_backward(shape: &PoolShape, argmax: &[u8], dy: &[f32], dx: &mut [f32]) {
    assert_eq!((dx.len(), dy.len()), (shape.batch * shape.input_len(), shape.batch * shape.output_len()));
    if dy.is_empty() {
        return dx.fill(0.0);
    }
    let images = dx.par_chunks_exact_mut(shape.input_len()).zip(dy.par_chunks_exact(shape.output_len()));
    match shape.kind {
        OverlappingPool::Average => images.for_each(|(dx, dy)| spread(shape, dy, dx)),
        OverlappingPool::Max => {
            assert_eq!(argmax.len(), dy.len());
            images
                .zip(argmax.par_chunks_exact(shape.output_len()))
                .for_each(|((dx, dy), argmax)| scatter(shape, argmax, dy, dx));
        }
    }
}

fn spread(shape: &PoolShape, dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    for ((row, column), dy) in shape.places().zip(dy.chunks_exact(shape.channels)) {
        for (_, start) in shape.window(row, column) {
            for (sum, value) in dx[start..start + shape.channels].iter_mut().zip(dy) {
                *sum += value / WINDOW;
            }
        }
    }
}

fn scatter(shape: &PoolShape, argmax: &[u8], dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    let outputs = dy.chunks_exact(shape.channels).zip(argmax.chunks_exact(shape.channels));
    for ((row, column), (dy, argmax)) in shape.places().zip(outputs) {
        // A place in the padding is never the largest.
        let mut starts = [0; 9];
        shape.window(row, column).for_each(|(number, start)| starts[number] = start);
        for (channel, (value, &place)) in dy.iter().zip(argmax).enumerate() {
            dx[starts[usize::from(place)] + channel] += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Random, bits, in_pools};
    use super::*;

    #[test]
    fn averages_count_the_padding_and_maxima_do_not() {
        let mut shape =
            PoolShape { batch: 1, height: 3, width: 2, channels: 1, kind: OverlappingPool::Average };
        let x = [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0];
        let mut y = [0.0; 2];
        pool_forward(&shape, &x, &mut y, &mut []);
        assert_eq!(y, [-10.0 / 9.0, -18.0 / 9.0]);
        shape.kind = OverlappingPool::Max;
        let mut argmax = [0; 2];
        pool_forward(&shape, &x, &mut y, &mut argmax);
        assert_eq!((y, argmax), ([-1.0, -3.0], [4, 1]));
        let mut dx = [0.0; 6];
        pool_backward(&shape, &argmax, &[2.0, 7.0], &mut dx);
        assert_eq!(dx, [2.0, 0.0, 7.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn threads_leave_every_bit() {
        for kind in [OverlappingPool::Max, OverlappingPool::Average] {
            let shape = PoolShape { batch: 5, height: 9, width: 8, channels: 19, kind };
            let mut random = Random::new(3);
            let x = random.floats(shape.batch * shape.input_len());
            let dy = random.floats(shape.batch * shape.output_len());
            let results = in_pools(|| {
                let (mut y, mut argmax) = (vec![0.0; dy.len()], vec![0; dy.len()]);
                pool_forward(&shape, &x, &mut y, &mut argmax);
                let mut dx = vec![1.0; x.len()];
                pool_backward(&shape, &argmax, &dy, &mut dx);
                [bits(&y), bits(&dx)]
            });
            assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }
}
