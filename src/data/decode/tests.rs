use std::fs;

use image::{GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, RgbaImage};

use super::*;

/// A picture of which every quarter has its own colour, red on the upper left, encoded.
pub(crate) fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let quarters = RgbImage::from_fn(width, height, |x, y| {
        Rgb(match (x < width / 2, y < height / 2) {
            (true, true) => [250, 10, 10],
            (false, true) => [10, 250, 10],
            (true, false) => [10, 10, 250],
            (false, false) => [240, 240, 240],
        })
    });
    encoded(quarters.into(), format)
}

fn encoded(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A JPEG with an EXIF segment that holds this orientation (1 to 8, EXIF 2.3 section 4.6.4) put behind its first
/// two bytes.
pub(crate) fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() + 2) as u16;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), &exif, &jpeg[2..]].concat()
}

fn corners(square: &[u8], side: usize) -> [[u8; 3]; 4] {
    [0, side - 1, side * (side - 1), side * side - 1].map(|place| {
        let pixel = &square[3 * place..3 * place + 3];
        [pixel[0], pixel[1], pixel[2]]
    })
}

/// Which of red, green, blue and white a pixel is, 0 to 3.
fn colour(pixel: [u8; 3]) -> usize {
    match pixel.map(|value| value > 128) {
        [true, false, false] => 0,
        [false, true, false] => 1,
        [false, false, true] => 2,
        _ => 3,
    }
}

fn quarters(photo: Photo) -> [usize; 4] {
    corners(&photo.square(32), 32).map(colour)
}

#[test]
fn every_format_and_odd_sizes_become_a_square_of_the_middle() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif]
    {
        for (width, height) in [(32, 32), (67, 41), (41, 300), (9, 5)] {
            let photo = decode(&picture(width, height, format), None).unwrap();
            assert_eq!((photo.size(), photo.tag), ([width, height], Tag::Absent), "{format:?}");
            assert_eq!(quarters(photo), [0, 1, 2, 3], "{format:?} {width}x{height}");
        }
    }
}

#[test]
fn a_long_image_is_seen_in_three_squares_along_its_longer_side() {
    let seen = |width, height| -> Vec<[usize; 4]> {
        let squares = decode(&picture(width, height, ImageFormat::Png), None).unwrap().squares(32);
        squares.iter().map(|square| corners(square, 32).map(colour)).collect()
    };
    assert_eq!(seen(64, 60), [[0, 1, 2, 3]]);
    let along = [[0, 0, 2, 2], [0, 1, 2, 3], [1, 1, 3, 3]];
    assert_eq!(seen(128, 64), along);
    // What lies further out is not seen.
    assert_eq!(seen(640, 64), along);
    assert_eq!(seen(64, 128), [[0, 1, 0, 1], [0, 1, 2, 3], [2, 3, 2, 3]]);
    assert_eq!(seen(96, 64)[1], [0, 1, 2, 3]);
    assert!(seen(30_000, 1).len() == 3 && seen(1, 1).len() == 1);
}

#[test]
fn a_square_of_the_right_size_is_taken_as_it_is() {
    let image = RgbImage::from_fn(32, 32, |x, y| Rgb([x as u8 * 3, y as u8 * 5, (x * y) as u8]));
    let png = encoded(image.clone().into(), ImageFormat::Png);
    assert_eq!(decode(&png, None).unwrap().square(32), image.into_raw());
}

#[test]
fn grey_alpha_and_sixteen_bits_become_eight_bits_of_three_colours() {
    let grey = GrayImage::from_pixel(40, 40, Luma([77]));
    assert_eq!(
        decode(&encoded(grey.into(), ImageFormat::Png), None).unwrap().square(32),
        vec![77; 32 * 32 * 3]
    );
    let deep: ImageBuffer<Rgb<u16>, Vec<u16>> = ImageBuffer::from_pixel(32, 32, Rgb([257 * 9, 0, 65_535]));
    let square = decode(&encoded(deep.into(), ImageFormat::Png), None).unwrap().square(32);
    assert_eq!(square[..3], [9, 0, 255]);
    let clear = RgbaImage::from_fn(32, 32, |x, _| image::Rgba([0, 100, 200, [0, 255, 51][x as usize % 3]]));
    let square = decode(&encoded(clear.into(), ImageFormat::Png), None).unwrap().square(32);
    assert_eq!(square[..9], [255, 255, 255, 0, 100, 200, 204, 224, 244]);
}

#[test]
fn the_orientation_in_a_file_is_applied() {
    let jpeg = picture(64, 48, ImageFormat::Jpeg);
    // Where each corner's colour comes from, by the orientation's meaning.
    let expected = [
        (1, [0, 1, 2, 3], Tag::Upright),
        (2, [1, 0, 3, 2], Tag::Turned),
        (3, [3, 2, 1, 0], Tag::Turned),
        (6, [2, 0, 3, 1], Tag::Turned),
        (8, [1, 3, 0, 2], Tag::Turned),
    ];
    for (orientation, corners, tag) in expected {
        let photo = decode(&with_orientation(&jpeg, orientation), None).unwrap();
        assert_eq!(photo.tag, tag);
        assert_eq!(quarters(photo), corners, "{orientation}");
    }
}

