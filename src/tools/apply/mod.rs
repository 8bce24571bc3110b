//! A finished run put to use on image files: [`predict()`] classifies them, [`orient()`] says which way up they are and
//! turns them without loss; [`carry_out()`] does so by a plan, [`undo()`] takes it back.
//!
//! An image is seen as the run's own images were: the largest square in its middle, resized to the size of those.

mod files;
mod fix;
mod log;
mod lossless;
mod orient;
mod plan;
mod predict;
mod review;
mod run;
mod targets;
#[cfg(test)]
mod tests;
mod turns;
mod undo;

use std::path::Path;

use serde::Serialize;

pub use crate::tools::paths::PathText;
pub use files::{ImageFile, Listing, list};
pub use lossless::How;
pub use orient::{Expected, OrientRequest, Orientation, Orientations, ToldBy, Unread, orient, share_upright};
pub use plan::{Action, Applied, Turned, carry_out};
pub use predict::{ImagePredictions, Prediction, predict};
pub(super) use run::finetuned;
pub use targets::Fix;
pub use turns::Turns;
pub use undo::{Undone, undo};

use crate::error::Error;

/// An image file that could not be read or written.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The file.
    #[serde(flatten)]
    pub file: PathText,
    /// What is wrong.
    pub problem: String,
    /// The error itself.
    #[serde(skip)]
    pub error: Error,
}

impl Failure {
    fn new(path: &Path, error: Error) -> Self {
        Self { file: PathText::new(path), problem: error.to_string(), error }
    }
}
