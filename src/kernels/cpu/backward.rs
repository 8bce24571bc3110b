//! Backward pass of a convolution: both gradients in one walk over the images.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::dense_weight_gradient::{self, dense_weight_gradient};
use super::forward::conv_forward;
use super::pack::{SLACK, copy_padded, flip_weights, pack_for_input_gradient};
use super::scratch::Scratch;
use super::shape::ConvShape;
use super::simd::{arch, lanes};
use super::sparse::Routes;
use super::weight_gradient::{Gradient, collect, sums_len};

/// Fewest images and most units of the fixed split; each unit has its own sums, added in order.
const FEWEST_IMAGES: usize = 4;
const MOST_UNITS: usize = 16;

fn images_per_unit(batch: usize) -> usize {
    batch.div_ceil(MOST_UNITS).max(FEWEST_IMAGES)
}

/// Weight and bias gradients asked for.
pub struct WeightGradient<'a> {
    pub x: &'a [f32],
    pub dweight: &'a mut [f32],
    pub dbias: Option<&'a mut [f32]>,
}

/// Input gradient asked for.
pub struct InputGradient<'a> {
    pub weight: &'a [f32],
    pub dx: &'a mut [f32],
}

/// `y` and `argmax` as the forward pass left them: `y` is read only with ReLU and without pooling, `argmax`
/// only with pooling.
#[cfg(test)]
pub fn conv_weight_gradient(
    shape: &ConvShape,
    x: &[f32],
    y: &[f32],
    argmax: &[u8],
    dy: &[f32],
    dweight: &mut [f32],
    dbias: Option<&mut [f32]>,
) {
    conv_backward(
        shape,
        y,
        argmax,
        dy,
        Some(WeightGradient { x, dweight, dbias }),
        None,
    );
}

#[cfg(test)]
pub fn conv_input_gradient(
    shape: &ConvShape,
    weight: &[f32],
    y: &[f32],
    argmax: &[u8],
    dy: &[f32],
    dx: &mut [f32],
) {
    conv_backward(
        shape,
        y,
        argmax,
        dy,
        None,
        Some(InputGradient { weight, dx }),
    );
}

/// Both gradients at once: the masks are built once and each image's data is touched once.
pub fn conv_backward(
    shape: &ConvShape,
    y: &[f32],
    argmax: &[u8],
    dy: &[f32],
    for_weight: Option<WeightGradient>,
    for_input: Option<InputGradient>,
) {
    shape.check();
    let outputs = shape.batch * shape.output_len();
    assert_eq!(dy.len(), outputs);
    assert!(!shape.pool || argmax.len() == outputs);
    assert!(shape.pool || !shape.relu || y.len() == outputs);
    let arch = arch();
    let lanes = lanes(arch);

    let mut for_input = for_input;
    if !shape.pool
        && !shape.relu
        && let Some(InputGradient { weight, dx }) = for_input.take()
    {
        dense_input_gradient(shape, weight, dy, dx);
    }
    let mut for_weight = for_weight;
    if outputs > 0
        && dense_weight_gradient::takes(shape)
        && let Some(WeightGradient { x, dweight, dbias }) = for_weight.take()
    {
        dense_weight_gradient(shape, x, dy, dweight, dbias);
    }
    let (mut x, mut dweight, mut dbias) = (&[][..], None, None);
    if let Some(gradient) = for_weight {
        assert_eq!(gradient.x.len(), shape.batch * shape.input_len());
        assert_eq!(gradient.dweight.len(), shape.weight_len());
        assert!(
            gradient
                .dbias
                .as_ref()
                .is_none_or(|dbias| dbias.len() == shape.out_channels)
        );
        (x, dweight, dbias) = (gradient.x, Some(gradient.dweight), gradient.dbias);
    }
    let (mut packed, mut dx) = (None, None);
    if let Some(gradient) = for_input {
        assert_eq!(gradient.dx.len(), shape.batch * shape.input_len());
        assert_eq!(gradient.weight.len(), shape.weight_len());
        packed = Some(pack_for_input_gradient(shape, gradient.weight, lanes));
        dx = Some(gradient.dx);
    }
    if dweight.is_none() && dx.is_none() {
        return;
    }
    if outputs == 0 {
        dweight.into_iter().for_each(|dweight| dweight.fill(0.0));
        dbias.into_iter().for_each(|dbias| dbias.fill(0.0));
        dx.into_iter().for_each(|dx| dx.fill(0.0));
        return;
    }

    let images = images_per_unit(shape.batch);
    let units = shape.batch.div_ceil(images);
    let unit_sums = if dweight.is_some() {
        (sums_len(shape) + shape.out_channels).next_multiple_of(16)
    } else {
        0
    };
    let mut sums = Scratch::take(units * unit_sums);
    let stride = shape.in_channels.next_multiple_of(lanes);
    let plan = Plan {
        shape,
        packed: packed.as_deref().unwrap_or_default(),
        stride,
        x_bases: bases(shape, shape.in_channels),
        dx_bases: if dx.is_some() {
            bases(shape, stride)
        } else {
            Vec::new()
        },
    };
    let mut work: Vec<Unit> = Vec::with_capacity(units);
    let mut sums_left = &mut sums[..];
    let mut dx_left = dx.unwrap_or_default();
    for unit in 0..units {
        let (first, last) = (unit * images, ((unit + 1) * images).min(shape.batch));
        let cut = |slice: usize| first * slice..last * slice;
        let (sums, rest) = sums_left.split_at_mut(unit_sums);
        sums_left = rest;
        let (dx, rest) =
            dx_left.split_at_mut(((last - first) * shape.input_len()).min(dx_left.len()));
        dx_left = rest;
        work.push(Unit {
            plan: &plan,
            x: x.get(cut(shape.input_len())).unwrap_or_default(),
            y: y.get(cut(shape.output_len())).unwrap_or_default(),
            argmax: argmax.get(cut(shape.output_len())).unwrap_or_default(),
            dy: &dy[cut(shape.output_len())],
            sums,
            dx,
        });
    }
    work.into_par_iter().for_each(|unit| arch.dispatch(unit));

    if let Some(dweight) = dweight {
        let parts: Vec<&[f32]> = sums
            .chunks_exact(unit_sums)
            .map(|sums| &sums[..sums_len(shape)])
            .collect();
        collect(arch, shape, &parts, dweight);
        if let Some(dbias) = dbias {
            dbias.fill(0.0);
            for sums in sums.chunks_exact(unit_sums) {
                for (total, sum) in dbias.iter_mut().zip(&sums[sums_len(shape)..]) {
                    *total += sum;
                }
            }
        }
    }
}

