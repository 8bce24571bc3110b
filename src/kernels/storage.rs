//! Numbers of burn-flex tensors as slices, and slices as tensors.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{Shape, TensorData};

pub(super) type Floats = FloatTensor<Flex>;
/// A contiguous tensor's numbers.
pub(super) fn floats(tensor: &Floats) -> &[f32] {
    let offset = tensor.layout().start_offset();
    let length = tensor.shape().num_elements();
    &tensor.storage::<f32>()[offset..offset + length]
}

/// A tensor whose storage begins with its first number and ends with its last.
pub(super) fn contiguous(tensor: Floats) -> Floats {
    let whole = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.storage::<f32>().len() == tensor.shape().num_elements();
    match whole {
        true => tensor,
        false => Floats::from_data(tensor.to_contiguous().into_data()),
    }
}

pub(super) fn tensor(values: Vec<f32>, shape: &[usize]) -> Floats {
    Floats::from_data(TensorData::new(values, Shape::from(shape.to_vec())))
}
