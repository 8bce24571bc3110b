//! One image: a background, things that do not matter, the object, something in front of it, light and noise.

use super::canvas::{Brush, Canvas, Placement, Point, mix};
use super::dice::Dice;
use super::objects::{self, Palette};
use crate::data::kinds::cifar10::CLASSES;
use crate::data::kinds::records::{IMAGE, SIDE};
use crate::math::functions::sin_cos_f32;

/// How often there is a sky over a ground.
const HORIZON: f32 = 0.4;
/// How often something stands in front of the object.
const OCCLUSION: f32 = 0.3;
/// Largest tilt of an object, in radians (14.9°).
const TILT: f32 = 0.26;
/// Pixels per unit of an object, smallest and largest: half its height.
const SIZE: [f32; 2] = [10.0, 14.0];

/// The class of an image: classes take turns, so that the first n images are balanced for any n.
pub fn label(index: usize) -> usize {
    index % CLASSES
}

/// The planes (red, green, blue) of image `index`, a pure function of seed and index.
pub fn planes(seed: u64, index: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed, index);
    let mut canvas = background(&mut dice);
    for _ in 0..dice.below(2) {
        let centre = [dice.between(0.0, SIDE as f32), dice.between(0.0, SIDE as f32)];
        stray_shape(&mut canvas, centre, &mut dice);
    }
    let size = dice.between(SIZE[0], SIZE[1]);
    let room = SIDE as f32 / 2.0 - 0.9 * size;
    let middle = SIDE as f32 / 2.0;
    let centre = [middle + dice.between(-room, room), middle + dice.between(-room, room)];
    let mut brush = Brush {
        canvas: &mut canvas,
        placement: Placement {
            centre,
            scale: [size * dice.between(0.8, 1.15) * dice.sign(), size],
            tilt: dice.between(-TILT, TILT),
        },
    };
    let palette = Palette::new(&mut dice);
    objects::paint(label(index), &mut brush, &palette, &mut dice);
    if dice.chance(OCCLUSION) {
        let away = [size * dice.sign() * dice.between(0.3, 0.9), size * dice.sign() * dice.between(0.3, 0.9)];
        stray_shape(&mut canvas, [centre[0] + away[0], centre[1] + away[1]], &mut dice);
    }
    develop(&canvas, &mut dice)
}

/// Bright: a plain slope of two colours or waves of them, or a sky over a darker ground.
fn background(dice: &mut Dice) -> Canvas {
    let near = dice.colour([0.45, 1.0]);
    let far = dice.colour([0.45, 1.0]);
    let (sine, cosine) = sin_cos_f32(dice.between(0.0, std::f32::consts::TAU));
    let along = move |[x, y]: Point| (x * cosine + y * sine) / SIDE as f32;
    if dice.chance(HORIZON) {
        let horizon = dice.between(0.5, 0.85) * SIDE as f32;
        let ground = dice.colour([0.25, 0.75]);
        return Canvas::new(|[x, y]| {
            let sky = mix(near, far, y / SIDE as f32);
            mix(sky, ground, (y - horizon - 0.1 * x * sine + 0.5).clamp(0.0, 1.0))
        });
    }
    if dice.chance(0.5) {
        return Canvas::new(|place| mix(near, far, (along(place) + 0.5).clamp(0.0, 1.0)));
    }
    let waves = dice.between(6.0, 40.0);
    let strength = dice.between(0.2, 0.7);
    Canvas::new(|place| mix(near, far, strength * (0.5 + 0.5 * sin_cos_f32(waves * along(place)).0)))
}

/// A shape of any colour and direction, 2 to 5 pixels to each side.
fn stray_shape(canvas: &mut Canvas, centre: Point, dice: &mut Dice) {
    let mut brush = Brush {
        canvas,
        placement: Placement {
            centre,
            scale: [dice.between(1.5, 4.0), dice.between(1.5, 4.0)],
            tilt: dice.between(0.0, std::f32::consts::TAU),
        },
    };
    let colour = dice.colour([0.1, 0.9]);
    match dice.below(3) {
        0 => brush.ellipse([0.0; 2], [1.0; 2], colour),
        1 => brush.block([0.0; 2], [1.0; 2], colour),
        _ => brush.polygon(&[[-1.0, 1.0], [1.0, 1.0], [0.0, -1.0]], colour),
    }
}

/// Adds light and noise, and turns colours into bytes, one plane per channel.
fn develop(canvas: &Canvas, dice: &mut Dice) -> Vec<u8> {
    let gain = dice.between(0.75, 1.15);
    let noise = dice.between(0.01, 0.05);
    let mut planes = Vec::with_capacity(IMAGE);
    for channel in 0..3 {
        for pixel in canvas.pixels() {
            let value = pixel[channel] * gain + noise * dice.noise();
            planes.push((value * 255.0).round() as u8);
        }
    }
    planes
}
