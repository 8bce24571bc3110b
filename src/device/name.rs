//! Names of devices, as the config, the command line and messages write them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Where tensors may live. A name says nothing about this build or this machine; [`open()`](super::open) does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// burn-flex with the kernels of this crate: the default, and the fastest on a CPU.
    Flex,
    /// burn-ndarray, in builds with the cargo feature `ndarray`.
    Ndarray,
    /// A device of a `rotnet worker` that listens on a websocket.
    WebSocket {
        /// `ws://host:port`.
        url: String,
        /// Its number among the worker's devices.
        index: usize,
    },
    /// A device of a `rotnet worker` that is reached by its key.
    Iroh {
        /// The worker's public key, as it prints it.
        id: String,
        /// Its number among the worker's devices.
        index: usize,
    },
}

/// All names, for messages.
pub const FORMS: &str = "flex, ndarray, ws://host:port[/n] or iroh:ID[/n]";
/// Kinds of devices that burn has and this version has not.
const LATER: [&str; 5] = ["wgpu", "vulkan", "metal", "cuda", "rocm"];
/// What a name must match, for the schema of the config.
const PATTERN: &str = "^(flex|ndarray|ws://[^/]+:[0-9]+(/[0-9]+)?|iroh:[0-9A-Za-z]+(/[0-9]+)?)$";

impl DeviceName {
    /// The cargo feature that a build needs to have the device; `flex` needs none.
    pub fn feature(&self) -> Option<&'static str> {
        match self {
            Self::Flex => None,
            Self::Ndarray => Some("ndarray"),
            Self::WebSocket { .. } | Self::Iroh { .. } => Some("remote"),
        }
    }

    /// Whether it computes with the processors of this process.
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
        parse(text).ok_or_else(|| match text.split(':').next() {
            Some(kind) if LATER.contains(&kind) => {
                format!("`{text}` is not in this version; there are {FORMS}")
            }
            _ => format!("`{text}` is no device; there are {FORMS}"),
        })
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
    match text {
        "flex" => Some(DeviceName::Flex),
        "ndarray" => Some(DeviceName::Ndarray),
        _ => None,
    }
}

fn split_index(place: &str) -> Option<(&str, usize)> {
    match place.split_once('/') {
        None | Some((_, "")) => Some((place.trim_end_matches('/'), 0)),
        Some((place, index)) => Some((place, parse_index(index)?)),
    }
}

/// Digits alone: `usize` itself would take `+1` too.
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
        let forms = "flex ndarray ws://a:3000 ws://10.0.0.2:3000/1 ws://[::1]:3000 iroh:ab12CD iroh:ab12/3";
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
        let forms = ",gpu,flex:0,flex:cpu,ndarray:1,CUDA,ws://,ws://a,ws://a:0,ws://a:99999,ws://:3000,ws://a:3000/x,\
                     ws://a b:3000,wss://a:3000,iroh:,iroh:a-b,iroh:ab/-1, flex";
        for form in forms.split(',') {
            let problem = form.parse::<DeviceName>().unwrap_err();
            assert!(
                problem.contains(&format!("`{form}` is no device")) && problem.contains("ndarray"),
                "{problem}"
            );
        }
    }

    #[test]
    fn kinds_that_may_come_are_said_not_to_be_here_yet() {
        for form in ["wgpu:cpu", "vulkan", "metal", "cuda:1", "rocm"] {
            let problem = form.parse::<DeviceName>().unwrap_err();
            assert!(problem.contains(&format!("`{form}` is not in this version")), "{problem}");
        }
    }

    #[test]
    fn a_name_knows_its_feature() {
        let feature = |form: &str| form.parse::<DeviceName>().unwrap().feature();
        assert_eq!(feature("flex"), None);
        assert_eq!(feature("ndarray"), Some("ndarray"));
        assert_eq!(feature("ws://a:1"), Some("remote"));
        assert_eq!(feature("iroh:a"), Some("remote"));
    }
}
