use super::super::check::{Case, Random, bits, error, in_pools};
use super::super::naive;
use super::super::simd::{arches, with_arch};
use super::*;
use crate::math::units::{Unit, add_up, shares};

impl Case {
    fn run(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        self.run_with(conv_backward)
    }

    /// With bfloat16 factors.
    fn run_rounded(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        self.run_with(|shape, saved, for_weight, for_input| {
            conv_backward_as_dense(shape, Precision::Bf16, saved, for_weight, for_input);
        })
    }

    fn run_with(
        &self,
        backward: impl Fn(&ConvShape, Saved, Option<WeightGradient>, Option<InputGradient>),
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut dweight = vec![f32::MIN; self.weight.len()];
        let mut dbias = vec![f32::MIN; self.shape.out_channels];
        let mut dx = vec![f32::MIN; self.x.len()];
        backward(
            &self.shape,
            Saved { y: &self.y, argmax: &self.argmax, dy: &self.dy },
            Some(WeightGradient { x: self.x[..].into(), dweight: &mut dweight, dbias: Some(&mut dbias) }),
            Some(InputGradient { weight: &self.weight, dx: &mut dx }),
        );
        (dweight, dbias, dx)
    }

    fn expected(&self) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        naive::conv_backward(&self.shape, &self.x, &self.weight, &self.y, &self.argmax, &self.dy)
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
    conv_weight_gradient(&case.shape, &case.x, &case.y, &case.argmax, &case.dy, &mut dweight, None);
    conv_input_gradient(&case.shape, &case.weight, &case.y, &case.argmax, &case.dy, &mut dx);
    let both = case.run();
    assert_eq!((bits(&dweight), bits(&dx)), (bits(&both.0), bits(&both.2)));
}

#[test]
fn threads_and_vector_width_leave_every_bit() {
    let mut random = Random::new(5);
    for round in 0..12 {
        let batch = [1, 7, 37, 60][round % 4];
        let case = Case::new(
            ConvShape { batch, kernel: 3, padding: round % 2, height: 6, ..random.shape() },
            &mut random,
        );
        let mut results = Vec::new();
        for (_, arch) in arches() {
            results.extend(in_pools(|| with_arch(arch, || case.run())));
        }
        for pair in results.windows(2) {
            assert_eq!(bits(&pair[0].0), bits(&pair[1].0), "{:?}", case.shape);
            assert_eq!(bits(&pair[0].1), bits(&pair[1].1), "{:?}", case.shape);
            assert_eq!(bits(&pair[0].2), bits(&pair[1].2), "{:?}", case.shape);
        }
    }
}

/// Shares of a batch, each by itself, add up to the gradients of the whole, for each kind of layer.
#[test]
fn shares_add_up_to_the_whole() {
    let mut random = Random::new(8);
    for (kernel, pool, relu) in [
        (3, true, true),
        (3, false, true),
        (3, false, false),
        (1, false, false),
        (1, true, false),
        (5, false, false),
    ] {
        let padding = (kernel - 1) / 2;
        let shape = ConvShape {
            batch: 77,
            height: 6,
            width: 7,
            out_channels: 32,
            kernel,
            padding,
            pool,
            relu,
            ..random.shape()
        };
        let case = Case::new(shape, &mut random);
        for run in [Case::run, Case::run_rounded] {
            shares_of(&case, run);
        }
    }
}

fn shares_of(case: &Case, run: impl Fn(&Case) -> (Vec<f32>, Vec<f32>, Vec<f32>)) {
    let shape = case.shape;
    let (dweight, dbias, dx) = run(case);
    for count in [2, 3, 8] {
        let parts = shares(shape.batch, count).into_iter().map(|Unit { samples, merges }| {
            let (inputs, outputs) = (shape.input_len(), shape.output_len());
            let cut = |length: usize| samples.start * length..samples.end * length;
            let part = Case {
                shape: ConvShape { batch: samples.len(), ..shape },
                x: case.x[cut(inputs)].to_vec(),
                weight: case.weight.clone(),
                y: case.y[cut(outputs)].to_vec(),
                argmax: case.argmax.get(cut(outputs)).unwrap_or_default().to_vec(),
                dy: case.dy[cut(outputs)].to_vec(),
            };
            let (dweight, dbias, part_dx) = run(&part);
            assert_eq!(bits(&part_dx), bits(&dx[cut(inputs)]));
            ([dweight, dbias].concat(), merges)
        });
        let sums = add_up(parts, |earlier, later| {
            earlier.iter_mut().zip(later).for_each(|(earlier, later)| *earlier += later);
        });
        assert_eq!(bits(&sums[0].0), bits(&[&dweight[..], &dbias].concat()), "{count} {shape:?}");
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
        y.iter().zip(&case.dy).map(|(&y, &dy)| y as f64 * dy as f64).sum()
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
    let shape =
        ConvShape { kernel: 3, padding: 0, pool: true, relu: true, height: 6, width: 6, ..random.shape() };
    let mut case = Case::new(shape, &mut random);
    case.argmax[0] = 3;
    case.dy[0] = f32::NAN;
    for (_, arch) in arches() {
        let (dweight, dbias, dx) = with_arch(arch, || case.run());
        assert!(dbias[0].is_nan() && dweight.iter().step_by(shape.out_channels).all(|d| d.is_nan()));
        assert!(dx.iter().any(|d| d.is_nan()));
    }
    case.argmax[0] = 255;
    case.dy[0] = f32::INFINITY;
    let (dweight, dbias, dx) = case.run();
    assert!(dweight.iter().chain(&dbias).chain(&dx).all(|d| d.is_finite()));
}
