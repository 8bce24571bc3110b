//! WebP files, turned by the orientation tag in their container (RFC 9649, section 2.7): no byte of the picture changes.

use std::ops::Range;

use super::edits::Edit;
use super::exif::{Tiff, minimal};
use super::tag::Tag;
use super::xmp;

/// What to know of a turned file.
pub const WARNING: &str = "some programs ignore the orientation of WebP files";
/// Bytes in front of the first chunk: `RIFF`, the size of what follows, `WEBP`.
const HEADER: usize = 12;
/// Flags of the extended layout.
const HAS_EXIF: u8 = 0x08;
const HAS_ALPHA: u8 = 0x10;

struct Chunk {
    name: [u8; 4],
    /// Where its header begins.
    at: usize,
    content: Range<usize>,
}

impl Chunk {
    /// Where the next begins.
    fn end(&self) -> usize {
        self.content.end + self.content.len() % 2
    }
}

/// The chunks, and where the last one ends; what lies behind is no part of the container.
fn chunks(bytes: &[u8]) -> Result<(Vec<Chunk>, usize), String> {
    let damaged = || "its chunks are damaged".to_owned();
    let long = |at: usize| {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(four) as usize)
    };
    let end =
        long(4).and_then(|size| size.checked_add(8)).filter(|&end| end <= bytes.len()).ok_or_else(damaged)?;
    let (mut chunks, mut at) = (Vec::new(), HEADER);
    while at < end {
        let name = bytes[at..].first_chunk().copied().ok_or_else(damaged)?;
        let size = long(at + 4).ok_or_else(damaged)?;
        let content = at + 8..(at + 8).checked_add(size).ok_or_else(damaged)?;
        let chunk = Chunk { name, at, content };
        if chunk.end() > end {
            return Err(damaged());
        }
        at = chunk.end();
        chunks.push(chunk);
    }
    Ok((chunks, end))
}

/// The edits after which the picture is turned clockwise by so many quarters.
///
/// # Errors
/// Why they cannot be made.
pub fn turn(bytes: &[u8], clockwise: u8) -> Result<Vec<Edit>, String> {
    let (chunks, end) = chunks(bytes)?;
    let first = chunks.first().ok_or("its chunks are damaged")?;
    let extended = first.name == *b"VP8X" && first.content.len() >= 10;
    let flags = if extended { bytes[first.content.start] } else { 0 };
    if chunks.iter().any(|chunk| matches!(&chunk.name, b"ANIM" | b"ANMF")) {
        return Err("animated WebP files are not turned".into());
    }
    let blocks: Vec<&Chunk> = chunks.iter().filter(|chunk| chunk.name == *b"EXIF").collect();
    let (value, mut edits) = match blocks[..] {
        [] => {
            let value = Tag::from_value(1).turned(clockwise).value();
            let behind = chunks.iter().find(|chunk| chunk.name == *b"XMP ").map_or(end, |chunk| chunk.at);
            (value, vec![Edit::insert(behind, chunk(*b"EXIF", &minimal(value)))])
        }
        [block] if extended => in_chunk(bytes, block, flags, clockwise)?,
        _ => return Err("its EXIF data lie where programs do not look for them".into()),
    };
    if !extended {
        edits.insert(0, Edit::insert(HEADER, extended_header(bytes, first)?));
    } else if flags & HAS_EXIF == 0 {
        edits.push(Edit::overwrite(first.content.start, [flags | HAS_EXIF]));
    }
    let growth: usize = edits.iter().map(|edit| edit.insert.len() - edit.remove).sum();
    if growth > 0 {
        let size = u32::try_from(end - 8 + growth).map_err(|_| "it is too large for another tag")?;
        edits.push(Edit::overwrite(4, size.to_le_bytes()));
    }
    for chunk in chunks.iter().filter(|chunk| chunk.name == *b"XMP ") {
        let found = xmp::with_orientation(&bytes[chunk.content.clone()], value);
        edits.extend(found.into_iter().map(|edit| edit.shifted(chunk.content.start)));
    }
    edits.sort_by_key(|edit| edit.at);
    Ok(edits)
}

fn in_chunk(bytes: &[u8], block: &Chunk, flags: u8, clockwise: u8) -> Result<(u8, Vec<Edit>), String> {
    let tiff = Tiff::new(&bytes[block.content.clone()]).ok_or("its EXIF data are damaged")?;
    let now = Tag::from_value(tiff.orientation()?.map_or(1, |(_, value)| value));
    if flags & HAS_EXIF == 0 && now.value() != 1 {
        return Err("its EXIF data are there, but its header says that they are not".into());
    }
    let value = now.turned(clockwise).value();
    let mut edits = tiff.with_orientation(value)?;
    let growth: usize = edits.iter().map(|edit| edit.insert.len() - edit.remove).sum();
    if growth > 0 {
        let length = block.content.len() + growth;
        // The block began at an even place and grew by what ends at one, so that no padding follows any more; that of the
        // shorter block is the padding in front of the new directory.
        if let Some(edit) = edits.last_mut().filter(|_| block.content.len() % 2 == 1) {
            edit.remove = 1;
        }
        let size = u32::try_from(length).map_err(|_| "it is too large for another tag")?;
        edits.iter_mut().for_each(|edit| edit.at += block.content.start);
        edits.push(Edit::overwrite(block.at + 4, size.to_le_bytes()));
    } else {
        edits.iter_mut().for_each(|edit| edit.at += block.content.start);
    }
    Ok((value, edits))
}

fn chunk(name: [u8; 4], content: &[u8]) -> Vec<u8> {
    let padding = &[0][..content.len() % 2];
    [&name[..], &(content.len() as u32).to_le_bytes(), content, padding].concat()
}

/// The chunk that a file in the simple layout needs in front of its picture.
fn extended_header(bytes: &[u8], picture: &Chunk) -> Result<Vec<u8>, String> {
    let content = &bytes[picture.content.clone()];
    let (width, height, alpha) = match (&picture.name, content) {
        // RFC 6386, section 9.1: a start code, then 14 bits each.
        (b"VP8 ", [_, _, _, 0x9d, 0x01, 0x2a, a, b, c, d, ..]) => {
            let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            (side(*a, *b), side(*c, *d), false)
        }
        // RFC 9649, section 3.4: 14 bits each, less one, then whether there is transparency.
        (b"VP8L", [0x2f, a, b, c, d, ..]) => {
            let bits = u32::from_le_bytes([*a, *b, *c, *d]);
            ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, bits >> 28 & 1 == 1)
        }
        _ => return Err("its chunks are damaged".into()),
    };
    if width == 0 || height == 0 {
        return Err("its chunks are damaged".into());
    }
    let flags = HAS_EXIF | if alpha { HAS_ALPHA } else { 0 };
    let [width, height] = [width, height].map(|side| (side - 1).to_le_bytes());
    Ok(chunk(*b"VP8X", &[&[flags, 0, 0, 0][..], &width[..3], &height[..3]].concat()))
}
