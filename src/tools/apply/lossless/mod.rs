//! Image files turned without loss: bytes in, bytes out, and the reason where that cannot be.
//!
//! A JPEG or WebP file is turned by its orientation tag: a few edits of the container, and not a byte of the picture. A
//! PNG file is turned with its pixels, its other chunks as they are. A turn adds to what the tag of a file says already.

mod edits;
mod exif;
mod jpeg;
mod mpf;
mod png;
mod tag;
#[cfg(test)]
mod tests;
mod webp;
mod xmp;

use serde::{Deserialize, Serialize};

pub use edits::{Edit, apply, inverse};

/// How a file is turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// By its orientation tag.
    Tag,
    /// With its pixels.
    Pixels,
}

/// How a file would be turned, and what to know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// How.
    pub how: How,
    /// What a user may not expect.
    pub warning: Option<String>,
}

/// What is to become of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A few of them change.
    Edits(Vec<Edit>),
    /// It is another file.
    Whole(Vec<u8>),
}

enum Format {
    Jpeg,
    Png,
    Webp,
}

impl Format {
    fn of(bytes: &[u8]) -> Result<Self, String> {
        let name = match bytes {
            [0xff, 0xd8, 0xff, ..] => return Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', ..] => return Ok(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return Ok(Self::Webp),
            [b'G', b'I', b'F', ..] => "GIF files have no orientation tag, and may be animated",
            [b'B', b'M', ..] => "BMP files have no orientation tag",
            _ => "files of this kind are not turned",
        };
        Err(name.into())
    }
}

/// How a file would be turned by a quarter.
///
/// # Errors
/// Why it cannot be.
pub fn way(bytes: &[u8]) -> Result<Way, String> {
    Ok(match Format::of(bytes)? {
        Format::Jpeg => {
            jpeg::turn(bytes, 1)?;
            Way { how: How::Tag, warning: None }
        }
        Format::Webp => {
            webp::turn(bytes, 1)?;
            Way { how: How::Tag, warning: Some(webp::WARNING.into()) }
        }
        Format::Png => Way { how: How::Pixels, warning: png::way(bytes)? },
    })
}

/// Turns a file's picture clockwise by so many quarters.
///
/// # Errors
/// Why that cannot be.
pub fn turn(bytes: &[u8], clockwise: u8) -> Result<Change, String> {
    Ok(match Format::of(bytes)? {
        Format::Jpeg => Change::Edits(jpeg::turn(bytes, clockwise)?),
        Format::Webp => Change::Edits(webp::turn(bytes, clockwise)?),
        Format::Png => Change::Whole(png::turn(bytes, clockwise)?),
    })
}
