//! Every kernel's output on fixed inputs, as digests in `tests/golden/kernels.json` that every processor, instruction set
//! and number of threads must give. `ROTNET_GOLDEN=write cargo test golden` writes the file anew, for when an order of sums
//! is changed on purpose.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::{Random, in_pools};
use super::norm::statistics::BatchStatistics;
use super::simd::{arches, with_arch};
use super::*;
use crate::files::sha256;
use crate::kernels::{AdamStep, Arithmetic, Convolution, OverlappingPool, Precision, SgdStep};

/// `[batch, height, width, in, out, kernel, padding]`: layers of all encoders, made small, and odd ones.
const CONVOLUTIONS: [[usize; 7]; 11] = [
    [18, 9, 8, 3, 32, 3, 0],
    [9, 6, 7, 3, 20, 3, 1],
    [5, 8, 8, 1, 16, 3, 1],
    [6, 7, 9, 32, 64, 3, 1],
    [40, 6, 6, 64, 48, 3, 0],
    [9, 6, 6, 64, 64, 3, 1],
    [3, 7, 6, 19, 70, 3, 1],
    [4, 9, 9, 3, 16, 5, 2],
    [3, 6, 6, 96, 32, 5, 2],
    [10, 5, 6, 48, 96, 1, 0],
    [2, 9, 9, 3, 40, 6, 0],
];

fn layer(
    [batch, height, width, in_channels, out_channels, kernel, padding]: [usize; 7],
    pool: bool,
    relu: bool,
) -> ConvShape {
    ConvShape { batch, height, width, in_channels, out_channels, kernel, padding, pool, relu }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn prefix(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "",
        Precision::Bf16 => "bf16 ",
    }
}

/// Bytes of what the kernels give, by the operation's name.
#[derive(Default)]
struct Outputs(BTreeMap<String, Vec<u8>>);

impl Outputs {
    fn add(&mut self, name: String, values: &[&[f32]]) {
        self.0.insert(name, values.iter().flat_map(|values| bytes(values)).collect());
    }

    fn all() -> BTreeMap<String, String> {
        let mut outputs = Self::default();
        let mut random = Random::new(22);
        for sizes in CONVOLUTIONS {
            for (pool, relu) in [(true, true), (false, true), (false, false)] {
                let shape = layer(sizes, pool, relu);
                for convolution in [Convolution::Direct, Convolution::Fast] {
                    for precision in [Precision::F32, Precision::Bf16] {
                        outputs.convolution(shape, Arithmetic { convolution, precision }, &mut random);
                    }
                }
            }
        }
        for ([batch, inputs, outputs_], relu) in
            [([33, 100, 60], true), ([7, 1024, 4], false), ([130, 64, 10], false), ([128, 50, 64], true)]
        {
            outputs.dense(
                Precision::F32,
                LinearShape { batch, inputs, outputs: outputs_, relu },
                &mut random,
            );
        }
        for (rows, channels) in [(700, 64), (3_000, 19), (40, 128)] {
            outputs.norm(rows, channels, &mut random);
        }
        for kind in [OverlappingPool::Max, OverlappingPool::Average] {
            outputs.pool(kind, &mut random);
        }
        outputs.steps(&mut random);
        for shape in [[27, 32], [288, 64], [70, 33], [33, 70]] {
            let matrix = random.floats(shape[0] * shape[1]);
            outputs.add(format!("orthogonalise {shape:?}"), &[&orthogonalise(shape, &matrix)]);
        }
        for ([batch, inputs, outputs_], relu) in [([33, 101, 60], true), ([7, 1024, 4], false)] {
            let shape = LinearShape { batch, inputs, outputs: outputs_, relu };
            outputs.dense(Precision::Bf16, shape, &mut random);
        }
        // Shapes that F(4x4, 5x5) suits, and F(2x2, 5x5) does not.
        for (pool, relu) in [(true, true), (false, false)] {
            let shape = layer([9, 8, 7, 40, 24, 5, 2], pool, relu);
            outputs.convolution(shape, Arithmetic::default(), &mut random);
        }
        outputs.0.into_iter().map(|(name, bytes)| (name, sha256(&bytes))).collect()
    }

    fn convolution(&mut self, shape: ConvShape, arithmetic: Arithmetic, random: &mut Random) {
        let x = random.floats(shape.batch * shape.input_len());
        let (weight, bias) = (random.floats(shape.weight_len()), random.floats(shape.out_channels));
        let length = shape.batch * shape.output_len();
        let (mut y, mut argmax) = (vec![0.0; length], vec![0; if shape.pool { length } else { 0 }]);
        let places = shape.pool.then_some(&mut argmax[..]);
        conv_forward(&shape, arithmetic, &x, &weight, Some(&bias), &mut y, places);
        let dy = random.floats(length);
        let (mut dweight, mut dbias) = (vec![0.0; weight.len()], vec![0.0; bias.len()]);
        let mut dx = vec![0.0; x.len()];
        let for_weight = WeightGradient { x: x[..].into(), dweight: &mut dweight, dbias: Some(&mut dbias) };
        let for_input = InputGradient { weight: &weight, dx: &mut dx };
        let saved = Saved { y: &y, argmax: &argmax, dy: &dy };
        conv_backward(&shape, arithmetic, saved, Some(for_weight), Some(for_input));
        let name = format!(
            "{}{shape}, batch {}{}{}{}{}",
            prefix(arithmetic.precision),
            shape.batch,
            if arithmetic.convolution == Convolution::Direct { ", direct" } else { "" },
            if shape.padding > 0 { ", padded" } else { "" },
            if shape.relu { ", relu" } else { "" },
            if shape.pool { ", pool" } else { "" }
        );
        self.add(format!("{name}, forward"), &[&y]);
        self.add(format!("{name}, weight gradient"), &[&dweight, &dbias]);
        self.add(format!("{name}, input gradient"), &[&dx]);
        if shape.pool {
            self.0.insert(format!("{name}, places"), argmax);
        }
    }

