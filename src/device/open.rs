//! From names to burn's devices.

use burn::tensor::{Device, Tensor};

use super::DeviceName;
use super::guard::catching;
use crate::error::{Error, Result};

/// The burn device of that name, without automatic differentiation, after one small computation on it.
///
/// # Errors
/// [`Device`](crate::Error::Device) if it is not in this build, with the feature to switch on; if it is not on this
/// machine, with what was found; or if it cannot compute.
pub fn open(name: &DeviceName) -> Result<Device> {
    let device = match name {
        DeviceName::Flex => return Ok(Device::flex()),
        #[cfg(feature = "ndarray")]
        DeviceName::Ndarray => return Ok(Device::ndarray()),
        #[cfg(not(feature = "ndarray"))]
        DeviceName::Ndarray => return Err(not_built(name)),
        #[cfg(feature = "remote")]
        DeviceName::WebSocket { .. } | DeviceName::Iroh { .. } => super::remote::open(name)?,
        #[cfg(not(feature = "remote"))]
        DeviceName::WebSocket { .. } | DeviceName::Iroh { .. } => return Err(not_built(name)),
    };
    probe(name, &device)?;
    Ok(device)
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

fn refused(name: &DeviceName, problem: String) -> Error {
    Error::Device {
        device: name.to_string(),
        problem,
        hint: "`rotnet devices` lists what this machine has".into(),
    }
}

/// One small computation, so that a driver that is only half there is noticed now.
fn probe(name: &DeviceName, device: &Device) -> Result<()> {
    let doubled = catching(|| Tensor::<1>::ones([1], device).mul_scalar(2.0).try_into_data());
    let problem = match doubled {
        Ok(Ok(data)) if data.iter::<f32>().eq([2.0]) => return Ok(()),
        Ok(Ok(data)) => format!("twice 1 is {:?} there", data.iter::<f32>().collect::<Vec<_>>()),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic,
    };
    Err(refused(name, problem))
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
