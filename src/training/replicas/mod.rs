//! Several devices that share every training step: each computes the gradients of its shard of the batch on a copy of
//! the network; the first one adds them up, keeps the parameters and makes the update.
//!
//! Every shard's loss counts by its share of the batch, so that the sum of the gradients is the gradient of the mean
//! loss over the whole batch: without batch normalisation, several devices do what one does, apart from the order of
//! sums. Batch normalisation takes the statistics of its own shard, so there a batch on n devices is not the same as
//! on one; the running statistics become the mean of the shards', weighted by their sizes.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;

use burn::module::{ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::Optimizer;
use crate::device::computes_here;
use crate::error::{Error, Result};
use crate::kernels;
use crate::model::{Mode, Network, Path};
use crate::samples::Batch;

/// The devices of a training.
#[derive(Clone, Debug)]
pub struct Replicas {
    replicas: Vec<Replica>,
}

#[derive(Clone, Debug)]
struct Replica {
    /// Without automatic differentiation.
    device: Device,
    /// The threads of a device that computes with this process's processors.
    pool: Option<Arc<ThreadPool>>,
}

impl Replicas {
    /// Replicas on `devices` (without automatic differentiation), the first of which keeps the parameters. Those that
    /// compute with this process's processors share the threads of the calling pool.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no device, or threads cannot be started.
    pub fn new(devices: &[Device]) -> Result<Self> {
        let usage = |problem: String| Error::Usage { problem, hint: "name fewer devices".into() };
        if devices.is_empty() {
            return Err(usage("no device to train on".into()));
        }
        let local = devices.iter().filter(|&device| computes_here(device)).count();
        let threads = (rayon::current_num_threads() / local.max(1)).max(1);
        let replica = |device: &Device| {
            let several = devices.len() > 1 && computes_here(device);
            let pool = several.then(|| ThreadPoolBuilder::new().num_threads(threads).build());
            let pool = pool.transpose().map_err(|error| usage(format!("cannot start threads: {error}")))?;
            Ok(Replica { device: device.clone(), pool: pool.map(Arc::new) })
        };
        Ok(Self { replicas: devices.iter().map(replica).collect::<Result<_>>()? })
    }

    /// All of their devices, without automatic differentiation.
    pub fn devices(&self) -> Vec<Device> {
        self.replicas.iter().map(|replica| replica.device.clone()).collect()
    }

    /// The device that keeps the parameters, without automatic differentiation.
    pub fn main(&self) -> &Device {
        &self.replicas[0].device
    }

    /// One training step on a batch whose samples belong together in groups of `group` (see
    /// [`Samples::group`](crate::samples::Samples::group)): forward, loss, backward, update. Gives the network, the
    /// mean loss `[1]` and the number of right answers `[1]`.
    pub fn step<N: Network>(
        &self,
        network: N,
        optimizer: &mut Optimizer,
        batch: Batch,
        group: usize,
        label_smoothing: f32,
    ) -> (N, Tensor<1>, Tensor<1>) {
        let main = self.main();
        let total = batch.labels.len();
        let (first, shards) = split(batch, group, self.replicas.len());
        if shards.is_empty() {
            return super::step(network, optimizer, first, label_smoothing, &main.clone().autodiff());
        }
        let shard =
            |batch: Batch| Shard { share: batch.labels.len() as f64 / total as f64, batch, label_smoothing };
        let (network, mut gradients, loss, correct, others) = std::thread::scope(|scope| {
            let others: Vec<_> = (self.replicas[1..].iter())
                .zip(shards)
                .map(|(replica, batch)| {
                    let (shard, copy) = (shard(batch), network.valid());
                    scope.spawn(move || replica.contribution(copy, shard, main))
                })
                .collect();
            let (network, gradients, loss, correct) = self.replicas[0].gradients(network, shard(first));
            let others =
                others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (network, gradients, loss, correct, others.collect::<Vec<_>>())
        });
        let (loss, correct) = others.iter().fold((loss, correct), |(loss, correct), other| {
            (loss + other.loss.clone(), correct + other.correct.clone())
        });
        // Folds what the forward pass left to be added into the running statistics.
        drop(network.valid());
        let path = Path::default();
        let network = network.map(&mut Merge { path, gradients: &mut gradients, others });
        (optimizer.step(network, &mut gradients), loss, correct)
    }
}

/// Splits a batch into at most `count` parts of nearly the same size, whole groups each; gives the first one and the
/// others.
fn split(mut batch: Batch, group: usize, count: usize) -> (Batch, Vec<Batch>) {
    let groups = batch.labels.len().div_ceil(group);
    let count = count.min(groups).max(1);
    let mut shards = Vec::with_capacity(count);
    for index in (1..count).rev() {
        shards.push(batch.split_off((groups * index).div_ceil(count) * group));
    }
    shards.reverse();
    (batch, shards)
}

/// A part of a batch.
struct Shard {
    batch: Batch,
    /// Of the batch.
    share: f64,
    label_smoothing: f32,
}

/// What a replica other than the first hands over, all of it on the first one's device.
struct Contribution {
    /// Of the batch.
    share: f64,
    /// Share of the mean loss.
    loss: Tensor<1>,
    correct: Tensor<1>,
    /// Flattened, by name of the parameter.
    gradients: BTreeMap<String, Tensor<1>>,
    /// Flattened, by name: what changed without a gradient.
    statistics: BTreeMap<String, Tensor<1>>,
}

impl Replica {
    /// Gradients, share of the mean loss, and number of right answers of a shard, for a network on this device.
    fn gradients<N: Network>(&self, network: N, shard: Shard) -> (N, Gradients, Tensor<1>, Tensor<1>) {
        let work = move || {
            let (inputs, labels) = shard.batch.into_tensors(&self.device.clone().autodiff());
            let (loss, correct) =
                kernels::cross_entropy(network.logits(inputs, Mode::Train), labels, shard.label_smoothing);
            let loss = loss.mul_scalar(shard.share);
            let gradients = loss.backward();
            (network, gradients, loss.inner(), correct.inner())
        };
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// The contribution of this device, to which `copy` of the network (without automatic differentiation, on the
    /// device `main`) is moved first.
    fn contribution<N: Network>(&self, copy: N, shard: Shard, main: &Device) -> Contribution {
        let share = shard.share;
        let network = copy.fork(&self.device).train();
        let (network, mut gradients, loss, correct) = self.gradients(network, shard);
        let gradients = gradients_by_name(&network, &mut gradients);
        let mut statistics = Unchanged { path: Path::default(), except: &gradients, found: BTreeMap::new() };
        network.valid().visit(&mut statistics);
        let moved = |tensors: BTreeMap<String, Tensor<1>>| {
            tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(main))).collect()
        };
        let statistics = moved(statistics.found);
        Contribution {
            share,
            loss: loss.to_device(main),
            correct: correct.to_device(main),
            gradients: moved(gradients),
            statistics,
        }
    }
}

