//! The config: one JSON document, strict, with every key's meaning in its schema.
//!
//! Each section is the property of one module and is handed to that module alone. Keys that are absent
//! take the values of the original Keras program (`configs/keras.json`). The configs in `configs/` are compiled in: the
//! recipes, which go by name.

mod document;
mod evaluate;
mod finetune;
mod joint;
mod load;
mod messages;
mod overrides;
mod preface;
mod pretrain;
mod recipes;
mod schema;
mod self_training;
#[cfg(test)]
mod tests;
mod training;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data::DataConfig;
use crate::device::DeviceName;
use crate::device::environment::Environment;
use crate::error::{Error, Result};
use crate::kernels::{Arithmetic, Convolution, Precision};
use crate::model::{EncoderConfig, Pool, Readout, Views};
use crate::progress::Stage;
use crate::training::{SaveConfig, ScheduleConfig};

pub use document::Document;
pub use evaluate::{Baseline, EvaluateConfig, ProbeHead};
pub use finetune::{FinetuneConfig, FinetuneMode};
pub use joint::{JointConfig, JointRotations};
#[cfg(test)]
pub(crate) use load::KERAS;
pub use load::{load, resolve};
pub(crate) use messages::describe;
pub use overrides::Overrides;
pub use preface::Measured;
pub use pretrain::{PretrainConfig, ProbeConfig, SizePhase};
pub use recipes::{RECIPES, Recipe, renamed, run_name};
pub use schema::schema;
pub use self_training::SelfTrainingConfig;
pub(crate) use training::Common;

