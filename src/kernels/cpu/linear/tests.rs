use super::super::check::{Random, bits, error, in_pools};
use super::super::naive;
use super::super::simd::{arches, with_arch};
use super::backward::add_row;
use super::*;
use crate::kernels::Precision;
use crate::math::units::{Unit, add_up, shares};

struct Case {
    shape: LinearShape,
    precision: Precision,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn new(shape: LinearShape, random: &mut Random) -> Self {
        Self {
            shape,
            precision: Precision::F32,
            x: random.floats(shape.batch * shape.inputs),
            weight: random.floats(shape.inputs * shape.outputs),
            bias: random.floats(shape.outputs),
            dy: random.floats(shape.batch * shape.outputs),
        }
    }

    /// `y`, `dweight`, `dbias`, `dx`.
    fn run(&self) -> [Vec<f32>; 4] {
        let [mut y, mut dweight] = [vec![f32::MIN; self.dy.len()], vec![f32::MIN; self.weight.len()]];
        let [mut dbias, mut dx] = [vec![f32::MIN; self.bias.len()], vec![f32::MIN; self.x.len()]];
        linear_forward(&self.shape, self.precision, &self.x, &self.weight, Some(&self.bias), &mut y);
        linear_backward(
            &self.shape,
            self.precision,
            &self.x,
            &self.weight,
            &y,
            &self.dy,
            LinearGradients { dweight: &mut dweight, dbias: Some(&mut dbias), dx: Some(&mut dx) },
        );
        [y, dweight, dbias, dx]
    }
}

#[test]
fn agrees_with_naive() {
    let mut random = Random::new(10);
    for (batch, inputs, outputs) in
        [(32, 1024, 64), (32, 64, 4), (1, 1, 1), (7, 50, 33), (13, 97, 16), (117, 48, 10), (13, 777, 275)]
    {
        for relu in [true, false] {
            let case = Case::new(LinearShape { batch, inputs, outputs, relu }, &mut random);
            // A dense layer is a 1x1 convolution of 1x1 images.
            let conv = naive::linear_as_conv(batch, inputs, outputs, relu);
            let (y, _) = naive::conv_forward(&conv, &case.x, &case.weight, Some(&case.bias));
            let (dweight, dbias, dx) = naive::conv_backward(&conv, &case.x, &case.weight, &y, &[], &case.dy);
            for (name, arch) in arches() {
                let found = with_arch(arch, || case.run());
                for (found, expected) in found.iter().zip([&y, &dweight, &dbias, &dx]) {
                    assert!(error(found, expected) < 1e-5, "{name} {:?}", case.shape);
                }
            }
        }
    }
}

#[test]
fn threads_and_vector_width_leave_every_bit() {
    for (inputs, outputs) in [(1000, 60), (777, 275)] {
        let case = Case::new(LinearShape { batch: 33, inputs, outputs, relu: true }, &mut Random::new(11));
        let mut results = Vec::new();
        for (_, arch) in arches() {
            results.extend(in_pools(|| with_arch(arch, || case.run().map(|values| bits(&values)))));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

/// A layer whose weights are taken strip by strip has the bytes of narrow ones side by side.
#[test]
fn a_wide_layer_has_the_bytes_of_narrow_ones() {
    const PART: usize = 55;
    let shape = LinearShape { batch: 20, inputs: 1100, outputs: 5 * PART, relu: true };
    for precision in [Precision::F32, Precision::Bf16] {
        let wide = Case { precision, ..Case::new(shape, &mut Random::new(13)) };
        assert!(shape.is_wide());
        let [y, dweight, dbias, _] = wide.run();
        for first in (0..shape.outputs).step_by(PART) {
            let cut = |rows: &[f32]| -> Vec<f32> {
                rows.chunks(shape.outputs).flat_map(|row| &row[first..first + PART]).copied().collect()
            };
            let narrow = Case {
                shape: LinearShape { outputs: PART, ..shape },
                precision,
                x: wide.x.clone(),
                weight: cut(&wide.weight),
                bias: cut(&wide.bias),
                dy: cut(&wide.dy),
            };
            assert!(!narrow.shape.is_wide());
            let expected = [&y, &dweight, &dbias].map(|values| bits(&cut(values)));
            let [y, dweight, dbias, _] = narrow.run();
            assert_eq!([&y, &dweight, &dbias].map(|values| bits(values)), expected, "{precision:?} {first}");
        }
    }
}

/// Shares of a batch, each by itself, add up to the gradients of the whole.
#[test]
fn shares_add_up_to_the_whole() {
    for precision in [Precision::F32, Precision::Bf16] {
        shares_add_up(precision);
    }
}

fn shares_add_up(precision: Precision) {
    let mut random = Random::new(12);
    let shape = LinearShape { batch: 77, inputs: 51, outputs: 21, relu: true };
    let case = Case { precision, ..Case::new(shape, &mut random) };
    let [_, dweight, dbias, dx] = case.run();
    for count in 2..=8 {
        let parts = shares(shape.batch, count).into_iter().map(|Unit { samples, merges }| {
            let cut =
                |rows: &[f32], columns: usize| rows[samples.start * columns..samples.end * columns].to_vec();
            let part = Case {
                shape: LinearShape { batch: samples.len(), ..shape },
                precision,
                x: cut(&case.x, shape.inputs),
                weight: case.weight.clone(),
                bias: case.bias.clone(),
                dy: cut(&case.dy, shape.outputs),
            };
            let [_, dweight, dbias, part_dx] = part.run();
            assert_eq!(bits(&part_dx), bits(&cut(&dx, shape.inputs)));
            ([dweight, dbias], merges)
        });
        let sums = add_up(parts, |earlier, later| {
            earlier.iter_mut().zip(&later).for_each(|(earlier, later)| add_row(earlier, later));
        });
        assert_eq!(sums[0].0.each_ref().map(|sum| bits(sum)), [bits(&dweight), bits(&dbias)], "{count}");
    }
}