#[test]
fn turning_back_undoes_a_rotation() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif]
    {
        // A quarter turn counter-clockwise brings the upper right corner to the upper left.
        for (rotation, seen) in Rotation::ALL.into_iter().zip([0, 1, 3, 2]) {
            let upright = decode(&picture(40, 40, format), None).unwrap().square(40);
            let turned = super::super::rotation::rotate(&upright, 40, 40, rotation);
            assert_eq!(colour([turned[0], turned[1], turned[2]]), seen);
            let image = RgbImage::from_raw(40, 40, turned).unwrap();
            let photo = decode(&encoded(image.into(), format), None).unwrap();
            assert_eq!(quarters(photo.turned_back(rotation)), [0, 1, 2, 3], "{format:?} {rotation:?}");
        }
    }
}

#[test]
fn what_is_no_image_damaged_or_huge_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.png");
    let problem = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let problem = read(&path, None).err().unwrap().to_string();
        assert!(problem.contains("x.png"), "{problem}");
        problem
    };
    assert!(problem(b"").contains("is not an image"));
    assert!(problem(b"hello, this is text").contains("is not an image"));
    let png = picture(64, 64, ImageFormat::Png);
    assert!(problem(&png[..png.len() / 2]).contains("cannot be decoded"));
    // A header that asks for 30,000 x 30,000 pixels.
    let mut bomb = png.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let mut crc = flate2::Crc::new();
    crc.update(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let huge = problem(&bomb);
    assert!(huge.contains("limit") || huge.contains("MB"), "{huge}");
    assert!(read(&folder.path().join("absent.png"), None).is_err());
}

#[test]
fn images_are_known_by_their_names() {
    for (name, is) in [("a.JPG", true), ("b.webp", true), ("c.txt", false), ("jpeg", false)] {
        assert_eq!(is_image(Path::new(name)), is, "{name}");
    }
}

#[test]
fn small_pictures_show_an_image_as_it_is_and_turned_back() {
    let photo = decode(&picture(400, 200, ImageFormat::Png), None).unwrap();
    let [before, after] = photo.thumbnails(160, Rotation::Quarter).map(|bytes| decode(&bytes, None).unwrap());
    assert_eq!((before.size(), after.size()), ([160, 80], [80, 160]));
    // The image was turned counter-clockwise, so that its left edge belongs on top.
    assert_eq!((quarters(before), quarters(after)), ([0, 1, 2, 3], [2, 0, 3, 1]));
    let tiny = decode(&picture(4, 1, ImageFormat::Png), None).unwrap().thumbnails(160, Rotation::Half);
    assert_eq!(decode(&tiny[1], None).unwrap().size(), [4, 1]);
}

/// A photograph's worth of detail: coarse shapes, and noise on top.
fn detailed(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let noise = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503).wrapping_mul(x + 7)) >> 27;
        let wave = |period: u32| (100.0 + 90.0 * (f64::from(x * 3 + y) / f64::from(period)).sin()) as u8;
        Rgb([wave(190) + noise as u8, wave(530) + noise as u8, wave(310) / 2 + noise as u8])
    })
}

#[test]
fn a_large_jpeg_is_decoded_at_a_quarter_and_shows_the_same_square() {
    for (width, height) in [(1_024, 700), (517, 901), (640, 513)] {
        let grey: DynamicImage = DynamicImage::from(detailed(width, height)).into_luma8().into();
        for (image, orientation) in [(detailed(width, height).into(), 1), (grey, 6)] {
            let jpeg = with_orientation(&encoded(image, ImageFormat::Jpeg), orientation);
            let whole = decode(&jpeg, None).unwrap();
            let small = decode(&jpeg, Some(32)).unwrap();
            assert!(small.reduced && !whole.reduced && small.tag == whole.tag);
            assert_eq!(small.size(), whole.size().map(|side| side / 4));
            let (whole, small) = (whole.square(32), small.square(32));
            let differences = whole.iter().zip(&small).map(|(one, other)| one.abs_diff(*other));
            assert!(differences.clone().max() < Some(8), "{width}x{height}");
            let sum: u64 = differences.map(u64::from).sum();
            assert!((sum as f64) < 1.5 * whole.len() as f64, "{width}x{height}: {sum}");
        }
    }
}

#[test]
fn small_jpegs_rare_ones_and_other_formats_are_decoded_whole() {
    let jpeg = encoded(detailed(600, 512).into(), ImageFormat::Jpeg);
    assert!(decode(&jpeg, Some(32)).unwrap().reduced && !decode(&jpeg, Some(33)).unwrap().reduced);
    let png = encoded(detailed(600, 512).into(), ImageFormat::Png);
    assert!(!decode(&png, Some(32)).unwrap().reduced);
    // The decoder of whole images makes something of a file that lacks its end, the other one does not.
    let cut = &jpeg[..jpeg.len() * 2 / 3];
    let [some, all] = [Some(32), None].map(|side| decode(cut, side));
    match (some, all) {
        (Ok(some), Ok(all)) => assert!(!some.reduced && some.is_same_picture(&all)),
        (some, all) => assert_eq!(some.err(), all.err()),
    }
}