/// Everything that decides a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the config is for, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Random seed for initial weights, the order of samples and splits.
    pub seed: u64,
    /// Device to compute on. `flex` is this machine's processor. `ndarray`, `wgpu[:n|:cpu]`, `vulkan[:n]`, `metal[:n]`,
    /// `cuda[:n]` and `rocm[:n]` need a build with the cargo feature of the same name; `ws://host:port[/n]` and
    /// `iroh:ID[/n]`, the n-th device of a `rotnet worker`, need the feature `remote`.
    pub device: DeviceName,
    /// Devices that share every training step, in place of `device`. The same one may be named twice. The first one
    /// keeps the parameters and does all other work. Empty: use `device`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_DEVICES))]
    pub devices: Vec<DeviceName>,
    /// Number of threads; absent or null: one per processor. Results do not depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_THREADS))]
    pub threads: Option<usize>,
    /// How convolutions are computed. `fast` uses Winograd's minimal filtering where a layer's shape makes that faster;
    /// `direct` computes every product, which is slower and more exact in the last bits. Recorded with the encoder:
    /// later stages must use the same value.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Convolution::default()))]
    pub convolution: Convolution,
    /// Precision of the factors of products in the encoder and the rotation head: `f32`, or `bf16`, which rounds them
    /// to bfloat16 in dense layers, 1x1 convolutions and all others that are not computed by Winograd's filtering. On
    /// AMD processors with AVX-512 BF16 (Zen 4 and later) these layers run about twice as fast; others, Intel's too, give
    /// the same results, more slowly. Sums, weights, normalisation and optimizer keep 32 bits. For device `flex` only. Recorded with the
    /// encoder: later stages must use the same value.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Precision::default()))]
    pub precision: Precision,
    /// Which images, how many, and how they are scaled.
    pub data: DataConfig,
    /// The network that learns the features.
    pub encoder: EncoderConfig,
    /// Rotation prediction on unlabeled images.
    pub pretrain: PretrainConfig,
    /// How features are read from the encoder.
    pub extract: ExtractConfig,
    /// The classifier on top of the features.
    pub finetune: FinetuneConfig,
    /// How the encoder is judged: probes of every block, and baselines.
    #[serde(skip_serializing_if = "is_default")]
    pub evaluate: EvaluateConfig,
    /// How often to save within an epoch; results do not depend on it.
    #[serde(skip_serializing_if = "is_default")]
    pub save: SaveConfig,
    /// Write TensorBoard event files beside `metrics.jsonl`; results do not depend on it.
    #[serde(skip_serializing_if = "is_false")]
    pub tensorboard: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Section `extract`: which features of the encoder the classifier sees, in every mode of `finetune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractConfig {
    /// Images encoded at a time; the features do not depend on it.
    #[schemars(range(min = 1, max = MAX_BATCH_SIZE))]
    pub batch_size: usize,
    /// Blocks to read (`block1`, `block2`, ...), concatenated; empty: the encoder's last layer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<String>,
    /// How a block's output is averaged over the image: `none`, `gap` (all of it), or a grid of `2x2`, `4x4` or `8x8`.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Pool::default()))]
    pub pool: Pool,
    /// Which views of an image are encoded. 1: the image as it is. 4: its four rotations, features concatenated.
    /// "flip": the image and its mirror image, features averaged. "4+flip": the four rotations, each averaged with its
    /// mirror image.
    #[serde(skip_serializing_if = "is_default")]
    #[schemars(extend("default" = Views::default()))]
    pub views: Views,
}

fn is_constant(schedule: &ScheduleConfig) -> bool {
    *schedule == ScheduleConfig::default()
}

fn is_false(yes: &bool) -> bool {
    !yes
}

impl Default for Config {
    fn default() -> Self {
        Self {
            description: String::new(),
            seed: 0,
            device: DeviceName::Flex,
            devices: Vec::new(),
            threads: None,
            convolution: Convolution::default(),
            precision: Precision::default(),
            data: DataConfig::default(),
            encoder: EncoderConfig::default(),
            pretrain: PretrainConfig::default(),
            extract: ExtractConfig::default(),
            finetune: FinetuneConfig::default(),
            evaluate: EvaluateConfig::default(),
            save: SaveConfig::default(),
            tensorboard: false,
        }
    }
}

impl ExtractConfig {
    /// What of the encoder is read.
    pub fn readout(&self) -> Readout {
        Readout { layers: self.layers.clone(), pool: self.pool, views: self.views }
    }
}

impl Default for ExtractConfig {
    fn default() -> Self {
        Self { batch_size: 256, layers: Vec::new(), pool: Pool::default(), views: Views::default() }
    }
}

/// Largest number of samples in a step: beyond it a batch of 32x32 images alone takes 800 MB.
const MAX_BATCH_SIZE: usize = 65_536;
/// Largest number of epochs, so that a mistyped one is noticed.
const MAX_EPOCHS: usize = 100_000;
/// Most threads.
const MAX_THREADS: usize = 1_024;
/// Most devices that share a step.
const MAX_DEVICES: usize = 64;

impl Config {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key, the range and the value.
    pub fn validate(&self) -> Result<()> {
        if let Some(threads) = self.threads {
            in_range("threads", threads, 1, MAX_THREADS)?;
        }
        in_range("devices", self.devices.len(), 0, MAX_DEVICES)?;
        self.validate_precision()?;
        self.data.validate()?;
        self.save.validate()?;
        self.encoder.validate()?;
        self.pretrain.validate(&self.data, &self.encoder)?;
        self.evaluate.validate()?;
        in_range("extract.batch_size", self.extract.batch_size, 1, MAX_BATCH_SIZE)?;
        self.finetune.validate(&self.data)?;
        self.validate_joint()?;
        self.validate_untrained()
    }

    /// A step of both tasks passes through the encoder once.
    fn validate_joint(&self) -> Result<()> {
        match self.finetune.mode == FinetuneMode::Joint && self.extract.views != Views::One {
            true => Err(Error::config("extract.views", "must be 1 with finetune.mode=joint")),
            false => Ok(()),
        }
    }

    /// Devices without kernels round nothing.
    fn validate_precision(&self) -> Result<()> {
        let other = self.all_devices().into_iter().find(|device| *device != DeviceName::Flex);
        match (self.precision, other) {
            (Precision::Bf16, Some(device)) => {
                let problem = format!("must be `f32` on device {device}: `bf16` is computed on flex alone");
                Err(Error::config("precision", problem))
            }
            _ => Ok(()),
        }
    }

    /// An encoder without anything to train takes no training.
    fn validate_untrained(&self) -> Result<()> {
        if self.encoder.is_trainable() {
            return Ok(());
        }
        if self.precision == Precision::Bf16 {
            let problem = "must be `f32`: encoder kind `patches` rounds nothing, got `bf16`";
            return Err(Error::config("precision", problem));
        }
        if self.pretrain.epochs > 0 {
            let problem =
                format!("must be 0: encoder kind `patches` is not trained, got {}", self.pretrain.epochs);
            return Err(Error::config("pretrain.epochs", problem));
        }
        if let Some(mode) = self.finetune.mode.training_encoder() {
            let problem = format!("must be `frozen`: encoder kind `patches` is not trained, got `{mode}`");
            return Err(Error::config("finetune.mode", problem));
        }
        Ok(())
    }

    /// How networks compute, as the keys at the top say.
    fn arithmetic(&self) -> Arithmetic {
        Arithmetic { convolution: self.convolution, precision: self.precision }
    }

    /// The devices that a training step is spread over, the one that keeps the parameters first.
    pub fn all_devices(&self) -> Vec<DeviceName> {
        match self.devices.is_empty() {
            true => vec![self.device.clone()],
            false => self.devices.clone(),
        }
    }

    /// The environment of the calling thread pool, on these devices.
    pub fn environment(&self) -> Environment {
        match &self.devices[..] {
            [] => Environment::current(&self.device, &[], self.precision),
            [first, further @ ..] => Environment::current(first, further, self.precision),
        }
    }

    /// What decides the result of a stage besides data set and architecture. Epochs are part of it where the
    /// learning rate or the size of images depends on them.
    pub fn recipe(&self, stage: Stage) -> Value {
        let data = self.data.recipe();
        let (pretrain, finetune) = (&self.pretrain, &self.finetune);
        let stage = match stage {
            Stage::Pretrain => {
                let free = is_constant(&pretrain.schedule) && pretrain.sizes.is_empty();
                let epochs = if free || pretrain.steps.is_some() { 0 } else { pretrain.epochs };
                json!(PretrainConfig { epochs, ..pretrain.clone() })
            }
            Stage::Extract => json!(self.extract),
            Stage::Finetune => {
                let epochs = if is_constant(&finetune.schedule) { 0 } else { finetune.epochs };
                json!(FinetuneConfig { epochs, ..finetune.clone() })
            }
        };
        let devices: Vec<String> = self.all_devices().iter().map(ToString::to_string).collect();
        json!({
            "seed": self.seed,
            "device": devices.join(","),
            "arithmetic": self.encoder.arithmetic,
            "data": data,
            "stage": stage,
        })
    }

    /// Writes the config as resolved, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        crate::files::write_json(path, self)
    }
}

fn in_range(path: &str, value: usize, least: usize, most: usize) -> Result<()> {
    if value < least {
        return Err(Error::config(path, format!("must be at least {least}, got {value}")));
    }
    if value > most {
        return Err(Error::config(path, format!("must be at most {most}, got {value}")));
    }
    Ok(())
}
