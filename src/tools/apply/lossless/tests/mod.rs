//! Generated files in every combination, turned: the picture is the old one turned, everything else is there, and undoing
//! gives the old bytes.

mod jpeg;
mod png;
mod webp;

use image::DynamicImage;
use image::metadata::Orientation;
use proptest::prelude::*;

use super::{Change, apply, inverse, turn};
use crate::data::decode;

/// What a block of EXIF data is made of.
#[derive(Clone, Debug)]
struct Exif {
    big: bool,
    /// The tag's value, where it has one.
    orientation: Option<u16>,
    /// A maker note, to which an offset points.
    note: Vec<u8>,
    /// Whether a directory for a thumbnail follows.
    second: bool,
}

fn exif() -> impl Strategy<Value = Exif> {
    let orientation = prop_oneof![1 => Just(None), 4 => (0..=9u16).prop_map(Some)];
    let note = proptest::collection::vec(any::<u8>(), 1..40);
    (any::<bool>(), orientation, note, any::<bool>()).prop_map(|(big, orientation, note, second)| Exif {
        big,
        orientation,
        note,
        second,
    })
}

impl Exif {
    fn block(&self) -> Vec<u8> {
        let short = |value: u16| if self.big { value.to_be_bytes() } else { value.to_le_bytes() };
        let long = |value: u32| if self.big { value.to_be_bytes() } else { value.to_le_bytes() };
        let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
            [&short(tag)[..], &short(kind), &long(count), &value].concat()
        };
        let value = |value: u16| [short(value), [0, 0]].concat().try_into().unwrap();
        let entries = 2 + u32::from(self.orientation.is_some());
        let first_end = 8 + 2 + 12 * entries + 4;
        let second_end = first_end + if self.second { 2 + 12 + 4 } else { 0 };
        let note_at = second_end + 2 + 12 + 4;
        let mut block = if self.big { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        block.extend(long(8));
        block.extend(short(entries as u16));
        block.extend(entry(0x0100, 3, 1, value(77)));
        block.extend(self.orientation.iter().flat_map(|&tag| entry(0x0112, 3, 1, value(tag))));
        block.extend(entry(0x8769, 4, 1, long(second_end)));
        block.extend(long(if self.second { first_end } else { 0 }));
        if self.second {
            block.extend([&short(1)[..], &entry(0x0112, 3, 1, value(1)), &long(0)].concat());
        }
        block.extend(short(1));
        block.extend(entry(0x927c, 7, self.note.len() as u32, long(note_at)));
        block.extend(long(0));
        block.extend(&self.note);
        block
    }

    /// What became of the block: where the tag was, its two bytes changed; where it was not, all is where it was but for
    /// the pointer to the first directory.
    fn check(&self, new: &[u8]) {
        let old = self.block();
        match self.orientation {
            Some(_) => {
                let at = 8 + 2 + 12 + 8;
                assert_eq!(new.len(), old.len());
                assert!(new[..at] == old[..at] && new[at + 2..] == old[at + 2..]);
            }
            None => {
                assert_eq!((&new[..4], &new[8..old.len()]), (&old[..4], &old[8..]));
                assert_eq!(new.len(), old.len().next_multiple_of(2) + 2 + 12 * 3 + 4);
            }
        }
    }
}

/// The pixels as a program shows them that honours the tag.
fn shown(bytes: &[u8]) -> DynamicImage {
    decode(bytes, None).unwrap().into_image()
}

/// Turns a file and looks at its picture; gives the new bytes.
fn turned(bytes: &[u8], clockwise: u8) -> Vec<u8> {
    let new = match turn(bytes, clockwise).unwrap() {
        Change::Whole(new) => new,
        Change::Edits(edits) => {
            let new = apply(bytes, &edits).unwrap();
            assert!(apply(&new, &inverse(bytes, &edits).unwrap()).unwrap() == bytes);
            new
        }
    };
    let mut expected = shown(bytes);
    expected.apply_orientation(
        [Orientation::NoTransforms, Orientation::Rotate90, Orientation::Rotate180, Orientation::Rotate270]
            [usize::from(clockwise)],
    );
    assert!(shown(&new) == expected, "another picture, {clockwise}");
    new
}

fn xmp(value: u16) -> Vec<u8> {
    format!("<x:xmpmeta><rdf:Description tiff:Orientation=\"{value}\" a=\"1\"/></x:xmpmeta>").into_bytes()
}

/// The same packet with the digit that belongs there.
fn check_xmp(old: &[u8], new: &[u8], value: u16) {
    let at = old.windows(2).position(|two| two == b"=\"").unwrap() + 2;
    let mut expected = old.to_vec();
    expected[at] = b'0' + value as u8;
    assert_eq!(new, expected);
}

/// The value that the tag should have.
fn composed(old: Option<u16>, clockwise: u8) -> u16 {
    let cycles = [[1, 6, 3, 8], [2, 7, 4, 5]];
    let old = old.filter(|value| (1..=8).contains(value)).unwrap_or(1);
    let cycle = cycles.iter().find(|cycle| cycle.contains(&old)).unwrap();
    let place = cycle.iter().position(|&value| value == old).unwrap();
    cycle[(place + usize::from(clockwise)) % 4]
}

/// Whatever the bytes: no panic, and edits that fit.
fn never_panics(bytes: &[u8]) {
    for clockwise in 1..4 {
        if let Ok(Change::Edits(edits)) = turn(bytes, clockwise) {
            let new = apply(bytes, &edits).unwrap();
            assert!(apply(&new, &inverse(bytes, &edits).unwrap()).unwrap() == bytes);
        }
    }
}

/// A file with some bytes changed, and cut.
fn damaged(mut bytes: Vec<u8>, changes: &[(usize, u8)], kept: usize) -> Vec<u8> {
    for &(at, byte) in changes {
        let at = at % bytes.len().min(400);
        bytes[at] = byte;
    }
    bytes.truncate(bytes.len().min(kept));
    bytes
}

#[test]
fn other_kinds_are_refused_with_the_reason() {
    for (bytes, reason) in [
        (&b"GIF89a"[..], "GIF"),
        (b"BM1234", "BMP"),
        (b"", "not turned"),
        (b"\0\0\0\x18ftypheic", "not turned"),
        (b"\xff\xd8\xff\xd9", "damaged"),
        (b"\xff\xd8\xff", "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (b"RIFF\x04\0\0\0WEBP", "damaged"),
    ] {
        let problem = turn(bytes, 1).unwrap_err();
        assert!(problem.contains(reason), "{problem}");
    }
}
