//! Labeled samples to train on and to evaluate, and how they become tensors.

mod images;
mod mixed;
mod resident;

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::error::Error;
use crate::ranks::Share;
pub use images::{PlainImages, RotatedImages, Rotations};
pub use mixed::{MixedImages, Portion, Role};
pub use resident::{Pictures, Place, Resident};

/// Labeled samples, readable in any order.
pub trait Samples: Sync {
    /// Number of samples.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Numbers per sample.
    fn values(&self) -> usize;
    /// How many neighbouring samples always share a batch (the four rotations of an image); divides `len`.
    fn group(&self) -> usize {
        1
    }
    /// Whether an epoch takes its samples in the order of their indices, because they draw their own.
    fn in_order(&self) -> bool {
        false
    }
    /// Writes the samples of the given indices as they are in `epoch` (counted from 0; augmentation differs by epoch):
    /// `values` numbers of each into `inputs`, the label of each into `labels`.
    fn fill(&self, epoch: u64, indices: &[u32], inputs: &mut [f32], labels: &mut [u16]);
    /// Why [`Samples::fill`] could not read a sample, if so: nothing it has written since may be used.
    fn failure(&self) -> Option<Error> {
        None
    }
    /// The images, if samples are nothing but turned, moved and mirrored copies of them.
    fn pictures(&self) -> Option<Pictures<'_>> {
        None
    }
    /// What [`Samples::fill`] would write, as places in [`Samples::pictures`] where there are any; labels as there.
    fn places(&self, _epoch: u64, _indices: &[u32], _labels: &mut [u16]) -> Vec<Place> {
        Vec::new()
    }
}

/// The samples of one step, not yet on a device.
pub struct Batch {
    /// What the network sees.
    pub inputs: Inputs,
    /// One per sample.
    pub labels: Vec<u16>,
    /// Which share of a batch of several ranks these are; `None` where they are all of it.
    pub share: Option<Share>,
}

/// What the network sees, not yet on a device.
pub enum Inputs {
    /// `labels.len()` times `values` numbers, made on the host.
    Values(Vec<f32>),
    /// For each sample, its place in images that the device already has.
    Places(Arc<Resident>, Vec<Place>),
}

impl Inputs {
    /// Splits off the samples from `sample` on, of `values` numbers each.
    fn split_off(&mut self, sample: usize, values: usize) -> Self {
        match self {
            Self::Values(numbers) => Self::Values(numbers.split_off(sample * values)),
            Self::Places(resident, places) => Self::Places(Arc::clone(resident), places.split_off(sample)),
        }
    }

    /// Numbers in all, of `count` samples made on the host.
    fn values(&self, count: usize) -> usize {
        match self {
            Self::Values(numbers) => numbers.len() / count.max(1),
            Self::Places(..) => 0,
        }
    }
}

impl Batch {
    /// The samples of the given indices as they are in `epoch`.
    pub fn new(samples: &dyn Samples, epoch: u64, indices: &[u32]) -> Self {
        let mut inputs = vec![0.0; indices.len() * samples.values()];
        let mut labels = vec![0; indices.len()];
        samples.fill(epoch, indices, &mut inputs, &mut labels);
        Self { inputs: Inputs::Values(inputs), labels, share: None }
    }

    /// The same, to be made by a device that has the images of `samples`.
    pub fn on(resident: &Arc<Resident>, samples: &dyn Samples, epoch: u64, indices: &[u32]) -> Self {
        let mut labels = vec![0; indices.len()];
        let places = samples.places(epoch, indices, &mut labels);
        Self { inputs: Inputs::Places(Arc::clone(resident), places), labels, share: None }
    }

    /// Splits off the samples from `sample` on.
    pub fn split_off(&mut self, sample: usize) -> Self {
        let values = self.inputs.values(self.labels.len());
        Self {
            inputs: self.inputs.split_off(sample, values),
            labels: self.labels.split_off(sample),
            share: None,
        }
    }

    /// `[samples, values]` and `[samples]`.
    pub fn into_tensors(self, device: &Device) -> (Tensor<2>, Tensor<1, Int>) {
        let count = self.labels.len();
        let labels: Vec<i32> = self.labels.into_iter().map(i32::from).collect();
        let labels = Tensor::from_data(TensorData::new(labels, [count]), device);
        let inputs = match self.inputs {
            Inputs::Values(numbers) => {
                let values = numbers.len() / count.max(1);
                Tensor::from_data(TensorData::new(numbers, [count, values]), device)
            }
            Inputs::Places(resident, places) => resident.batch(&places, device),
        };
        (inputs, labels)
    }
}
