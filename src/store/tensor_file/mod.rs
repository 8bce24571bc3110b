//! Safetensors files that describe and check themselves, written and read as streams.
//!
//! Every checkpoint and every feature file is a safetensors file (<https://github.com/huggingface/safetensors>)
//! whose metadata has one key, `rotnet`, with a JSON document: `format`, `version` (of that format), `digest`
//! (SHA-256 over the header, over name, type, shape and place of all tensors in alphabetical order, and over all bytes
//! behind the JSON) and the writer's own `header`.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

#[cfg(any(test, feature = "fuzzing"))]
use crate::files::hexadecimal;

pub use reader::{Content, Opened, open, read, read_in_memory};
pub use writer::{Writer, dtype, write};

const METADATA_KEY: &str = "rotnet";
/// Bytes in front of the JSON, which hold its length.
const PREFIX: u64 = 8;
/// Longest JSON, the limit of the safetensors crate.
const MAX_JSON: u64 = 100_000_000;
/// Bytes read, and numbers converted, at a time; large enough that calls cost nothing beside hashing.
const CHUNK: usize = 1 << 18;
/// Placeholder of the same length until the digest is known.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

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
    /// Increased with every change that an older program would misread.
    pub version: u32,
    /// What to do about an unusable file.
    pub hint: &'static str,
}

/// Tensors by name, as stored in a file.
type Layout = BTreeMap<String, TensorInfo>;

/// Where tensors lie, as the safetensors crate lays them out (by type, the widest first, then by name), and how long
/// they are together.
fn lay_out(mut entries: Vec<(String, Dtype, Vec<usize>)>) -> (Layout, usize) {
    entries.sort_by(|one, other| (Reverse(one.1), &one.0).cmp(&(Reverse(other.1), &other.0)));
    let mut end = 0;
    let place = |(name, dtype, shape): (String, Dtype, Vec<usize>)| {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name, TensorInfo { dtype, shape, data_offsets: (start, end) })
    };
    (entries.into_iter().map(place).collect(), end)
}

/// In the order of their bytes; those without bytes by type and name.
fn in_order(layout: &Layout) -> Vec<(&str, &TensorInfo)> {
    let mut order: Vec<_> = layout.iter().map(|(name, info)| (name.as_str(), info)).collect();
    order.sort_by_key(|(name, info)| (info.data_offsets, Reverse(info.dtype), *name));
    order
}

/// Everything in front of the tensors' bytes; its length does not depend on the digest.
fn front(envelope: &Envelope, layout: &Layout) -> Result<Vec<u8>, String> {
    let text = serde_json::to_string(envelope).map_err(|error| error.to_string())?;
    let metadata = HashMap::from([(METADATA_KEY.to_owned(), text)]);
    let tensors = in_order(layout).into_iter().map(|(name, info)| (name.to_owned(), info.clone()));
    let metadata = Metadata::new(Some(metadata), tensors.collect()).map_err(|error| error.to_string())?;
    let mut json = serde_json::to_string(&metadata).map_err(|error| error.to_string())?.into_bytes();
    json.resize(json.len().next_multiple_of(PREFIX as usize), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}

fn begin_digest(header: &Value, layout: &Layout) -> Sha256 {
    let layout = serde_json::to_value(layout).unwrap_or_default();
    Sha256::new().chain_update(header.to_string()).chain_update(layout.to_string())
}

/// The file with the correct digest, if it can be parsed that far: what a forger would write.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn signed(bytes: &[u8]) -> Vec<u8> {
    let resign = || {
        let (start, mut envelope, layout) = reader::parse_front(&mut &*bytes, bytes.len() as u64).ok()?;
        let data = &bytes[start as usize..];
        let digest = begin_digest(&envelope.header, &layout).chain_update(data);
        envelope.digest = hexadecimal(&digest.finalize());
        Some([&front(&envelope, &layout).ok()?, data].concat())
    };
    resign().unwrap_or_else(|| bytes.to_vec())
}
