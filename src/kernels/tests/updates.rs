//! The loss, and what optimizers do.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn cross_entropy_agrees_with_burn(
        batch in 1usize..40,
        classes in 2usize..12,
        smoothing in prop::sample::select(vec![0.0f32, 0.1, 0.5]),
        seed in any::<u64>(),
    ) {
        let label = |index| if index % 5 == 4 { -1 } else { ((index * 7 + 3) % classes) as i32 };
        let labels: Vec<i32> = (0..batch).map(label).collect();
        let run = |operation: fn(_, _, _) -> (FloatTensor<Dispatch>, FloatTensor<Dispatch>)| {
            let logits = tensor([batch, classes], seed);
            let device = logits.device();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels.clone(), [batch]), &device);
            let (loss, correct) = operation(logits.clone().into_dispatch(), labels.into_dispatch(), smoothing);
            let (loss, correct) = (Tensor::<1>::from_dispatch(loss), Tensor::<1>::from_dispatch(correct));
            let gradients = (loss.clone() * 3.0).backward();
            [values(loss), values(correct), logits.grad(&gradients).map(values).unwrap()]
        };
        let own = run(<Dispatch as Kernels>::cross_entropy);
        let burn = run(reference::cross_entropy::<Dispatch>);
        agree(&own, &burn, 1e-5)?;
    }

    #[test]
    fn adam_agrees_with_burn(length in 1usize..200, seed in 0u64..1000) {
        let step = AdamStep { step_size: 0.01, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, keep: 0.99 };
        let run = |operation: fn(_, _, _, _, _) -> Three| {
            let part = |seed| Tensor::<1>::from_data(TensorData::new(numbers(length, seed), [length]), &Device::flex());
            let second = part(seed + 3).abs();
            let (parameter, first, second) = operation(
                part(seed).into_dispatch(),
                part(seed + 1).into_dispatch(),
                part(seed + 2).into_dispatch(),
                second.into_dispatch(),
                step,
            );
            [parameter, first, second].map(|tensor| values(Tensor::<1>::from_dispatch(tensor)))
        };
        let own = run(<Dispatch as Kernels>::adam);
        let burn = run(reference::adam::<Dispatch>);
        agree(&own, &burn, 1e-5)?;
    }

    #[test]
    fn sgd_agrees_with_burn(length in 1usize..200, seed in 0u64..1000, nesterov in any::<bool>()) {
        let step = SgdStep { learning_rate: 0.1, momentum: 0.9, nesterov, weight_decay: 0.01 };
        let run = |operation: fn(_, _, _, _) -> (FloatTensor<Dispatch>, FloatTensor<Dispatch>)| {
            let part = |seed| Tensor::<1>::from_data(TensorData::new(numbers(length, seed), [length]), &Device::flex());
            let (parameter, velocity) = operation(
                part(seed).into_dispatch(),
                part(seed + 1).into_dispatch(),
                part(seed + 2).into_dispatch(),
                step,
            );
            [parameter, velocity].map(|tensor| values(Tensor::<1>::from_dispatch(tensor)))
        };
        let own = run(<Dispatch as Kernels>::sgd);
        let burn = run(reference::sgd::<Dispatch>);
        agree(&own, &burn, 1e-5)?;
    }
}

#[test]
fn orthogonalised_matrices_agree_with_burn_and_are_near_orthonormal() {
    for [rows, columns] in [[288, 32], [32, 288], [27, 64], [64, 10], [3, 3]] {
        let matrix = || {
            let values = numbers(rows * columns, 1).into_iter().map(|value| value / 100.0).collect();
            Tensor::<2>::from_data(TensorData::new(values, [rows, columns]), &Device::flex()).into_dispatch()
        };
        let own = Tensor::<2>::from_dispatch(<Dispatch as Kernels>::orthogonalise(matrix()));
        let burn = Tensor::<2>::from_dispatch(reference::orthogonalise::<Dispatch>(matrix()));
        assert_eq!(own.dims(), burn.dims());
        assert!(difference(&values(own.clone()), &values(burn)) <= 1e-4);
        let gram = match rows > columns {
            true => own.clone().transpose().matmul(own),
            false => own.clone().matmul(own.transpose()),
        };
        let side = rows.min(columns);
        for (index, value) in values(gram).into_iter().enumerate() {
            // Singular values in 0.68..1.13 (the band of the coefficients), squared.
            match index / side == index % side {
                true => assert!(side == 3 || (0.46..1.3).contains(&value), "{value}"),
                false => assert!(value.abs() < 0.3, "{value}"),
            }
        }
    }
    let zeros = orthogonalise(Tensor::zeros([4, 3], &Device::flex()));
    assert!(values(zeros).iter().all(|value| *value == 0.0));
}
