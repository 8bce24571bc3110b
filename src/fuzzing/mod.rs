//! What hostile bytes can reach, a function a format: for the targets in `fuzz/`, and for a loop of mutations in the
//! tests, which needs no fuzzer. None may panic, hang, or take memory beyond what the limits of the format explain.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::{self, Overrides};
use crate::data::{RECORD, TEST_FILE, decode, load_test, unpack};
use crate::device::{self, DeviceName};
use crate::store::checkpoint::{Checkpoint, DatasetLabel};
use crate::store::features::{Features, Origin};
use crate::store::networks::load_encoder;
use crate::store::tensor_file::signed;

/// A config file.
pub fn config(bytes: &[u8], _: &Path) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = config::resolve(text, "fuzz", &Overrides::default());
    }
}

/// A checkpoint or a file of features, in the directory `scratch`; as it is, and with a digest that fits.
pub fn tensor_file(bytes: &[u8], scratch: &Path) {
    let path = scratch.join("x.safetensors");
    for bytes in [bytes, &signed(bytes)] {
        if fs::write(&path, bytes).is_ok() {
            let _ = Checkpoint::load(&path);
            let _ = device::open(&DeviceName::Flex).and_then(|device| load_encoder(&device, path.clone()));
            let _ = Features::load(&path, &origin(), CLASSES);
        }
    }
}

const CLASSES: usize = 10;

/// The origin of the features among the seeds.
fn origin() -> Origin {
    Origin {
        checkpoint: "c".into(),
        dataset: DatasetLabel { name: "n".into(), fingerprint: "f".into() },
        layer: "dense".into(),
    }
}

/// A file in CIFAR-10's binary layout, in the directory `scratch`.
pub fn cifar(bytes: &[u8], scratch: &Path) {
    if fs::write(scratch.join(TEST_FILE), bytes).is_ok() {
        let _ = load_test(scratch);
    }
}

/// An archive whose files have two records, unpacked in the directory `scratch`; as it is, and as the content of a gzip
/// file, which gets past the checksum.
pub fn archive(bytes: &[u8], scratch: &Path) {
    let path = scratch.join("x.tar.gz");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    let compressed = encoder.write_all(bytes).and_then(|()| encoder.finish()).unwrap_or_default();
    for bytes in [bytes, &compressed] {
        if fs::write(&path, bytes).is_ok() {
            let _ = unpack(&path, scratch, 2 * RECORD as u64);
        }
    }
}

/// An image file; the decoders are called without what keeps their panics from the user.
pub fn image(bytes: &[u8], _: &Path) {
    for side in [None, Some(1)] {
        if let Ok(photo) = decode(bytes, side) {
            let _ = photo.square(32);
        }
    }
}

#[cfg(test)]
mod tests;
