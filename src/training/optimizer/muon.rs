//! Orthogonalisation of a momentum (Muon: Jordan 2024, <https://kellerjordan.github.io/posts/muon/>).

use burn::tensor::Tensor;

/// Coefficients of the quintic iteration, tuned there for the steepest slope at zero.
const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Iterations, as there: singular values end between about 0.7 and 1.2.
const ITERATIONS: usize = 5;

/// The nearest matrix, roughly, with all singular values one; weights of rank 4 (`[kernel, kernel, in, out]`) are
/// taken as matrices of all inputs by outputs.
///
/// Times sqrt(outputs / inputs) where there are more outputs than inputs, as there.
pub(super) fn orthogonalised<const D: usize>(direction: Tensor<D>) -> Tensor<D> {
    let shape = direction.dims();
    let outputs = shape[D - 1];
    let inputs = shape.iter().product::<usize>() / outputs;
    let matrix = direction.reshape([inputs, outputs]);
    let tall = inputs > outputs;
    let mut x = if tall { matrix.transpose() } else { matrix };
    let norm = x.clone().square().sum().sqrt().add_scalar(1e-7);
    x = x / norm.unsqueeze();
    let [a, b, c] = QUINTIC;
    for _ in 0..ITERATIONS {
        let gram = x.clone().matmul(x.clone().transpose());
        let mixed = gram.clone().mul_scalar(b) + gram.clone().matmul(gram).mul_scalar(c);
        x = x.clone().mul_scalar(a) + mixed.matmul(x);
    }
    let scale = (outputs as f32 / inputs as f32).max(1.0).sqrt();
    let matrix = if tall { x.transpose() } else { x };
    matrix.mul_scalar(scale).reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn singular_values_end_near_one() {
        let values: Vec<f32> = (0..3 * 3 * 4 * 8u32)
            .map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect();
        let direction = Tensor::<4>::from_data(TensorData::new(values, [3, 3, 4, 8]), &Device::flex());
        let matrix = orthogonalised(direction).reshape([36, 8]);
        let gram: Vec<f32> = matrix.clone().transpose().matmul(matrix).into_data().iter::<f32>().collect();
        for (index, value) in gram.iter().enumerate() {
            let diagonal = index % 9 == 0;
            let fits = if diagonal { (0.4..1.6).contains(value) } else { value.abs() < 0.4 };
            assert!(fits, "{index}: {value}");
        }
    }
}
