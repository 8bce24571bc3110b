//! Checkpoints: a network's parameters, the optimizer's state, and what is needed to use them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::Pixels;
use crate::device::environment::{Source, VERSION};
use crate::error::{Error, Result};
use crate::model::{ClassifierShape, EncoderConfig, ImageShape, Parameters, Readout};
use crate::progress::{PartialEpoch, Stage};
use crate::store::tensor_file::{self, Format};

const FORMAT: Format = Format {
    name: "rotnet-checkpoint",
    version: 4,
    hint: "name a checkpoint written by `rotnet pretrain` or `rotnet finetune` of this version, or run it again",
};

/// What a checkpoint says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The stage that wrote it.
    pub stage: Stage,
    /// Version of the program.
    pub rotnet: String,
    /// The commit that it was built from; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Whole epochs trained.
    pub epochs: usize,
    /// The finished part of the next epoch; absent between epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<PartialEpoch>,
    /// Optimizer steps so far.
    pub steps: u64,
    /// Seed of the run.
    pub seed: u64,
    /// The encoder's architecture; absent if only a classifier is stored.
    pub encoder: Option<EncoderConfig>,
    /// Height, width and channels of the images.
    pub image: ImageShape,
    /// How pixels are scaled for the encoder.
    pub pixels: Pixels,
    /// The classifier's shape; absent if there is none.
    pub classifier: Option<ClassifierShape>,
    /// What the classifier sees of the encoder; absent unless both are stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout: Option<Readout>,
    /// Name and fingerprint of the data set trained on.
    pub dataset: DatasetLabel,
    /// SHA-256 of the checkpoint that the encoder or the features come from; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Everything else in the config that decides the result: a run can only be resumed with the same recipe.
    pub recipe: Value,
}

/// Path of the devices in a recipe.
const DEVICE: &str = "device";

impl Header {
    /// The header of a stage before its first step; encoder, classifier and input are left to the stage.
    pub fn untrained(stage: Stage, seed: u64, pixels: Pixels, dataset: DatasetLabel, recipe: Value) -> Self {
        Self {
            stage,
            rotnet: VERSION.into(),
            source: Source::of_this_program(),
            epochs: 0,
            partial: None,
            steps: 0,
            seed,
            encoder: None,
            image: [0; 3],
            pixels,
            classifier: None,
            readout: None,
            dataset,
            input: None,
            recipe,
        }
    }

    /// The architecture of its encoder, which computes as it did in training.
    pub fn architecture(&self) -> Option<EncoderConfig> {
        let arithmetic = self.recipe.get("arithmetic").cloned().unwrap_or_default();
        let arithmetic = serde_json::from_value(arithmetic).unwrap_or_default();
        self.encoder.clone().map(|encoder| EncoderConfig { arithmetic, ..encoder })
    }

    /// The first setting in which `self` and `other` differ; training progress, device and the program's commit do not
    /// count.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let comparable = |header: &Self| {
            let mut header = Self { epochs: 0, partial: None, steps: 0, source: None, ..header.clone() };
            if let Value::Object(recipe) = &mut header.recipe {
                recipe.remove(DEVICE);
            }
            serde_json::to_value(header).unwrap_or_default()
        };
        difference("", &comparable(self), &comparable(other))
    }

    /// The devices, if those of `self` and `other` differ.
    pub fn other_device(&self, other: &Self) -> Option<String> {
        difference(DEVICE, self.recipe.get(DEVICE)?, other.recipe.get(DEVICE)?)
    }
}

fn difference(path: &str, was: &Value, is: &Value) -> Option<String> {
    if let (Value::Object(was), Value::Object(is)) = (was, is) {
        return was.keys().chain(is.keys()).find_map(|key| {
            let path = match path {
                "" => key.clone(),
                path => format!("{path}.{key}"),
            };
            let [was, is] = [was, is].map(|map| map.get(key).unwrap_or(&Value::Null));
            difference(&path, was, is)
        });
    }
    (was != is).then(|| format!("{path} was {was}, is {is}"))
}

/// The data that a number or a file comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetLabel {
    /// Name of the data set, for people.
    pub name: String,
    /// SHA-256 over the digests of its files.
    pub fingerprint: String,
}

/// A checkpoint in memory.
pub struct Checkpoint {
    /// What the checkpoint says about itself.
    pub header: Header,
    /// The network's parameters.
    pub parameters: Parameters,
    /// The optimizer's state, for continuing the training.
    pub optimizer: Parameters,
}