    fn dense(&mut self, precision: Precision, shape: LinearShape, random: &mut Random) {
        let LinearShape { batch, inputs, outputs, relu } = shape;
        let [x, weight] = [batch * inputs, inputs * outputs].map(|length| random.floats(length));
        let [bias, dy] = [outputs, batch * outputs].map(|length| random.floats(length));
        let mut y = vec![0.0; dy.len()];
        linear_forward(&shape, precision, &x, &weight, Some(&bias), &mut y);
        let [mut dweight, mut dbias, mut dx] =
            [weight.len(), outputs, x.len()].map(|length| vec![0.0; length]);
        let wanted = LinearGradients { dweight: &mut dweight, dbias: Some(&mut dbias), dx: Some(&mut dx) };
        linear_backward(&shape, precision, &x, &weight, &y, &dy, wanted);
        let name = format!("{}{shape}, batch {batch}{}", prefix(precision), if relu { ", relu" } else { "" });
        self.add(format!("{name}, forward"), &[&y]);
        self.add(format!("{name}, backward"), &[&dweight, &dbias, &dx]);
    }

    fn norm(&mut self, rows: usize, channels: usize, random: &mut Random) {
        let [x, mut gradient] = [(); 2].map(|()| random.floats(rows * channels));
        let [scale, shift] = [(); 2].map(|()| random.floats(channels));
        let BatchStatistics { mean, variance } = batch_moments(&x, rows, channels).statistics();
        let inverse = inverse_deviation(&variance, 1e-5);
        let affine = Affine { scale: &scale, shift: &shift };
        let mut y = vec![0.0; x.len()];
        normalise(&x, &mean, &inverse, affine, true, &mut y);
        let forward = Normalised {
            rows: &x,
            samples: rows,
            mean: &mean,
            inverse_deviation: &inverse,
            affine,
            relu: true,
        };
        let total = affine_gradient(forward, &gradient);
        input_gradient(forward, &total, rows, &mut gradient);
        let name = format!("batch norm {rows} x {channels}");
        self.add(format!("{name}, forward"), &[&mean, &variance, &y]);
        self.add(format!("{name}, backward"), &[&total.scale, &total.shift, &gradient]);
    }

    fn pool(&mut self, kind: OverlappingPool, random: &mut Random) {
        let shape = PoolShape { batch: 5, height: 9, width: 8, channels: 19, kind };
        let x = random.floats(shape.batch * shape.input_len());
        let dy = random.floats(shape.batch * shape.output_len());
        let (mut y, mut argmax) = (vec![0.0; dy.len()], vec![0; dy.len()]);
        pool_forward(&shape, &x, &mut y, &mut argmax);
        let mut dx = vec![0.0; x.len()];
        pool_backward(&shape, &argmax, &dy, &mut dx);
        self.add(format!("{kind:?} pool"), &[&y, &dx]);
    }

    /// Loss and optimizers.
    fn steps(&mut self, random: &mut Random) {
        let logits: Vec<f32> = random.floats(400).into_iter().map(|value| value * 20.0).collect();
        let labels: Vec<i32> = (0..100).map(|index| index * 7 % 4).collect();
        let mut gradient = vec![0.0; logits.len()];
        let (loss, correct) = softmax_cross_entropy(&logits, &labels, 4, 0.1, &mut gradient);
        self.add("cross-entropy".into(), &[&[loss, correct], &gradient]);
        let [mut parameter, mut first, mut velocity] = [(); 3].map(|()| random.floats(501));
        let mut second: Vec<f32> = random.floats(501).into_iter().map(f32::abs).collect();
        let gradient = random.floats(501);
        let adam = AdamStep { step_size: 0.01, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, keep: 0.99 };
        adam_update(&mut parameter, &gradient, &mut first, &mut second, &adam);
        self.add("adam".into(), &[&parameter, &first, &second]);
        let sgd = SgdStep { learning_rate: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.01 };
        sgd_update(&mut parameter, &gradient, &mut velocity, &sgd);
        self.add("sgd".into(), &[&parameter, &velocity]);
    }
}

#[test]
fn golden_outputs_come_from_every_instruction_set_and_number_of_threads() {
    if std::env::var("ROTNET_GOLDEN").is_ok_and(|value| value == "write") {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kernels.json");
        let text = serde_json::to_string_pretty(&Outputs::all()).unwrap() + "\n";
        return std::fs::write(file, text).unwrap();
    }
    let golden = include_str!("../../../tests/golden/kernels.json");
    let golden: BTreeMap<String, String> = serde_json::from_str(golden).unwrap();
    for (name, arch) in arches() {
        for (threads, found) in in_pools(|| with_arch(arch, Outputs::all)).into_iter().enumerate() {
            let wrong: Vec<_> = golden.keys().filter(|key| golden.get(*key) != found.get(*key)).collect();
            assert!(wrong.is_empty(), "{name}, {} threads: {wrong:#?}", threads + 1);
            assert_eq!(found.len(), golden.len());
        }
    }
}
