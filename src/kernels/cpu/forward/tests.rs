use super::super::check::{Random, bits, error, in_pools};
use super::super::naive;
use super::super::simd::{arch, arches, with_arch};
use super::*;

fn run(shape: &ConvShape, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> (Vec<f32>, Vec<u8>) {
    let mut y = vec![f32::MIN; shape.batch * shape.output_len()];
    let mut argmax = vec![77; if shape.pool { y.len() } else { 0 }];
    let outputs = Outputs::new(shape.out_channels, &mut y, shape.pool.then_some(&mut argmax[..]));
    conv_forward::<f32>(arch(), shape, x.into(), weight, bias, outputs);
    (y, argmax)
}

#[test]
fn agrees_with_naive_on_random_shapes() {
    let mut random = Random::new(1);
    for _ in 0..60 {
        let shape = random.shape();
        let x = random.floats(shape.batch * shape.input_len());
        let weight = random.floats(shape.weight_len());
        let bias = random.floats(shape.out_channels);
        let bias = (random.below(3) > 0).then_some(&bias[..]);
        let (expected, places) = naive::conv_forward(&shape, &x, &weight, bias);
        for (name, arch) in arches() {
            let (y, argmax) = with_arch(arch, || run(&shape, &x, &weight, bias));
            assert!(error(&y, &expected) < 1e-5, "{name} {shape:?}");
            let differ = argmax.iter().zip(&places).filter(|(a, b)| a != b).count();
            assert!(differ * 2000 <= argmax.len(), "{name} {differ} of {} {shape:?}", argmax.len());
        }
    }
}

#[test]
fn threads_and_vector_width_leave_every_bit() {
    let mut random = Random::new(2);
    for _ in 0..12 {
        let shape = ConvShape { batch: 7, ..random.shape() };
        let x = random.floats(shape.batch * shape.input_len());
        let weight = random.floats(shape.weight_len());
        let mut results = Vec::new();
        for (_, arch) in arches() {
            results.extend(in_pools(|| with_arch(arch, || run(&shape, &x, &weight, None))));
        }
        assert!(
            results.windows(2).all(|pair| bits(&pair[0].0) == bits(&pair[1].0) && pair[0].1 == pair[1].1)
        );
    }
}

const POINTWISE: ConvShape = ConvShape {
    batch: 1,
    height: 2,
    width: 2,
    in_channels: 1,
    out_channels: 16,
    kernel: 1,
    padding: 0,
    pool: true,
    relu: true,
};

#[test]
fn the_first_of_equal_maxima_wins() {
    for (x, place) in [([1.0, 1.0, 1.0, 1.0], 0), ([0.0, 2.0, 1.0, 2.0], 1), ([-1.0, 0.0, -2.0, 0.0], 255)] {
        for (_, arch) in arches() {
            let (_, argmax) = with_arch(arch, || run(&POINTWISE, &x, &[1.0; 16], None));
            assert_eq!(argmax, [place; 16]);
        }
    }
}

#[test]
fn nan_and_infinity_come_through() {
    let nan = f32::NAN;
    for (x, place, number) in [
        ([nan, 1.0, 2.0, 3.0], 0, false),
        ([1.0, nan, nan, 3.0], 2, false),
        ([1.0, f32::INFINITY, 2.0, 3.0], 1, true),
        ([f32::NEG_INFINITY; 4], 255, true),
    ] {
        for (_, arch) in arches() {
            let (y, argmax) = with_arch(arch, || run(&POINTWISE, &x, &[1.0; 16], None));
            assert_eq!(argmax, [place; 16]);
            assert!(y.iter().all(|y| y.is_nan() != number));
        }
    }
}
