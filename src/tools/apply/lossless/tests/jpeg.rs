use image::codecs::jpeg::JpegEncoder;
use image::{GrayImage, RgbImage};

use super::*;

/// A file to be made.
#[derive(Clone, Debug)]
struct Made {
    size: (u32, u32),
    grey: bool,
    jfif: bool,
    exif: Option<Exif>,
    xmp: Option<u16>,
    profile: Option<Vec<u8>>,
    pictures: Option<bool>,
    fill: usize,
    rest: Vec<u8>,
}

fn made() -> impl Strategy<Value = Made> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 1..most);
    let front = ((1..20u32, 1..20u32), any::<bool>(), any::<bool>(), proptest::option::of(exif()));
    let middle =
        (proptest::option::of(1..9u16), proptest::option::of(bytes(50)), proptest::option::of(any::<bool>()));
    let back = (0..3usize, proptest::collection::vec(any::<u8>(), 0..30));
    (front, middle, back).prop_map(|((size, grey, jfif, exif), (xmp, profile, pictures), (fill, rest))| {
        Made { size, grey, jfif, exif, xmp, profile, pictures, fill, rest }
    })
}

fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    [&[0xff, marker][..], &((content.len() + 2) as u16).to_be_bytes(), content].concat()
}

fn picture(width: u32, height: u32, grey: bool) -> Vec<u8> {
    let value = |x: u32, y: u32| (x * 11 + y * 17) as u8;
    let image: DynamicImage = match grey {
        true => GrayImage::from_fn(width, height, |x, y| image::Luma([value(x, y)])).into(),
        false => RgbImage::from_fn(width, height, |x, y| image::Rgb([value(x, y), value(y, x), 9])).into(),
    };
    let mut bytes = Vec::new();
    image.write_with_encoder(JpegEncoder::new(&mut bytes)).unwrap();
    bytes
}

/// Multi-picture data for two pictures, of which the second begins `second` bytes behind its header.
fn pictures(big: bool, first: u32, second: u32, size: u32) -> Vec<u8> {
    let short = |value: u16| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let long = |value: u32| if big { value.to_be_bytes() } else { value.to_le_bytes() };
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        [&short(tag)[..], &short(kind), &long(count), &value].concat()
    };
    let mut block = if big { b"MPF\0MM\0*".to_vec() } else { b"MPF\0II*\0".to_vec() };
    block.extend([&long(8)[..], &short(2)].concat());
    block.extend(entry(0xb001, 4, 1, long(2)));
    block.extend(entry(0xb002, 7, 32, long(8 + 2 + 24 + 4)));
    block.extend(long(0));
    for (size, place) in [(first, 0), (size, second)] {
        block.extend([long(0x0303), long(size), long(place), [0; 4]].concat());
    }
    block
}

