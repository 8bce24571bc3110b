//! Whether rotation can be learned from images, or is given away by something else: cheap tests on some of the training
//! images, each with the threshold above which it warns, and why.

mod probe;

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::dataset::Dataset;
use super::images::{CHANNELS, Images};
use super::rotation::{Rotation, rotate};
use super::{describe, kinds};
use crate::error::{Error, Result};
use crate::files::sha256;
use crate::progress::Reporter;
use probe::{LinearProbe, frame, layout, side_place};

/// Images looked at. The probes are tested on a third of their four copies, where an accuracy has a standard deviation of
/// 0.008.
const LOOKED_AT: usize = 3_000;
/// With fewer images nothing can be said.
const FEWEST: usize = 40;
/// Accuracy of guessing one of four rotations.
const CHANCE: f64 = 0.25;
/// Standard deviations above chance from which on an accuracy counts as better.
const DEVIATIONS: f64 = 3.0;
/// A linear look at the outermost pixels reaches 0.5 on photographs with a sky (CIFAR-10), and all but 1 where
/// padding, a frame or a time stamp lies there.
const FRAME_ACCURACY: f64 = 0.8;
/// Above this a network that sees the whole image has nothing left to learn.
const LAYOUT_ACCURACY: f64 = 0.95;
/// If a share p of the images has bars, they alone give an accuracy of at most 0.25 + 0.75 p: here 0.04 above chance.
const BAR_SHARE: f64 = 0.05;
/// A row or column whose values differ by no more than this, of 255, is flat: JPEG leaves a plain bar that uneven.
const FLAT: u8 = 12;
/// Pixels that vary over the images by less than this share of the median deviation are fixed.
const FIXED_DEVIATION: f64 = 0.1;
/// Share of fixed pixels that makes a mark: 5 of 32x32.
const FIXED_SHARE: f64 = 0.005;
/// Copies in another rotation are wrong labels; below this share they cost less than other noise.
const COPY_SHARE: f64 = 0.01;

/// What `rotnet data check` shows.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The data set.
    pub name: String,
    /// What was measured.
    pub measures: Measures,
    /// Reasons not to pretrain by rotation on these images as they are, or to look at them first.
    pub warnings: Vec<Finding>,
}

/// A reason to look at the images, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was found, with its number.
    pub problem: String,
    /// What to do about it.
    pub advice: &'static str,
}

/// Numbers about training images.
#[derive(Clone, Debug, Serialize)]
pub struct Measures {
    /// Number of images looked at.
    pub images: usize,
    /// Accuracy of a linear classifier of rotation that sees the image as 8x8 fields, on images that it was not fitted to.
    pub layout_accuracy: f64,
    /// The same on the outermost pixels alone.
    pub frame_accuracy: f64,
    /// Three standard deviations above guessing.
    pub chance_limit: f64,
    /// Share of the images whose top row, right column, bottom row, left column is flat.
    pub flat_sides: [f64; 4],
    /// Share of the pixels that have about the same colour in all images.
    pub fixed_places: f64,
    /// Share of the images that are another image, or themselves, turned by 90, 180 or 270 degrees.
    pub turned_copies: f64,
    /// Number of image files without an orientation tag (EXIF), tagged upright, tagged turned; absent if the images are no
    /// files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<[usize; 3]>,
}

/// Checks the training images of the data set in `path`; the test images stay closed.
///
/// # Errors
/// [`Error::Data`] for files that are missing, damaged or too few; [`Error::Io`].
pub fn check(path: &Path, data_home: &Path, reporter: &mut dyn Reporter) -> Result<CheckReport> {
    let dataset = kinds::open(&describe::found(path), data_home, reporter)?;
    if dataset.pool.len() < FEWEST {
        let problem = format!("holds {} training images, too few to say anything", dataset.pool.len());
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

/// Every n-th image, so that images sorted by anything are fairly sampled.
fn sample(pool: &Images) -> Images {
    let count = pool.len().min(LOOKED_AT);
    let indices: Vec<u32> = (0..count).map(|index| (index * pool.len() / count) as u32).collect();
    pool.subset(&indices)
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
    let deviation =
        |[sum, squares]: [f64; 2]| (squares / count - (sum / count) * (sum / count)).max(0.0).sqrt();
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

fn warnings(found: &Measures) -> Vec<Finding> {
    let about_edges =
        if found.frame_accuracy >= FRAME_ACCURACY { frame_tells(found) } else { layout_tells(found) };
    [no_upright(found), about_edges, flat_edges(found), fixed_mark(found), copies(found), mixed_tags(found)]
        .into_iter()
        .flatten()
        .collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn no_upright(found: &Measures) -> Option<Finding> {
    let seen = found.layout_accuracy.max(found.frame_accuracy);
    (seen <= found.chance_limit).then(|| Finding {
        problem: format!(
            "no upright to be seen: colours and their places tell the rotation with an accuracy of {seen:.3}, and \
             guessing gives 0.25"
        ),
        advice: "rotation teaches little about images from above, textures or objects that lie any way round: use \
                 images with a natural upright, or train on labels alone (`rotnet finetune --from-scratch`)",
    })
}

fn frame_tells(found: &Measures) -> Option<Finding> {
    Some(Finding {
        problem: format!(
            "the outermost pixels alone tell the rotation with an accuracy of {:.3}",
            found.frame_accuracy
        ),
        advice: "look for frames, padding or time stamps at the edges, and crop them off",
    })
}

fn layout_tells(found: &Measures) -> Option<Finding> {
    (found.layout_accuracy >= LAYOUT_ACCURACY).then(|| Finding {
        problem: format!(
            "8x8 fields of colour tell the rotation with an accuracy of {:.3}: a network need not learn shapes",
            found.layout_accuracy
        ),
        advice: "add images that are less alike, or vary their colours with pretrain.augment.brightness, contrast and \
                 saturation",
    })
}

fn flat_edges(found: &Measures) -> Option<Finding> {
    let [top, right, bottom, left] = found.flat_sides.map(percent);
    let least = found.flat_sides.iter().copied().fold(1.0, f64::min);
    found.flat_sides.iter().any(|side| side - least >= BAR_SHARE).then(|| Finding {
        problem: format!(
            "flat edges give the rotation away: top {top}, right {right}, bottom {bottom}, left {left} of the images"
        ),
        advice: "crop bars and borders off",
    })
}

fn fixed_mark(found: &Measures) -> Option<Finding> {
    (found.fixed_places >= FIXED_SHARE).then(|| Finding {
        problem: format!(
            "{} of the picture is the same in all images, which gives the rotation away",
            percent(found.fixed_places)
        ),
        advice: "crop the images so that the logo, time stamp or frame is gone",
    })
}

fn copies(found: &Measures) -> Option<Finding> {
    (found.turned_copies >= COPY_SHARE).then(|| Finding {
        problem: format!(
            "{} of the images are another one turned, or look the same turned: nobody can tell their rotation",
            percent(found.turned_copies)
        ),
        advice: "remove the turned copies, and images that look the same any way round, such as patterns and plain areas",
    })
}

fn mixed_tags(found: &Measures) -> Option<Finding> {
    let [absent, _, turned] = found.tags?;
    (turned > 0 && absent > 0).then(|| Finding {
        problem: format!(
            "{turned} files carry a tag that turns them (EXIF), which is applied, and {absent} carry none: some of \
             these may have lost theirs and lie sideways"
        ),
        advice: "look through the files without a tag; `rotnet orient FOLDER` lists those that lie sideways",
    })
}

#[cfg(test)]
mod tests;