const MODEL: &str = "model.";
const OPTIMIZER: &str = "optimizer.";

impl Checkpoint {
    /// Writes the checkpoint, whole or not at all; its predecessor stays beside it.
    pub fn save(&self, path: &Path) -> Result<()> {
        keep_previous(path)?;
        self.save_alone(path)
    }

    /// Writes the checkpoint, whole or not at all, over its predecessor.
    pub fn save_alone(&self, path: &Path) -> Result<()> {
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
        Self::of(path, tensor_file::read(path, &FORMAT)?)
    }

    /// Reads and checks a checkpoint in memory, which errors call `path`.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if it is damaged or of another version.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        Self::of(path, tensor_file::read_in_memory(bytes, path, &FORMAT)?)
    }

    fn of(path: &Path, (header, tensors): (Header, Parameters)) -> Result<Self> {
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

    /// [`load`](Self::load); if the checkpoint is damaged, its predecessor, with the damage.
    ///
    /// # Errors
    /// Those of [`load`](Self::load), if neither is good.
    pub fn load_or_previous(path: &Path) -> Result<(Self, Option<Error>)> {
        let damage = match Self::load(path) {
            Ok(checkpoint) => return Ok((checkpoint, None)),
            Err(damage) => damage,
        };
        match Self::load(&previous(path)) {
            Ok(checkpoint) => Ok((checkpoint, Some(damage))),
            Err(_) => Err(damage),
        }
    }

    /// The parameters of one part of the network, without the part's name as prefix.
    pub fn part(&self, part: &str) -> Parameters {
        let prefix = format!("{part}.");
        self.parameters
            .iter()
            .filter_map(|(name, data)| Some((name.strip_prefix(&prefix)?.to_owned(), data.clone())))
            .collect()
    }

    /// The error where there is no checkpoint at `path`.
    pub fn missing(path: &Path) -> Error {
        let hint = "run `rotnet pretrain` first, or name another checkpoint";
        Error::checkpoint(path, "there is no checkpoint", hint)
    }

    /// The error for a checkpoint at `path` that does not fit.
    pub fn refuse(path: &Path, problem: impl Into<String>) -> Error {
        Error::checkpoint(path, problem, FORMAT.hint)
    }
}

/// Path of the predecessor of the checkpoint at `path`.
pub fn previous(path: &Path) -> PathBuf {
    path.with_extension("previous.safetensors")
}

/// Replaces the checkpoint at `path` with its predecessor.
///
/// # Errors
/// [`Error::Io`].
pub fn restore_previous(path: &Path) -> Result<()> {
    fs::rename(previous(path), path).map_err(Error::io("replace", path))
}

/// Gives the file at `path` a second name, which it keeps when the first is replaced.
fn keep_previous(path: &Path) -> Result<()> {
    let previous = previous(path);
    if !path.exists() {
        return Ok(());
    }
    if previous.exists() {
        fs::remove_file(&previous).map_err(Error::io("replace", &previous))?;
    }
    // Some file systems have no hard links.
    fs::hard_link(path, &previous)
        .or_else(|_| fs::copy(path, &previous).map(drop))
        .map_err(Error::io("write", &previous))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EncoderKind;

    #[test]
    fn a_header_with_the_former_name_of_the_keras_network_is_resumed_by_the_new_one() {
        let dataset = DatasetLabel { name: "scenes".into(), fingerprint: "0".into() };
        let header = Header {
            encoder: Some(EncoderConfig::default()),
            ..Header::untrained(Stage::Pretrain, 1, Pixels::Scaled, dataset, Value::Null)
        };
        let mut document = serde_json::to_value(&header).unwrap();
        document["encoder"]["kind"] = "seed".into();
        let former: Header = serde_json::from_value(document).unwrap();
        assert_eq!(former.encoder.as_ref().map(|encoder| encoder.kind), Some(EncoderKind::Keras));
        assert_eq!(former.difference(&header), None);
    }

    #[test]
    fn another_version_is_no_way_to_go_on_and_another_commit_of_it_is() {
        let dataset = DatasetLabel { name: "scenes".into(), fingerprint: "0".into() };
        let header = Header::untrained(Stage::Pretrain, 1, Pixels::Scaled, dataset, Value::Null);
        let source = Some(Source { commit: "0".repeat(40), clean: false });
        assert_eq!(Header { source, ..header.clone() }.difference(&header), None);
        let older = Header { rotnet: "0.0.1".into(), ..header.clone() };
        assert!(older.difference(&header).is_some_and(|found| found.starts_with("rotnet was ")));
    }
}
