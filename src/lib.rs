//! rotnet: features from unlabeled images, by predicting how they were rotated (Gidaris, Singh, Komodakis 2018).
//!
//! Three stages hand over files in a run directory: [`stages::pretrain()`] (images to an encoder),
//! [`stages::extract()`] (images to features) and [`stages::finetune()`] (features to a classifier and its test
//! accuracy). `ARCHITECTURE.md` draws what flows where.
#![warn(missing_docs)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests compare with them"))]
#![cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "upstream prefers flex; ndarray stays selectable")
)]

pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod error;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod judge;
pub mod kernels;
pub mod math;
pub mod model;
pub mod progress;
pub mod ranks;
pub mod samples;
pub mod stages;
pub mod store;
pub mod tools;
pub mod training;

pub use error::{Error, Result};
