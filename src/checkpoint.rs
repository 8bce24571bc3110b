//! Checkpoints: a network's parameters, the optimizer's state, and what it takes to use them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::{ClassifierShape, EncoderConfig, ImageShape, Parameters};
use crate::progress::Stage;
use crate::tensor_file::{self, Format};

const FORMAT: Format = Format {
    name: "rotnet-checkpoint",
    version: 1,
    hint: "name a checkpoint that `rotnet pretrain` or `rotnet finetune` of this version wrote, or run it again",
};

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The stage that wrote it.
    pub stage: Stage,
    /// Version of the program.
    pub rotnet: String,
    /// Epochs trained.
    pub epochs: usize,
    /// Optimizer steps made.
    pub steps: u64,
    /// Seed of the run.
    pub seed: u64,
    /// The encoder's architecture; absent where only a classifier is held.
    pub encoder: Option<EncoderConfig>,
    /// Height, width and channels of the images.
    pub image: ImageShape,
    /// Whether pixels are divided by 255 before the encoder sees them.
    pub scale_pixels: bool,
    /// The classifier's shape; absent where there is none.
    pub classifier: Option<ClassifierShape>,
    /// Name and fingerprint of the data set trained on.
    pub dataset: DatasetLabel,
    /// Everything else in the config that decides the result: a run is resumed with the same recipe only.
    pub recipe: serde_json::Value,
}

/// Which data a number or a file is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetLabel {
    /// In words.
    pub name: String,
    /// SHA-256 over the digests of its files.
    pub fingerprint: String,
}

/// A checkpoint in memory.
pub struct Checkpoint {
    /// What it says of itself.
    pub header: Header,
    /// The network's parameters.
    pub parameters: Parameters,
    /// The optimizer's state, to train on from here.
    pub optimizer: Parameters,
}

const MODEL: &str = "model.";
const OPTIMIZER: &str = "optimizer.";

impl Checkpoint {
    /// Writes the checkpoint, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let prefixed = |prefix: &'static str, tensors: &Parameters| {
            let named = |(name, data): (&String, _)| (format!("{prefix}{name}"), Clone::clone(data));
            tensors.iter().map(named).collect::<Vec<_>>()
        };
        let mut tensors = Parameters::new();
        tensors.extend(prefixed(MODEL, &self.parameters));
        tensors.extend(prefixed(OPTIMIZER, &self.optimizer));
        tensor_file::write(path, &FORMAT, &self.header, &tensors)
    }

    /// Reads and checks a checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Checkpoint`] if it is damaged or of another version.
    pub fn load(path: &Path) -> Result<Self> {
        let (header, tensors) = tensor_file::read(path, &FORMAT)?;
        let mut checkpoint = Self { header, parameters: Parameters::new(), optimizer: Parameters::new() };
        for (name, data) in tensors {
            let (group, name) = match (name.strip_prefix(MODEL), name.strip_prefix(OPTIMIZER)) {
                (Some(name), _) => (&mut checkpoint.parameters, name),
                (None, Some(name)) => (&mut checkpoint.optimizer, name),
                (None, None) => {
                    return Err(Self::refuse(path, format!("holds an unknown tensor `{name}`")));
                }
            };
            group.insert(name.to_owned(), data);
        }
        Ok(checkpoint)
    }

    /// The parameters of one part of the network, without the part's name in front.
    pub fn part(&self, part: &str) -> Parameters {
        let prefix = format!("{part}.");
        self.parameters
            .iter()
            .filter_map(|(name, data)| Some((name.strip_prefix(&prefix)?.to_owned(), data.clone())))
            .collect()
    }

    /// The error for a checkpoint at `path` that does not fit.
    pub fn refuse(path: &Path, problem: impl Into<String>) -> Error {
        Error::checkpoint(path, problem, FORMAT.hint)
    }
}
