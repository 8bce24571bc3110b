//! The ten classes. Each object fills about -1 to 1, y downwards, and has an up; colours say nothing about the class.

use std::f32::consts::{PI, TAU};

use super::canvas::{Brush, Colour, Point};
use super::dice::Dice;
use crate::data::kinds::cifar10::CLASSES;
use crate::math::functions::sin_cos_f32;

/// Class names, by label.
pub const NAMES: [&str; CLASSES] =
    ["house", "tree", "boat", "lamp", "car", "person", "mug", "mushroom", "flower", "rocket"];

/// Colours of an object.
pub struct Palette {
    /// Its largest part, dark.
    pub main: Colour,
    /// Its second part, dark.
    pub second: Colour,
    /// Small parts, bright.
    pub detail: Colour,
}

impl Palette {
    /// Dark and bright parts in random colours, the same whatever the class.
    pub fn new(dice: &mut Dice) -> Self {
        Self {
            main: dice.colour([0.0, 0.55]),
            second: dice.colour([0.0, 0.55]),
            detail: dice.colour([0.7, 1.0]),
        }
    }
}

type Paint = fn(&mut Brush<'_>, &Palette, &mut Dice);

const PAINT: [Paint; CLASSES] = [house, tree, boat, lamp, car, person, mug, mushroom, flower, rocket];

/// Paints an object of a class.
pub fn paint(label: usize, brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    PAINT[label](brush, colours, dice);
}

fn house(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let width = dice.between(0.5, 0.75);
    let eaves = dice.between(-0.25, 0.05);
    if dice.chance(0.5) {
        brush.block([0.4, eaves - 0.4], [0.1, 0.3], colours.detail);
    }
    brush.block([0.0, (eaves + 0.9) / 2.0], [width, (0.9 - eaves) / 2.0], colours.main);
    let overhang = width + 0.2;
    brush
        .polygon(&[[-overhang, eaves], [overhang, eaves], [0.0, dice.between(-0.95, -0.75)]], colours.second);
    let door = dice.between(-0.3, 0.3);
    brush.block([door, 0.66], [0.13, 0.24], colours.detail);
    if dice.chance(0.7) {
        brush.block([if door > 0.0 { -0.28 } else { 0.28 }, 0.3], [0.13, 0.12], colours.detail);
    }
}

fn tree(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    brush.block([0.0, 0.6], [dice.between(0.09, 0.16), 0.4], colours.second);
    if dice.chance(0.5) {
        for tier in 0..3 {
            let top = -1.0 + 0.4 * tier as f32;
            let half = 0.4 + 0.14 * tier as f32;
            brush.polygon(&[[-half, top + 0.6], [half, top + 0.6], [0.0, top]], colours.main);
        }
    } else {
        for _ in 0..4 {
            let centre = [dice.between(-0.3, 0.3), dice.between(-0.55, -0.15)];
            brush.ellipse(centre, [dice.between(0.35, 0.55), dice.between(0.3, 0.45)], colours.main);
        }
    }
}

fn boat(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let deck = dice.between(0.2, 0.4);
    brush.block([0.0, (deck - 0.9) / 2.0], [0.05, (deck + 0.9) / 2.0], colours.detail);
    let reach = dice.between(0.55, 0.8);
    brush.polygon(&[[0.1, -0.85], [0.1, deck - 0.12], [reach, deck - 0.12]], colours.second);
    if dice.chance(0.5) {
        brush.polygon(&[[-0.1, -0.6], [-0.1, deck - 0.12], [-reach * 0.8, deck - 0.12]], colours.second);
    }
    let keel = dice.between(0.45, 0.65);
    brush.polygon(&[[-0.95, deck], [0.95, deck], [keel, 0.85], [-keel, 0.85]], colours.main);
}

fn lamp(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let shade = dice.between(-0.3, -0.05);
    brush.block([0.0, 0.35], [0.06, 0.55], colours.second);
    brush.ellipse([0.0, 0.88], [dice.between(0.3, 0.5), 0.1], colours.second);
    let (top, bottom) = (dice.between(0.18, 0.35), dice.between(0.55, 0.75));
    brush.polygon(&[[-top, -0.9], [top, -0.9], [bottom, shade], [-bottom, shade]], colours.main);
}

fn car(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let roof = dice.between(-0.6, -0.4);
    let (back, front) = (dice.between(-0.8, -0.5), dice.between(0.4, 0.65));
    brush.polygon(&[[back, 0.0], [back + 0.2, roof], [front - 0.3, roof], [front, 0.0]], colours.main);
    brush.block([(back + front) / 2.0 - 0.05, roof / 2.0], [0.28, 0.13], colours.detail);
    brush.block([0.0, 0.2], [0.95, 0.24], colours.main);
    let wheel = dice.between(0.2, 0.27);
    for side in [-0.52, 0.52] {
        brush.ellipse([side, 0.45], [wheel, wheel], colours.second);
        brush.ellipse([side, 0.45], [wheel * 0.4, wheel * 0.4], colours.detail);
    }
}

fn person(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let stride = dice.between(0.12, 0.35);
    for side in [-1.0, 1.0] {
        brush.line([0.1 * side, 0.25], [stride * side, 0.9], 0.2, colours.second);
        let hand = [dice.between(0.3, 0.65) * side, dice.between(-0.35, 0.3)];
        brush.line([0.2 * side, -0.3], hand, 0.15, colours.main);
    }
    brush.block([0.0, -0.03], [dice.between(0.2, 0.3), 0.36], colours.main);
    brush.ellipse([0.0, -0.66], [0.22, 0.25], colours.second);
}

fn mug(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let half = dice.between(0.4, 0.55);
    let base = half * dice.between(0.7, 1.0);
    brush.ring([half, 0.1], [0.3, 0.33], 0.15, colours.main);
    brush.polygon(&[[-half, -0.6], [half, -0.6], [base, 0.8], [-base, 0.8]], colours.main);
    brush.ellipse([0.0, -0.6], [half, 0.17], colours.second);
    if dice.chance(0.4) {
        let stripe = dice.between(0.0, 0.4);
        brush.block([0.0, stripe], [base * 0.95, 0.08], colours.detail);
    }
    if dice.chance(0.4) {
        brush.line([-0.15, -0.7], [-0.05, -0.98], 0.1, colours.detail);
        brush.line([0.15, -0.7], [0.25, -0.98], 0.1, colours.detail);
    }
}

fn mushroom(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let (half, rim) = (dice.between(0.15, 0.25), dice.between(-0.1, 0.15));
    brush.polygon(&[[-half, rim], [half, rim], [half * 1.4, 0.9], [-half * 1.4, 0.9]], colours.second);
    let wide = dice.between(0.7, 0.95);
    let dome: Vec<Point> = (0..=10)
        .map(|step| {
            let (sine, cosine) = sin_cos_f32(PI * step as f32 / 10.0);
            [wide * cosine, rim - (rim + 0.85) * sine]
        })
        .collect();
    brush.polygon(&dome, colours.main);
    for _ in 0..dice.below(4) {
        let spot = [dice.between(-0.5, 0.5) * wide, dice.between(-0.5, -0.2)];
        brush.ellipse(spot, [0.1, 0.1], colours.detail);
    }
}

fn flower(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let head = [dice.between(-0.15, 0.15), dice.between(-0.6, -0.45)];
    brush.line([0.0, 0.4], head, 0.1, colours.second);
    let leaf = dice.sign();
    brush.ellipse([0.2 * leaf, dice.between(0.0, 0.2)], [0.2, 0.08], colours.second);
    let petals = 5 + dice.below(3);
    for petal in 0..petals {
        let (sine, cosine) = sin_cos_f32(TAU * petal as f32 / petals as f32);
        brush.ellipse([head[0] + 0.25 * cosine, head[1] + 0.25 * sine], [0.16, 0.16], colours.main);
    }
    brush.ellipse(head, [0.14, 0.14], colours.detail);
    let (top, bottom) = (dice.between(0.35, 0.5), dice.between(0.22, 0.32));
    brush.polygon(&[[-top, 0.35], [top, 0.35], [bottom, 0.92], [-bottom, 0.92]], colours.second);
}

fn rocket(brush: &mut Brush<'_>, colours: &Palette, dice: &mut Dice) {
    let half = dice.between(0.2, 0.3);
    if dice.chance(0.7) {
        let flame = dice.between(0.15, 0.35);
        brush.polygon(&[[-half * 0.7, 0.55], [half * 0.7, 0.55], [0.0, 0.6 + flame]], colours.detail);
    }
    let fin = half + dice.between(0.2, 0.4);
    brush.polygon(&[[-half, 0.05], [-half, 0.6], [-fin, 0.7]], colours.second);
    brush.polygon(&[[half, 0.05], [half, 0.6], [fin, 0.7]], colours.second);
    brush.block([0.0, 0.05], [half, 0.55], colours.main);
    brush.polygon(&[[-half, -0.48], [half, -0.48], [0.0, -1.0]], colours.second);
    brush.ellipse([0.0, dice.between(-0.25, 0.0)], [half * 0.5, half * 0.5], colours.detail);
}
