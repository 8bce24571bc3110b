//! The eight values of the orientation tag (EXIF 2.3, section 4.6.4) as the group they are.
//!
//! A value says how stored pixels become the picture: mirrored left to right or not, then turned clockwise.

/// Values by quarter turns clockwise: of pixels as they are, of pixels mirrored first.
const VALUES: [[u8; 4]; 2] = [[1, 6, 3, 8], [2, 7, 4, 5]];

/// How stored pixels become the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    mirrored: bool,
    /// Quarter turns clockwise, after that; 0 to 3.
    turns: u8,
}

impl Tag {
    /// By its value in a file. What is no value (0, or above 8) is read as 1, upright.
    pub fn from_value(value: u16) -> Self {
        let place = |of: &[u8; 4]| of.iter().position(|&known| u16::from(known) == value);
        match (place(&VALUES[0]), place(&VALUES[1])) {
            (_, Some(turns)) => Self { mirrored: true, turns: turns as u8 },
            (turns, None) => Self { mirrored: false, turns: turns.unwrap_or(0) as u8 },
        }
    }

    /// Its value in a file, 1 to 8.
    pub fn value(self) -> u8 {
        VALUES[usize::from(self.mirrored)][usize::from(self.turns)]
    }

    /// That of the picture turned by so many more quarters clockwise.
    pub fn turned(self, clockwise: u8) -> Self {
        Self { turns: (self.turns + clockwise % 4) % 4, ..self }
    }

    /// Quarter turns clockwise of the stored pixels that turn the picture so, the tag staying as it is.
    pub fn turns_of_pixels(self, clockwise: u8) -> u8 {
        let clockwise = clockwise % 4;
        if self.mirrored { (4 - clockwise) % 4 } else { clockwise }
    }
}

#[cfg(test)]
mod tests {
    use image::metadata::Orientation;
    use image::{DynamicImage, GrayImage, Luma};

    use super::*;

    fn turned(image: &DynamicImage, value: u8) -> DynamicImage {
        let mut image = image.clone();
        image.apply_orientation(Orientation::from_exif(value).unwrap());
        image
    }

    #[test]
    fn every_value_turned_is_what_the_decoder_makes_of_it() {
        let image = DynamicImage::from(GrayImage::from_fn(3, 2, |x, y| Luma([(10 * y + x) as u8])));
        for value in 1..=8 {
            let tag = Tag::from_value(value.into());
            assert_eq!(tag.value(), value);
            for (clockwise, turn) in [(0, 1), (1, 6), (2, 3), (3, 8)] {
                let expected = turned(&turned(&image, value), turn);
                assert_eq!(turned(&image, tag.turned(clockwise).value()), expected, "{value} {clockwise}");
                let stored = turned(&image, [1, 6, 3, 8][usize::from(tag.turns_of_pixels(clockwise))]);
                assert_eq!(turned(&stored, value), expected, "{value} {clockwise}");
            }
        }
        for value in [0, 9, 255, 0x0600, 0xffff] {
            assert_eq!(Tag::from_value(value).value(), 1);
        }
    }
}
