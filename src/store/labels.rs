//! Labels as tensors: a byte each where all of them are below 256, else two.

use burn::tensor::DType;
use burn::tensor::TensorData;

/// The tensor of `labels`, `[labels]`.
pub fn to_tensor(labels: &[u16]) -> TensorData {
    let bytes: Result<Vec<u8>, _> = labels.iter().map(|&label| u8::try_from(label)).collect();
    match bytes {
        Ok(bytes) => TensorData::new(bytes, [labels.len()]),
        Err(_) => TensorData::new(labels.to_vec(), [labels.len()]),
    }
}

/// The labels in a tensor; `None` if it is of another type.
pub fn from_tensor(tensor: TensorData) -> Option<Vec<u16>> {
    match tensor.dtype() {
        DType::U8 => Some(tensor.try_into_vec::<u8>().ok()?.into_iter().map(u16::from).collect()),
        DType::U16 => tensor.try_into_vec().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_take_a_byte_each_unless_one_needs_two() {
        for (labels, kind) in [(vec![], DType::U8), (vec![0, 255], DType::U8), (vec![256, 3], DType::U16)] {
            let tensor = to_tensor(&labels);
            assert_eq!((tensor.dtype(), tensor.shape().to_vec()), (kind, vec![labels.len()]));
            assert_eq!(from_tensor(tensor), Some(labels));
        }
        assert_eq!(from_tensor(TensorData::new(vec![1_f32], [1])), None);
    }
}
