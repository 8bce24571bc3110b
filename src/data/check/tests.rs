use rand::Rng;

use super::*;
use crate::math::random::{Purpose, generator};

const SIDE: usize = 32;
const COUNT: usize = 300;

/// Images whose pixels `paint` computes from image, row, column and a random byte.
fn images(paint: impl Fn(usize, usize, usize, u8) -> u8) -> Images {
    let mut random = generator(5, Purpose::Augment, 0, 0);
    let mut pixels = Vec::with_capacity(COUNT * SIDE * SIDE * CHANNELS);
    for image in 0..COUNT {
        for place in 0..SIDE * SIDE {
            let noise = random.next_u32() as u8;
            pixels.extend([paint(image, place / SIDE, place % SIDE, noise); CHANNELS]);
        }
    }
    Images { pixels: pixels.into(), labels: vec![0; COUNT], height: SIDE, width: SIDE }
}

fn found(images: &Images, tags: Option<[usize; 3]>) -> (Measures, String) {
    let dataset = Dataset { tags, ..Dataset::made_up(images.clone()) };
    let measures = measure(&dataset);
    let lines = warnings(&measures).into_iter().map(|found| format!("{}; {}", found.problem, found.advice));
    let lines: Vec<String> = lines.collect();
    (measures, lines.join("\n"))
}

/// A sky above a ground that is darker as a rule, with a horizon somewhere, and much noise.
fn landscape(image: usize, row: usize, _: usize, noise: u8) -> u8 {
    let horizon = 8 + image * 7 % 16;
    let (sky, ground) = (60 + image * 31 % 180, 20 + image * 47 % 180);
    (if row < horizon { sky } else { ground }) as u8 / 2 + noise / 2
}

#[test]
fn landscapes_are_fine() {
    let (measures, warnings) = found(&images(landscape), None);
    assert_eq!(warnings, "", "{measures:?}");
    assert!(measures.layout_accuracy > measures.chance_limit, "{measures:?}");
}

#[test]
fn noise_has_no_upright() {
    let (measures, warnings) = found(&images(|_, _, _, noise| noise), None);
    assert!(warnings.starts_with("no upright to be seen"), "{measures:?}");
}

#[test]
fn bars_on_two_sides_of_some_images_are_found() {
    let bars = |image: usize, row, column, noise| match image.is_multiple_of(5) && !(4..28).contains(&column)
    {
        true => 0,
        false => landscape(image, row, column, noise),
    };
    let (measures, warnings) = found(&images(bars), None);
    assert!(warnings.contains("flat edges") && warnings.contains("left 20.0 %"), "{measures:?}");
}

#[test]
fn a_frame_that_differs_by_side_is_found() {
    let marked =
        |image, row, column, noise| if row == 0 { 200 } else { landscape(image, row, column, noise) };
    let (measures, warnings) = found(&images(marked), None);
    assert!(warnings.contains("outermost pixels"), "{measures:?}");
}

#[test]
fn a_stamp_at_a_fixed_place_is_found() {
    let stamp = |image, row, column, noise| match row > 25 && (4..10).contains(&column) {
        true => 240,
        false => landscape(image, row, column, noise),
    };
    let (measures, warnings) = found(&images(stamp), None);
    assert!(warnings.contains("same in all images"), "{measures:?}");
}

#[test]
fn turned_copies_and_mixed_tags_are_found() {
    let mut pixels = images(landscape).pixels.to_vec();
    let values = SIDE * SIDE * CHANNELS;
    for pair in pixels.chunks_exact_mut(2 * values).take(4) {
        let turned = rotate(&pair[..values], SIDE, SIDE, Rotation::Quarter);
        pair[values..].copy_from_slice(&turned);
    }
    let copied = Images { pixels: pixels.into(), ..images(landscape) };
    let (measures, warnings) = found(&copied, Some([7, 2, 3]));
    assert_eq!(measures.turned_copies, 8.0 / COUNT as f64);
    assert!(warnings.contains("2.7 % of the images are another one turned"), "{warnings}");
    assert!(warnings.contains("3 files carry a tag") && warnings.contains("7 carry none"), "{warnings}");
}
