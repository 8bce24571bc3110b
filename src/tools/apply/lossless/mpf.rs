//! Multi-picture data (CIPA DC-007): where further pictures lie behind the first, such as previews and depth maps.

use std::ops::Range;

use super::edits::Edit;
use super::exif::Tiff;

/// Number of the tag with the list of pictures.
const PICTURES: u16 = 0xb002;
/// Bytes of a picture in that list: attribute, size, place, two numbers of others.
const PICTURE: usize = 16;

/// The edits of the list in `block` (from its TIFF header on) for a file to which `more` bytes come at `at`, in front of
/// the first picture's scan. Places count from the header; 0 stands for the first picture, which begins with the file.
///
/// # Errors
/// Why the places cannot be corrected.
pub fn moved(bytes: &[u8], block: Range<usize>, at: usize, more: usize) -> Result<Vec<Edit>, String> {
    let damaged = || "an orientation tag would move its further pictures, whose list is damaged".to_owned();
    let tiff = Tiff::new(&bytes[block.clone()]).ok_or_else(damaged)?;
    let directory = tiff.directory().ok_or_else(damaged)?;
    let mut edits = Vec::new();
    for entry in tiff.entries(directory, PICTURES) {
        let length = tiff.long(entry + 4).ok_or_else(damaged)? as usize;
        let list = tiff.long(entry + 8).ok_or_else(damaged)? as usize;
        if !length.is_multiple_of(PICTURE) || list.checked_add(length).is_none_or(|end| end > block.len()) {
            return Err(damaged());
        }
        for picture in (list..list + length).step_by(PICTURE) {
            let [size, place] = [picture + 4, picture + 8].map(|at| tiff.long(at));
            let (size, place) = size.zip(place).ok_or_else(damaged)?;
            let behind = at > block.start && block.start + place as usize >= at;
            let (field, value) = match place {
                0 => (picture + 4, size),
                _ if behind => (picture + 8, place),
                _ => continue,
            };
            let value =
                u32::try_from(more).ok().and_then(|more| value.checked_add(more)).ok_or_else(damaged)?;
            edits.push(Edit::overwrite(block.start + field, tiff.long_bytes(value)));
        }
    }
    Ok(edits)
}
