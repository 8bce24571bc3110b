//! Random changes to training images, on bytes and before the rotation.
//!
//! What happens to an image depends on seed, epoch and the image's index alone, so that its four rotated copies show the
//! same crop. Validation, extraction and test see the plain image.

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::images::{CHANNELS, Images};
use crate::error::{Error, Result};
use crate::math::random::{Purpose, generator};

/// Data augmentation. The defaults are those of Gidaris, Singh, Komodakis 2018 (their code: `RandomCrop(32,
/// padding=4)`, `RandomHorizontalFlip`, then the rotation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentConfig {
    /// Random crop: pad each side by this many pixels, then cut out a window of the image's size. 0: no crop.
    #[schemars(range(min = 0, max = MAX_PADDING))]
    pub crop_padding: usize,
    /// Padding: `zero` (black) or `reflect` (the image mirrored at its edge).
    pub padding: Padding,
    /// Mirror half of the images left to right, at random: `none` or `before-rotation` (in `finetune`: before the network).
    pub flip: Flip,
    /// Multiply brightness by a random factor within 1 ± this.
    #[schemars(range(min = 0, max = 1))]
    pub brightness: f64,
    /// Multiply contrast (distance from the image's mean grey) by a random factor within 1 ± this.
    #[schemars(range(min = 0, max = 1))]
    pub contrast: f64,
    /// Multiply saturation (distance from the pixel's grey) by a random factor within 1 ± this.
    #[schemars(range(min = 0, max = 1))]
    pub saturation: f64,
}

/// What lies beyond the edge of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// Black.
    Zero,
    /// The image mirrored, its edge not repeated (numpy's `reflect`).
    Reflect,
}

/// Whether images are mirrored left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// Never.
    None,
    /// Half of the images, at random.
    BeforeRotation,
    /// Refused: mirroring a rotated image swaps 90 and 270 degrees.
    AfterRotation,
}

impl Default for AugmentConfig {
    fn default() -> Self {
        Self {
            crop_padding: 4,
            padding: Padding::Zero,
            flip: Flip::BeforeRotation,
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
        }
    }
}

/// Widest padding: half of CIFAR-10's images.
const MAX_PADDING: usize = 16;

impl AugmentConfig {
    /// Checks every value against its range; `section` names it in the message.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key, the range and the value.
    pub fn validate(&self, section: &str) -> Result<()> {
        let refuse = |key: &str, problem: String| {
            let path = format!("{section}.{key}");
            Err(Error::config(path, problem))
        };
        if self.flip == Flip::AfterRotation {
            let reason = "a flip after the rotation swaps 90 and 270 degrees and caps the task at 75 %";
            return refuse("flip", reason.into());
        }
        if self.crop_padding > MAX_PADDING {
            let problem = format!("must be at most {MAX_PADDING}, got {}", self.crop_padding);
            return refuse("crop_padding", problem);
        }
        for (key, value) in
            [("brightness", self.brightness), ("contrast", self.contrast), ("saturation", self.saturation)]
        {
            if !(0.0..=1.0).contains(&value) {
                return refuse(key, format!("must be at least 0 and at most 1, got {value}"));
            }
        }
        Ok(())
    }
}

/// The random changes of one run.
#[derive(Clone, Debug)]
pub(crate) struct Augmentation {
    config: AugmentConfig,
    seed: u64,
}

/// The image changed last, kept because rotated copies often follow each other.
#[derive(Default)]
pub(crate) struct Changed {
    index: Option<usize>,
    pixels: Vec<u8>,
}

impl Augmentation {
    pub(crate) fn new(config: &AugmentConfig, seed: u64) -> Self {
        Self { config: config.clone(), seed }
    }

