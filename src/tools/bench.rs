//! How fast this machine trains, extracts and makes batches: the numbers behind `rotnet bench`.

use std::time::{Duration, Instant};

use burn::tensor::Device;
use rand::Rng;
use serde::Serialize;

use crate::config::Config;
use crate::data::{CHANNELS, Images, Pixels};
use crate::device;
use crate::device::environment::{Environment, peak_memory};
use crate::error::Result;
use crate::kernels;
use crate::kernels::profile::{self, Entry, GigaflopRate, Operations};
use crate::math::random::{Purpose, generator};
use crate::model::{ImageShape, RotationNetwork};
use crate::samples::{Batch, Samples};
use crate::samples::{PlainImages, RotatedImages};
use crate::tools::ranks_model::RanksModel;
use crate::training::{Optimizer, Replicas};

/// Images of a measurement at 32x32: more than fit a processor's caches. Of larger ones as many as have as many pixels.
const IMAGES: usize = 4_096;
/// How long the peak is sought.
const PEAK: Duration = Duration::from_millis(200);
/// CIFAR-10's.
pub(crate) const IMAGE: ImageShape = [32, 32, 3];

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Measurements of each kind, after one that is not counted.
    pub repeats: usize,
    /// Length of a measurement.
    pub duration: Duration,
}

/// What else to find out.
#[derive(Clone, Copy, Debug, Default)]
pub struct More {
    /// Where the time of a training step goes.
    pub profile: bool,
    /// What several machines like this one would make of it.
    pub ranks_model: bool,
}

/// What `rotnet bench` prints.
#[derive(Clone, Debug, Serialize)]
pub struct BenchResult {
    /// Program, processor, kernels, threads, device.
    pub environment: Environment,
    /// Samples of a training step.
    pub batch_size: usize,
    /// Whole training steps: batch, forward, loss, backward, update, overlapped as in training.
    pub train: Rate,
    /// Encoding of plain images.
    pub extract: Rate,
    /// Making of training batches alone.
    pub input: Rate,
    /// Billions of operations in 32 bits a second that the threads can make together: what `gflops` is to be held against.
    pub peak_gflops: f64,
    /// Largest resident memory of the process, where the system tells it.
    pub peak_memory_bytes: Option<u64>,
    /// What several machines like this one would make of it; only with `--ranks-model`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks_model: Option<RanksModel>,
    /// Where the time of a training step goes; only with `--profile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Vec<Entry>>,
}

/// Throughput over several measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// Rotated images (`train`, `input`) or images (`extract`) a second.
    pub images_per_second: Spread,
    /// Billions of operations a second that the kernels make meanwhile, in the median measurement.
    pub gflops: GigaflopRate,
}

/// Order statistics of the measurements.
#[derive(Clone, Debug, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The slowest.
    pub min: f64,
    /// The fastest.
    pub max: f64,
    /// Number of measurements.
    pub repeats: usize,
}

/// Measures the network and batch size of `config` on its devices, on made-up images of the size that it names.
///
/// # Errors
/// [`crate::Error::Device`] if the device cannot be used.
pub fn bench(config: &Config, effort: Effort, more: More) -> Result<BenchResult> {
    let devices = config.all_devices().iter().map(device::open).collect::<Result<Vec<_>>>()?;
    let device = devices[0].clone();
    let images = made_up_images(config.data.image_size);
    let image = [images.height, images.width, CHANNELS];
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    let pixels = Pixels::new(&config.data, &images, &indices);
    let pretrain = &config.pretrain;
    let rotated = RotatedImages::new(&images, indices, pretrain.rotations, &pixels, config.seed)
        .augmented(pretrain.augment.as_ref());
    let plain = PlainImages::all(&images, &pixels);
    let batch_size = config.pretrain.batch_size * rotated.group();

    let mut trainer = Trainer::new(config, image, &devices)?;
    let train = measure(effort, &mut Batches::new(&rotated, batch_size), |batch| trainer.step(batch));
    let profile = more.profile.then(|| {
        profile::start();
        let once = Effort { repeats: 1, ..effort };
        measure(once, &mut Batches::new(&rotated, batch_size), |batch| trainer.step(batch));
        profile::stop()
    });
    let network = RotationNetwork::new(&config.encoder, image, config.seed, &device);
    let ranks_model = more.ranks_model.then(|| {
        RanksModel::new(&network, batch_size, |samples| {
            let rate = measure(effort, &mut Batches::new(&rotated, samples), |batch| trainer.step(batch));
            samples as f64 / rate.images_per_second.median
        })
    });
    let encoder = network.encoder;
    let extract_batches = &mut Batches::new(&plain, config.extract.batch_size);
    let extract = measure(effort, extract_batches, |batch| {
        let (inputs, _) = batch.into_tensors(&device);
        encoder.forward(inputs).into_data();
    });
    let input = measure(effort, &mut Batches::new(&rotated, batch_size), drop);
    Ok(BenchResult {
        environment: config.environment(),
        batch_size,
        train,
        extract,
        input,
        peak_gflops: kernels::peak(PEAK) / 1e9,
        peak_memory_bytes: peak_memory(),
        profile,
        ranks_model,
    })
}

