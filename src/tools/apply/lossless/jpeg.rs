//! JPEG files, turned by their orientation tag: no byte of the picture changes.
//!
//! The segments in front of the picture are walked here, and not by a container crate: what is wanted is a handful of
//! edits, from which undoing follows, and such crates write the file anew (img-parts 0.4 without the fill bytes and stray
//! bytes between segments).

use std::ops::Range;

use super::edits::Edit;
use super::exif::{Tiff, minimal};
use super::tag::Tag;
use super::{mpf, xmp};

const EXIF: &[u8] = b"Exif\0\0";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
const MPF: &[u8] = b"MPF\0";
/// Start of a scan: the picture follows.
const SCAN: u8 = 0xda;
const END: u8 = 0xd9;
const APP0: u8 = 0xe0;
const APP1: u8 = 0xe1;
const APP2: u8 = 0xe2;
/// Most bytes of a segment's content; its length counts its own two bytes.
const LONGEST: usize = 65_533;

struct Segment {
    marker: u8,
    content: Range<usize>,
}

impl Segment {
    /// Whether it is an application's segment with this beginning.
    fn is(&self, bytes: &[u8], marker: u8, beginning: &[u8]) -> bool {
        self.marker == marker && bytes[self.content.clone()].starts_with(beginning)
    }
}

/// The segments in front of the first scan.
fn segments(bytes: &[u8]) -> Result<Vec<Segment>, String> {
    let damaged = || "its segments are damaged".to_owned();
    let mut segments = Vec::new();
    let mut at = 2;
    loop {
        // Decoders pass over stray bytes, and any number of fill bytes may come before a marker (T.81, B.1.1.2).
        at += bytes
            .get(at..)
            .and_then(|rest| rest.iter().position(|&byte| byte == 0xff))
            .ok_or_else(damaged)?;
        at += bytes[at..].iter().position(|&byte| byte != 0xff).ok_or_else(damaged)?;
        let marker = bytes[at];
        at += 1;
        match marker {
            SCAN => return Ok(segments),
            END => return Err(damaged()),
            // These have no content.
            0 | 0x01 | 0xd0..=0xd8 => continue,
            _ => {}
        }
        let length = bytes.get(at..at + 2).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]])));
        let length = length.filter(|&length| length >= 2).ok_or_else(damaged)?;
        let content = at + 2..at + length;
        if content.end > bytes.len() {
            return Err(damaged());
        }
        at = content.end;
        segments.push(Segment { marker, content });
    }
}

/// The edits after which the picture is turned clockwise by so many quarters.
///
/// # Errors
/// Why they cannot be made.
pub fn turn(bytes: &[u8], clockwise: u8) -> Result<Vec<Edit>, String> {
    let segments = segments(bytes)?;
    // As the decoder has it: one that ends with its name is none.
    let exif = |segment: &&Segment| segment.is(bytes, APP1, EXIF) && segment.content.len() > EXIF.len();
    let blocks: Vec<&Segment> = segments.iter().filter(exif).collect();
    let (value, mut edits) = match blocks[..] {
        [] => {
            let value = Tag::from_value(1).turned(clockwise).value();
            (value, vec![new_segment(&segments, value)])
        }
        [block] => in_segment(bytes, block, clockwise)?,
        _ => return Err("holds two blocks of EXIF data".into()),
    };
    if let Some(growth) = edits.iter().find(|edit| edit.remove == 0) {
        let (at, more) = (growth.at, growth.insert.len());
        for segment in segments.iter().filter(|segment| segment.is(bytes, APP2, MPF)) {
            edits.extend(mpf::moved(
                bytes,
                segment.content.start + MPF.len()..segment.content.end,
                at,
                more,
            )?);
        }
    }
    for segment in segments.iter().filter(|segment| segment.is(bytes, APP1, XMP)) {
        let packet = segment.content.start + XMP.len()..segment.content.end;
        edits.extend(
            xmp::with_orientation(&bytes[packet.clone()], value).into_iter().map(|e| e.shifted(packet.start)),
        );
    }
    edits.sort_by_key(|edit| edit.at);
    Ok(edits)
}

/// A segment with nothing but the tag, behind those of JFIF, which want to be the first.
fn new_segment(segments: &[Segment], value: u8) -> Edit {
    let jfif = segments.iter().take_while(|segment| segment.marker == APP0).last();
    let at = jfif.map_or(2, |segment| segment.content.end);
    let content = [EXIF, &minimal(value)].concat();
    let length = (content.len() + 2) as u16;
    Edit::insert(at, [&[0xff, APP1][..], &length.to_be_bytes(), &content].concat())
}

fn in_segment(bytes: &[u8], segment: &Segment, clockwise: u8) -> Result<(u8, Vec<Edit>), String> {
    let start = segment.content.start + EXIF.len();
    let tiff = Tiff::new(&bytes[start..segment.content.end]).ok_or("its EXIF data are damaged")?;
    let now = Tag::from_value(tiff.orientation()?.map_or(1, |(_, value)| value));
    let value = now.turned(clockwise).value();
    let mut edits = tiff.with_orientation(value)?;
    edits.iter_mut().for_each(|edit| edit.at += start);
    let growth: usize = edits.iter().map(|edit| edit.insert.len() - edit.remove).sum();
    if growth > 0 {
        let length = segment.content.len() + growth;
        if length > LONGEST {
            return Err("its EXIF data have no room for an orientation tag".into());
        }
        edits.push(Edit::overwrite(segment.content.start - 2, (length as u16 + 2).to_be_bytes()));
    }
    Ok((value, edits))
}
