use ::png::{BitDepth, ColorType};

use super::*;

/// A file to be made.
#[derive(Clone, Debug)]
struct Made {
    width: usize,
    height: usize,
    colours: ColorType,
    depth: BitDepth,
    interlaced: bool,
    exif: Option<Exif>,
    transparent: bool,
    noise: Vec<u8>,
    rest: Vec<u8>,
}

/// Kinds of pixels (PNG, table 3).
const KINDS: [(ColorType, &[BitDepth]); 5] = [
    (
        ColorType::Grayscale,
        &[BitDepth::One, BitDepth::Two, BitDepth::Four, BitDepth::Eight, BitDepth::Sixteen],
    ),
    (ColorType::Rgb, &[BitDepth::Eight, BitDepth::Sixteen]),
    (ColorType::Indexed, &[BitDepth::One, BitDepth::Two, BitDepth::Four, BitDepth::Eight]),
    (ColorType::GrayscaleAlpha, &[BitDepth::Eight, BitDepth::Sixteen]),
    (ColorType::Rgba, &[BitDepth::Eight, BitDepth::Sixteen]),
];

fn made() -> impl Strategy<Value = Made> {
    let kinds: Vec<_> =
        KINDS.iter().flat_map(|(colours, depths)| depths.iter().map(|&depth| (*colours, depth))).collect();
    let bytes = proptest::collection::vec(any::<u8>(), 40);
    let front = (1..20usize, 1..20usize, proptest::sample::select(kinds), any::<bool>());
    (front, proptest::option::of(exif()), any::<bool>(), bytes, 0..9usize).prop_map(
        |((width, height, (colours, depth), interlaced), exif, transparent, noise, rest)| Made {
            width,
            height,
            colours,
            depth,
            interlaced,
            exif,
            transparent,
            rest: noise[..rest].to_vec(),
            noise,
        },
    )
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(name);
    sum.update(content);
    [&(content.len() as u32).to_be_bytes(), &name[..], content, &sum.sum().to_be_bytes()].concat()
}

/// Where the seven passes begin and how far apart their pixels are, across and down (PNG, section 8.2).
const PASSES: [[usize; 4]; 7] =
    [[0, 8, 0, 8], [4, 8, 0, 8], [0, 4, 4, 8], [2, 4, 0, 4], [0, 2, 2, 4], [1, 2, 0, 2], [0, 1, 1, 2]];

impl Made {
    fn bits(&self) -> usize {
        self.colours.samples() * self.depth as usize
    }

    /// The bits of a pixel, the first one the highest.
    fn bit(&self, x: usize, y: usize, bit: usize) -> u8 {
        let at = (y * self.width + x) * self.bits() + bit;
        self.noise[(at / 8 + at / 300) % self.noise.len()] >> (at % 8) & 1
    }

    fn rows(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        let passes = if self.interlaced { &PASSES[..] } else { &[[0, 1, 0, 1]] };
        for [left, across, top, down] in passes {
            let columns: Vec<usize> = (*left..self.width).step_by(*across).collect();
            for y in (*top..self.height).step_by(*down).filter(|_| !columns.is_empty()) {
                // No filter.
                raw.push(0);
                let bits: Vec<u8> = columns
                    .iter()
                    .flat_map(|&x| (0..self.bits()).map(move |bit| self.bit(x, y, bit)))
                    .collect();
                raw.extend(bits.chunks(8).map(|eight| {
                    eight.iter().enumerate().fold(0, |byte, (place, bit)| byte | bit << (7 - place))
                }));
            }
        }
        raw
    }

    fn bytes(&self) -> Vec<u8> {
        use std::io::Write;
        let sizes = [self.width as u32, self.height as u32].map(u32::to_be_bytes).concat();
        let kind = [self.depth as u8, self.colours as u8, 0, 0, u8::from(self.interlaced)];
        let mut bytes = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &[&sizes[..], &kind].concat())].concat();
        let channels = if self.colours == ColorType::Indexed { 3 } else { self.colours.samples() };
        bytes.extend(chunk(b"gAMA", &45_455u32.to_be_bytes()));
        bytes.extend(chunk(b"sBIT", &vec![1; channels]));
        if self.colours == ColorType::Indexed {
            let palette: Vec<u8> =
                (0..3usize << (self.depth as usize)).map(|value| (value * 37) as u8).collect();
            bytes.extend(chunk(b"PLTE", &palette));
        }
        if self.transparent {
            match self.colours {
                ColorType::Indexed => bytes.extend(chunk(b"tRNS", &[10, 200])),
                ColorType::Grayscale => bytes.extend(chunk(b"tRNS", &[0, 1])),
                ColorType::Rgb => bytes.extend(chunk(b"tRNS", &[0, 1, 0, 2, 0, 3])),
                _ => {}
            }
        }
        bytes.extend(chunk(b"pHYs", &[0, 0, 0, 1, 0, 0, 0, 2, 1]));
        bytes.extend(chunk(b"tEXt", b"Title\0words"));
        bytes.extend(self.exif.iter().flat_map(|exif| chunk(b"eXIf", &exif.block())));
        bytes.extend(chunk(b"ruSt", b"safe to copy"));
        bytes.extend(chunk(b"iDOT", b"not safe"));
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&self.rows()).unwrap();
        let packed = packed.finish().unwrap();
        let (front, back) = packed.split_at(packed.len() / 2);
        bytes.extend([chunk(b"IDAT", front), chunk(b"IDAT", back)].concat());
        bytes.extend(chunk(b"tIME", &[7, 230, 1, 2, 3, 4, 5]));
        [&bytes[..], &chunk(b"IEND", b""), &self.rest].concat()
    }
}