/// Noise: the arithmetic does not depend on the pixels, apart from the zeros that ReLU leaves.
pub(crate) fn made_up_images(side: usize) -> Images {
    let count = (IMAGES * IMAGE[0] * IMAGE[1] / (side * side)).max(1);
    let mut pixels = vec![0; count * side * side * CHANNELS];
    generator(0, Purpose::Augment, 0, 0).fill_bytes(&mut pixels);
    Images { pixels: pixels.into(), labels: vec![0; count], height: side, width: side }
}

struct Trainer {
    network: Option<RotationNetwork>,
    optimizer: Optimizer,
    label_smoothing: f32,
    replicas: Replicas,
}

impl Trainer {
    fn new(config: &Config, image: ImageShape, devices: &[Device]) -> Result<Self> {
        let replicas = Replicas::new(devices)?;
        let device = replicas.main().clone().autodiff();
        let network = RotationNetwork::new(&config.encoder, image, config.seed, &device);
        Ok(Self {
            network: Some(network),
            optimizer: Optimizer::new(&config.pretrain.optimizer)
                .with_clipping(config.pretrain.clip_norm)
                .with_average(config.pretrain.weight_average),
            label_smoothing: config.pretrain.label_smoothing as f32,
            replicas,
        })
    }

    fn step(&mut self, batch: Batch) {
        if let Some(network) = self.network.take() {
            let (network, tally) =
                self.replicas.step(network, &mut self.optimizer, batch, self.label_smoothing);
            tally.loss.into_data();
            self.network = Some(network);
        }
    }
}

/// Endless batches, the next one made while the current one is used.
struct Batches<'a> {
    samples: &'a dyn Samples,
    batch_size: usize,
    at: usize,
}

impl<'a> Batches<'a> {
    fn new(samples: &'a dyn Samples, batch_size: usize) -> Self {
        Self { samples, batch_size: batch_size.min(samples.len()), at: 0 }
    }

    fn next(&mut self) -> Batch {
        if self.at + self.batch_size > self.samples.len() {
            self.at = 0;
        }
        // A stride that is odd and large, so that neighbours in a batch are not neighbours in memory.
        let length = self.samples.len();
        let place = |position: usize| (position * 2_654_435_761 % length) as u32;
        let indices: Vec<u32> = (self.at..self.at + self.batch_size).map(place).collect();
        self.at += self.batch_size;
        Batch::new(self.samples, 0, &indices)
    }
}

fn measure(effort: Effort, batches: &mut Batches<'_>, mut work: impl FnMut(Batch) + Send) -> Rate {
    let mut once = || {
        let (start, before) = (Instant::now(), Operations::so_far());
        let mut images = 0;
        let mut batch = batches.next();
        while start.elapsed() < effort.duration {
            images += batch.labels.len();
            let (_, next) = rayon::join(|| work(batch), || batches.next());
            batch = next;
        }
        let time = start.elapsed();
        (images as f64 / time.as_secs_f64(), Operations::so_far().rate(before, time))
    };
    once();
    let mut rates: Vec<_> = (0..effort.repeats).map(|_| once()).collect();
    kernels::release_memory();
    rates.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let (median, gflops) = rates[rates.len() / 2];
    Rate {
        images_per_second: Spread {
            median,
            min: rates[0].0,
            max: rates[rates.len() - 1].0,
            repeats: rates.len(),
        },
        gflops,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_images_are_fewer_and_as_many_pixels() {
        let images = [32, 64, 256].map(|side| (made_up_images(side), side));
        for (images, side) in images {
            assert_eq!((images.height, images.width, images.pixels.len()), (side, side, IMAGES * 3_072));
        }
    }
}
