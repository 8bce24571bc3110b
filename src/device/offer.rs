//! The devices that this build and this machine offer.

use serde::Serialize;

use super::guard::catching;
use super::open::{adapters, software};
use super::{Adapter, DeviceName, Engine};

/// A line of `rotnet devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Its name, as `--device` takes it.
    pub device: String,
    /// Whether it is in this build and on this machine.
    pub available: bool,
    /// What it is, or why it is not available.
    pub what: String,
}

/// Every kind of device, available or not.
pub fn offers() -> Vec<Offer> {
    let mut offers = vec![flex(), ndarray()];
    offers.extend(Engine::ALL.into_iter().flat_map(of_engine));
    offers.push(remote());
    offers
}

fn flex() -> Offer {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let kernels = crate::kernels::instruction_set();
    Offer {
        device: DeviceName::Flex.to_string(),
        available: true,
        what: format!("this machine's processors, {kernels} kernels, {threads} threads"),
    }
}

fn ndarray() -> Offer {
    let available = cfg!(feature = "ndarray");
    let what = match available {
        true => "this machine's processors, without rotnet's own kernels".into(),
        false => not_built("ndarray"),
    };
    Offer { device: DeviceName::Ndarray.to_string(), available, what }
}

fn remote() -> Offer {
    let available = cfg!(feature = "remote");
    let what = match available {
        true => "devices of another process or machine that runs `rotnet worker`".into(),
        false => not_built("remote"),
    };
    Offer { device: "ws://host:port, iroh:ID".into(), available, what }
}

fn not_built(feature: &str) -> String {
    format!("not in this program; `cargo build --release --features {feature}`")
}

fn of_engine(engine: Engine) -> Vec<Offer> {
    let none = |what: String| vec![Offer { device: engine.name().into(), available: false, what }];
    let found = match catching(|| adapters(engine)) {
        Ok(None) => return none(not_built(engine.name())),
        Ok(Some(found)) if found.is_empty() => return none("no driver, or no card that it supports".into()),
        Ok(Some(found)) => found,
        Err(problem) => return none(format!("not usable: {problem}")),
    };
    let software = software(engine);
    let line = |(number, device)| {
        let name = DeviceName::Gpu { engine, adapter: Adapter::Number(number) };
        let identity = catching(|| identity(&device));
        let what = match (&identity, software.as_ref() == Some(&device)) {
            (Ok(identity), true) => format!("{identity} (software on the CPU)"),
            (Ok(identity), false) => identity.clone(),
            (Err(problem), _) => format!("not usable: {problem}"),
        };
        Offer { device: name.to_string(), available: identity.is_ok(), what }
    };
    found.into_iter().enumerate().map(line).collect()
}

/// What a device calls itself. Opens the device, and may panic.
fn identity(device: &burn::tensor::Device) -> String {
    #[cfg(feature = "_gpu")]
    if let Some(identity) = device.identity() {
        return identity.name;
    }
    format!("{device:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_and_a_kind_that_is_not_built_names_its_feature() {
        let offers = offers();
        assert!(offers[0].available && offers[0].device == "flex");
        for (kind, built) in [
            ("ndarray", cfg!(feature = "ndarray")),
            ("wgpu", cfg!(feature = "wgpu")),
            ("vulkan", cfg!(feature = "vulkan")),
            ("metal", cfg!(feature = "metal")),
            ("cuda", cfg!(feature = "cuda")),
            ("rocm", cfg!(feature = "rocm")),
        ] {
            let offer = offers.iter().find(|offer| offer.device.starts_with(kind)).unwrap();
            assert_eq!(offer.what.contains(&format!("--features {kind}")), !built, "{offer:?}");
            assert!(built || !offer.available);
        }
    }
}
