//! What a result depends on in addition to the config: program, processor, threads, device.

use serde::{Deserialize, Serialize};

use crate::device::DeviceName;
use crate::kernels::Precision;

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
    /// What the encoder's factors of products were rounded to; absent: nothing.
    #[serde(default, skip_serializing_if = "rounds_nothing")]
    pub precision: Precision,
    /// Number of threads.
    pub threads: usize,
    /// The device; the first one if several shared the training steps.
    pub device: DeviceName,
    /// The other devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_devices: Vec<DeviceName>,
}

fn rounds_nothing(precision: &Precision) -> bool {
    *precision == Precision::F32
}

impl Environment {
    /// The environment of the calling thread pool, which computes on `device` and on the further ones with that precision.
    pub fn current(device: &DeviceName, further_devices: &[DeviceName], precision: Precision) -> Self {
        Self {
            rotnet: VERSION.into(),
            source: Source::of_this_program(),
            processor: processor().unwrap_or_else(|| std::env::consts::ARCH.into()),
            kernels: crate::kernels::instruction_set().into(),
            precision,
            threads: rayon::current_num_threads(),
            device: device.clone(),
            further_devices: further_devices.to_vec(),
        }
    }

    /// The precision behind the name of the kernels, for messages.
    pub fn rounding(&self) -> &'static str {
        match self.precision {
            Precision::F32 => "",
            Precision::Bf16 => " in bf16",
        }
    }

    /// The names of all devices, for messages.
    pub fn devices(&self) -> String {
        let devices = std::iter::once(&self.device).chain(&self.further_devices);
        devices.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// Name of the processor, as the system tells it.
fn processor() -> Option<String> {
    let described = || processor_in(&std::fs::read_to_string("/proc/cpuinfo").ok()?);
    described().or_else(|| sysctl("machdep.cpu.brand_string"))
}

/// The name in Linux's `/proc/cpuinfo`, which on ARM has but the numbers of maker and design.
fn processor_in(description: &str) -> Option<String> {
    let value = |key: &str| {
        let line = description.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim())
    };
    if let Some(name) = value("model name") {
        return Some(name.to_owned());
    }
    let (maker, design) = (value("CPU implementer")?, value("CPU part")?);
    // Arm's own, from the main ID registers in its technical reference manuals.
    let name = match (maker, design) {
        ("0x41", "0xd03") => "Cortex-A53",
        ("0x41", "0xd08") => "Cortex-A72",
        ("0x41", "0xd0b") => "Cortex-A76",
        ("0x41", "0xd0c") => "Neoverse N1",
        ("0x41", "0xd40") => "Neoverse V1",
        ("0x41", "0xd49") => "Neoverse N2",
        ("0x41", "0xd4f") => "Neoverse V2",
        _ => return Some(format!("ARM processor, implementer {maker}, part {design}")),
    };
    Some(name.to_owned())
}

/// What macOS tells of itself under a name.
fn sysctl(name: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let output = std::process::Command::new("/usr/sbin/sysctl").args(["-n", name]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Number of processors of this machine, whichever this process may use; `None` if the system does not report it (all but
/// Linux).
pub fn processors() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    Some(text.lines().filter(|line| line.starts_with("processor")).count()).filter(|&count| count > 0)
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
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else {
        return sysctl("hw.memsize")?.parse().ok();
    };
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let total = kilobytes * 1024;
    // Within a container its own group is the root; `max` means no limit.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(total, |group| group.min(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_has_its_name_or_its_numbers() {
        let name = |text: &str| processor_in(text);
        assert_eq!(name("processor\t: 0\nmodel name\t: A 9\n").as_deref(), Some("A 9"));
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(name(arm).as_deref(), Some("Neoverse N1"));
        let unknown = name(&arm.replace("0xd0c", "0xfff"));
        assert_eq!(unknown.as_deref(), Some("ARM processor, implementer 0x41, part 0xfff"));
        assert_eq!(name("processor\t: 0\n"), None);
    }
}
