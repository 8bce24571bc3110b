use super::super::check::{Random, bits, in_pools};
use super::super::norm::{Affine, normalise};
use super::super::simd::{arches, with_arch};
use super::*;

fn layer([side, in_channels, out_channels, kernel]: [usize; 4], pool: bool, relu: bool) -> ConvShape {
    let padding = (kernel - 1) / 2;
    ConvShape {
        batch: 1,
        height: side,
        width: side,
        in_channels,
        out_channels,
        kernel,
        padding,
        pool,
        relu,
    }
}

/// Forward, input gradient, weight gradient of the encoders' layers.
#[test]
fn layers_of_the_encoders_go_where_they_are_fast() {
    const FOUR: Option<Method> = Some(Method::Four);
    const FIVE: Option<Method> = Some(Method::FourOfFive);
    let valid = |side, channels: [usize; 2], pool| ConvShape {
        padding: 0,
        ..layer([side, channels[0], channels[1], 3], pool, true)
    };
    for (shape, expected) in [
        (valid(32, [3, 32], true), [None; 3]),
        (valid(15, [32, 64], true), [FOUR, None, None]),
        (valid(6, [64, 64], false), [FOUR, None, FOUR]),
        (layer([32, 3, 32, 3], true, false), [None; 3]),
        (layer([16, 54, 64, 3], true, false), [FOUR; 3]),
        (layer([8, 64, 128, 3], false, false), [FOUR; 3]),
        (layer([8, 128, 128, 3], true, false), [FOUR; 3]),
        (layer([4, 128, 128, 3], false, false), [FOUR; 3]),
        (layer([6, 128, 128, 3], false, false), [Some(Method::Two); 3]),
        (layer([32, 3, 192, 5], false, false), [None, None, FIVE]),
        (layer([16, 96, 192, 5], false, false), [FIVE; 3]),
        (layer([32, 192, 160, 1], false, false), [None; 3]),
    ] {
        let found = [Pass::Forward, Pass::InputGradient, Pass::WeightGradient]
            .map(|pass| method(&shape, Arithmetic::default(), pass));
        assert_eq!(found, expected, "{shape:?}");
        let direct = Arithmetic { convolution: Convolution::Direct, ..Arithmetic::default() };
        assert_eq!(method(&shape, direct, Pass::Forward), None);
    }
}

/// An image's output is the same in any batch, on any number of threads.
#[test]
fn the_choice_depends_on_the_layer_alone() {
    let mut random = Random::new(41);
    for _ in 0..8 {
        let shape = ConvShape { batch: 21, in_channels: 64, ..random.shape() };
        let x = random.floats(shape.batch * shape.input_len());
        let weight = random.floats(shape.weight_len());
        let run = |shape: &ConvShape, x: &[f32]| {
            let mut y = vec![0.0; shape.batch * shape.output_len()];
            conv_forward(shape, Arithmetic::default(), x, &weight, None, &mut y, None);
            bits(&y)
        };
        for all in in_pools(|| run(&shape, &x)) {
            let images =
                x.chunks_exact(shape.input_len()).zip(all.chunks_exact(shape.output_len().max(1)));
            for (x, y) in images {
                assert_eq!(run(&ConvShape { batch: 1, ..shape }, x), y, "{shape:?}");
            }
        }
    }
}

/// In every instruction set, on any number of threads.
#[test]
fn inputs_normalised_on_the_way_are_inputs_normalised_before() {
    let mut random = Random::new(42);
    for (side, channels) in [(7, [16, 32]), (4, [48, 16]), (9, [96, 80])] {
        let shape = ConvShape { batch: 19, ..layer([side, channels[0], channels[1], 1], false, false) };
        let x = random.floats(shape.batch * shape.input_len());
        let [weight, dy] =
            [shape.weight_len(), shape.batch * shape.output_len()].map(|n| random.floats(n));
        let [mean, inverse, scale, bias] = [(); 4].map(|()| random.floats(channels[0]));
        let affine = Affine { scale: &scale, shift: &bias };
        let mut normalised = vec![0.0; x.len()];
        normalise(&x, &mean, &inverse, affine, true, &mut normalised);
        let norm = Normalisation::new(&mean, &inverse, affine, true);
        for precision in [Precision::F32, Precision::Bf16] {
            let arithmetic = Arithmetic { precision, ..Arithmetic::default() };
            let run = |x: Inputs| {
                let (mut y, mut dweight) = (vec![0.0; dy.len()], vec![0.0; weight.len()]);
                conv_forward_of_normalised(&shape, arithmetic, x, &weight, &mut y);
                let saved = Saved { y: &[], argmax: &[], dy: &dy };
                let wanted = WeightGradient { x, dweight: &mut dweight, dbias: None };
                conv_backward(&shape, arithmetic, saved, Some(wanted), None);
                [bits(&y), bits(&dweight)]
            };
            let before = run(normalised[..].into());
            for (name, arch) in arches() {
                let on_the_way = || with_arch(arch, || run(Inputs { numbers: &x, norm: Some(&norm) }));
                for found in in_pools(on_the_way) {
                    assert_eq!(found, before, "{name} {shape:?} {precision:?}");
                }
            }
        }
    }
}