    /// Image `index` as changed in `epoch`; `changed` must be used in one epoch only.
    pub(crate) fn apply<'a>(
        &self,
        images: &Images,
        index: usize,
        epoch: u64,
        changed: &'a mut Changed,
    ) -> &'a [u8] {
        if changed.index != Some(index) {
            changed.index = Some(index);
            changed.pixels.resize(images.values(), 0);
            self.change(images, index, epoch, &mut changed.pixels);
        }
        &changed.pixels
    }

    /// What lies beyond the edge of an image and how far it reaches, if images are only moved; `None` if colours change
    /// too.
    pub(crate) fn edge(&self) -> Option<(Padding, usize)> {
        let AugmentConfig { brightness, contrast, saturation, padding, crop_padding, .. } = self.config;
        (brightness + contrast + saturation == 0.0).then_some((padding, crop_padding))
    }

    /// Whether image `index` is mirrored in `epoch`, and how far it is moved: down and right.
    pub(crate) fn place(&self, index: usize, epoch: u64) -> (bool, [i32; 2]) {
        let draw = self.draw(index, epoch);
        (draw.mirrored, draw.shift)
    }

    fn draw(&self, index: usize, epoch: u64) -> Draw {
        let config = &self.config;
        let mut random = generator(self.seed, Purpose::Augment, epoch, index as u64);
        // Everything is drawn always, so that switching one change off leaves the others as they are.
        let reach = config.crop_padding as i64;
        let mut place = || random.random_range(-reach..=reach) as i32;
        let shift = [place(), place()];
        let mirrored = random.random::<bool>() && config.flip == Flip::BeforeRotation;
        let mut around_one = |reach: f64| 1.0 + reach as f32 * random.random_range(-1.0f32..=1.0);
        let jitter = Jitter {
            brightness: around_one(config.brightness),
            contrast: around_one(config.contrast),
            saturation: around_one(config.saturation),
        };
        Draw { shift, mirrored, jitter }
    }

    fn change(&self, images: &Images, index: usize, epoch: u64, out: &mut [u8]) {
        let draw = self.draw(index, epoch);
        shift(images.image(index), images.width, draw.shift, self.config.padding, out);
        if draw.mirrored {
            mirror(out, images.width);
        }
        if draw.jitter != Jitter::NONE {
            draw.jitter.apply(out);
        }
    }
}

/// What happens to an image in an epoch.
struct Draw {
    /// Down and right.
    shift: [i32; 2],
    mirrored: bool,
    jitter: Jitter,
}

/// Moves an image so that pixel (y, x) of `out` is pixel (y + down, x + right) of `image`.
fn shift(image: &[u8], width: usize, [down, right]: [i32; 2], padding: Padding, out: &mut [u8]) {
    let row_length = width * CHANNELS;
    let height = image.len() / row_length;
    // Columns of `out` that are inside the image.
    let first = (-right).clamp(0, width as i32) as usize;
    let last = (width as i32 - right).clamp(0, width as i32) as usize;
    for (y, out) in out.chunks_exact_mut(row_length).enumerate() {
        let Some(y) = inside(y as i32 + down, height, padding) else {
            out.fill(0);
            continue;
        };
        let row = &image[y * row_length..][..row_length];
        let start = (first as i32 + right).clamp(0, width as i32) as usize * CHANNELS;
        let middle = last.saturating_sub(first) * CHANNELS;
        out[first * CHANNELS..][..middle].copy_from_slice(&row[start..][..middle]);
        for x in (0..first).chain(last.max(first)..width) {
            let pixel = &mut out[x * CHANNELS..][..CHANNELS];
            match inside(x as i32 + right, width, padding) {
                Some(x) => pixel.copy_from_slice(&row[x * CHANNELS..][..CHANNELS]),
                None => pixel.fill(0),
            }
        }
    }
}

/// Which place in 0..length is shown at a place in or beyond that range.
fn inside(place: i32, length: usize, padding: Padding) -> Option<usize> {
    let last = length as i32 - 1;
    match padding {
        _ if (0..=last).contains(&place) => Some(place as usize),
        Padding::Zero => None,
        // An image smaller than its padding shows its edge where its mirror image ends.
        Padding::Reflect if place < 0 => Some((-place).min(last) as usize),
        Padding::Reflect => Some((2 * last - place).max(0) as usize),
    }
}

/// Swaps left and right.
fn mirror(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(width * CHANNELS) {
        let (pixels, _) = row.as_chunks_mut::<CHANNELS>();
        pixels.reverse();
    }
}

/// Factors of brightness, contrast and saturation, applied in this order.
#[derive(Clone, Copy, PartialEq)]
struct Jitter {
    brightness: f32,
    contrast: f32,
    saturation: f32,
}

/// Weights of red, green and blue in grey (ITU-R BT.601, as in Pillow and torchvision).
const GREY: [f32; CHANNELS] = [0.299, 0.587, 0.114];

impl Jitter {
    const NONE: Self = Self { brightness: 1.0, contrast: 1.0, saturation: 1.0 };

    fn apply(&self, pixels: &mut [u8]) {
        let (pixels, _) = pixels.as_chunks_mut::<CHANNELS>();
        let mut sums = [0u32; CHANNELS];
        for pixel in pixels.iter() {
            for (sum, &byte) in sums.iter_mut().zip(pixel) {
                *sum += u32::from(byte);
            }
        }
        let mean = grey(sums.map(|sum| sum as f32 / pixels.len() as f32));
        // Brightness and contrast make a + b x of x; saturation goes from the grey of that.
        let a = mean * self.brightness * (1.0 - self.contrast);
        let b = self.brightness * self.contrast;
        let (own, shared) = (b * self.saturation, b * (1.0 - self.saturation));
        for pixel in pixels {
            let colours = pixel.map(f32::from);
            let base = a + shared * grey(colours) + 0.5;
            *pixel = colours.map(|colour| (base + own * colour) as u8); // saturates at 0 and 255
        }
    }
}

