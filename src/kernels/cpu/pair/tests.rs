use super::super::backward::{InputGradient, Saved, WeightGradient, conv_backward_as_dense};
use super::super::check::{Random, error, in_pools};
use super::super::linear::{LinearGradients, LinearShape, linear_backward, linear_forward};
use super::super::method::conv_forward;
use super::super::naive;
use super::super::shape::ConvShape;
use super::super::simd::{arches, with_arch};
use super::*;
use crate::kernels::{Arithmetic, Convolution, Precision};

const BF16: Arithmetic = Arithmetic { convolution: Convolution::Direct, precision: Precision::Bf16 };

/// Bits, of any NaN the same.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| if value.is_nan() { NAN } else { value.to_bits() }).collect()
}

/// Numbers of all sizes and kinds.
fn all_kinds(random: &mut Random, len: usize) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        f32::from_bits(0x7F80_0001),
        f32::from_bits(0xFFFF_FFFF),
        f32::from_bits(LEAST),
        f32::from_bits(LEAST - 1),
        f32::from_bits(LEAST - 0x8001),
        f32::from_bits(0x3F80_8000),
        f32::from_bits(0x3F81_8000),
        f32::from_bits(0xBF80_7FFF),
        f32::from_bits(0xBF81_8001),
    ];
    (0..len)
        .map(|_| match random.below(4) {
            0 => special[random.below(special.len())],
            1 => f32::from_bits(random.next() as u32),
            2 => f32::from_bits(random.next() as u32 & UPPER | 0x8000),
            _ => random.floats(1)[0],
        })
        .collect()
}

struct Pack<'a, O> {
    first: &'a [f32],
    second: Option<&'a [f32]>,
    operands: &'a mut [O],
}

impl<O: Operand> WithSimd for Pack<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.second {
            Some(_) => O::pack_rows(self.first, self.second, self.operands),
            None => O::pack(self.first, self.operands),
        }
    }
}

fn packed<O: Operand>(arch: Arch, first: &[f32], second: Option<&[f32]>) -> Vec<u32> {
    let len = if second.is_some() { first.len() } else { first.len().div_ceil(2) };
    let mut operands = vec![O::zeroed(); len];
    O::dispatch(arch, Pack { first, second, operands: &mut operands });
    pulp::bytemuck::cast_slice(&operands).to_vec()
}

#[test]
fn factors_are_the_nearest() {
    let mut random = Random::new(40);
    for round in 0..3_000 {
        let len = 1 + round % 77;
        let [first, second] = [(); 2].map(|()| all_kinds(&mut random, len));
        let pair = |even: f32, odd: f32| {
            let [even, odd] = [even, odd].map(|number| bits(&[plain::rounded(number)])[0]);
            even >> 16 | odd & UPPER
        };
        let in_a_row: Vec<u32> =
            first.chunks(2).map(|pairs| pair(pairs[0], pairs.get(1).copied().unwrap_or(0.0))).collect();
        let in_columns: Vec<u32> = first.iter().zip(&second).map(|(&even, &odd)| pair(even, odd)).collect();
        for (name, arch) in arches() {
            with_operand!(Precision::Bf16, arch, O => {
                assert_eq!(packed::<O>(arch, &first, None), in_a_row, "{name}");
                assert_eq!(packed::<O>(arch, &first, Some(&second)), in_columns, "{name}");
            });
        }
    }
}

/// Sums of several pairs of products, a vector at a time.
struct Sums<'a, O> {
    a: &'a [O],
    b: &'a [O],
    sums: &'a mut [f32],
}

impl<O: Operand> WithSimd for Sums<'_, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let len = self.sums.len();
        for (index, sums) in self.sums.chunks_exact_mut(S::F32_LANES).enumerate() {
            let mut sum = unsafe { load::<S>(sums.as_ptr()) };
            for (a, b) in self.a.chunks_exact(len).zip(self.b.chunks_exact(len)) {
                let start = index * S::F32_LANES;
                let [a, b] = [a, b].map(|row| unsafe { O::load(simd, row[start..].as_ptr()) });
                sum = O::multiply_add(simd, a, b, sum);
            }
            sums.copy_from_slice(pulp::bytemuck::cast_slice(&[sum]));
        }
    }
}

