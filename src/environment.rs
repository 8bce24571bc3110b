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
    /// The device.
    pub device: DeviceName,
}

impl Environment {
    /// The environment of the calling thread pool.
    pub fn current(device: DeviceName) -> Self {
        Self {
            rotnet: env!("CARGO_PKG_VERSION").into(),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.into()),
            kernels: crate::kernels::instruction_set().into(),
            threads: rayon::current_num_threads(),
            device,
        }
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
