//! Both gradients of a 1x1 convolution that normalises its inputs on the way, and the sums of that normalisation's backward
//! pass: one walk over the pixels, each strip of which is in the caches for all three.
//!
//! The bytes are those of [`conv_backward`](super::conv_backward) and [`affine_gradient`](super::super::norm::affine_gradient).

use pulp::Simd;

use super::super::dense_weight_gradient::Images as Strip;
use super::super::forward::Layer;
use super::super::norm::{AffineGradient, AffineSums, Normalisation, Normalised};
use super::super::pack::flip_weights;
use super::super::scratch::Scratch;
use super::super::shape::{ConvShape, pieces};
use super::super::simd::arch;
use super::super::tree::{Piece, sum_units};

/// Pixels whose products are made at a time: for 192 channels all of a chunk of the normalisation's sums, 85.
const STRIP: usize = 96;

/// Writes the gradient of the weight `[in, out]`, and to `dx` that of the normalised inputs; gives that of the
/// normalisation's scale and shift. `dy` is the gradient of the outputs.
pub fn conv_backward_through_norm(
    shape: &ConvShape,
    forward: Normalised,
    weight: &[f32],
    dy: &[f32],
    dweight: &mut [f32],
    dx: &mut [f32],
) -> AffineGradient {
    let (inputs, outputs) = (shape.batch * shape.input_len(), shape.batch * shape.output_len());
    assert_eq!((forward.rows.len(), dx.len(), dy.len()), (inputs, inputs, outputs));
    assert_eq!((weight.len(), dweight.len()), (shape.weight_len(), shape.weight_len()));
    let arch = arch();
    let plan = Plan {
        shape,
        norm: forward.normalisation(),
        sums: AffineSums::new(forward),
        layer: Layer::new(arch, &shape.turned(), &flip_weights(shape, weight), None),
    };
    let mut sums = Scratch::take(dweight.len() + 2 * shape.in_channels);
    sum_units(arch, shape.batch, Images { plan: &plan, x: forward.rows, dy, dx }, &mut sums);
    let (weight_sums, affine) = sums.split_at(dweight.len());
    dweight.copy_from_slice(weight_sums);
    let (scale, shift) = affine.split_at(shape.in_channels);
    AffineGradient { scale: scale.to_vec(), shift: shift.to_vec() }
}

/// What all units of a call share.
struct Plan<'a> {
    shape: &'a ConvShape,
    norm: Normalisation,
    sums: AffineSums<'a>,
    /// The convolution that gives the gradient of the inputs.
    layer: Layer<'a, f32>,
}

/// Some images of the batch.
struct Images<'a> {
    plan: &'a Plan<'a>,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Piece for Images<'_> {
    fn cut(self, images: usize) -> [Self; 2] {
        let Self { plan, x, dy, dx } = self;
        let (x, other_x) = x.split_at(images * plan.shape.input_len());
        let (dy, other_dy) = dy.split_at(images * plan.shape.output_len());
        let (dx, other_dx) = dx.split_at_mut(images * plan.shape.input_len());
        [Self { plan, x, dy, dx }, Self { plan, x: other_x, dy: other_dy, dx: other_dx }]
    }

    #[inline(always)]
    fn sum<S: Simd>(self, simd: S, sums: &mut [f32]) {
        let Self { plan, x, dy, dx } = self;
        let [inputs, outputs] = [plan.shape.in_channels, plan.shape.out_channels];
        sums.fill(0.0);
        let (weight_sums, affine) = sums.split_at_mut(plan.shape.weight_len());
        let (scale, shift) = affine.split_at_mut(inputs);
        let mut normalised = Scratch::take(STRIP * inputs);
        let rows = x.len() / inputs;
        let chunk = plan.sums.rows();
        for start in (0..rows).step_by(chunk) {
            let chunk = start..(start + chunk).min(rows);
            for strip in pieces(chunk.len(), STRIP) {
                let [first, last] = [chunk.start + strip.start, chunk.start + strip.end];
                let behind = (last + strip.len()).min(rows);
                let dy_strip = &dy[first * outputs..last * outputs];
                plan.norm.write(simd, &x[first * inputs..last * inputs], &mut normalised);
                let next = [&x[last * inputs..behind * inputs], &dy[last * outputs..behind * outputs]];
                let shape = ConvShape { height: 1, width: strip.len(), ..*plan.shape };
                Strip { simd, shape: &shape, x: &normalised, dy: dy_strip, width: outputs, next }
                    .add(weight_sums);
                plan.layer.run_strip(simd, dy_strip, &mut dx[first * inputs..last * inputs]);
            }
            let numbers = chunk.start * inputs..chunk.end * inputs;
            let sums = plan.sums.of_chunk(&x[numbers.clone()], &dx[numbers]);
            for (total, sum) in [(&mut *scale, sums.scale), (&mut *shift, sums.shift)] {
                match start {
                    0 => total.copy_from_slice(&sum),
                    _ => total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::check::{Random, bits, in_pools};
    use super::super::super::norm::{Affine, Inputs, affine_gradient};
    use super::super::super::simd::{arches, with_arch};
    use super::super::{InputGradient, Saved, WeightGradient, conv_backward};
    use super::*;

    /// In every instruction set, on any number of threads; with chunks that end within an image, and strips within a chunk.
    #[test]
    fn each_part_has_the_bytes_of_a_pass_of_its_own() {
        let mut random = Random::new(43);
        for (batch, side, channels) in [(19, 7, [16, 32]), (33, 4, [48, 16]), (9, 12, [192, 80])] {
            let [in_channels, out_channels] = channels;
            let layer =
                ConvShape { batch, height: side, width: side, in_channels, out_channels, ..POINTWISE };
            let [rows, dy] =
                [layer.input_len(), layer.output_len()].map(|image| random.floats(batch * image));
            let weight = random.floats(layer.weight_len());
            let [mean, inverse_deviation, scale, shift] = [(); 4].map(|()| random.floats(in_channels));
            let forward = Normalised {
                rows: &rows,
                samples: batch,
                mean: &mean,
                inverse_deviation: &inverse_deviation,
                affine: Affine { scale: &scale, shift: &shift },
                relu: true,
            };
            let (mut dweight, mut dx) = (vec![0.0; weight.len()], vec![0.0; rows.len()]);
            let norm = forward.normalisation();
            let x = Inputs { numbers: &rows, norm: Some(&norm) };
            let for_weight = WeightGradient { x, dweight: &mut dweight, dbias: None };
            let for_input = InputGradient { weight: &weight, dx: &mut dx };
            let saved = Saved { y: &[], argmax: &[], dy: &dy };
            conv_backward(&layer, saved, Some(for_weight), Some(for_input));
            let affine = affine_gradient(forward, &dx);
            let expected = [&dweight, &dx, &affine.scale, &affine.shift].map(|numbers| bits(numbers));
            for (name, arch) in arches() {
                let run = || {
                    let (mut dweight, mut dx) = (vec![0.0; weight.len()], vec![f32::NAN; rows.len()]);
                    let sums =
                        conv_backward_through_norm(&layer, forward, &weight, &dy, &mut dweight, &mut dx);
                    [&dweight, &dx, &sums.scale, &sums.shift].map(|numbers| bits(numbers))
                };
                for found in in_pools(|| with_arch(arch, run)) {
                    assert!(found == expected, "{name} {layer:?}");
                }
            }
        }
    }

    const POINTWISE: ConvShape = ConvShape {
        batch: 1,
        height: 1,
        width: 1,
        in_channels: 16,
        out_channels: 16,
        kernel: 1,
        padding: 0,
        pool: false,
        relu: false,
    };
}
