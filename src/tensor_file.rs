//! Safetensors files that describe and check themselves.
//!
//! Every checkpoint and every feature file is a safetensors file (<https://github.com/huggingface/safetensors>)
//! whose metadata has one key, `rotnet`, with a JSON document: `format`, `version` (of that format), `digest`
//! (SHA-256 over the header, and the names and bytes of all tensors in alphabetical order) and the writer's own
//! `header`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{hexadecimal, write_atomically};
use crate::model::Parameters;

const METADATA_KEY: &str = "rotnet";

#[derive(Serialize, Deserialize)]
struct Envelope {
    format: Cow<'static, str>,
    version: u32,
    digest: String,
    header: Value,
}

/// A kind of file: its name and the version that this program writes and reads.
pub struct Format {
    /// For example `rotnet-checkpoint`.
    pub name: &'static str,
    /// Raised with every change that an older program would misread.
    pub version: u32,
    /// What to do about a file that is not usable.
    pub hint: &'static str,
}

/// Writes tensors and header, whole or not at all. The same content gives the same bytes.
pub fn write(path: &Path, format: &Format, header: &impl Serialize, tensors: &Parameters) -> Result<()> {
    let unusable = |problem: String| Error::checkpoint(path, problem, format.hint);
    let views = tensors
        .iter()
        .map(|(name, data)| Ok((name, view(data)?)))
        .collect::<Result<Vec<_>, String>>()
        .map_err(unusable)?;
    let header = serde_json::to_value(header).map_err(|error| unusable(error.to_string()))?;
    let envelope = Envelope {
        format: format.name.into(),
        version: format.version,
        digest: digest(&header, tensors),
        header,
    };
    let json = serde_json::to_string(&envelope).map_err(|error| unusable(error.to_string()))?;
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| unusable(error.to_string()))?;
    write_atomically(path, |out| out.write_all(&bytes))
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Checkpoint`] if it is cut, changed, of another format or version.
pub fn read<H: DeserializeOwned>(path: &Path, format: &Format) -> Result<(H, Parameters)> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    parse(&bytes, format).map_err(|problem| Error::checkpoint(path, problem, format.hint))
}

fn parse<H: DeserializeOwned>(bytes: &[u8], format: &Format) -> Result<(H, Parameters), String> {
    let damaged = |error: &dyn std::fmt::Display| format!("damaged or cut short ({error})");
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| damaged(&error))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| damaged(&error))?;
    let json = metadata
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get(METADATA_KEY))
        .ok_or("a safetensors file, but not written by rotnet")?;
    let envelope: Envelope = serde_json::from_str(json).map_err(|error| damaged(&error))?;
    if envelope.format != format.name || envelope.version != format.version {
        return Err(format!(
            "holds {} version {}, expected {} version {}",
            envelope.format, envelope.version, format.name, format.version
        ));
    }
    let mut tensors = Parameters::new();
    for (name, view) in file.iter() {
        tensors.insert(name.to_owned(), data(&view)?);
    }
    if digest(&envelope.header, &tensors) != envelope.digest {
        return Err("damaged: its content does not match its digest".into());
    }
    let header = serde_json::from_value(envelope.header)
        .map_err(|error| format!("its header is not understood: {error}"))?;
    Ok((header, tensors))
}

fn view(data: &TensorData) -> Result<TensorView<'_>, String> {
    let dtype = match data.dtype() {
        DType::F32 => Dtype::F32,
        DType::U8 => Dtype::U8,
        other => return Err(format!("tensors of type {other:?} are not stored")),
    };
    TensorView::new(dtype, data.shape().to_vec(), data.as_bytes()).map_err(|error| error.to_string())
}

fn data(view: &TensorView<'_>) -> Result<TensorData, String> {
    let shape = view.shape().to_vec();
    match view.dtype() {
        Dtype::F32 => {
            let numbers: Vec<f32> = view
                .data()
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .collect();
            Ok(TensorData::new(numbers, shape))
        }
        Dtype::U8 => Ok(TensorData::new(view.data().to_vec(), shape)),
        other => Err(format!("holds a tensor of type {other:?}, expected F32 or U8")),
    }
}

fn digest(header: &Value, tensors: &Parameters) -> String {
    let mut hasher = Sha256::new();
    hasher.update(header.to_string().as_bytes());
    for (name, data) in tensors {
        hasher.update(name.as_bytes());
        hasher.update([0]);
        hasher.update(data.as_bytes());
    }
    hexadecimal(&hasher.finalize())
}

/// The file with the digest that its content has, where it can be parsed that far: what a forger would write.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn signed(bytes: &[u8]) -> Vec<u8> {
    let resign = || {
        let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
        let file = SafeTensors::deserialize(bytes).ok()?;
        let json = metadata.metadata().as_ref()?.get(METADATA_KEY)?;
        let mut envelope: Envelope = serde_json::from_str(json).ok()?;
        let tensors = file
            .iter()
            .map(|(name, view)| Some((name.to_owned(), data(&view).ok()?)))
            .collect::<Option<Parameters>>()?;
        envelope.digest = digest(&envelope.header, &tensors);
        let views = file.tensors();
        let json = serde_json::to_string(&envelope).ok()?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
        safetensors::serialize(views, Some(metadata)).ok()
    };
    resign().unwrap_or_else(|| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMAT: Format = Format { name: "rotnet-test", version: 3, hint: "write it again" };

    fn sample(values: Vec<f32>) -> Parameters {
        let count = values.len();
        let labels: Vec<u8> = (0..count).map(|index| index as u8).collect();
        Parameters::from([
            ("weight".to_owned(), TensorData::new(values, [count])),
            ("labels".to_owned(), TensorData::new(labels, [count])),
        ])
    }

    fn same(one: &Parameters, other: &Parameters) -> bool {
        digest(&Value::Null, one) == digest(&Value::Null, other)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec(any::<f32>(), 0..50)) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("x.safetensors");
            write(&path, &FORMAT, &"header", &sample(values.clone())).unwrap();
            let (header, tensors): (String, _) = read(&path, &FORMAT).unwrap();
            prop_assert_eq!(header, "header");
            prop_assert!(same(&tensors, &sample(values)));
        }

        #[test]
        fn any_change_of_a_byte_is_refused_or_harmless(position in 0usize..400, flip in 1u8..=255) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("x.safetensors");
            let original = sample((0..30).map(|n| n as f32).collect());
            write(&path, &FORMAT, &"header", &original).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            let position = position % bytes.len();
            bytes[position] ^= flip;
            if let Ok((header, tensors)) = parse::<Value>(&bytes, &FORMAT) {
                prop_assert_eq!(header, "header");
                prop_assert!(same(&tensors, &original));
            }
            prop_assert!(parse::<String>(&bytes[..position], &FORMAT).is_err());
        }
    }

    #[test]
    fn rejects_another_format_and_a_future_version() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.safetensors");
        write(&path, &Format { version: 4, ..FORMAT }, &"header", &sample(vec![1.0])).unwrap();
        let error = read::<String>(&path, &FORMAT).unwrap_err().to_string();
        assert!(error.contains("rotnet-test version 4, expected rotnet-test version 3"), "{error}");
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = ["a", "b"].map(|name| {
            let path = directory.path().join(name);
            write(&path, &FORMAT, &"header", &sample(vec![1.0, 2.0])).unwrap();
            fs::read(path).unwrap()
        });
        assert_eq!(bytes[0], bytes[1]);
    }
}
