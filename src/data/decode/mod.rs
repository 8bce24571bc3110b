//! Image files to pixels: PNG, JPEG, WebP, BMP and GIF (its first frame), told apart by their content.
//!
//! The orientation that a camera wrote into the file (EXIF) is applied: rotation is the task, and a sideways
//! photograph is a wrong label. Transparent pixels are laid over white. Sizes are limited before anything is decoded, and
//! a decoder that panics on a damaged file costs only that file.

use std::fs::{self, File};
use std::io::{self, Cursor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits, RgbImage};
use sha2::{Digest, Sha256};

use super::images::CHANNELS;
use super::rotation::Rotation;
use crate::error::{Error, Result};
use crate::files::{hexadecimal, write_atomically};

/// Extensions of image files, in lower case.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];
/// Largest file read: an uncompressed image of the largest size below, and room for what lies beside it.
const MAX_FILE: u64 = 320 << 20;
/// Longest side: JPEG, GIF and WebP allow no more than 65,535, and panoramas stay under 30,000.
const MAX_SIDE: u32 = 32_768;
/// Most bytes of decoded pixels: 89 megapixels of 24 bits. Turning an image as its EXIF tag says takes them twice.
const MAX_PIXELS: u64 = 256 << 20;
/// Quality of the JPEG files written, of 100: above it files grow faster than errors shrink.
const JPEG_QUALITY: u8 = 95;
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
    format: ImageFormat,
    colours: Option<Vec<u8>>,
    /// What the file says about which way up it is.
    pub tag: Tag,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub digest: String,
}

/// Whether a file has the extension of an image.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// Reads an image file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is not an image of a known format, damaged, or too large.
pub fn read(path: &Path) -> Result<Photo> {
    let refuse = |problem: String| Error::data(path, problem, HINT);
    let size = File::open(path).and_then(|file| file.metadata()).map_err(Error::io("read", path))?.len();
    if size > MAX_FILE {
        return Err(refuse(format!("is too large: {size} bytes, at most {MAX_FILE} are read")));
    }
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&bytes)));
    decoded.unwrap_or_else(|_| Err("its decoder gave up on it".into())).map_err(refuse)
}

/// Decodes a file in memory. May panic if a decoder has a bug.
///
/// # Errors
/// What is wrong with the file.
pub fn decode(bytes: &[u8]) -> Result<Photo, String> {
    let problem = |error: image::ImageError| {
        let words: Vec<String> = error.to_string().split_whitespace().map(str::to_owned).collect();
        format!("cannot be decoded: {}", words.join(" "))
    };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let Some(format) = reader.format().filter(|_| !bytes.is_empty()) else {
        return Err("is not an image: neither PNG, JPEG, WebP, BMP nor GIF".into());
    };
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
    let colours = decoder.icc_profile().ok().flatten();
    let mut image = DynamicImage::from_decoder(decoder).map_err(problem)?;
    image.apply_orientation(tagged.unwrap_or(Orientation::NoTransforms));
    let tag = match tagged {
        None => Tag::Absent,
        Some(Orientation::NoTransforms) => Tag::Upright,
        Some(_) => Tag::Turned,
    };
    Ok(Photo { image, format, colours, tag, digest: hexadecimal(&Sha256::digest(bytes)) })
}

impl Photo {
    /// Width and height in pixels, upright.
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

    /// Writes the image, [`encoded`](Self::encoded), whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let encoded = self.encoded(path)?;
        write_atomically(path, |out| out.write_all(&encoded))
    }

    /// The image as a file in the format that it was read from, with its colour profile but no other metadata, so that no
    /// tag turns it again. `path` is named in errors.
    ///
    /// # Errors
    /// [`Error::Io`] if the encoder fails.
    pub fn encoded(&self, path: &Path) -> Result<Vec<u8>> {
        self.encode().map_err(|error| Error::io("write", path)(io::Error::other(error)))
    }

    fn encode(&self) -> image::ImageResult<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.format {
            ImageFormat::Jpeg => self.encode_with(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))?,
            ImageFormat::Png => self.encode_with(PngEncoder::new(&mut bytes))?,
            ImageFormat::WebP => self.encode_with(WebPEncoder::new_lossless(&mut bytes))?,
            other => self.image.write_to(&mut Cursor::new(&mut bytes), other)?,
        }
        Ok(bytes)
    }

    fn encode_with(&self, mut encoder: impl ImageEncoder) -> image::ImageResult<()> {
        if let Some(profile) = &self.colours {
            // Formats that cannot hold a profile show the colours as sRGB.
            let _ = encoder.set_icc_profile(profile.clone());
        }
        self.image.write_with_encoder(encoder)
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