/// Offset of each output position's first pixel in a padded image of `stride` floats a pixel.
fn bases(shape: &ConvShape, stride: usize) -> Vec<u32> {
    let step = if shape.pool { 2 } else { 1 };
    assert!(
        u32::try_from(shape.padded_height() * shape.padded_width() * stride).is_ok(),
        "image too large"
    );
    (0..shape.positions())
        .map(|position| {
            let (row, column) = (
                position / shape.out_width() * step,
                position % shape.out_width() * step,
            );
            ((row * shape.padded_width() + column) * stride) as u32
        })
        .collect()
}

fn steps(shape: &ConvShape, stride: usize) -> [usize; 4] {
    let row = shape.padded_width() * stride;
    if shape.pool {
        [0, stride, row, row + stride]
    } else {
        [0; 4]
    }
}

/// Behind neither pool nor ReLU the gradient is dense: a forward convolution with flipped weights.
fn dense_input_gradient(shape: &ConvShape, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
    let flipped = flip_weights(shape, weight);
    let turned = ConvShape {
        height: shape.out_height(),
        width: shape.out_width(),
        in_channels: shape.out_channels,
        out_channels: shape.in_channels,
        padding: shape.kernel - 1 - shape.padding,
        ..*shape
    };
    conv_forward(&turned, dy, &flipped, None, dx, None);
}

struct Plan<'a> {
    shape: &'a ConvShape,
    packed: &'a [f32],
    stride: usize,
    x_bases: Vec<u32>,
    dx_bases: Vec<u32>,
}

struct Unit<'a> {
    plan: &'a Plan<'a>,
    x: &'a [f32],
    y: &'a [f32],
    argmax: &'a [u8],
    dy: &'a [f32],
    sums: &'a mut [f32],
    dx: &'a mut [f32],
}

