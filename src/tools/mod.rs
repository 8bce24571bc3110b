//! What is done with runs, beyond making them: many of them at once, what they say, and what they are good for.

pub mod apply;
pub mod bench;
pub mod comparison;
pub mod device_check;
pub mod export;
pub mod report;
pub mod sweep;
#[cfg(feature = "remote")]
pub mod worker;
