//! Image files to pixels: PNG, JPEG, WebP, BMP and GIF (its first frame), told apart by their content.
//!
//! The orientation that a camera wrote into the file (EXIF) is applied: rotation is the task, and a sideways
//! photograph is a wrong label. Transparent pixels are laid over white. Sizes are limited before anything is decoded, and
//! a decoder that panics on a damaged file costs only that file. Large JPEG files are decoded at a quarter of their size
//! where that is enough ([`reduced`]).

mod reduced;

use std::fs::{File, Metadata};
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use sha2::{Digest, Sha256};

use super::images::CHANNELS;
use super::rotation::Rotation;
use crate::error::{Error, Result};
use crate::files::hexadecimal;

/// Extensions of image files, in lower case.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];
/// Largest file read: an uncompressed image of the largest size below, and room for what lies beside it.
const MAX_FILE: u64 = 320 << 20;
/// Longest side: JPEG, GIF and WebP allow no more than 65,535, and panoramas stay under 30,000.
const MAX_SIDE: u32 = 32_768;
/// Most bytes of decoded pixels: 89 megapixels of 24 bits. Turning an image as its EXIF tag says takes them twice.
const MAX_PIXELS: u64 = 256 << 20;
/// Images that are so many times as long as wide are shown to the network in three squares. Photographs of 4:3 and 3:2 are.
const LONG: f64 = 1.2;
/// Quality of small pictures, of 100.
const JPEG_QUALITY: u8 = 80;
const HINT: &str = "save it again as PNG or JPEG with another program, or remove it";

/// What a file says about which way up its image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Nothing.
    Absent,
    /// That it is stored upright.
    Upright,
    /// That it is stored turned or mirrored.
    Turned,
}

/// A decoded image file, turned upright as its tag says.
pub struct Photo {
    image: DynamicImage,
    /// What the file says about which way up it is.
    pub tag: Tag,
    /// Whether it was decoded at a quarter of its size.
    pub reduced: bool,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub digest: String,
}

/// Whether a file has the extension of an image.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// Reads an image file for squares of `side` pixels; `None` for all of its pixels.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is not an image of a known format, damaged, or too large.
pub fn read(path: &Path, side: Option<usize>) -> Result<Photo> {
    let (bytes, _) = read_bytes(path)?;
    safely(&bytes, side).map_err(|problem| Error::data(path, problem, HINT))
}

/// The bytes of an image file, and what the system said of it just before they were read.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is too large.
pub fn read_bytes(path: &Path) -> Result<(Vec<u8>, Metadata)> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let facts = file.metadata().map_err(Error::io("read", path))?;
    let size = facts.len();
    if size > MAX_FILE {
        let problem = format!("is too large: {size} bytes, at most {MAX_FILE} are read");
        return Err(Error::data(path, problem, HINT));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok((bytes, facts))
}

/// Decodes all pixels of a file in memory; one whose decoder panics is refused.
///
/// # Errors
/// What is wrong with the file.
pub fn decode_safely(bytes: &[u8]) -> Result<Photo, String> {
    safely(bytes, None)
}

fn safely(bytes: &[u8], side: Option<usize>) -> Result<Photo, String> {
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(bytes, side)));
    decoded.unwrap_or_else(|_| Err("its decoder gave up on it".into()))
}

/// Decodes a file in memory, for squares of `side` pixels; `None` for all of its pixels. May panic if a decoder has a bug.
///
/// # Errors
/// What is wrong with the file.
pub fn decode(bytes: &[u8], side: Option<usize>) -> Result<Photo, String> {
    let problem = |error: image::ImageError| {
        let words: Vec<String> = error.to_string().split_whitespace().map(str::to_owned).collect();
        format!("cannot be decoded: {}", words.join(" "))
    };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    if bytes.is_empty() || reader.format().is_none() {
        return Err("is not an image: neither PNG, JPEG, WebP, BMP nor GIF".into());
    }
    let is_jpeg = reader.format() == Some(ImageFormat::Jpeg);
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_PIXELS);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(problem)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 || decoder.total_bytes() > MAX_PIXELS {
        let most = MAX_PIXELS >> 20;
        return Err(format!("{width}x{height} pixels are empty or take more than {most} MB"));
    }
    let exif = decoder.exif_metadata().ok().flatten();
    let tagged = exif.and_then(|chunk| Orientation::from_exif_chunk(&chunk));
    let small = match side.is_some_and(|side| is_jpeg && reduced::suffices([width, height], side)) {
        true => reduced::decode(bytes, [width, height])?,
        false => None,
    };
    let reduced = small.is_some();
    let mut image = match small {
        Some(small) => small,
        None => DynamicImage::from_decoder(decoder).map_err(problem)?,
    };
    image.apply_orientation(tagged.unwrap_or(Orientation::NoTransforms));
    let tag = match tagged {
        None => Tag::Absent,
        Some(Orientation::NoTransforms) => Tag::Upright,
        Some(_) => Tag::Turned,
    };
    Ok(Photo { image, tag, reduced, digest: hexadecimal(&Sha256::digest(bytes)) })
}

