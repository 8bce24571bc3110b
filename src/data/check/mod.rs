//! Whether rotation is there to be learned from images, or given away by something else: cheap tests on some of the
//! training images, each with the value from which on it warns, and why.

mod probe;

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::images::{CHANNELS, Images};
use super::rotation::{Rotation, rotate};
use super::{Dataset, describe};
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::progress::Reporter;
use probe::{LinearProbe, frame, layout};

/// Images looked at: the probes' accuracies, on a third of their four copies, have a standard deviation of 0.008.
const LOOKED_AT: usize = 3_000;
/// Fewest images that say anything.
const FEWEST: usize = 40;
/// Accuracy of guessing one of four rotations.
const CHANCE: f64 = 0.25;
/// Standard deviations that tell an accuracy from chance.
const DEVIATIONS: f64 = 3.0;
/// A linear look at the outermost pixels reaches 0.5 on photographs with a sky (CIFAR-10), and all but 1 where
/// padding, a frame or a time stamp lies there.
const FRAME_ACCURACY: f64 = 0.8;
/// A network that sees the whole image needs no more than this to be left with nothing to learn.
const LAYOUT_ACCURACY: f64 = 0.95;
/// Where a part p of the images has bars, accuracy without learning is at most 0.25 + 0.75 p: 0.04 above chance.
const BAR_SHARE: f64 = 0.05;
/// A row or column whose values differ by no more than this, of 255, is flat: JPEG leaves so much of a bar.
const FLAT: u8 = 12;
/// Pixels with less than this part of the usual deviation over all images are fixed.
const FIXED_DEVIATION: f64 = 0.1;
/// Fixed pixels that make a mark: 5 of 32x32.
const FIXED_SHARE: f64 = 0.005;
/// Copies in another rotation are wrong labels; below this part they cost less than other noise.
const COPY_SHARE: f64 = 0.01;

/// What `rotnet data check` shows.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The data set.
    pub name: String,
    /// What was measured.
    pub measures: Measures,
    /// What speaks against pretraining by rotation on these images, or asks for a look at them.
    pub warnings: Vec<String>,
}

/// Numbers about training images.
#[derive(Clone, Debug, Serialize)]
pub struct Measures {
    /// Images looked at.
    pub images: usize,
    /// Accuracy of a linear classifier of rotation on the image as 8x8 fields, on images it was not fitted on.
    pub layout_accuracy: f64,
    /// The same on the outermost pixels alone.
    pub frame_accuracy: f64,
    /// Three standard deviations above guessing.
    pub chance_limit: f64,
    /// Share of the images that have a flat top row, right column, bottom row, left column.
    pub flat_sides: [f64; 4],
    /// Share of the places where all images have about the same colour.
    pub fixed_places: f64,
    /// Share of the images that are another image, or themselves, turned by 90, 180 or 270 degrees.
    pub turned_copies: f64,
    /// Image files without a tag of their way up (EXIF), tagged upright, tagged turned; absent without files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<[usize; 3]>,
}

/// Checks the training images of the data set in `path`; the test images stay closed.
///
/// # Errors
/// [`Error::Data`] for files that are missing, damaged or too few; [`Error::Io`].
pub fn check(path: &Path, data_home: &Path, reporter: &mut dyn Reporter) -> Result<CheckReport> {
    let dataset = super::open(&describe::found(path), data_home, reporter)?;
    if dataset.pool.len() < FEWEST {
        let problem = format!("holds {} training images, too few to tell anything", dataset.pool.len());
        return Err(Error::data(path, problem, format!("name a folder with at least {FEWEST}")));
    }
    let measures = measure(&dataset);
    Ok(CheckReport { name: dataset.name, warnings: warnings(&measures), measures })
}

fn measure(dataset: &Dataset) -> Measures {
    let images = sample(&dataset.pool);
    let copies = images.len() / 3 * Rotation::ALL.len();
    let deviation = (CHANCE * (1.0 - CHANCE) / copies as f64).sqrt();
    Measures {
        images: images.len(),
        layout_accuracy: LinearProbe::accuracy(&images, layout),
        frame_accuracy: LinearProbe::accuracy(&images, frame),
        chance_limit: CHANCE + DEVIATIONS * deviation,
        flat_sides: flat_sides(&images),
        fixed_places: fixed_places(&images),
        turned_copies: turned_copies(&images),
        tags: dataset.tags,
    }
}

/// Images at equal distances, so that sorted ones are all met.
fn sample(pool: &Images) -> Images {
    let count = pool.len().min(LOOKED_AT);
    let indices: Vec<u32> = (0..count).map(|index| (index * pool.len() / count) as u32).collect();
    pool.subset(&indices)
}

