//! Devices: one type for their names, one place that opens them.

mod name;
mod offer;
mod open;

pub use name::{DeviceName, FORMS};
pub use offer::{Offer, offers};
pub use open::open;
