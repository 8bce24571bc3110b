//! What is trained on and evaluated, whatever it comes from, and how it becomes tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// A set of labeled samples that can be asked for in any order.
pub trait Samples: Sync {
    /// Number of samples.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Numbers a sample.
    fn values(&self) -> usize;
    /// How many neighbouring samples always share a batch (the four rotations of an image); divides `len`.
    fn group(&self) -> usize {
        1
    }
    /// Writes the samples of the given indices as they are in `epoch` (counted from 0; augmentation differs by epoch):
    /// `values` numbers each into `inputs`, one label each into `labels`.
    fn fill(&self, epoch: u64, indices: &[u32], inputs: &mut [f32], labels: &mut [u8]);
}

/// Samples of one step, on the host.
pub struct Batch {
    /// `labels.len()` times `values` numbers.
    pub inputs: Vec<f32>,
    /// One a sample.
    pub labels: Vec<u8>,
}

impl Batch {
    /// Gathers the samples of the given indices as they are in `epoch`.
    pub fn new(samples: &dyn Samples, epoch: u64, indices: &[u32]) -> Self {
        let mut inputs = vec![0.0; indices.len() * samples.values()];
        let mut labels = vec![0; indices.len()];
        samples.fill(epoch, indices, &mut inputs, &mut labels);
        Self { inputs, labels }
    }

    /// `[samples, values]` and `[samples]`.
    pub fn into_tensors(self, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
        let count = self.labels.len();
        let values = self.inputs.len() / count.max(1);
        let labels: Vec<i32> = self.labels.into_iter().map(i32::from).collect();
        (
            Tensor::from_data(TensorData::new(self.inputs, [count, values]), device),
            Tensor::from_data(TensorData::new(labels, [count]), device),
        )
    }
}
