//! What is done with runs, beyond making them: many of them at once, what they say, and what they are good for.

pub mod apply;
pub mod bench;
pub mod comparison;
pub mod export;
pub mod html;
pub mod paths;
pub mod ranks_model;
pub mod report;
pub(crate) mod shell;
pub mod sweep;
pub mod verify;
#[cfg(feature = "remote")]
pub mod worker;
