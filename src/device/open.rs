//! From names to burn's devices.

use burn::tensor::Device;

use super::DeviceName;
use crate::error::{Error, Result};

/// The burn device of that name, without automatic differentiation.
///
/// # Errors
/// [`Device`](crate::Error::Device) if it is not in this build, with the feature to switch on; if no worker offers it,
/// with what went wrong; or if it cannot compute.
pub fn open(name: &DeviceName) -> Result<Device> {
    #[allow(unreachable_patterns, reason = "a build with all features knows every device")]
    match name {
        DeviceName::Flex => Ok(Device::flex()),
        #[cfg(feature = "ndarray")]
        DeviceName::Ndarray => Ok(Device::ndarray()),
        #[cfg(feature = "remote")]
        DeviceName::WebSocket { .. } | DeviceName::Iroh { .. } => super::remote::open(name),
        _ => Err(not_built(name)),
    }
}

/// Whether a device computes with the processors of this process.
pub fn computes_here(device: &Device) -> bool {
    #[cfg(feature = "ndarray")]
    if *device == Device::ndarray() {
        return true;
    }
    *device == Device::flex()
}

fn not_built(name: &DeviceName) -> Error {
    Error::Device {
        device: name.to_string(),
        problem: "it is not compiled into this program".into(),
        hint: match name.feature() {
            Some(feature) => format!("build with `cargo build --release --features {feature}`"),
            None => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_build_or_this_machine_lacks_is_refused_and_nothing_panics() {
        for (text, feature, built) in [
            ("ndarray", "ndarray", cfg!(feature = "ndarray")),
            ("ws://127.0.0.1:1", "remote", cfg!(feature = "remote")),
        ] {
            let outcome = open(&text.parse().unwrap());
            if built {
                assert!(outcome.is_ok() || feature == "remote");
                continue;
            }
            let error = outcome.unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            assert!(error.hint().contains(&format!("--features {feature}")), "{}", error.hint());
        }
    }
}
