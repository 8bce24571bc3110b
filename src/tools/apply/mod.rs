//! A finished run put to use on image files: [`predict()`] classifies them, [`orient()`] says which way up they are.
//!
//! An image is seen as the run's own images were: the largest square in its middle, resized to the size of those.

mod files;
mod orient;
mod predict;
mod run;
mod targets;
mod turns;

use serde::Serialize;

pub use files::{ImageFile, list};
pub use orient::{OrientRequest, Orientation, Orientations, orient};
pub use predict::{ImagePredictions, Prediction, predict};
pub(super) use run::finetuned;
pub use targets::Fix;
pub use turns::Turns;

use crate::error::Error;

/// An image file that could not be read or written.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// The file.
    pub file: String,
    /// What is wrong.
    pub problem: String,
    /// The error itself.
    #[serde(skip)]
    pub error: Error,
}

impl Failure {
    fn new(file: &ImageFile, error: Error) -> Self {
        Self { file: file.path.display().to_string(), problem: error.to_string(), error }
    }
}
