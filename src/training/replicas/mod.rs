//! Several devices that share every training step: each computes the gradients of its shard of the batch on a copy of
//! the network; they are added up as flat buffers ([`GradientSum`]) on the first one, which keeps the parameters and
//! makes the update.
//!
//! A shard is a half of the batch, a quarter, and so on (see [`units`](crate::math::units)), and its losses count by the
//! size of the whole batch. Two, four or eight devices have equal work; three are as fast as two, as one of them has half
//! of the batch. Devices `flex` exchange the statistics of batch normalisation, and so do what one does, bit for bit.
//! With others among them each shard has statistics of its own; the running ones become their mean, weighted by size.
//!
//! Several [ranks](crate::ranks) do the same with one device each.

mod flat;
mod sum;

use std::panic::resume_unwind;
use std::sync::Arc;

use burn::module::{ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};

use super::tally::total;
use super::{Optimizer, Tally, apart};
use crate::device::computes_here;
use crate::error::{Error, Result};
use crate::math::units::{Unit, shares};
use crate::model::{Mode, Network, Path, Sums};
use crate::ranks::{self, Alone, Ranks, Share, ThreadRank};
use crate::samples::Batch;

pub(crate) use flat::gradients_by_name;
use flat::{Flat, parameters_without};
use sum::{along_the_tree, over_ranks};

/// The devices of a training.
#[derive(Clone, Debug)]
pub struct Replicas {
    replicas: Vec<Replica>,
    ranks: Arc<dyn Ranks>,
    /// Whether ranks share the steps, or each makes all of them.
    shared: bool,
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
        let replicas = devices.iter().map(replica).collect::<Result<_>>()?;
        Ok(Self { replicas, ranks: Arc::new(Alone), shared: true })
    }

    /// Shares every step with other ranks, each of which has one device; or makes the same steps as they do, where sharing
    /// them would change the result (see [`Network::meets_samples_once`]).
    ///
    /// # Errors
    /// [`Error::Usage`] for several ranks with another device than `flex`, or with several.
    pub fn with_ranks(self, ranks: Arc<dyn Ranks>, network: &impl Network) -> Result<Self> {
        match ranks.size() > 1 && !(self.replicas.len() == 1 && *self.main() == Device::flex()) {
            true => Err(Error::Usage {
                problem: "several ranks compute on processors alone, one device `flex` each".into(),
                hint: "leave out --device and --devices, or start one process".into(),
            }),
            false => Ok(Self { ranks, shared: network.meets_samples_once(), ..self }),
        }
    }

    /// The ranks that share every step.
    pub(crate) fn ranks(&self) -> &Arc<dyn Ranks> {
        &self.ranks
    }

    /// What of a batch is this rank's share; `None` where it is all of it.
    pub(crate) fn share(&self, samples: usize) -> Option<Share> {
        (self.ranks.size() > 1 && self.shared).then(|| Share::new(Arc::clone(&self.ranks), samples))
    }

    /// All of their devices, without automatic differentiation.
    pub fn devices(&self) -> Vec<Device> {
        self.replicas.iter().map(|replica| replica.device.clone()).collect()
    }

    /// The device that keeps the parameters, without automatic differentiation.
    pub fn main(&self) -> &Device {
        &self.replicas[0].device
    }

    /// One training step on a batch, or on this rank's share of one: forward, loss, backward, update. Gives the network and
    /// the tally of the whole batch.
    pub fn step<N: Network>(
        &self,
        network: N,
        optimizer: &mut Optimizer,
        mut batch: Batch,
        label_smoothing: f32,
    ) -> (N, Tally) {
        let main = self.main();
        let share = batch.share.take();
        let of = share.as_ref().map_or(batch.labels.len(), Share::of);
        let shares = shares(batch.labels.len(), self.replicas.len());
        if shares.len() == 1 && share.is_none() {
            return super::step(network, optimizer, batch, label_smoothing, &main.clone().autodiff());
        }
        let (first, shards) = split(batch, &shares);
        let mut threads = self.threads(shares.len()).into_iter();
        let mut shard = |batch: Batch| {
            let thread = threads.next().flatten();
            let own = thread.clone().map(|thread| Share::new(thread, of));
            Shard { batch, of, label_smoothing, share: own.or_else(|| share.clone()), thread }
        };
        let (network, mut gradients, parts) = std::thread::scope(|scope| {
            let first = shard(first);
            let others: Vec<_> = (self.replicas[1..].iter())
                .zip(shards)
                .map(|(replica, batch)| {
                    let (shard, copy) = (shard(batch), network.valid());
                    scope.spawn(move || {
                        let network = copy.fork(&replica.device).train();
                        replica.part(network, shard).2.moved_to(main)
                    })
                })
                .collect();
            let (network, gradients, part) = self.replicas[0].part(network, first);
            let others =
                others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            (network, gradients, std::iter::once(part).chain(others).collect::<Vec<_>>())
        });
        let statistics = mean_statistics(&parts);
        let places = parts[0].sums.places.clone();
        let numbers = parts.into_iter().map(|part| part.sums.numbers);
        let numbers = along_the_tree(numbers.zip(shares.iter().map(|share| share.merges)).collect());
        let numbers = match &share {
            Some(share) => over_ranks(share, numbers),
            None => numbers,
        };
        let sums = Flat { places, numbers };
        let tasks = network.tasks();
        let of_task = |task| Sums { losses: sums.more(2 * task), correct: sums.more(2 * task + 1) };
        let tally = Tally::new(&tasks, (0..tasks.len()).map(of_task).collect(), of);
        let path = Path::default();
        let network = network.map(&mut Spread { path, gradients: &mut gradients, sums, statistics });
        (optimizer.step(network, &mut gradients), tally)
    }

    /// Ranks for so many replicas that exchange statistics of batch normalisation; none for one, or where a replica
    /// cannot.
    fn threads(&self, shares: usize) -> Vec<Option<Arc<ThreadRank>>> {
        let exchange = shares > 1 && self.replicas.iter().all(|replica| replica.device == Device::flex());
        if exchange { ranks::group(shares).into_iter().map(Some).collect() } else { vec![None; shares] }
    }
}

