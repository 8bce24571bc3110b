//! Convolutions, pooling, dense layers and batch norm.

use burn::tensor::Gradients;

use super::*;

type Block<O> =
    fn(FloatTensor<Dispatch>, FloatTensor<Dispatch>, FloatTensor<Dispatch>, O) -> FloatTensor<Dispatch>;

/// Output and the gradients of input, weight and bias, under a random gradient of the output.
fn run<const D: usize, O>(
    operation: Block<O>,
    input: [usize; D],
    weight: [usize; D],
    options: O,
) -> [Vec<f32>; 4] {
    run_of(operation, input, weight, options, |number| number)
}

/// The same of other factors: what `factor` makes of the numbers of input, weight and the output's gradient.
fn run_of<const D: usize, O>(
    operation: Block<O>,
    input: [usize; D],
    weight: [usize; D],
    options: O,
    factor: fn(f32) -> f32,
) -> [Vec<f32>; 4] {
    let factors = |shape: [usize; D], seed| {
        let numbers = numbers(shape.iter().product(), seed).into_iter().map(factor).collect();
        Tensor::<D>::from_data(TensorData::new(numbers, shape), &Device::flex().autodiff()).require_grad()
    };
    let (x, w, b) = (factors(input, 1), factors(weight, 2), tensor([weight[D - 1]], 3));
    let output = Tensor::<D>::from_dispatch(operation(
        x.clone().into_dispatch(),
        w.clone().into_dispatch(),
        b.clone().into_dispatch(),
        options,
    ));
    let gradients = (output.clone() * factors(output.dims(), 4)).sum().backward();
    [
        values(output),
        x.grad(&gradients).map(values).unwrap(),
        w.grad(&gradients).map(values).unwrap(),
        b.grad(&gradients).map(values).unwrap(),
    ]
}

/// What burn computes of factors rounded to bfloat16. The gradient of the bias is no product: of the numbers as they are.
fn run_rounded<const D: usize, O: Copy>(
    operation: Block<O>,
    input: [usize; D],
    weight: [usize; D],
    options: O,
) -> [Vec<f32>; 4] {
    let rounded = |number: f32| {
        let bits = number.to_bits();
        f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
    };
    let [output, of_input, of_weight, _] = run_of(operation, input, weight, options, rounded);
    let [_, _, _, of_bias] = run(operation, input, weight, options);
    [output, of_input, of_weight, of_bias]
}

