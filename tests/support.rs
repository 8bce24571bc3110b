//! A temporary folder, the built binary, and a small data set in the official layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use serde_json::Value;

/// Bytes of a record: label, then 32x32 red, green, blue.
pub const RECORD: usize = 3_073;

/// A folder that goes away with the test.
pub struct Folder(tempfile::TempDir);

/// The binary at work.
pub struct Running(Child);

impl Running {
    /// Sends a signal by name (`INT`, `TERM`, `KILL`).
    pub fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.unwrap().success());
    }

    /// The number of the process.
    #[cfg(feature = "mpi")]
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The first line of standard output, once it is there.
    #[cfg(feature = "remote")]
    pub fn first_line(&mut self) -> String {
        use std::io::{BufRead, BufReader};
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for a file, which the binary is to write.
    pub fn wait_for(&mut self, path: &Path) {
        while !path.exists() {
            assert!(self.0.try_wait().unwrap().is_none(), "ended before {path:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the end, but not longer than `limit`.
    pub fn ends_within(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            if start.elapsed() >= limit {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Waits for the end.
    pub fn finish(self) -> Outcome {
        let output: Output = self.0.wait_with_output().unwrap();
        Outcome {
            code: output.status.code().unwrap_or(KILLED),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Stands for the exit status of a process that a signal ended.
pub const KILLED: i32 = -1;

/// Files that must not depend on anything but config, seed and data.
pub const DETERMINISTIC: [&str; 6] = [
    "pretrain/checkpoint.safetensors",
    "features/train.safetensors",
    "features/test.safetensors",
    "features/manifest.json",
    "finetune/checkpoint.safetensors",
    "finetune/predictions.safetensors",
];
/// Files that must not either, apart from the times in them.
const TIMED: [&str; 5] = [
    "pretrain/metrics.jsonl",
    "pretrain/summary.json",
    "features/summary.json",
    "finetune/metrics.jsonl",
    "finetune/summary.json",
];

/// Two runs ended with the same bytes, times aside.
pub fn assert_same_results(folder: &Folder, one: &str, other: &str) {
    for file in DETERMINISTIC {
        let (a, b) = (format!("{one}/{file}"), format!("{other}/{file}"));
        assert!(folder.read(&a) == folder.read(&b), "{a} and {b} differ");
    }
    for file in TIMED {
        // A head that is solved leaves no metrics.
        let there = |run: &&str| folder.path(&format!("{run}/{file}")).exists();
        let documents = |run: &str| folder.without_times(&format!("{run}/{file}"));
        let [a, b] = [one, other].map(|run| Some(run).filter(there).map(documents));
        assert_eq!(a, b, "{file} of {one} and {other}");
    }
}

/// Writes `cifar-10-batches-bin` with 50 training and 20 test images into a folder.
pub fn write_records(folder: &Path) {
    let directory = folder.join("cifar-10-batches-bin");
    fs::create_dir_all(&directory).unwrap();
    for batch in 1..=5 {
        fs::write(directory.join(format!("data_batch_{batch}.bin")), records(batch, 10)).unwrap();
    }
    fs::write(directory.join("test_batch.bin"), records(6, 20)).unwrap();
}

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
        write_records(&self.path(name));
    }

    /// Runs the binary in the folder; arguments are split at spaces.
    pub fn rotnet(&self, arguments: &str) -> Outcome {
        self.start(arguments).finish()
    }

    /// Starts the binary in the folder.
    pub fn start(&self, arguments: &str) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rotnet"));
        command.args(arguments.split_whitespace());
        self.spawn(&mut command)
    }

    /// Runs a shell script in the folder, in which `$ROTNET` is the binary.
    pub fn shell(&self, script: &str) -> Outcome {
        self.spawn(Command::new("sh").args(["-ec", script])).finish()
    }

    /// Starts a command in the folder.
    pub fn spawn(&self, command: &mut Command) -> Running {
        let child = command
            .current_dir(self.0.path())
            .env("ROTNET", env!("CARGO_BIN_EXE_rotnet"))
            .env_remove("ROTNET_DATA")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running(child)
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

    /// The JSON documents in a file, one a line or one in all, without wall times and what follows from them.
    pub fn without_times(&self, name: &str) -> Vec<Value> {
        let bytes = self.read(name);
        let documents = serde_json::Deserializer::from_slice(&bytes).into_iter();
        let mut documents: Vec<Value> = documents.collect::<Result<_, _>>().unwrap();
        documents.iter_mut().for_each(remove_times);
        documents
    }

    /// Names of all files below a folder that look like leftovers of a write.
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        files(self.0.path())
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "tmp"))
            .collect()
    }
}

fn remove_times(document: &mut Value) {
    match document {
        Value::Object(map) => {
            map.retain(|key, _| key != "seconds" && key != "images_per_second");
            map.values_mut().for_each(remove_times);
        }
        Value::Array(list) => list.iter_mut().for_each(remove_times),
        _ => {}
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
