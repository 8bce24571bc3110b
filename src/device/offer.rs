//! What this build and this machine have to compute with.

use serde::Serialize;

use super::DeviceName;

/// A line of `rotnet devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offer {
    /// Its name, as `--device` takes it.
    pub device: String,
    /// Whether it is in this build and on this machine.
    pub available: bool,
    /// What it is, or why there is none.
    pub what: String,
}

/// Every kind of device, with what there is of it.
pub fn offers() -> Vec<Offer> {
    vec![flex(), ndarray(), remote()]
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
        true => "this machine's processors, without kernels of rotnet's own".into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_and_a_kind_that_is_not_built_names_its_feature() {
        let offers = offers();
        assert!(offers[0].available && offers[0].device == "flex");
        for (kind, built) in [("ndarray", cfg!(feature = "ndarray")), ("ws", cfg!(feature = "remote"))] {
            let offer = offers.iter().find(|offer| offer.device.starts_with(kind)).unwrap();
            assert_eq!(offer.what.contains("--features "), !built, "{offer:?}");
            assert!(built || !offer.available);
        }
    }
}
