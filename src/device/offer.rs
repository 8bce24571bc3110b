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
    vec![flex(), ndarray()]
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
        let ndarray = &offers[1];
        assert_eq!((ndarray.device.as_str(), ndarray.available), ("ndarray", cfg!(feature = "ndarray")));
        assert_eq!(ndarray.what.contains("--features ndarray"), !ndarray.available, "{ndarray:?}");
    }
}
