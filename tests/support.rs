//! A temporary folder, the built binary, and a small data set in the official layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rand::{Rng, SeedableRng};
use serde_json::Value;

/// Bytes of a record: label, then 32x32 red, green, blue.
pub const RECORD: usize = 3_073;

/// A folder that goes away with the test.
pub struct Folder(tempfile::TempDir);

/// What a run of the binary left behind.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With `data/cifar-10-batches-bin` in it: 50 training and 20 test images of two-tone pictures.
    pub fn with_data() -> Self {
        let folder = Self::new();
        folder.write_data("data");
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write_data(&self, name: &str) {
        let directory = self.path(name).join("cifar-10-batches-bin");
        fs::create_dir_all(&directory).unwrap();
        for batch in 1..=5 {
            fs::write(directory.join(format!("data_batch_{batch}.bin")), records(batch, 10)).unwrap();
        }
        fs::write(directory.join("test_batch.bin"), records(6, 20)).unwrap();
    }

    /// Runs the binary in the folder; arguments are split at spaces.
    pub fn rotnet(&self, arguments: &str) -> Outcome {
        let output: Output = Command::new(env!("CARGO_BIN_EXE_rotnet"))
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .env_remove("ROTNET_DATA")
            .output()
            .unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs the binary, which must succeed.
    pub fn succeed(&self, arguments: &str) -> Outcome {
        let outcome = self.rotnet(arguments);
        assert_eq!(outcome.code, 0, "rotnet {arguments}\n{}", outcome.stderr);
        outcome
    }

    /// Runs the binary, which must fail with `code` and one line that holds every one of `parts`.
    pub fn refuse(&self, arguments: &str, code: i32, parts: &[&str]) {
        let outcome = self.rotnet(arguments);
        assert_eq!(outcome.code, code, "rotnet {arguments}\n{}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
        let errors: Vec<&str> = outcome.stderr.lines().filter(|l| l.starts_with("error:")).collect();
        let [error] = errors[..] else {
            panic!("rotnet {arguments}: expected one line of error, got\n{}", outcome.stderr);
        };
        assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Names of all files below a folder that look like leftovers of a write.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        files(self.0.path())
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "tmp"))
            .collect()
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Pictures that are brighter on top, in a colour that depends on the label, with noise.
fn records(seed: u64, count: usize) -> Vec<u8> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = Vec::with_capacity(count * RECORD);
    for index in 0..count {
        let label = (index % 10) as u8;
        bytes.push(label);
        for channel in 0..3u32 {
            for row in 0..32u32 {
                for _ in 0..32 {
                    let noise = random.next_u32() % 40;
                    let tint = (u32::from(label) * (channel + 3) * 7) % 60;
                    bytes.push((150 - 4 * row + noise + tint) as u8);
                }
            }
        }
    }
    bytes
}
