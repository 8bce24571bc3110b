//! rotnet: features from unlabeled images, by predicting how they were rotated (Gidaris, Singh, Komodakis 2018).
//!
//! Three stages hand over files in a run directory: [`stages::pretrain()`] (images to an encoder),
//! [`stages::extract()`] (images to features) and [`stages::finetune()`] (features to a classifier and its test
//! accuracy). `ARCHITECTURE.md` draws what flows where.
#![warn(missing_docs)]
#![cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "upstream prefers flex; ndarray stays selectable")
)]

pub mod apply;
pub mod bench;
pub mod checkpoint;
mod cholesky;
pub mod cli;
pub mod comparison;
pub mod config;
pub mod data;
pub mod device;
pub mod device_check;
pub mod environment;
pub mod error;
pub mod export;
pub mod features;
pub mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod judge;
pub mod kernels;
pub mod model;
pub mod predictions;
pub mod progress;
pub mod random;
pub mod replacement;
pub mod report;
pub mod resident;
pub mod run_directory;
pub mod run_results;
pub mod samples;
pub mod stage_directory;
pub mod stages;
pub mod sweep;
mod tensor_file;
pub mod tensorboard;
pub mod training;
#[cfg(feature = "remote")]
pub mod worker;

pub use error::{Error, Result};
