//! Reading in one pass, checked against the digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use burn::tensor::TensorData;
use safetensors::tensor::{Dtype, Metadata};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{CHUNK, Envelope, Format, Layout, MAX_JSON, METADATA_KEY, PREFIX, begin_digest, in_order};
use crate::error::{Error, Result};
use crate::files::{PositionedFile, hexadecimal};
use crate::model::Parameters;

/// Reads what [`write`](super::write) wrote.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Checkpoint`] if it is cut short, changed, or of another format or
/// version.
pub fn read<H: DeserializeOwned>(path: &Path, format: &Format) -> Result<(H, Parameters)> {
    open(path, format, |_, _| true).map(|opened| (opened.content.header, opened.content.kept))
}

/// [`read`] of a file in memory, which errors call `path`.
///
/// # Errors
/// Those of [`read`].
pub fn read_in_memory<H: DeserializeOwned>(
    bytes: &[u8],
    path: &Path,
    format: &Format,
) -> Result<(H, Parameters)> {
    let content = parse(&mut &*bytes, bytes.len() as u64, format, |_, _| true);
    content.map(|content| (content.header, content.kept)).map_err(|problem| problem.at(path, format))
}

/// A file whose content matches its digest.
pub struct Opened<H> {
    /// Its content.
    pub content: Content<H>,
    /// For reading the rest; stays this file even if another takes its name.
    pub file: PositionedFile,
}

/// What a file holds.
pub struct Content<H> {
    /// The writer's header.
    pub header: H,
    /// Tensors kept in memory.
    pub kept: Parameters,
    /// Tensors left in the file.
    pub rest: BTreeMap<String, Place>,
}

/// A tensor in a file.
pub struct Place {
    /// Offset of its first byte.
    pub start: u64,
    /// Whether it holds f32 (else u8 or u16).
    pub floats: bool,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Reads a file once, in pieces, checks it, and keeps the tensors for which `keep` (of name and bytes) is true.
///
/// # Errors
/// Those of [`read`].
pub fn open<H: DeserializeOwned>(
    path: &Path,
    format: &Format,
    keep: impl Fn(&str, u64) -> bool,
) -> Result<Opened<H>> {
    let attempt = || -> Result<_, Problem> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let content = parse(&mut file, length, format, keep)?;
        Ok(Opened { content, file: file.into() })
    };
    attempt().map_err(|problem| problem.at(path, format))
}

/// Why a file is unusable.
#[derive(Debug)]
pub(super) enum Problem {
    Io(io::Error),
    Content(String),
}

impl Problem {
    fn at(self, path: &Path, format: &Format) -> Error {
        match self {
            Self::Io(error) => Error::io("read", path)(error),
            Self::Content(problem) => Error::checkpoint(path, problem, format.hint),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<String> for Problem {
    fn from(problem: String) -> Self {
        Self::Content(problem)
    }
}

fn damaged(error: impl std::fmt::Display) -> Problem {
    Problem::Content(format!("damaged or cut short ({error})"))
}

pub(super) fn parse<H: DeserializeOwned>(
    source: &mut impl Read,
    length: u64,
    format: &Format,
    keep: impl Fn(&str, u64) -> bool,
) -> Result<Content<H>, Problem> {
    let (start, envelope, layout) = parse_front(source, length)?;
    if envelope.format != format.name || envelope.version != format.version {
        return Err(Problem::Content(format!(
            "holds {} version {}, expected {} version {}",
            envelope.format, envelope.version, format.name, format.version
        )));
    }
    let mut hasher = begin_digest(&envelope.header, &layout);
    let (mut kept, mut rest) = (Parameters::new(), BTreeMap::new());
    for (name, info) in in_order(&layout) {
        let (from, to) = info.data_offsets;
        let (bytes, floats) = ((to - from) as u64, info.dtype == Dtype::F32);
        if !matches!(info.dtype, Dtype::F32 | Dtype::U16 | Dtype::U8) {
            let problem = format!("holds a tensor of type {}, expected F32, U16 or U8", info.dtype);
            return Err(problem.into());
        }
        let shape = info.shape.clone();
        if !keep(name, bytes) {
            each_chunk(source, bytes, |chunk| hasher.update(chunk))?;
            rest.insert(name.to_owned(), Place { start: start + from as u64, floats, shape });
            continue;
        }
        let data = match info.dtype {
            Dtype::F32 => TensorData::new(read_numbers(source, bytes, &mut hasher)?, shape),
            Dtype::U16 => TensorData::new(read_pairs(source, bytes, &mut hasher)?, shape),
            _ => TensorData::new(read_bytes(source, bytes, &mut hasher)?, shape),
        };
        kept.insert(name.to_owned(), data);
    }
    if hexadecimal(&hasher.finalize()) != envelope.digest {
        return Err(Problem::Content("damaged: its content does not match its digest".into()));
    }
    let header = serde_json::from_value(envelope.header)
        .map_err(|error| format!("its header is not understood: {error}"))?;
    Ok(Content { header, kept, rest })
}

/// The offset of the tensors' bytes, and their description.
pub(super) fn parse_front(source: &mut impl Read, length: u64) -> Result<(u64, Envelope, Layout), Problem> {
    let mut prefix = [0; PREFIX as usize];
    if length < PREFIX {
        return Err(damaged("no header"));
    }
    source.read_exact(&mut prefix)?;
    let json = u64::from_le_bytes(prefix);
    if json > MAX_JSON.min(length - PREFIX) {
        return Err(damaged("invalid length of the header"));
    }
    let start = PREFIX + json;
    let mut text = vec![0; json as usize];
    source.read_exact(&mut text)?;
    let metadata: Metadata = serde_json::from_slice(&text).map_err(damaged)?;
    if start + metadata.data_len() as u64 != length {
        return Err(damaged("its tensors do not fill the file"));
    }
    let envelope = metadata.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    let envelope = envelope.ok_or_else(|| "a safetensors file, but not written by rotnet".to_owned())?;
    let envelope = serde_json::from_str(envelope).map_err(damaged)?;
    let layout = metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
    Ok((start, envelope, layout))
}

fn each_chunk(source: &mut impl Read, bytes: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(bytes as usize)];
    let mut left = bytes as usize;
    while left > 0 {
        let chunk = &mut buffer[..CHUNK.min(left)];
        source.read_exact(chunk)?;
        take(chunk);
        left -= chunk.len();
    }
    Ok(())
}

fn read_numbers(source: &mut impl Read, bytes: u64, hasher: &mut Sha256) -> io::Result<Vec<f32>> {
    let mut numbers = Vec::with_capacity(bytes as usize / 4);
    each_chunk(source, bytes, |chunk| {
        hasher.update(chunk);
        let (chunks, _) = chunk.as_chunks();
        numbers.extend(chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)));
    })?;
    Ok(numbers)
}

fn read_bytes(source: &mut impl Read, bytes: u64, hasher: &mut Sha256) -> io::Result<Vec<u8>> {
    let mut all = Vec::with_capacity(bytes as usize);
    each_chunk(source, bytes, |chunk| {
        hasher.update(chunk);
        all.extend_from_slice(chunk);
    })?;
    Ok(all)
}

fn read_pairs(source: &mut impl Read, bytes: u64, hasher: &mut Sha256) -> io::Result<Vec<u16>> {
    let bytes = read_bytes(source, bytes, hasher)?;
    let (pairs, _) = bytes.as_chunks();
    Ok(pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect())
}
