//! What suits where the command line names no config: a recipe, or for a folder an encoder that is there already.

use std::path::Path;

use super::options::Settings;
use crate::config::{Config, Document, Overrides};
use crate::data::{Survey, survey};
use crate::error::Result;
use crate::progress::{Event, Reporter};
use crate::store::encoder_source::{EncoderSource, PHOTOS};
use crate::tools::apply;

/// The recipe of folders of images.
pub const FOLDER: &str = "photos";
/// The recipe of other data: the Keras program, whose values every key has that a config leaves out.
pub const OTHER: &str = "keras-scaled";
/// The recipe where no data is named.
pub const NOTHING: &str = "quickstart";
/// Images that training is to see, each in four rotations, however few there are: as many as `cpu-10min` does (6 epochs of
/// 50,000).
const SEEN: usize = 300_000;
/// Epochs of at least, and at most, so many.
const EPOCHS: [usize; 2] = [6, 60];
/// Sides of images from the smallest, with those that training begins with: the share of all steps until which a size is
/// used, as measured for `cpu-10min` (24 of 32 pixels).
const SIDES: [(usize, &[(f64, usize)]); 3] =
    [(32, &[(0.4, 24)]), (48, &[(0.45, 32)]), (64, &[(0.45, 32), (0.75, 48)])];

/// Folders of fewer images than this take the included encoder, if they are of its kind. A judgement, not yet a measurement: the
/// included network has seen ten times as many, and an encoder of the folder's own takes its training time.
const ENOUGH: usize = 10_000;
/// Share of images that the included network has to see upright to be of use; chance is 0.25, on ordinary photographs it is 0.74
/// (`models/photos/README.md`).
const KNOWN: f64 = 0.5;
/// Settings that only matter where an encoder is trained.
const OF_TRAINING: [&str; 3] = ["pretrain.", "encoder.", "data.image_size="];

/// The included encoder, where that suits the folder better than one of its own: few images, which it knows the right way
/// up. Two lines say so. Settings of the training ask for an encoder of the folder's own.
///
/// # Errors
/// Those of the included network.
pub fn encoder(
    folder: &Path,
    settings: &Settings,
    reporter: &mut dyn Reporter,
) -> Result<Option<EncoderSource>> {
    let of_training = |set: &String| OF_TRAINING.iter().any(|key| set.trim_start().starts_with(key));
    let Some(found) = survey(folder, settings.labels.as_deref()) else {
        return Ok(None);
    };
    if found.images >= ENOUGH || settings.set.iter().any(of_training) {
        return Ok(None);
    }
    let source = EncoderSource::Included(&PHOTOS);
    let upright = apply::share_upright(&source, &found.sample)?.unwrap_or(0.0);
    if upright < KNOWN {
        return Ok(None);
    }
    reporter.report(Event::Note(&format!(
        "{}: {} images are few to learn from, and the network `{}` of this program sees {:.0} % of {} upright: its \
         encoder is taken (--from {})",
        folder.display(),
        found.images,
        PHOTOS.name,
        100.0 * upright,
        found.sample.len(),
        PHOTOS.name,
    )));
    reporter.report(Event::Note(&format!("--config {FOLDER} trains an encoder on the folder instead")));
    Ok(Some(source))
}

/// What is said where `recipe` was chosen for data that is no folder of images.
pub fn why(recipe: &str) -> String {
    match recipe {
        NOTHING => "no --config and no --data: recipe `quickstart`, few labels of generated images (`rotnet config list` lists \
                    the others)"
            .into(),
        other => format!("no --config: recipe `{other}` (`rotnet config list` lists the others)"),
    }
}

/// The config for the folder, with what `overrides` set; two lines say what was chosen and why.
///
/// # Errors
/// Those of [`Document::config`].
pub fn config(folder: &Path, mut overrides: Overrides, reporter: &mut dyn Reporter) -> Result<Config> {
    let recipe = Document::recipe(FOLDER)?;
    let asked = recipe.config(&overrides)?;
    let Some(found) = survey(folder, asked.data.labels.as_deref()) else {
        return Ok(asked);
    };
    let side = match overrides.names("data.image_size") {
        true => asked.data.image_size,
        false => suitable_side(found.side),
    };
    overrides.set("data.image_size", side);
    if let Some((_, sizes)) = SIDES.iter().find(|(known, _)| *known == side)
        && !overrides.names("pretrain.sizes")
    {
        let sizes = sizes.iter().map(|(until, size)| serde_json::json!({ "until": until, "size": size }));
        overrides.set("pretrain.sizes", sizes.collect::<Vec<_>>());
    }
    if !overrides.names("pretrain.epochs") && asked.pretrain.steps.is_none() {
        overrides.set("pretrain.epochs", epochs(found.images));
    }
    let config = recipe.config(&overrides)?;
    say(folder, found, &config, reporter);
    Ok(config)
}

/// The largest side that images do not have to be enlarged to.
fn suitable_side(found: usize) -> usize {
    SIDES.iter().rev().map(|(side, _)| *side).find(|&side| side <= found).unwrap_or(SIDES[0].0)
}

fn epochs(images: usize) -> usize {
    let [least, most] = EPOCHS;
    (SEEN / images.max(1)).clamp(least, most)
}

fn say(folder: &Path, Survey { images, side, .. }: Survey, config: &Config, reporter: &mut dyn Reporter) {
    let (size, epochs) = (config.data.image_size, config.pretrain.epochs);
    reporter.report(Event::Note(&format!(
        "{}: {images} images of {side} pixels on their shorter side (median); recipe `{FOLDER}` at {size}x{size} for {epochs} \
         epochs (--config chooses another)",
        folder.display()
    )));
    let times = (size * size) as f64 / (32.0 * 32.0);
    let smaller = match size > 32 {
        true => format!("; {size}x{size} takes {times:.1} times as long as 32x32 (--set data.image_size=32)"),
        false => String::new(),
    };
    reporter.report(Event::Note(&format!("--dry-run says how long this takes{smaller}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_not_enlarged_and_few_of_them_are_seen_more_often() {
        assert_eq!([20, 32, 47, 48, 63, 64, 3000].map(suitable_side), [32, 32, 32, 48, 48, 64, 64]);
        assert_eq!([0, 100, 10_000, 50_000, 1_000_000].map(epochs), [60, 60, 30, 6, 6]);
    }
}
