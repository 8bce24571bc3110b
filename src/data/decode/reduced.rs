//! Large JPEG files at a quarter of their size, by a smaller inverse transform: most of the work of decoding and all of
//! that of scaling down is saved. What this decoder does not read, the one for whole images is asked.
//!
//! Where the shorter side is still four times the wanted one, what aliases into the small image lies near the zeros of
//! the filter that a smaller transform is, and is damped at least sevenfold; the triangle filter that follows sees sixteen
//! pixels or more for each of its own. docs/speed.md has the measurements.

use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{Decoder, Error, PixelFormat};

/// Pixels along a side that become one. A half gains little over decoding all and scaling down (2 megapixels: 9.2 and 10.6
/// ms of one Zen 4 core), an eighth little more than a quarter (12 megapixels: 24 and 29 of 81 ms), for ten times the
/// difference to the whole image scaled down (1.1 of 255 on average, 0.1).
const REDUCTION: u32 = 4;
/// Times the wanted side that the shorter side of the reduced image must have.
const MARGIN: u32 = 4;

/// Whether an image of this size, reduced, shows enough for squares of `side` pixels.
pub fn suffices([width, height]: [u32; 2], side: usize) -> bool {
    (width.min(height) / REDUCTION) as usize >= side.saturating_mul(MARGIN as usize)
}

/// The image of a JPEG file of `width x height` pixels at a quarter of its size, without the columns and rows that do not
/// fill a pixel; `None` if the file is damaged or of a rarer kind.
///
/// # Errors
/// If the system is at its limits: another decoder must not decide on the pixels then.
pub fn decode(bytes: &[u8], [width, height]: [u32; 2]) -> Result<Option<DynamicImage>, String> {
    match catch_unwind(AssertUnwindSafe(|| pixels(bytes, [width, height]))) {
        Ok(Ok(image)) => Ok(image),
        Ok(Err(Error::Io(error))) if error.kind() != ErrorKind::UnexpectedEof => {
            Err(format!("cannot be decoded: {error}"))
        }
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

fn pixels(bytes: &[u8], [width, height]: [u32; 2]) -> Result<Option<DynamicImage>, Error> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.read_info()?;
    let known = decoder.info().is_some_and(|info| {
        [u32::from(info.width), u32::from(info.height)] == [width, height]
            && matches!(info.pixel_format, PixelFormat::RGB24 | PixelFormat::L8)
    });
    let [columns, rows] = [width, height].map(|side| side.div_ceil(REDUCTION));
    let (Ok(wide), Ok(high)) = (columns.try_into(), rows.try_into()) else { return Ok(None) };
    if !known || decoder.scale(wide, high)? != (wide, high) {
        return Ok(None);
    }
    let pixels = decoder.decode()?;
    let grey = pixels.len() == columns as usize * rows as usize;
    let image = match grey {
        true => GrayImage::from_raw(columns, rows, pixels).map(DynamicImage::from),
        false => RgbImage::from_raw(columns, rows, pixels).map(DynamicImage::from),
    };
    // The last column and row may stand for fewer pixels than the others.
    Ok(image.map(|image| image.crop_imm(0, 0, width / REDUCTION, height / REDUCTION)))
}