/// Output and statistics of an operation with batch norm, and the gradients of its input, scale and shift.
fn results_of_norm<const D: usize>(
    (output, mean, variance): Three,
    input: &Tensor<D>,
    scale_and_shift: [&Tensor<1>; 2],
) -> (Vec<Vec<f32>>, Gradients) {
    let output = Tensor::<D>::from_dispatch(output);
    let gradients = (output.clone() * tensor(output.dims(), 5)).sum().backward();
    let mut found = vec![values(output)];
    found.extend([mean, variance].map(|row| values(Tensor::<1>::from_dispatch(row))));
    found.push(input.grad(&gradients).map(values).unwrap());
    found.extend(scale_and_shift.map(|row| row.grad(&gradients).map(values).unwrap()));
    (found, gradients)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn convolution_blocks_agree_with_burn(
        batch in 1usize..4,
        height in 5usize..12,
        width in 5usize..12,
        inputs in 1usize..20,
        outputs in 1usize..40,
        kernel in prop::sample::select(vec![1usize, 3, 5, 6]),
        same in any::<bool>(),
        relu in any::<bool>(),
        pool in any::<bool>(),
    ) {
        let same = same && kernel % 2 == 1;
        let options = ConvOptions { padding: if same { kernel / 2 } else { 0 }, relu, pool, arithmetic: Arithmetic::default() };
        prop_assume!(height.min(width) >= kernel || same);
        prop_assume!(!pool || same || (height.min(width) > kernel));
        let shapes = ([batch, height, width, inputs], [kernel, kernel, inputs, outputs]);
        let own = run(<Dispatch as Kernels>::conv_block, shapes.0, shapes.1, options);
        let burn = run(reference::conv_block::<Dispatch>, shapes.0, shapes.1, options);
        agree(&own, &burn, 1e-4)?;
    }

    /// What is written at once has the bytes of the two operations, and those of burn within their error.
    #[test]
    fn a_convolution_normalised_on_the_way_is_convolution_and_normalisation(
        batch in 1usize..4,
        side in 5usize..12,
        inputs in 1usize..20,
        outputs in 1usize..70,
        kernel in prop::sample::select(vec![1usize, 3, 5]),
        pool in any::<bool>(),
        relu in any::<bool>(),
        bf16 in any::<bool>(),
    ) {
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        let arithmetic = Arithmetic { precision, ..Arithmetic::default() };
        let conv = ConvOptions { padding: kernel / 2, relu: false, pool, arithmetic };
        let options = ConvNormOptions { conv, norm: NormOptions { epsilon: 1e-5, relu, share: None } };
        let plain = |shape: &[usize], seed| {
            let numbers = numbers(shape.iter().product(), seed);
            TensorData::new(numbers, shape.to_vec())
        };
        let x = plain(&[batch, side, side, inputs], 1);
        let weight = plain(&[kernel, kernel, inputs, outputs], 2);
        // Factors of both signs: the maximum of a window is that in front of the normalisation.
        let rows: [TensorData; 4] = [3, 4, 5, 6].map(|seed| match seed {
            4 => TensorData::new(numbers(outputs, seed).into_iter().map(|v| v * v + 0.1).collect(), [outputs]),
            _ => plain(&[outputs], seed),
        });
        let on = |device: &Device| {
            let [mean, variance, scale, shift] = rows.clone().map(|row| Tensor::<1>::from_data(row, device));
            let (x, weight) = (Tensor::<4>::from_data(x.clone(), device), Tensor::from_data(weight.clone(), device));
            let given = [&mean, &variance, &scale, &shift].map(|row| row.clone().into_dispatch());
            let (x_given, weight_given) = (x.clone().into_dispatch(), weight.clone().into_dispatch());
            let between = conv_block(x.clone(), weight.clone(), Tensor::zeros([outputs], device), conv);
            let at_once = conv_norm(
                x,
                weight,
                mean.clone(),
                variance.clone(),
                scale.clone(),
                shift.clone(),
                options.clone(),
            );
            let shape = between.dims();
            let flat = between.reshape([shape[0] * shape[1] * shape[2], outputs]);
            let in_two = normalise(flat, mean, variance, scale, shift, options.norm.clone()).reshape(shape);
            let [mean, variance, scale, shift] = given;
            let burn = Tensor::<4>::from_dispatch(reference::conv_norm::<Dispatch>(
                x_given,
                weight_given,
                mean,
                variance,
                scale,
                shift,
                options.clone(),
            ));
            [at_once, in_two, burn].map(values)
        };
        let [at_once, in_two, burn] = on(&Device::flex());
        prop_assert_eq!(&at_once, &in_two);
        if !bf16 {
            prop_assert!(difference(&at_once, &burn) <= 1e-4, "{}", difference(&at_once, &burn));
        }
        let [differentiated, ..] = on(&Device::flex().autodiff());
        prop_assert!(difference(&at_once, &differentiated) <= 1e-6);
    }

    /// Whether the inputs are normalised while they are read (1x1, whole vectors) or before: outputs, statistics and gradients
    /// have the bytes of the two operations, and are those of burn within their error.
    #[test]
    fn a_normalisation_on_the_way_is_normalisation_and_convolution(
        batch in 2usize..20,
        side in 5usize..12,
        inputs in prop::sample::select(vec![5usize, 16, 32, 48, 96]),
        outputs in prop::sample::select(vec![7usize, 16, 64, 80]),
        kernel in prop::sample::select(vec![1usize, 1, 3]),
        relu in any::<bool>(),
        bf16 in any::<bool>(),
    ) {
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        let arithmetic = Arithmetic { precision, ..Arithmetic::default() };
        let conv = ConvOptions { padding: kernel / 2, relu: false, pool: false, arithmetic };
        let options = ConvNormOptions { conv, norm: NormOptions { epsilon: 1e-5, relu, share: None } };
        let run = |operation: fn(_, _, _, _, _) -> Three| {
            let (x, scale, shift) =
                (tensor([batch, side, side, inputs], 1), tensor([inputs], 2), tensor([inputs], 3));
            let weight = tensor([kernel, kernel, inputs, outputs], 4);
            let found = operation(
                x.clone().into_dispatch(),
                scale.clone().into_dispatch(),
                shift.clone().into_dispatch(),
                weight.clone().into_dispatch(),
                options.clone(),
            );
            let (mut found, gradients) = results_of_norm(found, &x, [&scale, &shift]);
            found.push(weight.grad(&gradients).map(values).unwrap());
            found
        };
        let own = run(<Dispatch as Kernels>::norm_conv);
        prop_assert_eq!(&own, &run(norm_and_conv::<Dispatch>));
        if !bf16 {
            agree(&own, &run(reference::norm_conv::<Dispatch>), 1e-3)?;
        }
    }

    #[test]
    fn overlapping_pooling_agrees_with_burn(
        batch in 1usize..4,
        height in 1usize..12,
        width in 1usize..12,
        channels in 1usize..40,
        kind in prop::sample::select(vec![OverlappingPool::Max, OverlappingPool::Average]),
    ) {
        let run = |operation: fn(_, _) -> FloatTensor<Dispatch>| {
            let x = tensor([batch, height, width, channels], 1);
            let output = Tensor::<4>::from_dispatch(operation(x.clone().into_dispatch(), kind));
            let gradients = (output.clone() * tensor(output.dims(), 4)).sum().backward();
            [values(output), x.grad(&gradients).map(values).unwrap()]
        };
        let own = run(<Dispatch as Kernels>::overlapping_pool);
        let burn = run(reference::overlapping_pool::<Dispatch>);
        agree(&own, &burn, 1e-5)?;
    }

    #[test]
    fn dense_blocks_agree_with_burn(
        batch in 1usize..40,
        inputs in 1usize..70,
        outputs in 1usize..70,
        relu in any::<bool>(),
    ) {
        let options = DenseOptions { relu, arithmetic: Arithmetic::default() };
        let own = run(<Dispatch as Kernels>::dense_block, [batch, inputs], [inputs, outputs], options);
        let burn = run(reference::dense_block::<Dispatch>, [batch, inputs], [inputs, outputs], options);
        agree(&own, &burn, 1e-4)?;
    }

    /// Without ReLU and pool, whose masks another order of the sum may flip.
    #[test]
    fn bf16_convolutions_agree_with_burn(
        batch in 1usize..20,
        height in 6usize..12,
        width in 6usize..12,
        inputs in 1usize..40,
        outputs in 1usize..70,
        kernel in prop::sample::select(vec![1usize, 3, 5, 6]),
        same in any::<bool>(),
    ) {
        let arithmetic = Arithmetic { convolution: Convolution::Direct, precision: Precision::Bf16 };
        let padding = if same && kernel % 2 == 1 { kernel / 2 } else { 0 };
        let options = ConvOptions { padding, relu: false, pool: false, arithmetic };
        let (input, weight) = ([batch, height, width, inputs], [kernel, kernel, inputs, outputs]);
        let own = run(<Dispatch as Kernels>::conv_block, input, weight, options);
        let burn = run_rounded(reference::conv_block::<Dispatch>, input, weight, options);
        agree(&own, &burn, 1e-4)?;
    }

    #[test]
    fn bf16_dense_blocks_agree_with_burn(
        batch in 1usize..40,
        inputs in 1usize..70,
        outputs in 1usize..70,
    ) {
        let arithmetic = Arithmetic { precision: Precision::Bf16, ..Arithmetic::default() };
        let options = DenseOptions { relu: false, arithmetic };
        let own = run(<Dispatch as Kernels>::dense_block, [batch, inputs], [inputs, outputs], options);
        let burn = run_rounded(reference::dense_block::<Dispatch>, [batch, inputs], [inputs, outputs], options);
        agree(&own, &burn, 1e-4)?;
    }

    #[test]
    fn batch_norm_agrees_with_burn(
        samples in 2usize..80,
        places in 1usize..10,
        channels in 1usize..70,
        relu in any::<bool>(),
    ) {
        let rows = samples * places;
        let run = |operation: fn(_, _, _, _, _) -> Three| {
            let (x, scale, shift) = (tensor([rows, channels], 1), tensor([channels], 2), tensor([channels], 3));
            let found = operation(
                x.clone().into_dispatch(),
                samples,
                scale.clone().into_dispatch(),
                shift.clone().into_dispatch(),
                NormOptions { epsilon: 1e-5, relu, share: None },
            );
            results_of_norm(found, &x, [&scale, &shift]).0
        };
        let own = run(<Dispatch as Kernels>::batch_norm);
        let burn = run(reference::batch_norm::<Dispatch>);
        agree(&own, &burn, 1e-3)?;
    }
}

#[test]
fn nan_and_ties_come_through_as_in_burn() {
    let options = ConvOptions { padding: 1, relu: true, pool: true, arithmetic: Arithmetic::default() };
    let run = |operation: Block<ConvOptions>| {
        let mut input = vec![0.5f32; 6 * 6 * 3];
        input[40] = f32::NAN;
        let input = Tensor::<4>::from_data(TensorData::new(input, [1, 6, 6, 3]), &Device::flex());
        let weight = Tensor::<4>::ones([3, 3, 3, 8], &Device::flex());
        let bias = Tensor::<1>::zeros([8], &Device::flex());
        values(Tensor::<4>::from_dispatch(operation(
            input.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            options,
        )))
    };
    let (own, burn) = (run(<Dispatch as Kernels>::conv_block), run(reference::conv_block::<Dispatch>));
    assert!(burn.iter().any(|value| value.is_nan()));
    for (own, burn) in own.iter().zip(&burn) {
        assert!(own == burn || (own.is_nan() && burn.is_nan()), "{own} {burn}");
    }
}