impl WithSimd for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            plan,
            x,
            y,
            argmax,
            dy,
            sums,
            dx,
        } = self;
        let shape = plan.shape;
        let (inputs, outputs) = (shape.input_len(), shape.output_len());
        let pixels = shape.padded_height() * shape.padded_width();
        let (weight_sums, bias_sums) =
            sums.split_at_mut(if sums.is_empty() { 0 } else { sums_len(shape) });
        weight_sums.fill(0.0);
        bias_sums.fill(0.0);
        let mut padded = Scratch::take_zeroed(if weight_sums.is_empty() {
            0
        } else {
            pixels * shape.in_channels + SLACK
        });
        let frameless = shape.padding == 0 && plan.stride == shape.in_channels;
        let mut framed = Scratch::take(if dx.is_empty() || frameless {
            0
        } else {
            pixels * plan.stride
        });
        let mut routes = Routes::new(
            shape.positions(),
            shape.out_channels,
            if shape.pool { 4 } else { 1 },
        );
        let mut made = if shape.pool {
            Vec::new()
        } else {
            vec![0u8; outputs]
        };
        for (image, dy) in dy.chunks_exact(outputs).enumerate() {
            let places = if shape.pool {
                &argmax[image * outputs..][..outputs]
            } else {
                if shape.relu {
                    for (place, &y) in made.iter_mut().zip(&y[image * outputs..][..outputs]) {
                        *place = if y != 0.0 { 0 } else { 255 };
                    }
                }
                &made[..]
            };
            routes.fill(places);
            let gradient = Gradient {
                simd,
                shape,
                routes: &routes,
                places,
                dy,
                bases: &plan.x_bases,
                steps: steps(shape, shape.in_channels),
            };
            if !weight_sums.is_empty() {
                copy_padded(shape, &x[image * inputs..][..inputs], &mut padded);
                gradient.add_weight_gradient(&padded, weight_sums, bias_sums);
            }
            if !dx.is_empty() {
                let dx = &mut dx[image * inputs..][..inputs];
                let gradient = Gradient {
                    bases: &plan.dx_bases,
                    steps: steps(shape, plan.stride),
                    ..gradient
                };
                if frameless {
                    dx.fill(0.0);
                    gradient.add_input_gradient(plan.packed, plan.stride, dx);
                } else {
                    framed.fill(0.0);
                    gradient.add_input_gradient(plan.packed, plan.stride, &mut framed);
                    for (index, pixel) in dx.chunks_exact_mut(shape.in_channels).enumerate() {
                        let (row, column) = (
                            index / shape.width + shape.padding,
                            index % shape.width + shape.padding,
                        );
                        pixel.copy_from_slice(
                            &framed[(row * shape.padded_width() + column) * plan.stride..]
                                [..shape.in_channels],
                        );
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Random, bits, error, in_pools};
    use super::super::naive;
    use super::super::simd::{arches, with_arch};
    use super::*;

    struct Case {
        shape: ConvShape,
        x: Vec<f32>,
        weight: Vec<f32>,
        y: Vec<f32>,
        argmax: Vec<u8>,
        dy: Vec<f32>,
    }

    impl Case {
        fn new(shape: ConvShape, random: &mut Random) -> Self {
            let x = random.floats(shape.batch * shape.input_len());
            let weight = random.floats(shape.weight_len());
            let (y, argmax) = naive::conv_forward(&shape, &x, &weight, None);
            let dy = random.floats(y.len());
            Self {
                shape,
                x,
                weight,
                y,
                argmax,
                dy,
            }
        }

        fn run(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
            let mut dweight = vec![f32::MIN; self.weight.len()];
            let mut dbias = vec![f32::MIN; self.shape.out_channels];
            let mut dx = vec![f32::MIN; self.x.len()];
            conv_backward(
                &self.shape,
                &self.y,
                &self.argmax,
                &self.dy,
                Some(WeightGradient {
                    x: &self.x,
                    dweight: &mut dweight,
                    dbias: Some(&mut dbias),
                }),
                Some(InputGradient {
                    weight: &self.weight,
                    dx: &mut dx,
                }),
            );
            (dweight, dbias, dx)
        }

        fn expected(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
            naive::conv_backward(
                &self.shape,
                &self.x,
                &self.weight,
                &self.y,
                &self.argmax,
                &self.dy,
            )
        }
    }

    #[test]
    fn agrees_with_naive_on_random_shapes() {
        let mut random = Random::new(3);
        for _ in 0..60 {
            let case = Case::new(random.shape(), &mut random);
            let expected = case.expected();
            for (name, arch) in arches() {
                let found = with_arch(arch, || case.run());
                let context = format!("{name} {:?}", case.shape);
                assert!(error(&found.0, &expected.0) < 1e-5, "weight {context}");
                assert!(error(&found.1, &expected.1) < 1e-5, "bias {context}");
                assert!(error(&found.2, &expected.2) < 1e-5, "input {context}");
            }
        }
    }

    #[test]
    fn one_direction_equals_both() {
        let mut random = Random::new(4);
        let case = Case::new(random.shape(), &mut random);
        let (mut dweight, mut dx) = (vec![1.0; case.weight.len()], vec![1.0; case.x.len()]);
        conv_weight_gradient(
            &case.shape,
            &case.x,
            &case.y,
            &case.argmax,
            &case.dy,
            &mut dweight,
            None,
        );
        conv_input_gradient(
            &case.shape,
            &case.weight,
            &case.y,
            &case.argmax,
            &case.dy,
            &mut dx,
        );
        let both = case.run();
        assert_eq!((bits(&dweight), bits(&dx)), (bits(&both.0), bits(&both.2)));
    }

    #[test]
    fn threads_and_vector_width_leave_every_bit() {
        let mut random = Random::new(5);
        for round in 0..12 {
            let batch = [1, 7, 37][round % 3];
            let case = Case::new(
                ConvShape {
                    batch,
                    kernel: 3,
                    padding: round % 2,
                    height: 6,
                    ..random.shape()
                },
                &mut random,
            );
            let mut results = Vec::new();
            for (name, arch) in arches() {
                if name != "scalar" {
                    results.extend(in_pools(|| with_arch(arch, || case.run())));
                }
            }
            for pair in results.windows(2) {
                assert_eq!(bits(&pair[0].0), bits(&pair[1].0), "{:?}", case.shape);
                assert_eq!(bits(&pair[0].1), bits(&pair[1].1), "{:?}", case.shape);
                assert_eq!(bits(&pair[0].2), bits(&pair[1].2), "{:?}", case.shape);
            }
        }
    }

    /// The loss is the sum of `y * dy`; its slope along single weights and inputs.
    #[test]
    fn agrees_with_finite_differences() {
        let mut random = Random::new(6);
        let shape = ConvShape {
            batch: 2,
            height: 9,
            width: 8,
            in_channels: 3,
            out_channels: 16,
            kernel: 3,
            padding: 0,
            pool: true,
            relu: true,
        };
        let case = Case::new(shape, &mut random);
        let (dweight, _, dx) = case.run();
        let loss = |x: &[f32], weight: &[f32]| -> f64 {
            let (y, _) = naive::conv_forward(&shape, x, weight, None);
            y.iter()
                .zip(&case.dy)
                .map(|(&y, &dy)| y as f64 * dy as f64)
                .sum()
        };
        let step = 1e-3;
        let slope = |values: &[f32], index: usize, loss: &dyn Fn(&[f32]) -> f64| {
            let (mut up, mut down) = (values.to_vec(), values.to_vec());
            (up[index], down[index]) = (up[index] + step, down[index] - step);
            ((loss(&up) - loss(&down)) / (up[index] - down[index]) as f64) as f32
        };
        // A few directions cross a kink of the maximum; most must agree.
        let mut far = 0;
        for _ in 0..100 {
            let index = random.below(case.weight.len());
            let expected = slope(&case.weight, index, &|weight| loss(&case.x, weight));
            far += ((dweight[index] - expected).abs() > 1e-2 * (1.0 + expected.abs())) as usize;
            let index = random.below(case.x.len());
            let expected = slope(&case.x, index, &|x| loss(x, &case.weight));
            far += ((dx[index] - expected).abs() > 1e-2 * (1.0 + expected.abs())) as usize;
        }
        assert!(far <= 10, "{far} of 200 slopes differ");
    }

    #[test]
    fn nan_in_the_gradient_comes_through_and_masked_infinity_does_not() {
        let mut random = Random::new(7);
        let shape = ConvShape {
            kernel: 3,
            padding: 0,
            pool: true,
            relu: true,
            height: 6,
            width: 6,
            ..random.shape()
        };
        let mut case = Case::new(shape, &mut random);
        case.argmax[0] = 3;
        case.dy[0] = f32::NAN;
        for (_, arch) in arches() {
            let (dweight, dbias, dx) = with_arch(arch, || case.run());
            assert!(
                dbias[0].is_nan()
                    && dweight
                        .iter()
                        .step_by(shape.out_channels)
                        .all(|d| d.is_nan())
            );
            assert!(dx.iter().any(|d| d.is_nan()));
        }
        case.argmax[0] = 255;
        case.dy[0] = f32::INFINITY;
        let (dweight, dbias, dx) = case.run();
        assert!(
            dweight
                .iter()
                .chain(&dbias)
                .chain(&dx)
                .all(|d| d.is_finite())
        );
    }
}
