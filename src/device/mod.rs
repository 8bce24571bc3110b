//! Devices: one type for their names, one place that opens them, one that turns their panics into errors.

pub mod environment;
mod guard;
mod name;
mod offer;
mod open;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "remote")]
mod token;

pub use guard::guarded;
pub use name::{Adapter, DeviceName, Engine, FORMS};
pub use offer::{Offer, offers};
pub use open::{computes_here, open};
#[cfg(feature = "remote")]
pub use remote::TOKEN_FILE;
#[cfg(feature = "remote")]
pub use token::read_token;
