use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::webp::WebPEncoder;
use image::{RgbImage, RgbaImage};

use super::*;

/// EXIF data, the value in XMP, a profile.
type Extended = (Option<Exif>, Option<u16>, Option<Vec<u8>>);

/// A file to be made.
#[derive(Clone, Debug)]
struct Made {
    size: (u32, u32),
    alpha: bool,
    /// In the extended layout, with what it can hold.
    extended: Option<Extended>,
    rest: Vec<u8>,
}

fn made() -> impl Strategy<Value = Made> {
    let profile = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..30));
    let extended = (proptest::option::of(exif()), proptest::option::of(1..9u16), profile);
    let rest = proptest::collection::vec(any::<u8>(), 0..9);
    ((1..20u32, 1..20u32), any::<bool>(), proptest::option::of(extended), rest)
        .prop_map(|(size, alpha, extended, rest)| Made { size, alpha, extended, rest })
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let padding = &[0][..content.len() % 2];
    [&name[..], &(content.len() as u32).to_le_bytes(), content, padding].concat()
}

impl Made {
    fn bytes(&self) -> Vec<u8> {
        let (width, height) = self.size;
        let value = |x: u32, y: u32| (x * 11 + y * 17) as u8;
        let image: DynamicImage = match self.alpha {
            true => {
                RgbaImage::from_fn(width, height, |x, y| image::Rgba([value(x, y), 3, 9, value(y, x)])).into()
            }
            false => RgbImage::from_fn(width, height, |x, y| image::Rgb([value(x, y), 3, 9])).into(),
        };
        let mut plain = Vec::new();
        image.write_with_encoder(WebPEncoder::new_lossless(&mut plain)).unwrap();
        let Some((exif, words, profile)) = &self.extended else { return [plain, self.rest.clone()].concat() };
        let flags = [exif.is_some(), words.is_some(), profile.is_some(), self.alpha];
        let flags =
            flags.iter().zip([0x08, 0x04, 0x20, 0x10]).filter(|(there, _)| **there).map(|(_, flag)| flag);
        let sides = [width - 1, height - 1].map(|side| side.to_le_bytes());
        let header = [&[flags.sum::<u8>(), 0, 0, 0][..], &sides[0][..3], &sides[1][..3]].concat();
        let mut content = [b"WEBP".to_vec(), chunk(b"VP8X", &header)].concat();
        content.extend(profile.iter().flat_map(|profile| chunk(b"ICCP", profile)));
        content.extend(&plain[12..]);
        content.extend(exif.iter().flat_map(|exif| chunk(b"EXIF", &exif.block())));
        content.extend(words.iter().flat_map(|&value| chunk(b"XMP ", &xmp(value))));
        content.extend(chunk(b"what", b"odd"));
        [&b"RIFF"[..], &(content.len() as u32).to_le_bytes(), &content, &self.rest].concat()
    }
}

/// The chunks, and what follows them.
fn walk(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let size = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut found, mut at, end) = (Vec::new(), 12, 8 + size(4));
    while at < end {
        let next = at + 8 + size(at + 4).next_multiple_of(2);
        found.push(&bytes[at..next]);
        at = next;
    }
    assert_eq!(at, end);
    (found, &bytes[end..])
}

fn check(made: &Made, clockwise: u8) {
    let bytes = made.bytes();
    let new = turned(&bytes, clockwise);
    let exif = made.extended.as_ref().and_then(|(exif, ..)| exif.as_ref());
    let value = composed(exif.and_then(|exif| exif.orientation), clockwise);
    let ((old, old_rest), (mut found, rest)) = (walk(&bytes), walk(&new));
    assert_eq!(rest, old_rest);
    assert_eq!(&found[0][..4], b"VP8X");
    assert_eq!(found[0][8] & 0x08, 0x08);
    if made.extended.is_none() {
        let header = found.remove(0);
        assert_eq!(header[8] & 0x10 != 0, made.alpha);
        assert_eq!((u32::from(header[12]) + 1, u32::from(header[15]) + 1), made.size);
    }
    if exif.is_none() {
        let place = found.iter().position(|chunk| &chunk[..4] == b"EXIF").unwrap();
        found.remove(place);
    }
    assert_eq!(old.len(), found.len());
    for (old, found) in old.into_iter().zip(found) {
        match &old[..4] {
            b"VP8X" => assert_eq!((found[8] & !0x08, &found[9..]), (old[8] & !0x08, &old[9..])),
            b"EXIF" => {
                let size = u32::from_le_bytes(found[4..8].try_into().unwrap()) as usize;
                exif.unwrap().check(&found[8..8 + size]);
            }
            b"XMP " => check_xmp(&old[8..], &found[8..], value),
            _ => assert_eq!(old, found),
        }
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
fn every_value_and_turn_in_both_byte_orders() {
    for (big, orientation) in (0..=9).flat_map(|value| [(false, Some(value)), (true, Some(value))]) {
        let exif = Exif { big, orientation, note: vec![1, 2], second: big };
        let made =
            Made { size: (7, 4), alpha: big, extended: Some((Some(exif), Some(1), None)), rest: vec![1] };
        (1..4).for_each(|clockwise| check(&made, clockwise));
    }
}

#[test]
fn a_lossy_picture_gets_its_size_into_the_header() {
    // One pixel, as `cwebp` writes it.
    let bytes = STANDARD.decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA").unwrap();
    let new = turned(&bytes, 1);
    assert_eq!(new[20..30], [0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn animations_and_hidden_tags_are_refused() {
    let exif = Exif { big: true, orientation: Some(6), note: vec![1], second: false };
    let made = Made { size: (3, 2), alpha: false, extended: Some((Some(exif), None, None)), rest: vec![] };
    let mut hidden = made.bytes();
    hidden[20] = 0;
    assert!(turn(&hidden, 1).unwrap_err().contains("header says"));
    let mut bytes = made.bytes();
    let place = bytes.windows(4).position(|four| four == b"what").unwrap();
    bytes[place..place + 4].copy_from_slice(b"ANIM");
    assert!(turn(&bytes, 1).unwrap_err().contains("animated"));
}
