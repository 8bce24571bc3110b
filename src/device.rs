//! Devices by name: one type for the config, the command line and burn.

use burn::tensor::Device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A device that rotnet knows; whether this build has it, [`DeviceName::open`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceName {
    /// burn-flex with the kernels of this crate: the default, and the fastest on a CPU.
    Flex,
    /// burn-ndarray, in builds with the cargo feature `ndarray`.
    Ndarray,
}

impl DeviceName {
    /// The burn device of that name, without automatic differentiation.
    ///
    /// # Errors
    /// [`Device`](crate::Error::Device) if it is not compiled in, with the feature to switch on.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            Self::Ndarray => Ok(Device::ndarray()),
            #[cfg(not(feature = "ndarray"))]
            Self::Ndarray => Err(crate::error::Error::Device {
                device: "ndarray".into(),
                problem: "it is not compiled into this program".into(),
                hint: "build with `cargo build --release --features ndarray`".into(),
            }),
        }
    }
}
