//! Which kernels compute a convolution: the choice depends on its shape alone, so that neither threads, nor the processor,
//! nor how many images come at a time can change a result.

use super::backward::{self, InputGradient, Saved, WeightGradient};
use super::forward;
use super::norm::{Inputs, Normalisation};
use super::outputs::Outputs;
use super::pair::with_operand;
use super::shape::ConvShape;
use super::simd::{MOST_LANES, arch};
use super::unfold::is_dense;
use super::winograd::{self, Method};
use crate::kernels::{Arithmetic, Convolution, Precision};

/// See [`forward::conv_forward`]; `argmax` only with pooling, and where places are wanted.
pub fn conv_forward(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    y: &mut [f32],
    argmax: Option<&mut [u8]>,
) {
    convolve(shape, arithmetic, x.into(), weight, bias, Outputs::new(shape.out_channels, y, argmax));
}

/// A convolution without bias whose outputs are normalised by given statistics before they are written, behind the pooling:
/// the bytes of [`conv_forward`] and then [`norm::normalise`](super::norm::normalise).
pub fn conv_forward_normalised(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    x: &[f32],
    weight: &[f32],
    norm: &Normalisation,
    y: &mut [f32],
) {
    assert_eq!(norm.channels(), shape.out_channels);
    let outputs = Outputs { norm: Some(norm), ..Outputs::new(shape.out_channels, y, None) };
    convolve(shape, arithmetic, x.into(), weight, None, outputs);
}

/// A convolution without bias of inputs that are normalised while it reads them: the bytes of
/// [`norm::normalise`](super::norm::normalise) and then [`conv_forward`]. Only where [`normalises_inputs`].
pub fn conv_forward_of_normalised(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    x: Inputs,
    weight: &[f32],
    y: &mut [f32],
) {
    convolve(shape, arithmetic, x, weight, None, Outputs::new(shape.out_channels, y, None));
}

/// Whether the kernels of a layer, forward and for the weight gradient, read their inputs strip by strip, each number once or
/// from L2, and can normalise them on the way.
pub fn normalises_inputs(shape: &ConvShape) -> bool {
    let whole_vectors =
        [shape.in_channels, shape.out_channels].iter().all(|channels| channels.is_multiple_of(MOST_LANES));
    shape.kernel == 1 && shape.padding == 0 && is_dense(shape) && whole_vectors
}

fn convolve(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    x: Inputs,
    weight: &[f32],
    bias: Option<&[f32]>,
    outputs: Outputs,
) {
    shape.check();
    check_norm(shape, x);
    if let Some(method) = method(shape, arithmetic, Pass::Forward) {
        return winograd::conv_forward(method, shape, x.numbers, weight, bias, outputs);
    }
    let arch = arch();
    with_operand!(arithmetic.precision, arch, O => {
        forward::conv_forward::<O>(arch, shape, x, weight, bias, outputs)
    });
}

fn check_norm(shape: &ConvShape, x: Inputs) {
    let fits = |norm: &Normalisation| normalises_inputs(shape) && norm.channels() == shape.in_channels;
    assert!(x.norm.is_none_or(fits), "{shape:?} cannot normalise its inputs");
}

/// See [`backward::conv_backward`].
pub fn conv_backward(
    shape: &ConvShape,
    arithmetic: Arithmetic,
    saved: Saved,
    mut for_weight: Option<WeightGradient>,
    mut for_input: Option<InputGradient>,
) {
    shape.check();
    if let Some(wanted) = &for_weight {
        check_norm(shape, wanted.x);
    }
    if let Some(method) = method(shape, arithmetic, Pass::WeightGradient)
        && let Some(wanted) = for_weight.take()
    {
        winograd::conv_weight_gradient(method, shape, saved, wanted);
    }
    if let Some(method) = method(shape, arithmetic, Pass::InputGradient)
        && let Some(wanted) = for_input.take()
    {
        winograd::conv_input_gradient(method, shape, saved, wanted);
    }
    let rounded = arithmetic.precision == Precision::Bf16;
    let dense_weight = for_weight.take_if(|_| rounded && pays_as_bf16(shape, Pass::WeightGradient));
    let dense_input = for_input.take_if(|_| rounded && pays_as_bf16(shape, Pass::InputGradient));
    if dense_weight.is_some() || dense_input.is_some() {
        backward::conv_backward_as_dense(shape, arithmetic.precision, saved, dense_weight, dense_input);
    }
    if for_weight.is_some() || for_input.is_some() {
        backward::conv_backward(shape, saved, for_weight, for_input);
    }
}

/// One of the three convolutions of a training step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Forward,
    InputGradient,
    WeightGradient,
}

/// The filter that computes a pass, if one is faster than direct convolution.
fn method(shape: &ConvShape, arithmetic: Arithmetic, pass: Pass) -> Option<Method> {
    if arithmetic.convolution == Convolution::Direct || shape.positions() == 0 {
        return None;
    }
    let filters: &[Method] = match shape.kernel {
        3 => &[Method::Two, Method::Four],
        5 => &[Method::TwoOfFive, Method::FourOfFive],
        _ => return None,
    };
    // Of two that are equally fast the first, which is more exact.
    let (fastest, cost) = filters
        .iter()
        .map(|&filter| (filter, cost(filter, shape, pass)))
        .min_by(|a, b| a.1.total_cmp(&b.1))?;
    (cost < direct_cost(shape, arithmetic.precision, pass)).then_some(fastest)
}