/// Name, content and check sum of every chunk but those with pixels.
fn walk(bytes: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (mut found, mut at) = (Vec::new(), 8);
    loop {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize + 12;
        let chunk = &bytes[at..at + length];
        at += length;
        if &chunk[4..8] != b"IDAT" {
            found.push(chunk);
        }
        if &chunk[4..8] == b"IEND" {
            return (found, &bytes[at..]);
        }
    }
}

fn check(made: &Made, clockwise: u8) {
    let bytes = made.bytes();
    let new = turned(&bytes, clockwise);
    let ((mut old, old_rest), (found, rest)) = (walk(&bytes), walk(&new));
    assert_eq!(rest, old_rest);
    old.retain(|chunk| &chunk[4..8] != b"iDOT");
    assert_eq!(old.len(), found.len());
    for (old, found) in old.into_iter().zip(found) {
        match &old[4..8] {
            b"IHDR" => assert_eq!((&found[16..20], found[20]), (&[&old[16..20]].concat()[..], 0)),
            b"pHYs" if clockwise % 2 == 1 => assert_eq!(found[8..17], [0, 0, 0, 2, 0, 0, 0, 1, 1]),
            _ => assert_eq!(found, old),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn pixels_are_turned_and_all_else_is_kept(made in made(), clockwise in 1..4u8) {
        check(&made, clockwise);
    }

    #[test]
    fn damaged_files_do_no_harm(
        made in made(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4),
        kept in 3..900usize,
    ) {
        never_panics(&damaged(made.bytes(), &changes, kept));
    }
}

#[test]
fn every_kind_of_pixel_interlaced_or_not_with_every_tag() {
    for (colours, depths) in KINDS {
        for &depth in depths {
            for (interlaced, orientation) in (0..=9).flat_map(|tag| [(false, Some(tag)), (true, Some(tag))]) {
                let exif = Some(Exif { big: interlaced, orientation, note: vec![1], second: false });
                let noise = (0..40u8).map(|value| value.wrapping_mul(91) ^ value >> 1).collect();
                let (transparent, rest) = (interlaced, vec![9; 3]);
                let made =
                    Made { width: 11, height: 6, colours, depth, interlaced, exif, transparent, noise, rest };
                (1..4).for_each(|clockwise| check(&made, clockwise));
            }
        }
    }
}

#[test]
fn animations_and_chunks_with_a_direction_are_refused() {
    let plain = Made {
        width: 4,
        height: 3,
        colours: ColorType::Rgb,
        depth: BitDepth::Eight,
        interlaced: false,
        exif: None,
        transparent: false,
        noise: vec![5, 6, 7],
        rest: Vec::new(),
    };
    let bytes = plain.bytes();
    let with = |added: Vec<u8>| [&bytes[..33], &added, &bytes[33..]].concat();
    for (added, reason) in [
        (chunk(b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0]), "animated"),
        (chunk(b"sTER", &[0]), "sTER"),
        (chunk(b"oFFs", &[0; 9]), "oFFs"),
        (chunk(b"eXIf", b"nonsense"), "damaged"),
    ] {
        let problem = turn(&with(added), 1).unwrap_err();
        assert!(problem.contains(reason), "{problem}");
    }
    // A header that asks for 900 million pixels of one bit.
    let sides = [30_000u32.to_be_bytes(); 2].concat();
    let header = chunk(b"IHDR", &[&sides[..], &[1, 0, 0, 0, 0]].concat());
    let bomb = [&bytes[..8], &header, &bytes[33..]].concat();
    assert!(turn(&bomb, 1).unwrap_err().contains("too large"));
    assert!(super::super::way(&bytes).unwrap().warning.unwrap().contains("iDOT"));
    // Behind the pixels, a tag that turns is read by some programs only.
    let exif = Exif { big: true, orientation: Some(6), note: vec![1], second: false };
    let end = bytes.len() - 12;
    let behind = [&bytes[..end], &chunk(b"eXIf", &exif.block()), &bytes[end..]].concat();
    assert!(turn(&behind, 1).unwrap_err().contains("behind the pixels"));
}
