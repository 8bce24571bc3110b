//! The networks of checkpoints: encoder, rotation head, classifier.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::files::sha256_file;
use crate::model::{
    self, Classifier, ClassifierShape, Dense, Encoder, FeatureMoments, ImageClassifier, Initialiser,
    Parameters, ROTATIONS, RotationNetwork, Scheme,
};

/// Maximum rows and columns of images that an encoder is built for, so that a damaged checkpoint cannot exhaust time or
/// memory.
const SIDES: RangeInclusive<usize> = 32..=256;
/// Maximum number of channels, likewise.
const CHANNELS: RangeInclusive<usize> = 1..=16;

/// The encoder of a checkpoint on the plain device, the checkpoint, and the SHA-256 of its file.
///
/// # Errors
/// [`crate::Error::Io`]; [`crate::Error::Checkpoint`] if it is missing, damaged or without an encoder.
pub fn load_encoder(device: &Device, path: PathBuf) -> Result<(Encoder, Checkpoint, String)> {
    if !path.try_exists().map_err(Error::io("read", &path))? {
        return Err(Checkpoint::missing(&path));
    }
    let checkpoint = Checkpoint::load(&path)?;
    let encoder = encoder_of(device, &path, &checkpoint)?;
    let digest = sha256_file(&path)?;
    Ok((encoder, checkpoint, digest))
}

/// The encoder of a checkpoint, which errors call `path`, on the plain device.
///
/// # Errors
/// [`crate::Error::Checkpoint`] if it holds none, or one that is not what its header says.
pub fn encoder_of(device: &Device, path: &Path, checkpoint: &Checkpoint) -> Result<Encoder> {
    let refuse = |problem: String| Checkpoint::refuse(path, problem);
    let Some(architecture) = checkpoint.header.architecture() else {
        return Err(refuse("holds a classifier without an encoder".into()));
    };
    let [height, width, channels] = checkpoint.header.image;
    if !SIDES.contains(&height) || !SIDES.contains(&width) || !CHANNELS.contains(&channels) {
        let problem = format!("its images are {height}x{width} with {channels} channels");
        return Err(refuse(problem));
    }
    architecture.validate().map_err(|error| refuse(error.to_string()))?;
    let stored = checkpoint.part("encoder").values().map(|data| data.num_elements()).sum();
    if architecture.weights(channels) > stored {
        return Err(refuse("holds fewer numbers than its architecture has weights".into()));
    }
    let mut initialiser = Initialiser::new(checkpoint.header.seed, architecture.scheme(), device);
    let encoder = Encoder::new(&architecture, checkpoint.header.image, &mut initialiser);
    model::load(encoder, checkpoint.part("encoder")).map_err(refuse)
}

/// The pretraining network of a checkpoint, from its `encoder` and its rotation head; `None` if it has no head.
///
/// # Errors
/// [`crate::Error::Checkpoint`] if the head does not fit the encoder.
pub fn load_rotation_network(
    encoder: Encoder,
    path: &Path,
    checkpoint: &Checkpoint,
) -> Result<Option<RotationNetwork>> {
    let parameters = checkpoint.part("head");
    if parameters.is_empty() {
        return Ok(None);
    }
    let device = encoder.device();
    let mut initialiser = Initialiser::new(checkpoint.header.seed, Scheme::default(), &device);
    let architecture = checkpoint.header.architecture();
    initialiser.arithmetic = architecture.map(|encoder| encoder.arithmetic).unwrap_or_default();
    let head = Dense::new(encoder.features(), ROTATIONS, false, &mut initialiser);
    let head = model::load(head, parameters).map_err(|problem| Checkpoint::refuse(path, problem))?;
    Ok(Some(RotationNetwork { encoder, head }))
}

/// The shape of the classifier of a checkpoint.
///
/// # Errors
/// [`crate::Error::Checkpoint`] if it has none.
pub fn classifier_shape<'a>(path: &Path, checkpoint: &'a Checkpoint) -> Result<&'a ClassifierShape> {
    let shape = checkpoint.header.classifier.as_ref();
    shape.ok_or_else(|| Checkpoint::refuse(path, "holds no classifier"))
}

/// The encoder and classifier of a checkpoint that has both, on `device` as given.
///
/// # Errors
/// Those of [`load_encoder`]; [`crate::Error::Checkpoint`] if the two do not fit together.
pub fn load_image_classifier(
    device: &Device,
    path: &Path,
    checkpoint: &Checkpoint,
) -> Result<ImageClassifier> {
    let (encoder, _, _) = load_encoder(device, path.to_path_buf())?;
    let refuse = |problem: String| Checkpoint::refuse(path, problem);
    let shape = classifier_shape(path, checkpoint)?;
    let Some(readout) = checkpoint.header.readout.clone() else {
        return Err(refuse("does not say what its classifier sees of the encoder".into()));
    };
    let width = encoder.read_width(&readout).map_err(|error| refuse(error.to_string()))?;
    if width != shape.features {
        return Err(refuse(format!(
            "its classifier takes {} features, its encoder returns {width}",
            shape.features
        )));
    }
    let classifier = load_classifier(path, shape, checkpoint.part("classifier"), device)?;
    Ok(ImageClassifier::of(encoder, readout, classifier))
}

/// A classifier with its `parameters` from the checkpoint at `path`; it standardises features if these include moments.
///
/// # Errors
/// [`crate::Error::Checkpoint`] if they do not fit its shape.
pub fn load_classifier(
    path: &Path,
    shape: &ClassifierShape,
    parameters: Parameters,
    device: &Device,
) -> Result<Classifier> {
    let refuse = |problem: String| Checkpoint::refuse(path, problem);
    let stored: usize = parameters.values().map(|data| data.num_elements()).sum();
    if shape.weights() > stored {
        return Err(refuse("holds fewer numbers than its classifier has weights".into()));
    }
    let places = shape.map.as_ref().map(|map| map.shape.iter().copied().fold(1, usize::saturating_mul));
    if places.is_some_and(|places| places != shape.features) {
        let problem =
            format!("its classifier takes {} features, which are not a map of blocks", shape.features);
        return Err(refuse(problem));
    }
    let standardised = parameters.keys().any(|name| name.starts_with("standardise."));
    let neutral = FeatureMoments { mean: vec![0.0; shape.features], deviation: vec![1.0; shape.features] };
    let classifier = Classifier::new(shape, standardised.then_some(neutral), 0, device);
    model::load(classifier, parameters).map_err(refuse)
}
