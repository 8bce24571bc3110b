//! Safetensors files that describe and check themselves, written and read as streams.
//!
//! Every checkpoint and every feature file is a safetensors file (<https://github.com/huggingface/safetensors>)
//! whose metadata has one key, `rotnet`, with a JSON document: `format`, `version` (of that format), `digest`
//! (SHA-256 over the header, over name, type, shape and place of all tensors in alphabetical order, and over all bytes
//! behind the JSON) and the writer's own `header`.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use burn::tensor::{DType, TensorData};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files::{AtomicFile, PositionedFile, hexadecimal};
use crate::model::Parameters;

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

/// Writes tensors and header, whole or not at all. The same content gives the same bytes.
pub fn write(path: &Path, format: &Format, header: &impl Serialize, tensors: &Parameters) -> Result<()> {
    let unusable = |problem: String| Error::checkpoint(path, problem, format.hint);
    let entry =
        |(name, data): (&String, &TensorData)| Ok((name.clone(), dtype(data)?, data.shape().to_vec()));
    let entries = tensors.iter().map(entry).collect::<Result<_, String>>().map_err(unusable)?;
    let mut writer = Writer::create(path, format, header, entries)?;
    for name in writer.order() {
        match tensors[&name].as_slice::<f32>() {
            Ok(numbers) => writer.put_numbers(numbers)?,
            Err(_) => writer.put(tensors[&name].as_bytes())?,
        }
    }
    writer.finish()
}

/// A file of tensors that is written in pieces, whole or not at all.
pub struct Writer {
    out: AtomicFile,
    envelope: Envelope,
    layout: Layout,
    hasher: Sha256,
    /// Bytes of tensors still to come.
    left: u64,
    hint: &'static str,
}

impl Writer {
    /// Begins a file of tensors with these names, types and shapes.
    pub fn create(
        path: &Path,
        format: &Format,
        header: &impl Serialize,
        entries: Vec<(String, Dtype, Vec<usize>)>,
    ) -> Result<Self> {
        let unusable = |problem: String| Error::checkpoint(path, problem, format.hint);
        let header = serde_json::to_value(header).map_err(|error| unusable(error.to_string()))?;
        let (layout, length) = lay_out(entries);
        let hasher = begin_digest(&header, &layout);
        let envelope = Envelope {
            format: format.name.into(),
            version: format.version,
            digest: NO_DIGEST.into(),
            header,
        };
        let front = front(&envelope, &layout).map_err(unusable)?;
        let mut out = AtomicFile::create(path)?;
        out.write_all(&front).map_err(Error::io("write", path))?;
        Ok(Self { out, envelope, layout, hasher, left: length as u64, hint: format.hint })
    }

    /// The names of the tensors in the order in which their bytes must come.
    fn order(&self) -> Vec<String> {
        in_order(&self.layout).into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    /// Writes the next bytes of the tensors, which are ordered by type (F32 before U16 before U8), then by name.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => left,
            None => return Err(self.misfit("was given more bytes than its tensors have")),
        };
        self.hasher.update(bytes);
        let written = self.out.write_all(bytes);
        written.map_err(Error::io("write", self.out.path()))
    }

    /// [`put`](Self::put) of numbers. What is no number is written as one and the same NaN: processors differ in its bits.
    pub fn put_numbers(&mut self, numbers: &[f32]) -> Result<()> {
        let mut bytes = Vec::with_capacity(CHUNK.min(4 * numbers.len()));
        for numbers in numbers.chunks(CHUNK / 4) {
            bytes.clear();
            bytes.extend(numbers.iter().flat_map(|&number| canonical(number).to_le_bytes()));
            self.put(&bytes)?;
        }
        Ok(())
    }

    /// Fills in the digest and gives the file its name.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] if bytes are missing. An existing file stays as it is.
    pub fn finish(mut self) -> Result<()> {
        if self.left > 0 {
            return Err(self.misfit("was given fewer bytes than its tensors have"));
        }
        let Self { mut out, mut envelope, layout, hasher, hint, .. } = self;
        envelope.digest = hexadecimal(&hasher.finalize());
        let front = front(&envelope, &layout);
        let front = front.map_err(|problem| Error::checkpoint(out.path(), problem, hint))?;
        let written = out.seek(SeekFrom::Start(0)).and_then(|_| out.write_all(&front));
        written.map_err(Error::io("write", out.path()))?;
        out.commit()
    }

    fn misfit(&mut self, problem: &str) -> Error {
        Error::checkpoint(self.out.path(), problem, self.hint)
    }
}

fn canonical(number: f32) -> f32 {
    if number.is_nan() { f32::NAN } else { number }
}

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

/// Reads what [`write`] wrote.
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
enum Problem {
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

fn parse<H: DeserializeOwned>(
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
fn parse_front(source: &mut impl Read, length: u64) -> Result<(u64, Envelope, Layout), Problem> {
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

/// How a tensor is stored.
///
/// # Errors
/// That tensors of its type are not.
pub fn dtype(data: &TensorData) -> Result<Dtype, String> {
    match data.dtype() {
        DType::F32 => Ok(Dtype::F32),
        DType::U8 => Ok(Dtype::U8),
        DType::U16 => Ok(Dtype::U16),
        other => Err(format!("tensors of type {other:?} are not stored")),
    }
}

/// The file with the correct digest, if it can be parsed that far: what a forger would write.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn signed(bytes: &[u8]) -> Vec<u8> {
    let resign = || {
        let (start, mut envelope, layout) = parse_front(&mut &*bytes, bytes.len() as u64).ok()?;
        let data = &bytes[start as usize..];
        let digest = begin_digest(&envelope.header, &layout).chain_update(data);
        envelope.digest = hexadecimal(&digest.finalize());
        Some([&front(&envelope, &layout).ok()?, data].concat())
    };
    resign().unwrap_or_else(|| bytes.to_vec())
}
