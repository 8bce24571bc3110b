//! The images of the pretext task, in the rotations and sizes that the config names.

use crate::config::Config;
use crate::data::{Dataset, Images, Pixels, Split};
use crate::error::{Error, Result};
use crate::samples::Samples;
use crate::samples::{RotatedImages, Rotations};

/// What pretraining trains on and validates with.
pub(super) struct Pretext<'a> {
    /// Training images.
    pub samples: RotatedImages<'a>,
    /// Smaller versions, and the share of all steps up to which they are used instead.
    pub smaller: Vec<(f64, RotatedImages<'a>)>,
    /// Held-out images, in all four rotations.
    pub validation: Option<RotatedImages<'a>>,
    /// How pixels are scaled.
    pub pixels: Pixels,
    /// All images, labeled or not.
    pub pool: &'a Images,
    /// Which of them are trained on, before rotation, and which are held out.
    pub split: Split,
}

impl<'a> Pretext<'a> {
    /// Takes the images from `dataset`.
    ///
    /// # Errors
    /// [`Error::Config`] if nothing would be left to train on, or for a size that the images do not have.
    pub(super) fn new(config: &Config, dataset: &'a Dataset) -> Result<Self> {
        let (pool, split) = dataset.pretraining(&config.data, config.seed)?;
        let pixels = Pixels::new(&config.data, pool, &split.train);
        let pretrain = &config.pretrain;
        let rotated = |indices, rotations| RotatedImages::new(pool, indices, rotations, &pixels, config.seed);
        let training =
            || rotated(split.train.clone(), pretrain.rotations).augmented(pretrain.augment.as_ref());
        let [height, width, _] = dataset.image_shape();
        let mut smaller = Vec::with_capacity(pretrain.sizes.len());
        for (index, phase) in pretrain.sizes.iter().enumerate() {
            if height != width || phase.size > height {
                let problem = format!("images are {height}x{width} and cannot become {0}x{0}", phase.size);
                return Err(Error::config(format!("pretrain.sizes[{index}].size"), problem));
            }
            smaller.push((phase.until, training().resized(phase.size)));
        }
        Ok(Self {
            samples: training(),
            smaller,
            validation: split.validation.clone().map(|indices| rotated(indices, Rotations::All)),
            pixels: pixels.clone(),
            pool,
            split: split.clone(),
        })
    }

    /// The samples used up to a step, of `steps` in total, instead of the full-size ones.
    pub(super) fn before(&self, steps: u64) -> Vec<(u64, &dyn Samples)> {
        let end = |until: f64| (until * steps as f64).round() as u64;
        self.smaller.iter().map(|(until, samples)| (end(*until), samples as _)).collect()
    }
}