/// The side row or column of an image, in pixels from the upper left clockwise.
fn side_place(side: usize, step: usize, [height, width]: [usize; 2]) -> usize {
    match side {
        0 => step,
        1 => step * width + width - 1,
        2 => (height - 1) * width + step,
        _ => step * width,
    }
}

fn flat_sides(images: &Images) -> [f64; 4] {
    let size = [images.height, images.width];
    [0, 1, 2, 3].map(|side| {
        let length = if side % 2 == 0 { images.width } else { images.height };
        let flat = |index: &usize| {
            let image = images.image(*index);
            (0..CHANNELS).all(|channel| {
                let values = (0..length).map(|step| image[side_place(side, step, size) * CHANNELS + channel]);
                let (least, most) = values
                    .fold((255, 0), |(least, most): (u8, u8), value| (least.min(value), most.max(value)));
                most - least <= FLAT
            })
        };
        (0..images.len()).filter(flat).count() as f64 / images.len() as f64
    })
}

fn fixed_places(images: &Images) -> f64 {
    let count = images.len() as f64;
    let mut sums = vec![[0f64; 2]; images.values()];
    for index in 0..images.len() {
        for (sum, &value) in sums.iter_mut().zip(images.image(index)) {
            let value = f64::from(value);
            sum[0] += value;
            sum[1] += value * value;
        }
    }
    let deviation = |[sum, squares]: [f64; 2]| (squares / count - (sum / count).powi(2)).max(0.0).sqrt();
    let places: Vec<f64> = sums
        .chunks_exact(CHANNELS)
        .map(|channels| channels.iter().fold(0.0, |most: f64, &sums| most.max(deviation(sums))))
        .collect();
    let mut sorted = places.clone();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted[sorted.len() / 2];
    places.iter().filter(|&&place| place <= FIXED_DEVIATION * usual).count() as f64 / places.len() as f64
}

fn turned_copies(images: &Images) -> f64 {
    let (height, width) = (images.height, images.width);
    if height != width {
        return 0.0;
    }
    let digests = |rotation: Rotation| -> Vec<String> {
        let digest = |index| sha256(&rotate(images.image(index), height, width, rotation));
        (0..images.len()).into_par_iter().map(digest).collect()
    };
    let mut upright: HashMap<String, usize> = HashMap::new();
    for digest in digests(Rotation::Upright) {
        *upright.entry(digest).or_default() += 1;
    }
    let turned = Rotation::ALL[1..].iter().map(|&rotation| digests(rotation)).collect::<Vec<_>>();
    let copy = |index: &usize| turned.iter().any(|digests| upright.contains_key(&digests[*index]));
    (0..images.len()).filter(copy).count() as f64 / images.len() as f64
}

fn warnings(found: &Measures) -> Vec<String> {
    let mut warnings = Vec::new();
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let seen = found.layout_accuracy.max(found.frame_accuracy);
    if seen <= found.chance_limit {
        warnings.push(format!(
            "no upright to be seen: from colours and their places, rotation is told with an accuracy of {seen:.3}, \
             and guessing gives 0.25; on images from above, of textures or of turned objects, rotation teaches \
             little"
        ));
    }
    if found.frame_accuracy >= FRAME_ACCURACY {
        warnings.push(format!(
            "the outermost pixels alone tell the rotation with an accuracy of {:.3}: look for frames, padding or \
             stamps, and cut them off",
            found.frame_accuracy
        ));
    } else if found.layout_accuracy >= LAYOUT_ACCURACY {
        warnings.push(format!(
            "rotation is told with an accuracy of {:.3} from 8x8 fields of colour: a network need not learn shapes",
            found.layout_accuracy
        ));
    }
    let [top, right, bottom, left] = found.flat_sides;
    let least = found.flat_sides.iter().copied().fold(1.0, f64::min);
    if found.flat_sides.iter().any(|side| side - least >= BAR_SHARE) {
        warnings.push(format!(
            "flat edges give the rotation away: top {}, right {}, bottom {}, left {} of the images; cut bars off",
            percent(top),
            percent(right),
            percent(bottom),
            percent(left)
        ));
    }
    if found.fixed_places >= FIXED_SHARE {
        warnings.push(format!(
            "{} of the picture is the same in all images: a logo, stamp or frame gives the rotation away",
            percent(found.fixed_places)
        ));
    }
    if found.turned_copies >= COPY_SHARE {
        warnings.push(format!(
            "{} of the images are another one turned, or look the same turned: their rotation cannot be told",
            percent(found.turned_copies)
        ));
    }
    if let Some([absent, _, turned]) = found.tags
        && turned > 0
        && absent > 0
    {
        warnings.push(format!(
            "{turned} files carry a tag that turns them (EXIF), which is applied, and {absent} carry none: some of \
             these may have lost theirs and lie sideways (`rotnet orient` finds them after training)"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests;
