//! What images show, by the classifier that `finetune` left.

use std::path::PathBuf;

use serde::Serialize;

use super::Failure;
use super::files::{ImageFile, READ_AT_ONCE, Read, read};
use super::run::{finetuned, pretrained};
use super::turns::Turns;
use crate::device::{self, DeviceName};
use crate::error::Result;
use crate::math::logits::{argmax, softmax};
use crate::progress::Stage;
use crate::store::encoder_source::EncoderSource;
use crate::store::run_directory::RunDirectory;
use crate::tools::paths::{PathText, shown};

/// What `rotnet predict` shows.
#[derive(Debug, Serialize)]
pub struct ImagePredictions {
    /// The run.
    #[serde(serialize_with = "shown")]
    pub run: PathBuf,
    /// Names of the classes, in the order of the probabilities.
    pub classes: Vec<String>,
    /// What is done to an image first.
    pub preparation: String,
    /// The images, in the order they were named in.
    pub images: Vec<Prediction>,
    /// The files that could not be read.
    pub failed: Vec<Failure>,
}

/// What one image shows.
#[derive(Debug, Serialize)]
pub struct Prediction {
    /// The file.
    #[serde(flatten)]
    pub file: PathText,
    /// The most likely class.
    pub class: String,
    /// How likely it is, as the classifier says.
    pub probability: f64,
    /// Of every class.
    pub probabilities: Vec<f64>,
    /// Which way up the image is, as the rotation head says; absent in a run without pretraining.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Turns>,
}

/// Classifies image files by a finished run; `encoder` names the checkpoint of its encoder, if that is not in the run.
///
/// # Errors
/// Whatever [`crate::Error`] names, of the run. What is wrong with single images is in the result.
pub fn predict(
    run: &RunDirectory,
    encoder: Option<PathBuf>,
    device: &DeviceName,
    files: &[ImageFile],
) -> Result<ImagePredictions> {
    let device = device::open(device)?;
    let classes = finetuned(run, encoder, &device)?;
    let pretrained = match run.result(Stage::Pretrain).exists() {
        true => Some(pretrained(&EncoderSource::Run(run.clone()), &device)?)
            .filter(|pretrained| pretrained.side == classes.side),
        false => None,
    };
    let mut predictions = ImagePredictions {
        run: run.root().to_path_buf(),
        preparation: preparation(classes.side),
        images: Vec::with_capacity(files.len()),
        failed: Vec::new(),
        classes: classes.classes.clone(),
    };
    for files in files.chunks(READ_AT_ONCE) {
        let Read { images, places, failed, .. } =
            read(files, classes.side, |photo| vec![photo.square(classes.side)]);
        predictions.failed.extend(failed);
        if images.is_empty() {
            continue;
        }
        let turns = pretrained.as_ref().map(|pretrained| pretrained.finder.find(&images));
        for (row, (place, logits)) in places.into_iter().zip(classes.logits(&images)).enumerate() {
            let best = argmax(&logits);
            let mut probabilities = logits;
            softmax(&mut probabilities, classes.classes.len());
            predictions.images.push(Prediction {
                file: PathText::new(&files[place].path),
                class: classes.classes[best].clone(),
                probability: probabilities[best],
                probabilities,
                rotation: turns.as_ref().map(|turns| turns[row]),
            });
        }
    }
    Ok(predictions)
}

/// What is done to an image before a network sees it, in words.
pub(super) fn preparation(side: usize) -> String {
    format!("EXIF orientation applied, middle square cut out and resized to {side}x{side}")
}
