//! What a result depends on besides the config: program, processor, threads, device.

use serde::{Deserialize, Serialize};

use crate::device::DeviceName;

/// Recorded with every run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of the program.
    pub rotnet: String,
    /// Name of the processor, as the system tells it.
    pub processor: String,
    /// Instruction set that the kernels use.
    pub kernels: String,
    /// Threads computed with.
    pub threads: usize,
    /// The device, the first one where several shared the steps of training.
    pub device: DeviceName,
    /// The others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_devices: Vec<DeviceName>,
}

impl Environment {
    /// The environment of the calling thread pool, which computes on `device` and on the further ones.
    pub fn current(device: &DeviceName, further_devices: &[DeviceName]) -> Self {
        Self {
            rotnet: env!("CARGO_PKG_VERSION").into(),
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

/// Largest resident memory of this process so far, in bytes, where the system tells it (Linux).
pub fn peak_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Memory that this process may take, in bytes: the machine's, or what its control group (a container) allows; absent
/// where the system does not tell it.
pub fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let total = kilobytes * 1024;
    // Within a container its own group is the root; `max` is no number.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(total, |group| group.min(total)))
}
