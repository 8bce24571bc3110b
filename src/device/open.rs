//! From names to burn's devices.

use burn::tensor::Device;

use super::DeviceName;
use crate::error::Result;

/// The burn device of that name, without automatic differentiation.
///
/// # Errors
/// [`Device`](crate::Error::Device) if it is not compiled in, with the feature to switch on.
pub fn open(name: &DeviceName) -> Result<Device> {
    match name {
        DeviceName::Flex => Ok(Device::flex()),
        #[cfg(feature = "ndarray")]
        DeviceName::Ndarray => Ok(Device::ndarray()),
        #[cfg(not(feature = "ndarray"))]
        DeviceName::Ndarray => Err(crate::error::Error::Device {
            device: name.to_string(),
            problem: "it is not compiled into this program".into(),
            hint: "build with `cargo build --release --features ndarray`".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_build_lacks_is_refused_with_the_feature() {
        assert!(open(&DeviceName::Flex).is_ok());
        let ndarray = open(&DeviceName::Ndarray);
        assert_eq!(ndarray.is_ok(), cfg!(feature = "ndarray"));
        if let Err(error) = ndarray {
            assert!(error.hint().contains("--features ndarray"), "{error}");
        }
    }
}
