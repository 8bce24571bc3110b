//! TensorBoard event files: the epochs of `metrics.jsonl` in TensorBoard's format.
//!
//! A file is a row of records in TFRecord framing (tensorflow/core/lib/io/record_writer.h): length (u64), its
//! masked CRC-32C, the bytes, their masked CRC-32C, all little-endian. The bytes are an `Event` protocol buffer
//! (tensorflow/core/util/event.proto): the first record names the version, each one after it holds an epoch.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::progress::EpochMetrics;

/// Name of the file; TensorBoard looks for `tfevents` in it.
pub const EVENT_FILE: &str = "events.out.tfevents.rotnet";

/// Bytes of a record besides its content: length and two checksums.
const FRAME: usize = 8 + 4 + 4;

/// An event file that grows epoch by epoch, readable at any moment.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Opens the file to continue after the epochs in `history`: their intact records stay, missing ones are added, and
    /// anything after them is cut off.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: PathBuf, history: &[EpochMetrics]) -> Result<Self> {
        let bytes = match path.exists() {
            true => fs::read(&path).map_err(Error::io("read", &path))?,
            false => Vec::new(),
        };
        let (kept, records) = whole_records(&bytes, history.len() + 1);
        let open = || -> std::io::Result<File> {
            let mut file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.set_len(kept as u64)?;
            file.seek(SeekFrom::End(0))?;
            if records == 0 {
                file.write_all(&record(&version()))?;
            }
            Ok(file)
        };
        let file = open().map_err(Error::io("write", &path))?;
        let mut events = Self { file, path };
        history.iter().skip(records.saturating_sub(1)).try_for_each(|metrics| events.push(metrics))?;
        Ok(events)
    }

    /// Adds an epoch: one scalar for every number of its metrics, at the step of its number.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn push(&mut self, metrics: &EpochMetrics) -> Result<()> {
        let record = record(&epoch(metrics));
        self.file.write_all(&record).map_err(Error::io("write", &self.path))
    }
}

/// Bytes and number of the leading intact records, at most `most` of them.
fn whole_records(bytes: &[u8], most: usize) -> (usize, usize) {
    let (mut end, mut records) = (0, 0);
    while records < most
        && let Some(length) = whole_record(&bytes[end..])
    {
        end += length;
        records += 1;
    }
    (end, records)
}

/// Bytes of the first record, if it is intact.
fn whole_record(bytes: &[u8]) -> Option<usize> {
    let length = bytes.first_chunk::<8>()?;
    let end = usize::try_from(u64::from_le_bytes(*length)).ok()?.checked_add(FRAME)?;
    let content = bytes.get(12..end.checked_sub(4)?)?;
    let sums = [bytes.get(8..12)?, bytes.get(end - 4..end)?];
    let expected = [checksum(length), checksum(content)];
    (sums == [&expected[0], &expected[1]]).then_some(end)
}

fn record(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&length, &checksum(&length)[..], content, &checksum(content)].concat()
}

/// The masked CRC-32C of tensorflow/core/lib/hash/crc32c.h.
fn checksum(bytes: &[u8]) -> [u8; 4] {
    const MASK: u32 = 0xa282_ead8;
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK).to_le_bytes()
}

/// `Event { wall_time, file_version }`.
fn version() -> Vec<u8> {
    let mut event = wall_time();
    bytes_field(&mut event, 3, b"brain.Event:2");
    event
}

/// `Event { wall_time, step, summary: Summary { value: [Value { tag, simple_value }, ...] } }`.
fn epoch(metrics: &EpochMetrics) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, number) in scalars(metrics) {
        let mut value = Vec::new();
        bytes_field(&mut value, 1, tag.as_bytes());
        value.push(2 << 3 | FIXED32);
        value.extend((number as f32).to_le_bytes());
        bytes_field(&mut summary, 1, &value);
    }
    let mut event = wall_time();
    event.push(2 << 3 | VARINT);
    varint(&mut event, metrics.epoch as u64);
    bytes_field(&mut event, 5, &summary);
    event
}

/// The numbers of an epoch by their names in `metrics.jsonl`.
fn scalars(metrics: &EpochMetrics) -> Vec<(String, f64)> {
    let Ok(Value::Object(keys)) = serde_json::to_value(metrics) else {
        return Vec::new();
    };
    let numbers = keys.into_iter().filter(|(key, _)| key != "epoch");
    numbers.filter_map(|(key, value)| Some((key, value.as_f64()?))).collect()
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

fn wall_time() -> Vec<u8> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    [&[1 << 3 | FIXED64][..], &seconds.to_le_bytes()].concat()
}

fn bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | BYTES);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(epoch: usize) -> EpochMetrics {
        serde_json::from_value(serde_json::json!({
            "epoch": epoch, "loss": 1.5, "accuracy": 0.25, "learning_rate": 0.1, "images_per_second": 100.0, "seconds": 2.0
        }))
        .unwrap()
    }

    fn history(epochs: usize) -> Vec<EpochMetrics> {
        (1..=epochs).map(metrics).collect()
    }

    #[test]
    fn framing_is_that_of_tensorflow() {
        // The first record of a file that tf.summary.create_file_writer (TensorFlow 2.21) wrote: 24 bytes of
        // content, whose length has this masked checksum.
        assert_eq!(checksum(&24_u64.to_le_bytes()), [0xa3, 0x7f, 0x4b, 0x22]);
        let mut numbers = Vec::new();
        varint(&mut numbers, 300);
        assert_eq!(numbers, [0xac, 0x02]);
        let record = record(b"abc");
        assert_eq!(whole_record(&record), Some(3 + FRAME));
        for position in 0..record.len() {
            let mut damaged = record.clone();
            damaged[position] ^= 1;
            assert_eq!(whole_record(&damaged), None, "byte {position}");
            assert_eq!(whole_record(&record[..position]), None);
        }
    }

    #[test]
    fn a_resumed_file_keeps_the_records_of_its_epochs_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(EVENT_FILE);
        let mut events = EventFile::open(path.clone(), &[]).unwrap();
        history(3).iter().for_each(|metrics| events.push(metrics).unwrap());
        let three = fs::read(&path).unwrap();
        assert_eq!(whole_records(&three, 99), (three.len(), 4));

        // Stopped within the record of epoch 3, and the checkpoint is of epoch 2.
        fs::write(&path, &three[..three.len() - 5]).unwrap();
        drop(EventFile::open(path.clone(), &history(2)).unwrap());
        let two = fs::read(&path).unwrap();
        assert_eq!(whole_records(&two, 99), (two.len(), 3));
        assert!(three.starts_with(&two));

        // Switched on after two epochs; damaged from the first byte on.
        for before in [None, Some(b"no event file".as_slice())] {
            fs::remove_file(&path).unwrap();
            before.into_iter().for_each(|bytes| fs::write(&path, bytes).unwrap());
            drop(EventFile::open(path.clone(), &history(2)).unwrap());
            let bytes = fs::read(&path).unwrap();
            assert_eq!(whole_records(&bytes, 99), (bytes.len(), 3));
        }
    }
}
