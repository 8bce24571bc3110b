//! A file of decoded images, which is mapped rather than read, so that a data set may be larger than memory.
//!
//! ```text
//! pixels      image after image, size x size x 3 bytes, row by row with the channels last
//! record      JSON: what the file was made from, labels, digest of the pixels, what was left out
//! trailer     length of the record (u64, little-endian), its SHA-256, and the eight bytes of MAGIC
//! ```

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::dataset::Skipped;
use crate::data::images::{CHANNELS, Images, PixelBytes};
use crate::data::mapped::map;
use crate::files::hexadecimal;

const MAGIC: &[u8; 8] = b"rotnet\0i";
/// Bytes behind the record.
const TRAILER: usize = 8 + 32 + MAGIC.len();
/// Raised whenever the same image files would give other bytes.
pub const VERSION: u32 = 2;

/// What the file holds.
pub struct Cached {
    /// In the order of the entries, without those that were left out.
    pub images: Images,
    /// Number of images at the end that have no label.
    pub unlabeled: usize,
    /// SHA-256 over label and digest of every file.
    pub fingerprint: String,
    /// Number of files without an orientation tag, tagged upright, tagged turned.
    pub tags: [usize; 3],
    /// What was left out.
    pub skipped: Vec<Skipped>,
}

/// The record behind the pixels; see [`Cached`].
#[derive(Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub key: String,
    pub image_size: usize,
    pub labels: Vec<u16>,
    pub unlabeled: usize,
    /// SHA-256 of the pixels.
    pub pixels: String,
    pub fingerprint: String,
    pub tags: [usize; 3],
    pub skipped: Vec<Skipped>,
}

impl Record {
    /// What follows the pixels: the record and the trailer.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn ending(&self) -> serde_json::Result<Vec<u8>> {
        let record = serde_json::to_vec(self)?;
        let mut ending = record.clone();
        ending.extend((record.len() as u64).to_le_bytes());
        ending.extend(Sha256::digest(&record));
        ending.extend(MAGIC);
        Ok(ending)
    }
}

/// Opens the file that was made from what `key` stands for, and checks it.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path, key: &str) -> Result<Cached, String> {
    let mapped = PixelBytes::new(map(path).map_err(|error| error.to_string())?);
    let (content, trailer) =
        mapped.split_at_checked(mapped.len().wrapping_sub(TRAILER)).ok_or("is cut short")?;
    let (length, seal) = trailer.split_at(8);
    let length = u64::from_le_bytes(length.try_into().map_err(|_| "is cut short")?);
    let start = content.len().checked_sub(length as usize).ok_or("is cut short")?;
    let (pixels, record) = content.split_at(start);
    if &seal[32..] != MAGIC || seal[..32] != Sha256::digest(record)[..] {
        return Err("is damaged or cut short".into());
    }
    let record: Record =
        serde_json::from_slice(record).map_err(|error| format!("cannot be understood: {error}"))?;
    let images = record.labels.len();
    let values = record.image_size.saturating_mul(record.image_size).saturating_mul(CHANNELS);
    let expected = images.saturating_mul(values);
    if record.version != VERSION || record.key != key || pixels.len() != expected {
        return Err("does not hold what its name says".into());
    }
    if hexadecimal(&Sha256::digest(pixels)) != record.pixels {
        return Err("is damaged: its pixels do not match their digest".into());
    }
    Ok(Cached {
        images: Images {
            pixels: mapped.part(0..start),
            labels: record.labels,
            height: record.image_size,
            width: record.image_size,
        },
        unlabeled: record.unlabeled,
        fingerprint: record.fingerprint,
        tags: record.tags,
        skipped: record.skipped,
    })
}