fn grey(colours: [f32; CHANNELS]) -> f32 {
    colours[0] * GREY[0] + colours[1] * GREY[1] + colours[2] * GREY[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 rows of 3 pixels, whose red is 1 to 6, green 10 times and blue 20 times that.
    fn small() -> Vec<u8> {
        (1..=6).flat_map(|n| [n, 10 * n, 20 * n]).collect()
    }

    fn reds(pixels: &[u8]) -> Vec<u8> {
        pixels.iter().copied().step_by(CHANNELS).collect()
    }

    #[test]
    fn a_shifted_image_is_filled_with_black_or_its_mirror_image() {
        let shifted = |by, padding| {
            let mut out = vec![9; 18];
            shift(&small(), 3, by, padding, &mut out);
            reds(&out)
        };
        assert_eq!(shifted([0, 0], Padding::Zero), [1, 2, 3, 4, 5, 6]);
        assert_eq!(shifted([1, 1], Padding::Zero), [5, 6, 0, 0, 0, 0]);
        assert_eq!(shifted([-1, -2], Padding::Zero), [0, 0, 0, 0, 0, 1]);
        // numpy.pad(np.arange(1, 7).reshape(2, 3), ((1, 1), (2, 2)), "reflect"): 6 5 4 5 6 5 4 / 3 2 1 2 3 2 1 / ...
        assert_eq!(shifted([-1, -2], Padding::Reflect), [6, 5, 4, 3, 2, 1]);
        assert_eq!(shifted([1, 2], Padding::Reflect), [6, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn a_mirrored_image_keeps_its_colours() {
        let mut pixels = small();
        mirror(&mut pixels, 3);
        assert_eq!(reds(&pixels), [3, 2, 1, 6, 5, 4]);
        assert_eq!(pixels[..3], [3, 30, 60]);
    }

    #[test]
    fn jitter_is_what_its_factors_say() {
        let applied = |jitter: Jitter| {
            let mut pixels = vec![100, 100, 100, 200, 200, 200];
            jitter.apply(&mut pixels);
            pixels
        };
        let none = Jitter::NONE;
        assert_eq!(applied(none), [100, 100, 100, 200, 200, 200]);
        let brightness = 1.5;
        assert_eq!(applied(Jitter { brightness, ..none }), [150, 150, 150, 255, 255, 255]);
        let contrast = 0.5;
        assert_eq!(applied(Jitter { contrast, ..none }), [125, 125, 125, 175, 175, 175]);
        let mut red = vec![255, 0, 0];
        Jitter { saturation: 0.0, ..none }.apply(&mut red);
        assert_eq!(red, [76, 76, 76]);
    }

    #[test]
    fn an_image_changes_with_seed_epoch_and_index_and_with_nothing_else() {
        let images = Images {
            pixels: (0..=250).cycle().take(2 * 8 * 8 * 3).collect(),
            labels: vec![0; 2],
            height: 8,
            width: 8,
        };
        let changed = |seed, epoch, index| {
            let augmentation = Augmentation::new(&AugmentConfig::default(), seed);
            let mut changed = Changed::default();
            augmentation.apply(&images, index, epoch, &mut changed).to_vec()
        };
        assert_eq!(changed(1, 2, 0), changed(1, 2, 0));
        let epochs: std::collections::BTreeSet<_> = (0..40).map(|epoch| changed(1, epoch, 0)).collect();
        assert!(epochs.len() > 20);
        assert_ne!(
            (0..9).map(|seed| changed(seed, 0, 0)).collect::<Vec<_>>(),
            (0..9).map(|seed| changed(seed, 0, 1)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_flip_after_the_rotation_and_values_out_of_range_are_refused() {
        let problem = |text: &str| {
            let config: AugmentConfig = serde_json::from_str(text).unwrap();
            config.validate("pretrain.augment").unwrap_err().to_string()
        };
        assert_eq!(
            problem(r#"{"flip": "after-rotation"}"#),
            "pretrain.augment.flip: a flip after the rotation swaps 90 and 270 degrees and caps the task at 75 %"
        );
        assert!(problem(r#"{"crop_padding": 17}"#).starts_with("pretrain.augment.crop_padding: "));
        assert!(problem(r#"{"contrast": 1.5}"#).starts_with("pretrain.augment.contrast: "));
        assert!(AugmentConfig::default().validate("").is_ok());
    }
}
