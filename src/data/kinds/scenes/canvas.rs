//! A small software rasteriser: shapes given by their signed distance, painted over each other, edges smoothed
//! over one pixel.

use crate::data::kinds::records::SIDE;
use crate::math::functions::sin_cos_f32;

/// Red, green and blue, 0 to 1.
pub type Colour = [f32; 3];
/// Right and down.
pub type Point = [f32; 2];

/// An image being painted.
pub struct Canvas {
    pixels: Vec<Colour>,
}

/// Where an object's own coordinates (about -1 to 1, y downwards) lie on the canvas.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// In pixels from the top left.
    pub centre: Point,
    /// Pixels per unit, horizontally (negative mirrors) and vertically.
    pub scale: Point,
    /// Clockwise, in radians.
    pub tilt: f32,
}

/// Paints shapes in an object's own coordinates.
pub struct Brush<'a> {
    /// What is painted on.
    pub canvas: &'a mut Canvas,
    /// Where on it.
    pub placement: Placement,
}

impl Canvas {
    /// Colours every pixel by its place, in pixels from the top left.
    pub fn new(colour: impl Fn(Point) -> Colour) -> Self {
        let place = |index| [(index % SIDE) as f32 + 0.5, (index / SIDE) as f32 + 0.5];
        Self { pixels: (0..SIDE * SIDE).map(|index| colour(place(index))).collect() }
    }

    /// Row-major.
    pub fn pixels(&self) -> &[Colour] {
        &self.pixels
    }
}

impl Brush<'_> {
    /// An ellipse by centre and half axes.
    pub fn ellipse(&mut self, centre: Point, radii: Point, colour: Colour) {
        self.fill(colour, |point| ellipse_distance(minus(point, centre), radii));
    }

    /// The outline of an ellipse.
    pub fn ring(&mut self, centre: Point, radii: Point, thickness: f32, colour: Colour) {
        self.fill(colour, |point| ellipse_distance(minus(point, centre), radii).abs() - thickness / 2.0);
    }

    /// A rectangle by centre and half sides.
    pub fn block(&mut self, centre: Point, half: Point, colour: Colour) {
        self.fill(colour, |point| {
            let [x, y] = minus(point, centre);
            let (x, y) = (x.abs() - half[0], y.abs() - half[1]);
            length([x.max(0.0), y.max(0.0)]) + x.max(y).min(0.0)
        });
    }

    /// A line with round ends.
    pub fn line(&mut self, from: Point, to: Point, thickness: f32, colour: Colour) {
        let along = minus(to, from);
        self.fill(colour, |point| {
            let offset = minus(point, from);
            let share = (dot(offset, along) / dot(along, along)).clamp(0.0, 1.0);
            length(minus(offset, [along[0] * share, along[1] * share])) - thickness / 2.0
        });
    }

    /// A polygon by its corners.
    pub fn polygon(&mut self, corners: &[Point], colour: Colour) {
        self.fill(colour, |point| polygon_distance(point, corners));
    }

    /// Blends in `colour` where the distance to the shape's edge, negative inside, is less than half a pixel.
    fn fill(&mut self, colour: Colour, distance: impl Fn(Point) -> f32) {
        let Placement { centre, scale, tilt } = self.placement;
        let (sine, cosine) = sin_cos_f32(tilt);
        let unit = scale[0].abs().min(scale[1].abs());
        for (index, pixel) in self.canvas.pixels.iter_mut().enumerate() {
            let x = (index % SIDE) as f32 + 0.5 - centre[0];
            let y = (index / SIDE) as f32 + 0.5 - centre[1];
            let point = [(x * cosine + y * sine) / scale[0], (y * cosine - x * sine) / scale[1]];
            let cover = (0.5 - distance(point) * unit).clamp(0.0, 1.0);
            if cover > 0.0 {
                *pixel = mix(*pixel, colour, cover);
            }
        }
    }
}

/// From `from` (share 0) to `to` (share 1).
pub fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|channel| from[channel] + (to[channel] - from[channel]) * share)
}

/// First-order approximation, exact on the edge.
fn ellipse_distance([x, y]: Point, [wide, high]: Point) -> f32 {
    let level = length([x / wide, y / high]);
    let slope = length([x / (wide * wide), y / (high * high)]);
    if slope == 0.0 { -wide.min(high) } else { level * (level - 1.0) / slope }
}

/// Distance to the nearest side, its sign by the even-odd rule.
fn polygon_distance(point: Point, corners: &[Point]) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    let previous = corners.iter().cycle().skip(corners.len().saturating_sub(1));
    for (&from, &to) in previous.zip(corners) {
        let (along, offset) = (minus(to, from), minus(point, from));
        let share = (dot(offset, along) / dot(along, along)).clamp(0.0, 1.0);
        nearest = nearest.min(length(minus(offset, [along[0] * share, along[1] * share])));
        let crosses = (from[1] > point[1]) != (to[1] > point[1]);
        if crosses && point[0] < from[0] + (point[1] - from[1]) * along[0] / along[1] {
            inside = !inside;
        }
    }
    if inside { -nearest } else { nearest }
}

fn minus(left: Point, right: Point) -> Point {
    [left[0] - right[0], left[1] - right[1]]
}

fn dot(left: Point, right: Point) -> f32 {
    left[0] * right[0] + left[1] * right[1]
}

fn length(point: Point) -> f32 {
    dot(point, point).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Painted area in units of the placement.
    fn area(paint: impl Fn(&mut Brush<'_>)) -> f32 {
        let mut canvas = Canvas::new(|_| [0.0; 3]);
        let placement = Placement { centre: [16.3, 15.8], scale: [-10.0, 10.0], tilt: 0.3 };
        paint(&mut Brush { canvas: &mut canvas, placement });
        canvas.pixels().iter().map(|pixel| pixel[1]).sum::<f32>() / 100.0
    }

    #[test]
    fn shapes_cover_the_area_that_geometry_says() {
        let white = [1.0; 3];
        let close =
            |found: f32, expected: f32| assert!((found - expected).abs() < 0.03, "{found} {expected}");
        close(area(|brush| brush.block([0.1, 0.2], [0.5, 0.3], white)), 0.6);
        close(area(|brush| brush.ellipse([0.0, 0.1], [0.8, 0.5], white)), 0.4 * std::f32::consts::PI);
        let triangle = [[-0.8, 0.5], [0.8, 0.5], [0.0, -0.7]];
        close(area(|brush| brush.polygon(&triangle, white)), 0.96);
        close(
            area(|brush| brush.line([0.0, -0.5], [0.0, 0.5], 0.4, white)),
            0.4 + 0.04 * std::f32::consts::PI,
        );
        let ring = 2.0 * std::f32::consts::PI * 0.6 * 0.2;
        close(area(|brush| brush.ring([0.0, 0.0], [0.6, 0.6], 0.2, white)), ring);
    }
}