/// Takes the gradients of a network's parameters, flattened, by name.
pub(crate) fn gradients_by_name(
    network: &impl Network,
    gradients: &mut Gradients,
) -> BTreeMap<String, Tensor<1>> {
    let mut gather = Gather { path: Path::default(), gradients, found: BTreeMap::new() };
    network.visit(&mut gather);
    gather.found
}

struct Gather<'a> {
    path: Path,
    gradients: &'a mut Gradients,
    found: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Gather<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.val().grad_remove(self.gradients) {
            self.found.insert(self.path.name(), flat(gradient));
        }
    }
}

/// Collects the parameters that have no gradient: running statistics.
struct Unchanged<'a> {
    path: Path,
    except: &'a BTreeMap<String, Tensor<1>>,
    found: BTreeMap<String, Tensor<1>>,
}

impl ModuleVisitor for Unchanged<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.name();
        if !self.except.contains_key(&name) {
            self.found.insert(name, flat(param.val()));
        }
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let length = tensor.dims().iter().product::<usize>();
    tensor.reshape([length])
}

/// Adds the other replicas' gradients to those of the network being mapped, and takes the mean of running statistics.
struct Merge<'a> {
    path: Path,
    gradients: &'a mut Gradients,
    others: Vec<Contribution>,
}

impl ModuleMapper for Merge<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let name = self.path.name();
        let tensor = match tensor.grad_remove(self.gradients) {
            Some(gradient) => {
                let others = self.others.iter_mut().filter_map(|other| other.gradients.remove(&name));
                let shape = gradient.dims();
                let sum = others.fold(gradient, |sum, other| sum + other.reshape(shape));
                tensor.grad_replace(self.gradients, sum);
                tensor
            }
            None if tensor.is_require_grad() => tensor,
            None => self.mean(&name, tensor),
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

impl Merge<'_> {
    /// The mean over all replicas, as the first one's value and the differences from it: where all are the same it
    /// stays that.
    fn mean<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        let first = tensor.inner();
        let shape = first.dims();
        let others =
            self.others.iter_mut().filter_map(|other| Some((other.share, other.statistics.remove(name)?)));
        let mean = others.fold(first.clone(), |mean, (share, other)| {
            mean + (other.reshape(shape) - first.clone()).mul_scalar(share)
        });
        Tensor::from_inner(mean)
    }
}

#[cfg(test)]
mod tests;
