//! Names of devices, as the config, the command line and messages write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Name of a device to compute on. Whether this build and this machine have it, [`open()`](super::open) finds out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// burn-flex with the kernels of this crate: the default, and the fastest on a CPU.
    Flex,
    /// burn-ndarray, in builds with the cargo feature `ndarray`.
    Ndarray,
    /// A graphics card, or another adapter, of this machine.
    Gpu {
        /// Interface to it.
        engine: Engine,
        /// Which of the adapters.
        adapter: Adapter,
    },
    /// A device of a `rotnet worker` that listens on a websocket.
    WebSocket {
        /// `ws://host:port`.
        url: String,
        /// Its number among the worker's devices.
        index: usize,
    },
    /// A device of a `rotnet worker` that is addressed by its key.
    Iroh {
        /// The worker's public key, as it prints it.
        id: String,
        /// Its number among the worker's devices.
        index: usize,
    },
}

/// Interface to a graphics card; each is a cargo feature of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Engine {
    /// WebGPU's shading language over whatever graphics interface the machine has.
    Wgpu,
    /// Vulkan.
    Vulkan,
    /// Metal (macOS).
    Metal,
    /// CUDA (NVIDIA).
    Cuda,
    /// ROCm (AMD).
    Rocm,
}

/// One of several adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Adapter {
    /// The engine's first choice.
    First,
    /// By its number in `rotnet devices`.
    Number(usize),
    /// The engine's software renderer on the CPU.
    Cpu,
}

/// All forms of names, for messages.
pub const FORMS: &str = "flex, ndarray, wgpu[:n|:cpu], vulkan[:n], metal[:n], cuda[:n], rocm[:n], \
                         ws://host:port[/n] or iroh:ID[/n]";
/// Pattern of names, for the schema of the config.
const PATTERN: &str = "^(flex|ndarray|wgpu(:([0-9]+|cpu))?|(vulkan|metal|cuda|rocm)(:[0-9]+)?\
                       |ws://[^/]+:[0-9]+(/[0-9]+)?|iroh:[0-9A-Za-z]+(/[0-9]+)?)$";

impl Engine {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Wgpu, Self::Vulkan, Self::Metal, Self::Cuda, Self::Rocm];

    /// The name, and that of the cargo feature.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
        }
    }
}

impl DeviceName {
    /// The cargo feature that the device needs; `None` for `flex`.
    pub fn feature(&self) -> Option<&'static str> {
        match self {
            Self::Flex => None,
            Self::Ndarray => Some("ndarray"),
            Self::Gpu { engine, .. } => Some(engine.name()),
            Self::WebSocket { .. } | Self::Iroh { .. } => Some("remote"),
        }
    }

    /// Whether it computes on this process's processors.
    pub fn is_local_cpu(&self) -> bool {
        matches!(self, Self::Flex | Self::Ndarray)
    }

    /// Whether it belongs to another process.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::WebSocket { .. } | Self::Iroh { .. })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbered = |out: &mut fmt::Formatter<'_>, place: &str, index: usize| match index {
            0 => out.write_str(place),
            index => write!(out, "{place}/{index}"),
        };
        match self {
            Self::Flex => out.write_str("flex"),
            Self::Ndarray => out.write_str("ndarray"),
            Self::Gpu { engine, adapter } => match adapter {
                Adapter::First => out.write_str(engine.name()),
                Adapter::Number(number) => write!(out, "{}:{number}", engine.name()),
                Adapter::Cpu => write!(out, "{}:cpu", engine.name()),
            },
            Self::WebSocket { url, index } => numbered(out, url, *index),
            Self::Iroh { id, index } => numbered(out, &format!("iroh:{id}"), *index),
        }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for DeviceName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| format!("`{text}` is not a device; there are {FORMS}"))
    }
}

fn parse(text: &str) -> Option<DeviceName> {
    if let Some(place) = text.strip_prefix("ws://") {
        let (address, index) = split_index(place)?;
        let (host, port) = address.rsplit_once(':')?;
        let valid = !host.is_empty() && !host.contains(char::is_whitespace);
        port.parse::<u16>().ok().filter(|&port| valid && port != 0)?;
        return Some(DeviceName::WebSocket { url: format!("ws://{address}"), index });
    }
    if let Some(place) = text.strip_prefix("iroh:") {
        let (id, index) = split_index(place)?;
        let valid = !id.is_empty() && id.chars().all(|letter| letter.is_ascii_alphanumeric());
        return valid.then(|| DeviceName::Iroh { id: id.to_owned(), index });
    }
    let (kind, adapter) = match text.split_once(':') {
        None => (text, Adapter::First),
        Some(("wgpu", "cpu")) => ("wgpu", Adapter::Cpu),
        Some((kind, number)) => (kind, Adapter::Number(parse_index(number)?)),
    };
    match (kind, adapter) {
        ("flex", Adapter::First) => Some(DeviceName::Flex),
        ("ndarray", Adapter::First) => Some(DeviceName::Ndarray),
        _ => {
            let engine = Engine::ALL.into_iter().find(|engine| engine.name() == kind)?;
            Some(DeviceName::Gpu { engine, adapter })
        }
    }
}

fn split_index(place: &str) -> Option<(&str, usize)> {
    match place.split_once('/') {
        None | Some((_, "")) => Some((place.trim_end_matches('/'), 0)),
        Some((place, index)) => Some((place, parse_index(index)?)),
    }
}

/// Only digits: `usize` would also parse `+1`.
fn parse_index(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl JsonSchema for DeviceName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_it_was_written() {
        let forms = "flex ndarray wgpu wgpu:0 wgpu:cpu vulkan:1 metal cuda cuda:7 rocm:2 ws://a:3000 \
                     ws://10.0.0.2:3000/1 ws://[::1]:3000 iroh:ab12CD iroh:ab12/3";
        for form in forms.split_whitespace() {
            let name: DeviceName = form.parse().unwrap();
            assert_eq!(name.to_string(), form);
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<DeviceName>(&json).unwrap(), name, "{json}");
        }
        let first = DeviceName::WebSocket { url: "ws://a:3000".into(), index: 0 };
        for form in ["ws://a:3000/0", "ws://a:3000/"] {
            assert_eq!(form.parse(), Ok(first.clone()));
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_forms_there_are() {
        let forms = ",gpu,flex:0,flex:cpu,ndarray:1,cuda:cpu,cuda:,cuda:-1,cuda:+1,cuda:x,CUDA,wgpu:0:1,ws://,ws://a,\
                     ws://a:0,ws://a:99999,ws://:3000,ws://a:3000/x,ws://a b:3000,wss://a:3000,iroh:,iroh:a-b,\
                     iroh:ab/-1, flex";
        for form in forms.split(',') {
            let problem = form.parse::<DeviceName>().unwrap_err();
            assert!(problem.contains(&format!("`{form}`")) && problem.contains("ws://"), "{problem}");
        }
    }

    #[test]
    fn a_name_knows_its_feature() {
        let feature = |form: &str| form.parse::<DeviceName>().unwrap().feature();
        assert_eq!(feature("flex"), None);
        assert_eq!(feature("rocm:1"), Some("rocm"));
        assert_eq!(feature("ws://a:1"), Some("remote"));
        assert_eq!(feature("iroh:a"), Some("remote"));
    }
}
