//! One image turned: read, changed without loss, compared, and written where it belongs.

use std::fs::Metadata;
use std::path::Path;

use super::files::ImageFile;
use super::log::Log;
use super::lossless::{self, Change, How};
use super::targets::{Targets, Written};
use crate::data::{Photo, Rotation, decode_photo, read_photo_bytes};
use crate::error::{Error, Result};
use crate::files::sha256;

/// A file that is to be turned.
pub(super) struct Old {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their SHA-256.
    pub digest: String,
    /// What the system said of it when they were read.
    pub facts: Metadata,
}

impl Old {
    /// Reads a file that had this digest when it was looked at.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Data`] if it was changed since.
    pub fn read(path: &Path, digest: &str) -> Result<Self> {
        let (bytes, facts) = read_photo_bytes(path)?;
        let found = sha256(&bytes);
        if found != digest {
            let problem = "was changed since it was looked at, and is left as it is";
            return Err(Error::data(path, problem, "run `rotnet orient` on it again"));
        }
        Ok(Self { bytes, digest: found, facts })
    }
}

/// What a file becomes.
pub(super) struct New {
    /// Its new bytes.
    pub bytes: Vec<u8>,
    /// Whether a few edits lead there, and which ones lead back.
    pub back: Option<Vec<lossless::Edit>>,
}

impl New {
    /// How the file was turned.
    pub fn how(&self) -> How {
        if self.back.is_some() { How::Tag } else { How::Pixels }
    }
}

/// Undoes `rotation` of a file and writes the result to its target; says how.
///
/// # Errors
/// Those of [`Old::read`] and of the place to write to; [`Error::Data`] if the file cannot be turned without loss.
pub(super) fn fix(
    file: &ImageFile,
    digest: &str,
    rotation: Rotation,
    targets: &Targets,
    (index, log): (usize, Option<&mut Log>),
) -> Result<Written> {
    let old = Old::read(&file.path, digest)?;
    let refuse = |reason: String| {
        Error::data(
            &file.path,
            format!("is not turned: {reason}"),
            "it is left as it is; turn it with another program",
        )
    };
    let new = turned(&old.bytes, rotation).map_err(refuse)?;
    targets.write(index, &old, &new, log)
}

/// A file with `rotation` undone, which was decoded and shows the old picture turned, to the bit.
///
/// # Errors
/// Why there is none.
fn turned(old: &[u8], rotation: Rotation) -> Result<New, String> {
    let damaged = || "its edits do not fit".to_owned();
    // So many quarters counter-clockwise are undone by as many clockwise.
    let new = match lossless::turn(old, rotation as u8)? {
        Change::Whole(bytes) => New { bytes, back: None },
        Change::Edits(edits) => New {
            bytes: lossless::apply(old, &edits).ok_or_else(damaged)?,
            back: Some(lossless::inverse(old, &edits).ok_or_else(damaged)?),
        },
    };
    same_picture(old, &new.bytes, rotation)?;
    Ok(new)
}

/// Makes sure that a file shows what another does with `rotation` undone.
fn same_picture(old: &[u8], new: &[u8], rotation: Rotation) -> Result<(), String> {
    let expected: Photo = decode_photo(old)?.turned_back(rotation);
    let found = decode_photo(new).map_err(|problem| format!("what was made of it {problem}"))?;
    match found.is_same_picture(&expected) {
        true => Ok(()),
        false => Err("what was made of it is not the same picture".into()),
    }
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::*;
    use crate::data::{picture, with_orientation};

    #[test]
    fn what_does_not_show_the_old_picture_turned_is_refused() {
        let jpeg = picture(24, 16, ImageFormat::Jpeg);
        assert!(same_picture(&jpeg, &with_orientation(&jpeg, 6), Rotation::Quarter).is_ok());
        for wrong in [with_orientation(&jpeg, 8), jpeg.clone(), picture(16, 24, ImageFormat::Jpeg)] {
            let problem = same_picture(&jpeg, &wrong, Rotation::Quarter).unwrap_err();
            assert!(problem.contains("not the same picture"), "{problem}");
        }
        assert!(
            same_picture(&jpeg, &jpeg[..90], Rotation::Half).unwrap_err().starts_with("what was made of it")
        );
    }
}