/// The instruction against plain fused multiply-adds: ordinary numbers, all kinds, and those whose products and sums are
/// as small as any can be, so that denormal numbers would arise if one could.
#[test]
fn pairs_are_added_odd_first() {
    const LEN: usize = 64;
    const DEPTH: usize = 5;
    if !arches().iter().any(|(name, _)| *name == "avx512bf16") {
        eprintln!("no AVX-512 BF16 here: its instruction is not compared with fused multiply-adds");
    }
    let mut random = Random::new(41);
    for round in 0..20_000 {
        let small = |random: &mut Random, len: usize, least: i32| -> Vec<f32> {
            let sizes = random.floats(len);
            sizes.iter().map(|size| size * 2f32.powi(least + random.below(4) as i32)).collect()
        };
        let mut numbers = |len: usize, least: i32| match round % 4 {
            0 => random.floats(len),
            1 => all_kinds(&mut random, len),
            _ => small(&mut random, len, least),
        };
        let [a, b] = [(); 2].map(|()| numbers(2 * DEPTH * LEN, -56));
        let start: Vec<f32> = numbers(LEN, -112).into_iter().map(plain::bias).collect();
        let expected: Vec<f32> = (0..LEN)
            .map(|lane| {
                (0..DEPTH).fold(start[lane], |sum, step| {
                    let at = 2 * (step * LEN + lane);
                    let product =
                        |sum: f32, at: usize| plain::rounded(a[at]).mul_add(plain::rounded(b[at]), sum);
                    let sum = product(sum, at + 1);
                    assert!(!sum.is_subnormal());
                    product(sum, at)
                })
            })
            .collect();
        assert!(expected.iter().all(|sum| !sum.is_subnormal()));
        for (name, arch) in arches() {
            with_operand!(Precision::Bf16, arch, O => {
                let mut sums = start.clone();
                let [a, b] = [&a, &b].map(|numbers| {
                    let mut operands = vec![O::zeroed(); LEN * DEPTH];
                    O::dispatch(arch, Pack { first: numbers, second: None, operands: &mut operands });
                    operands
                });
                O::dispatch(arch, Sums { a: &a, b: &b, sums: &mut sums });
                assert_eq!(bits(&sums), bits(&expected), "{name}");
            });
        }
    }
}

#[test]
fn a_bias_too_small_for_sums_counts_as_zero() {
    let least = 2f32.powi(-103);
    let biases = [f32::from_bits(1), -f32::MIN_POSITIVE, least / 2.0, least, -least];
    let shape = LinearShape { batch: 1, inputs: 2, outputs: biases.len(), relu: false };
    for (name, arch) in arches() {
        let mut y = [7.0; 5];
        with_arch(arch, || {
            linear_forward(&shape, Precision::Bf16, &[0.0; 2], &[0.0; 10], Some(&biases), &mut y);
        });
        assert_eq!(y, [0.0, 0.0, 0.0, least, -least], "{name}");
        let shape = naive::linear_as_conv(1, 2, biases.len(), false);
        with_arch(arch, || {
            conv_forward(&shape, BF16, &[0.0; 2], &[0.0; 10], Some(&biases), &mut y, None);
        });
        assert_eq!(y, [0.0, 0.0, 0.0, least, -least], "{name}");
    }
}

/// Output, places, gradients of weight, bias and input.
type Results = (Vec<f32>, Vec<u8>, [Vec<f32>; 3]);

struct Case {
    shape: ConvShape,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    fn new(shape: ConvShape, mut numbers: impl FnMut(usize) -> Vec<f32>) -> Self {
        let [x, weight, bias, dy] = [
            shape.batch * shape.input_len(),
            shape.weight_len(),
            shape.out_channels,
            shape.batch * shape.output_len(),
        ]
        .map(&mut numbers);
        Self { shape, x, weight, bias, dy }
    }

    fn run(&self) -> Results {
        let shape = &self.shape;
        let mut y = vec![f32::MIN; self.dy.len()];
        let mut argmax = vec![77; if shape.pool { y.len() } else { 0 }];
        let places = shape.pool.then_some(&mut argmax[..]);
        conv_forward(shape, BF16, &self.x, &self.weight, Some(&self.bias), &mut y, places);
        let [mut dweight, mut dbias, mut dx] =
            [&self.weight, &self.bias, &self.x].map(|values| vec![f32::MIN; values.len()]);
        conv_backward_as_dense(
            shape,
            Precision::Bf16,
            Saved { y: &y, argmax: &argmax, dy: &self.dy },
            Some(WeightGradient { x: self.x[..].into(), dweight: &mut dweight, dbias: Some(&mut dbias) }),
            Some(InputGradient { weight: &self.weight, dx: &mut dx }),
        );
        (y, argmax, [dweight, dbias, dx])
    }

    fn expected(&self) -> Results {
        let shape = &self.shape;
        let sums = plain::sums(shape, &self.x, &self.weight, &self.bias);
        let (y, argmax) = plain::pool(shape, &sums);
        let dy = plain::unfold(shape, &y, &argmax, &self.dy);
        let [dweight, dbias] = plain::weight_gradient(shape, &self.x, &dy);
        let dx = plain::input_gradient(shape, &self.weight, &dy);
        (y, argmax, [dweight, dbias, dx])
    }
}

fn same(found: &Results, expected: &Results, context: &str) {
    assert_eq!(found.1, expected.1, "places {context}");
    assert!(bits(&found.0) == bits(&expected.0), "forward {context}");
    for (name, (found, expected)) in
        ["weight", "bias", "input"].into_iter().zip(found.2.iter().zip(&expected.2))
    {
        assert!(bits(found) == bits(expected), "{name} {context}");
    }
}

