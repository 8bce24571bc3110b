//! From names to burn's devices.

use burn::tensor::{Device, Tensor};

use super::guard::catching;
use super::{Adapter, DeviceName, Engine};
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
        DeviceName::Gpu { engine, adapter } => gpu(name, *engine, *adapter)?,
        #[cfg(feature = "remote")]
        DeviceName::WebSocket { .. } | DeviceName::Iroh { .. } => super::remote::open(name)?,
        #[cfg(not(feature = "remote"))]
        DeviceName::WebSocket { .. } | DeviceName::Iroh { .. } => return Err(not_built(name)),
    };
    probe(name, &device)?;
    Ok(device)
}

/// Whether a device computes on this process's processors.
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

fn gpu(name: &DeviceName, engine: Engine, adapter: Adapter) -> Result<Device> {
    let found = catching(|| adapters(engine)).map_err(|problem| refused(name, problem))?;
    let found = found.ok_or_else(|| not_built(name))?;
    let software = software(engine);
    let chosen = match adapter {
        Adapter::Number(number) => found.get(number),
        Adapter::Cpu => found.iter().find(|&device| Some(device) == software.as_ref()),
        Adapter::First => found.iter().find(|&device| Some(device) != software.as_ref()),
    };
    chosen.cloned().ok_or_else(|| {
        let problem = match (found.len(), adapter) {
            (0, _) => format!("no {} driver, or no card that it supports, was found", engine.name()),
            (1, Adapter::First) => "only a software renderer on the CPU was found".into(),
            (count, _) => format!("{count} found, numbered from 0, and not this one"),
        };
        refused(name, problem)
    })
}

fn refused(name: &DeviceName, problem: String) -> Error {
    Error::Device {
        device: name.to_string(),
        problem,
        hint: "`rotnet devices` lists what this machine has".into(),
    }
}

/// The adapters that an engine finds on this machine, none of them opened yet; `None` if this build lacks the engine.
///
/// A driver may panic here.
pub(super) fn adapters(engine: Engine) -> Option<Vec<Device>> {
    #[cfg(feature = "_gpu")]
    use burn::tensor::DeviceType;
    #[allow(clippy::match_single_binding, reason = "the arms depend on the features")]
    match engine {
        #[cfg(feature = "wgpu")]
        Engine::Wgpu => Some(Device::enumerate(DeviceType::Wgpu).into_iter().collect()),
        #[cfg(feature = "vulkan")]
        Engine::Vulkan => Some(Device::enumerate(DeviceType::Vulkan).into_iter().collect()),
        #[cfg(feature = "metal")]
        Engine::Metal => Some(Device::enumerate(DeviceType::Metal).into_iter().collect()),
        #[cfg(feature = "cuda")]
        Engine::Cuda => Some(Device::enumerate(DeviceType::Cuda).into_iter().collect()),
        #[cfg(feature = "rocm")]
        Engine::Rocm => Some(Device::enumerate(DeviceType::Rocm).into_iter().collect()),
        _ => None,
    }
}

/// An engine's name for its software renderer.
pub(super) fn software(engine: Engine) -> Option<Device> {
    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
    use burn::tensor::DeviceKind;
    #[allow(clippy::match_single_binding, reason = "the arms depend on the features")]
    match engine {
        #[cfg(feature = "wgpu")]
        Engine::Wgpu => Some(Device::wgpu(DeviceKind::Cpu)),
        #[cfg(feature = "vulkan")]
        Engine::Vulkan => Some(Device::vulkan(DeviceKind::Cpu)),
        #[cfg(feature = "metal")]
        Engine::Metal => Some(Device::metal(DeviceKind::Cpu)),
        _ => None,
    }
}

/// One small computation, so that an incomplete driver is noticed now.
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
        let names = ["ndarray", "wgpu:99", "vulkan:99", "metal:99", "cuda:99", "rocm:99"];
        for text in names.into_iter().filter(|&text| text != "ndarray" || !cfg!(feature = "ndarray")) {
            let name: DeviceName = text.parse().unwrap();
            let error = open(&name).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
            let built = match &name {
                DeviceName::Gpu { engine, .. } => adapters(*engine).is_some(),
                _ => false,
            };
            let feature = name.feature().unwrap();
            assert_eq!(error.hint().contains(&format!("--features {feature}")), !built, "{}", error.hint());
        }
    }
}