impl Made {
    fn bytes(&self) -> Vec<u8> {
        let plain = picture(self.size.0, self.size.1, self.grey);
        // The encoder begins with a segment of JFIF of 18 bytes.
        let body = &plain[20..];
        let mut bytes = plain[..if self.jfif { 20 } else { 2 }].to_vec();
        if let Some(exif) = &self.exif {
            bytes.extend(segment(0xe1, &[b"Exif\0\0", &exif.block()[..]].concat()));
        }
        if let Some(value) = self.xmp {
            bytes.extend(segment(0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", &xmp(value)[..]].concat()));
        }
        bytes.extend(vec![0xff; self.fill]);
        if let Some(profile) = &self.profile {
            bytes.extend(segment(0xe2, &[b"ICC_PROFILE\0\x01\x01", &profile[..]].concat()));
        }
        bytes.extend(segment(0xfe, b"a comment"));
        let Some(big) = self.pictures else { return [&bytes[..], body, &self.rest].concat() };
        let block = |first, second, size| segment(0xe2, &pictures(big, first, second, size));
        let second = picture(3, 2, true);
        let header = bytes.len() + 8;
        let first = bytes.len() + block(0, 0, 0).len() + body.len();
        bytes.extend(block(first as u32, (first - header) as u32, second.len() as u32));
        [&bytes[..], body, &second, &self.rest].concat()
    }
}

/// Segments up to the scan, without its bytes; and the scan with all that follows.
fn walk(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut found, mut at) = (Vec::new(), 2);
    loop {
        let begin = at;
        while bytes[at + 1] == 0xff {
            at += 1;
        }
        if bytes[at + 1] == 0xda {
            return (found, &bytes[begin..]);
        }
        at += 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        found.push(&bytes[begin..at]);
    }
}

fn holds(segment: &[u8], name: &[u8]) -> bool {
    segment.windows(name.len()).take(12).any(|window| window == name)
}

fn check(made: &Made, clockwise: u8) {
    let bytes = made.bytes();
    let new = turned(&bytes, clockwise);
    let value = composed(made.exif.as_ref().and_then(|exif| exif.orientation), clockwise);
    let ((old, old_scan), (mut found, scan)) = (walk(&bytes), walk(&new));
    assert!(scan == old_scan, "the picture's bytes changed");
    let tagged = made.exif.as_ref().map(|exif| exif.orientation.is_some());
    if tagged.is_none() {
        let place = usize::from(made.jfif);
        let added = found.remove(place);
        assert!(holds(added, b"Exif\0\0") && added.len() == 36, "{place}");
    } else if tagged == Some(true) {
        assert_eq!(new.len(), bytes.len());
    }
    assert_eq!(found.len(), old.len());
    for (old, found) in old.into_iter().zip(found) {
        if holds(old, b"Exif\0\0") {
            made.exif.as_ref().unwrap().check(&found[10..]);
            assert_eq!(usize::from(u16::from_be_bytes([found[2], found[3]])), found.len() - 2);
        } else if holds(old, b"http://ns.") {
            check_xmp(&old[33..], &found[33..], value);
        } else if !holds(old, b"MPF\0") {
            assert_eq!(old, found);
        }
    }
    if let Some(big) = made.pictures {
        let header = new.windows(4).position(|window| window == b"MPF\0").unwrap() + 4;
        let long = |at: usize| {
            let four = new[header + at..header + at + 4].try_into().unwrap();
            (if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }) as usize
        };
        let second = picture(3, 2, true);
        let place = header + long(38 + 16 + 8);
        assert!(new[place..place + long(38 + 16 + 4)] == second);
        assert_eq!(long(38 + 4), place, "the first picture ends where the second begins");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn only_the_tag_changes(made in made(), clockwise in 1..4u8) {
        check(&made, clockwise);
    }

    #[test]
    fn damaged_files_are_refused_or_changed_so_that_it_can_be_undone(
        made in made(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        kept in 3..600usize,
    ) {
        never_panics(&damaged(made.bytes(), &changes, kept));
    }
}

#[test]
fn every_value_and_turn_with_and_without_the_tag_in_both_byte_orders() {
    for big in [false, true] {
        for orientation in std::iter::once(None).chain((0..=9).map(Some)) {
            for clockwise in 1..4 {
                let exif = Exif { big, orientation, note: vec![1, 2, 3], second: true };
                let made = Made {
                    size: (5, 3),
                    grey: false,
                    jfif: big,
                    exif: Some(exif),
                    xmp: Some(1),
                    profile: Some(vec![7; 20]),
                    pictures: Some(big),
                    fill: 1,
                    rest: b"rest".to_vec(),
                };
                check(&made, clockwise);
            }
        }
    }
}

/// `Exif` and this behind the start of a picture.
fn with_block(block: &[u8]) -> Vec<u8> {
    let plain = picture(4, 3, false);
    [&plain[..2], &segment(0xe1, &[b"Exif\0\0", block].concat()), &plain[2..]].concat()
}

#[test]
fn what_programs_would_read_differently_is_refused_with_the_reason() {
    let exif = Exif { big: false, orientation: Some(1), note: vec![1], second: false };
    let block = exif.block();
    let with = |at: usize, bytes: &[u8]| {
        let mut block = block.clone();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        with_block(&block)
    };
    let tag = 8 + 2 + 12;
    let twice = [
        &with_block(&block)[..2],
        &segment(0xe1, &[b"Exif\0\0", &block[..]].concat()),
        &with_block(&block)[2..],
    ]
    .concat();
    for (bytes, reason) in [
        (with(4, &[0xff; 4]), "damaged"),
        (with(4, &[0; 4]), "damaged"),
        (with(8, &[0xff, 0xff]), "damaged"),
        (with(0, b"XX"), "damaged"),
        (with(tag + 2, &[4]), "kind"),
        (with(tag + 4, &[2]), "kind"),
        (with(tag - 12, &[0x12, 0x01]), "two orientation tags"),
        (twice, "two blocks"),
    ] {
        let problem = turn(&bytes, 1).unwrap_err();
        assert!(problem.contains(reason), "{problem}");
    }
    let full = Exif { orientation: None, note: vec![0; 65_533 - 6 - 56], ..exif };
    assert!(turn(&with_block(&full.block()), 1).unwrap_err().contains("no room"));
}
