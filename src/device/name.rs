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
}

/// All names, for messages.
pub const FORMS: &str = "flex, and ndarray in a build with that feature";
/// Kinds of devices that burn has and this version has not.
const LATER: [&str; 7] = ["wgpu", "vulkan", "metal", "cuda", "rocm", "ws", "iroh"];

impl fmt::Display for DeviceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
        })
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
        match (text, text.split(':').next()) {
            ("flex", _) => Ok(Self::Flex),
            ("ndarray", _) => Ok(Self::Ndarray),
            (_, Some(kind)) if LATER.contains(&kind) => {
                Err(format!("`{text}` is not in this version; there are {FORMS}"))
            }
            _ => Err(format!("`{text}` is no device; there are {FORMS}")),
        }
    }
}

impl JsonSchema for DeviceName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["flex", "ndarray"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_it_was_written() {
        for name in ["flex", "ndarray"] {
            let device: DeviceName = name.parse().unwrap();
            assert_eq!(device.to_string(), name);
            let json = serde_json::to_string(&device).unwrap();
            assert_eq!(serde_json::from_str::<DeviceName>(&json).unwrap(), device, "{json}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_forms_there_are() {
        let forms = ",gpu,flex:0,flex:cpu,ndarray:1,FLEX,wss://a:3000, flex";
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
        for form in ["wgpu:cpu", "vulkan", "metal", "cuda:1", "rocm", "ws://a:3000", "iroh:ab12"] {
            let problem = form.parse::<DeviceName>().unwrap_err();
            assert!(problem.contains(&format!("`{form}` is not in this version")), "{problem}");
        }
    }
}