/// Multiply-adds of an image that take as long as the filter: its products, and the transforms of inputs and outputs.
///
/// Weights of the transforms: one Zen 4 core, AVX-512, batch 64, other work beside, lowest of 7 interleaved calls; what is
/// left of an image's time beyond its products at 113 of 118 GFLOP/s, by transformed number: 16x16x32 -> 64 with pool
/// 7.9 multiply-adds for F(2x2, 3x3), 18 for F(4x4, 3x3); 32x32x64 -> 64 19. For F(4x4, 5x5) from how much faster it is than
/// F(2x2, 5x5) (one Emerald Rapids core, beside other guests, fastest of 25, three times in turn): 16x16x96 -> 192 forward 1.3 to 1.5 times,
/// weights 1.6 to 2.0, inputs 1.4 to 1.9; 32x32x64 -> 64 1.3 to 1.6 each; weights of 32x32x3 -> 192 1.1 to 1.2.
fn cost(filter: Method, shape: &ConvShape, pass: Pass) -> f64 {
    let (tiles, products, transform) = tiles(filter, shape, pass);
    let (inputs, outputs) = (shape.in_channels as f64, shape.out_channels as f64);
    tiles * products * (inputs * outputs + transform * (inputs + outputs))
}

/// Tiles of an image, products of a tile, and what a transformed number costs (see [`cost`]).
fn tiles(filter: Method, shape: &ConvShape, pass: Pass) -> (f64, f64, f64) {
    let (outputs, side, transform) = match filter {
        Method::Two => (2, 4, 8.0),
        Method::Four => (4, 6, 18.0),
        Method::TwoOfFive => (2, 6, 18.0),
        Method::FourOfFive => (4, 8, 40.0),
    };
    let [height, width] = match pass {
        Pass::InputGradient => [shape.height, shape.width],
        _ => {
            let window = if shape.pool { 2 } else { 1 };
            [window * shape.out_height(), window * shape.out_width()]
        }
    };
    let tiles = height.div_ceil(outputs) * width.div_ceil(outputs);
    (tiles as f64, f64::from(side * side), transform)
}

/// The same of the direct kernels: the products that they make, by the share of the peak that they reach.
///
/// As measured for [`cost`] (118 GFLOP/s is the peak): forward 15x15x32 -> 64 124, 8x8x64 -> 128 109; walks over non-zeros,
/// by the products that they make, 16x16x32 -> 64 with pool 61 and 67, 8x8x128 -> 128 with pool 39 and 54; dense weight
/// gradients 104 (8x8x64 -> 128), 61 (12x12x64 -> 64), 44 (5x5 of three channels). bfloat16 factors: about 205, as below.
fn direct_cost(shape: &ConvShape, precision: Precision, pass: Pass) -> f64 {
    let efficiency = match (pass, shape.pool || shape.relu) {
        _ if precision == Precision::Bf16 && pays_as_bf16(shape, pass) => 1.7,
        (Pass::Forward, _) | (Pass::InputGradient, false) => 0.93,
        (_, true) => 0.55,
        (Pass::WeightGradient, false) if shape.in_channels < 16 => 0.35,
        (Pass::WeightGradient, false) => 0.6,
    };
    direct_products(shape, precision, pass) / efficiency
}

/// Products that the direct kernels make for an image. Behind ReLU the backward passes depend on the numbers: taken are 0.7
/// of the maxima of pooling windows, or half of the outputs (64 % and 46 % in the layers measured in `backward`).
fn direct_products(shape: &ConvShape, precision: Precision, pass: Pass) -> f64 {
    let window = if shape.pool { 4 } else { 1 };
    let dense = (window * shape.positions() * shape.depth() * shape.out_channels) as f64;
    dense
        * match (pass, shape.pool, shape.relu) {
            (Pass::Forward, ..) | (_, false, false) => 1.0,
            _ if precision == Precision::Bf16 && pays_as_bf16(shape, pass) => 1.0,
            (_, true, true) => 0.25 * 0.7,
            (_, true, false) => 0.25,
            (_, false, true) => 0.5,
        }
}

/// Whether a pass is computed from bfloat16 factors where they are asked for. Behind neither pool nor ReLU all are. Behind them
/// a backward pass would multiply zeros with the others, where the walk over non-zeros in 32 bits leaves them out; without
/// padding, the input gradient would also multiply a frame of zeros. GFLOP/s as a dense pass is counted, 32-bit walk and
/// bfloat16, one Zen 4 core (peaks 118 and 236), `scripts/kernels/examples/speed.rs`; about half of all gradients behind a
/// ReLU are non-zero, an eighth behind both:
///
/// | layer                        | input gradient | weight gradient |
/// |------------------------------|----------------|-----------------|
/// | 3x3 8x8x128 -> 128 relu      | 119 205        | 120 205         |
/// | 1x1 16x16x64 -> 64 relu      |  63 143        |  90 122         |
/// | 3x3 6x6x64 -> 64 relu, valid | 148  95        | 121 182         |
/// | 3x3 8x8x128 -> 128 pool      | 248 211        | 216 207         |
/// | 3x3 16x16x32 -> 64 pool      | 313 203        | 276 205         |
/// | 3x3 15x15x32 -> 64 pool      | 373 157        | 356 201         |
fn pays_as_bf16(shape: &ConvShape, pass: Pass) -> bool {
    let framed = shape.height * shape.width > shape.conv_height() * shape.conv_width();
    match pass {
        Pass::Forward => true,
        Pass::WeightGradient => !shape.pool,
        Pass::InputGradient => !(shape.pool || shape.relu && framed),
    }
}

/// Products of a batch: those that the kernels make, without the additions of transforms.
pub fn products(shape: &ConvShape, arithmetic: Arithmetic, pass: Pass) -> f64 {
    let image = match method(shape, arithmetic, pass) {
        Some(filter) => {
            let (tiles, products, _) = tiles(filter, shape, pass);
            tiles * products * (shape.in_channels * shape.out_channels) as f64
        }
        None => direct_products(shape, arithmetic.precision, pass),
    };
    shape.batch as f64 * image
}
