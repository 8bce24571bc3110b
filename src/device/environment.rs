//! What a result depends on in addition to the config: program, processor, threads, device.

use serde::{Deserialize, Serialize};

use crate::device::DeviceName;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a program was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The commit, in hexadecimal.
    pub commit: String,
    /// Whether the sources were unchanged since the commit.
    pub clean: bool,
}

impl Source {
    /// What this program was built from; `None` for a build without a repository.
    pub fn of_this_program() -> Option<Self> {
        let commit = option_env!("ROTNET_COMMIT")?;
        Some(Self { commit: commit.into(), clean: option_env!("ROTNET_CHANGED").is_none() })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changed = if self.clean { "" } else { ", changed" };
        write!(out, "commit {}{changed}", self.commit.get(..12).unwrap_or(&self.commit))
    }
}

/// Recorded with every run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the program.
    pub rotnet: String,
    /// The commit that it was built from; absent if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Name of the processor, as reported by the system.
    pub processor: String,
    /// Instruction set that the kernels use.
    pub kernels: String,
    /// Number of threads.
    pub threads: usize,
    /// The device; the first one if several shared the training steps.
    pub device: DeviceName,
    /// The other devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_devices: Vec<DeviceName>,
}

impl Environment {
    /// The environment of the calling thread pool, which computes on `device` and on the further ones.
    pub fn current(device: &DeviceName, further_devices: &[DeviceName]) -> Self {
        Self {
            rotnet: VERSION.into(),
            source: Source::of_this_program(),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.into()),
            kernels: crate::kernels::instruction_set().into(),
            threads: rayon::current_num_threads(),
            device: device.clone(),
            further_devices: further_devices.to_vec(),
        }
    }

    /// The names of all devices, for messages.
    pub fn devices(&self) -> String {
        let devices = std::iter::once(&self.device).chain(&self.further_devices);
        devices.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Largest resident memory of this process so far, in bytes; `None` if the system does not report it (all but Linux).
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Memory that this process may use, in bytes: the machine's, or the limit of its control group (a container); `None`
/// if the system does not report it.
pub fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let total = kilobytes * 1024;
    // Within a container its own group is the root; `max` means no limit.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(total, |group| group.min(total)))
}