impl Photo {
    /// Width and height in pixels, upright, as it was decoded.
    pub fn size(&self) -> [u32; 2] {
        [self.image.width(), self.image.height()]
    }

    /// The largest square in the middle, resized to `side x side x 3` bytes by a triangle filter as wide as the pixels
    /// that become one; a square of that size already is taken as it is.
    pub fn square(self, side: usize) -> Vec<u8> {
        let image = over_white(self.image);
        let (width, height) = image.dimensions();
        let (cut, side) = (width.min(height), side as u32);
        let middle = imageops::crop_imm(&image, (width - cut) / 2, (height - cut) / 2, cut, cut);
        let square = match cut == side {
            true => middle.to_image(),
            false => imageops::resize(&*middle, side, side, FilterType::Triangle),
        };
        debug_assert_eq!(square.len(), (side * side) as usize * CHANNELS);
        square.into_raw()
    }

    /// Squares of `side x side x 3` bytes that show the image along its longer side: the middle, and where the image is
    /// at least 1.2 times as long as wide both ends as well, up to one square from the middle. Unlike [`square`](Self::square), which training
    /// sees, they are cut after resizing: the image is resized once.
    pub fn squares(self, side: usize) -> Vec<Vec<u8>> {
        let [width, height] = self.size();
        let cut = width.min(height);
        let longer = width.max(height);
        if f64::from(longer) < LONG * f64::from(cut) {
            return vec![self.square(side)];
        }
        let image = over_white(self.image);
        let shown = longer.min(2 * cut);
        let long = (side as u64 * u64::from(shown) / u64::from(cut)) as u32;
        let (side, wide) = (side as u32, width > height);
        let from = (longer - shown) / 2;
        let strip = match wide {
            true => imageops::crop_imm(&image, from, 0, shown, cut),
            false => imageops::crop_imm(&image, 0, from, cut, shown),
        };
        let [columns, rows] = if wide { [long, side] } else { [side, long] };
        let strip = imageops::resize(&*strip, columns, rows, FilterType::Triangle);
        let places = [0, (long - side) / 2, long - side];
        let square = |place: u32| match wide {
            true => imageops::crop_imm(&strip, place, 0, side, side).to_image().into_raw(),
            false => imageops::crop_imm(&strip, 0, place, side, side).to_image().into_raw(),
        };
        places.map(square).into()
    }

    /// The pixels themselves.
    #[cfg(test)]
    pub(crate) fn into_image(self) -> DynamicImage {
        self.image
    }

    /// The image with `rotation` undone.
    pub fn turned_back(mut self, rotation: Rotation) -> Self {
        self.image.apply_orientation(match rotation {
            Rotation::Upright => Orientation::NoTransforms,
            // The tag counts clockwise.
            Rotation::Quarter => Orientation::Rotate90,
            Rotation::Half => Orientation::Rotate180,
            Rotation::ThreeQuarters => Orientation::Rotate270,
        });
        self
    }

    /// Whether two images are the same to the bit.
    pub fn is_same_picture(&self, other: &Self) -> bool {
        self.image == other.image
    }

    /// Pictures no larger than `side` as JPEG files, transparent pixels laid over white: the image as it is, and with
    /// `rotation` undone.
    pub fn thumbnails(self, side: u32, rotation: Rotation) -> [Vec<u8>; 2] {
        let (width, height) = (self.image.width(), self.image.height());
        let Self { image, tag, reduced, .. } = self;
        let image = if width.max(height) > side { image.thumbnail(side, side) } else { image };
        let small = Self { image: over_white(image).into(), tag, reduced, digest: String::new() };
        let encode = |image: &DynamicImage| {
            let mut bytes = Vec::new();
            // Memory takes whatever is written, and no JPEG file is too large at this size.
            let _ = image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY));
            bytes
        };
        [encode(&small.image), encode(&small.turned_back(rotation).image)]
    }
}

/// Eight bits per channel, transparent pixels laid over white.
fn over_white(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    let mut flat = RgbImage::new(width, height);
    for (target, source) in flat.pixels_mut().zip(image.pixels()) {
        let alpha = u32::from(source[3]);
        for (target, &colour) in target.0.iter_mut().zip(&source.0) {
            let mixed = u32::from(colour) * alpha + 255 * (255 - alpha);
            *target = ((mixed + 127) / 255) as u8;
        }
    }
    flat
}

#[cfg(test)]
pub(crate) mod tests;