/// Cuts a batch into its shares; gives the first one and the others.
fn split(mut batch: Batch, shares: &[Unit]) -> (Batch, Vec<Batch>) {
    let starts = shares.iter().skip(1).map(|share| share.samples.start);
    let mut shards: Vec<Batch> = starts.rev().map(|start| batch.split_off(start)).collect();
    shards.reverse();
    (batch, shards)
}

/// A part of a batch.
struct Shard {
    batch: Batch,
    /// Samples of the whole batch.
    of: usize,
    label_smoothing: f32,
    /// For the statistics of batch normalisation.
    share: Option<Share>,
    /// That this is, of the threads that exchange them.
    thread: Option<Arc<ThreadRank>>,
}

/// What a replica computes of a shard.
struct Part {
    /// Of the batch.
    share: f64,
    /// Gradients, then for each task the sum of the losses and the number of right answers.
    sums: Flat,
    /// What has no gradient: running statistics, and what never changes.
    statistics: Option<Flat>,
}

impl Part {
    fn moved_to(self, device: &Device) -> Self {
        let statistics = self.statistics.map(|statistics| statistics.moved_to(device));
        Self { sums: self.sums.moved_to(device), statistics, ..self }
    }
}

impl Replica {
    /// Forward and backward pass of a shard, for a network on this device. What comes back besides the network and its
    /// part holds no gradients; it is where their sums are to be put.
    fn part<N: Network>(&self, network: N, shard: Shard) -> (N, Gradients, Part) {
        let thread = shard.thread.clone();
        let work = move || {
            let part = shard.batch.labels.len() as f64 / shard.of as f64;
            let (inputs, labels) = shard.batch.into_tensors(&self.device.clone().autodiff());
            let mode = shard.share.as_ref().map_or(Mode::Train, Mode::TrainShare);
            let (losses, sums) = apart(network.judge(inputs, labels, shard.label_smoothing, mode));
            let mut gradients = total(&network.tasks(), &losses).div_scalar(shard.of as f32).backward();
            let numbers = sums.into_iter().flat_map(|sums| [sums.losses, sums.correct]).collect();
            let sums = Flat::new(gradients_by_name(&network, &mut gradients), numbers);
            // `valid` also folds what the forward pass left to be added into the running statistics.
            let statistics = parameters_without(&sums, &network.valid());
            let statistics = (!statistics.is_empty()).then(|| Flat::new(statistics, Vec::new()));
            (network, gradients, Part { share: part, sums, statistics })
        };
        let work = move || match thread {
            Some(thread) => thread.watched(work),
            None => work(),
        };
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

/// The mean over all parts, as the first one's numbers and the differences from them: where all are the same they stay
/// as they are.
fn mean_statistics(parts: &[Part]) -> Option<Flat> {
    let (first, others) = parts.split_first()?;
    let Flat { places, numbers: first } = first.statistics.as_ref()?;
    let others = others.iter().filter_map(|part| Some((part.share, &part.statistics.as_ref()?.numbers)));
    let numbers = others
        .fold(first.clone(), |mean, (share, other)| mean + (other.clone() - first.clone()).mul_scalar(share));
    Some(Flat { places: places.clone(), numbers })
}

/// Puts the sums of gradients where the optimizer takes them from, and the statistics into the network.
struct Spread<'a> {
    path: Path,
    gradients: &'a mut Gradients,
    sums: Flat,
    statistics: Option<Flat>,
}

impl ModuleMapper for Spread<'_> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.path.exit(container);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, mut tensor, mapper) = param.consume();
        let (name, shape) = (self.path.name(), tensor.dims());
        if let Some(sum) = self.sums.tensor(&name, shape) {
            tensor.grad_replace(self.gradients, sum);
        } else if let (false, Some(statistics)) = (tensor.is_require_grad(), &self.statistics) {
            tensor = statistics.tensor(&name, shape).map_or(tensor, Tensor::from_inner);
        }
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[cfg(test)]
mod tests;