fn small_shape(random: &mut Random) -> ConvShape {
    let kernel = [1, 3, 5, 6][random.below(4)];
    ConvShape {
        batch: [1, 2, 3, 9, 17, 19][random.below(6)],
        height: kernel + random.below(5),
        width: kernel + random.below(8),
        in_channels: [1, 2, 3, 7, 16, 33][random.below(6)],
        out_channels: [1, 3, 16, 20, 48, 67][random.below(6)],
        kernel,
        padding: if kernel % 2 == 0 || random.below(2) == 0 { 0 } else { (kernel - 1) / 2 },
        pool: random.below(2) == 0 && kernel != 6,
        relu: random.below(2) == 0,
    }
}

/// Bytes, for any instruction set and number of threads, of both passes.
#[test]
fn whole_layers_equal_plain_loops() {
    let mut random = Random::new(42);
    for _ in 0..40 {
        let shape = small_shape(&mut random);
        if shape.positions() == 0 {
            continue;
        }
        let case = Case::new(shape, |len| random.floats(len));
        let expected = case.expected();
        for (name, arch) in arches() {
            for found in in_pools(|| with_arch(arch, || case.run())) {
                same(&found, &expected, &format!("{name} {shape:?}"));
            }
        }
    }
}

/// The same with NaN, infinities, denormal numbers, and gradients that are too small to count.
#[test]
fn numbers_of_all_kinds_give_the_same_everywhere() {
    let mut random = Random::new(43);
    for round in 0..24 {
        let shape = ConvShape { in_channels: 3, ..small_shape(&mut random) };
        if shape.positions() == 0 {
            continue;
        }
        let case = Case::new(shape, |len| {
            let kinds = all_kinds(&mut random, len);
            let numbers = random.floats(len);
            let few = |(kind, number): (f32, f32)| if random.below(40) == 0 { kind } else { number };
            match round % 2 {
                0 => kinds.into_iter().zip(numbers).map(few).collect(),
                _ => numbers.into_iter().map(|number| number * 2f32.powi(-55)).collect(),
            }
        });
        let expected = case.expected();
        assert!(expected.0.iter().all(|sum| !sum.is_subnormal()));
        for (name, arch) in arches() {
            same(&with_arch(arch, || case.run()), &expected, &format!("{name} {shape:?}"));
        }
    }
}

/// A dense layer is a convolution of 1x1 images: the same products, pairs and sums.
#[test]
fn dense_layers_equal_plain_loops() {
    let mut random = Random::new(45);
    for round in 0..40 {
        let batch = [1, 2, 5, 16, 33, 77][random.below(6)];
        let (inputs, outputs) = (1 + random.below(120), 1 + random.below(70));
        let relu = round % 2 == 0;
        let conv = naive::linear_as_conv(batch, inputs, outputs, relu);
        let case = Case::new(conv, |len| match round % 3 {
            0 => all_kinds(&mut random, len),
            _ => random.floats(len),
        });
        let expected = case.expected();
        let run = || {
            let shape = LinearShape { batch, inputs, outputs, relu };
            let Case { x, weight, bias, dy, .. } = &case;
            let mut y = vec![f32::MIN; dy.len()];
            linear_forward(&shape, Precision::Bf16, x, weight, Some(bias), &mut y);
            let [mut dweight, mut dbias, mut dx] =
                [weight, bias, x].map(|values| vec![f32::MIN; values.len()]);
            let wanted =
                LinearGradients { dweight: &mut dweight, dbias: Some(&mut dbias), dx: Some(&mut dx) };
            linear_backward(&shape, Precision::Bf16, x, weight, &y, dy, wanted);
            (y, Vec::new(), [dweight, dbias, dx])
        };
        for (name, arch) in arches() {
            for found in in_pools(|| with_arch(arch, run)) {
                same(&found, &expected, &format!("{name} {conv:?}"));
            }
        }
    }
}

/// With errors of rounded factors: 2^-9 of each, at random, of a sum of many.
#[test]
fn results_are_close_to_exact_ones() {
    let mut random = Random::new(44);
    for _ in 0..30 {
        let shape = random.shape();
        let case = Case::new(shape, |len| random.floats(len));
        let factors =
            |numbers: &[f32]| -> Vec<f32> { numbers.iter().map(|&number| plain::rounded(number)).collect() };
        let [x, weight] = [&case.x, &case.weight].map(|numbers| factors(numbers));
        let (sums, _) = naive::conv_forward(&shape, &x, &weight, Some(&case.bias));
        let (y, argmax, gradients) = case.run();
        assert!(error(&y, &sums) < 1e-5, "{shape:?}");
        let exact = |dy: &[f32]| naive::conv_backward(&shape, &x, &weight, &y, &argmax, dy);
        let (dweight, _, dx) = exact(&factors(&case.dy));
        let (_, dbias, _) = exact(&case.dy);
        for (found, expected) in gradients.iter().zip([dweight, dbias, dx]) {
            assert!(error(found, &expected) < 1e-5, "{shape:?}");
        }
    }
}
