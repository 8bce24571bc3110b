//! Quarter turns of images: the pretext task. The direction is decided here and nowhere else.

use super::images::CHANNELS;
use super::pixels::PixelTable;

/// A number of quarter turns counter-clockwise, which is the label of the pretext task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rotation {
    /// As it is.
    Upright = 0,
    /// 90° counter-clockwise: the right edge becomes the top.
    Quarter = 1,
    /// 180°.
    Half = 2,
    /// 270° counter-clockwise: the left edge becomes the top.
    ThreeQuarters = 3,
}

impl Rotation {
    /// All four, by label.
    pub const ALL: [Self; 4] = [Self::Upright, Self::Quarter, Self::Half, Self::ThreeQuarters];

    /// The rotation of a label; only the last two bits count, as turns are modulo 4.
    pub fn from_turns(turns: u32) -> Self {
        Self::ALL[(turns % 4) as usize]
    }

    /// Height and width of the rotated image.
    pub fn shape(self, height: usize, width: usize) -> (usize, usize) {
        match self {
            Self::Upright | Self::Half => (height, width),
            Self::Quarter | Self::ThreeQuarters => (width, height),
        }
    }

    /// Where a pixel of a rotated square image is in the source: factors of (row, column, 1) that give its row, and its
    /// column.
    pub(crate) fn place_in_source(self, side: usize) -> [[i32; 3]; 2] {
        let last = side as i32 - 1;
        match self {
            Self::Upright => [[1, 0, 0], [0, 1, 0]],
            Self::Quarter => [[0, 1, 0], [-1, 0, last]],
            Self::Half => [[-1, 0, last], [0, -1, last]],
            Self::ThreeQuarters => [[0, -1, last], [1, 0, 0]],
        }
    }

    /// Where row `row` of the rotated image begins in the source, and how far it is from there to the next pixel; both in
    /// pixels.
    fn row_in_source(self, row: usize, height: usize, width: usize) -> (usize, isize) {
        match self {
            Self::Upright => (row * width, 1),
            Self::Quarter => (width - 1 - row, width as isize),
            Self::Half => ((height - row) * width - 1, -1),
            Self::ThreeQuarters => ((height - 1) * width + row, -(width as isize)),
        }
    }
}

/// `np.rot90(image, k)` of an image of `height x width x 3` bytes.
pub fn rotate(image: &[u8], height: usize, width: usize, rotation: Rotation) -> Vec<u8> {
    let mut rotated = vec![0; image.len()];
    copy(image, height, width, rotation, &mut rotated, |colours, pixel| pixel.copy_from_slice(colours));
    rotated
}

/// [`rotate`] and conversion to numbers in one pass, into a slice of `height x width x 3` numbers.
///
/// Panics if the image or the slice has another length.
pub fn write_rotated(
    image: &[u8],
    height: usize,
    width: usize,
    rotation: Rotation,
    table: &PixelTable,
    out: &mut [f32],
) {
    let length = height * width * CHANNELS;
    assert_eq!((image.len(), out.len()), (length, length));
    let convert = |colours: &[u8], pixel: &mut [f32]| {
        for ((value, &byte), table) in pixel.iter_mut().zip(colours).zip(&table.0) {
            *value = table[usize::from(byte)];
        }
    };
    match rotation {
        Rotation::Upright => {
            let (pixels, _) = out.as_chunks_mut::<CHANNELS>();
            let (colours, _) = image.as_chunks::<CHANNELS>();
            for (pixel, colours) in pixels.iter_mut().zip(colours) {
                convert(colours, pixel);
            }
        }
        _ => copy(image, height, width, rotation, out, convert),
    }
}

fn copy<T>(
    image: &[u8],
    height: usize,
    width: usize,
    rotation: Rotation,
    out: &mut [T],
    convert: impl Fn(&[u8], &mut [T]),
) {
    let (_, row_length) = rotation.shape(height, width);
    for (row, values) in out.chunks_exact_mut(row_length * CHANNELS).enumerate() {
        let (mut source, step) = rotation.row_in_source(row, height, width);
        for pixel in values.chunks_exact_mut(CHANNELS) {
            convert(&image[source * CHANNELS..][..CHANNELS], pixel);
            source = source.wrapping_add_signed(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Pixels;

    /// `for k in range(4): np.rot90(np.arange(18, dtype=np.uint8).reshape(2, 3, 3), k).ravel().tolist()`
    const NUMPY: [[u8; 18]; 4] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17],
        [6, 7, 8, 15, 16, 17, 3, 4, 5, 12, 13, 14, 0, 1, 2, 9, 10, 11],
        [15, 16, 17, 12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2],
        [9, 10, 11, 0, 1, 2, 12, 13, 14, 3, 4, 5, 15, 16, 17, 6, 7, 8],
    ];

    #[test]
    fn all_four_are_what_numpy_makes_of_an_image_that_is_not_square() {
        let image = NUMPY[0];
        for (rotation, expected) in Rotation::ALL.into_iter().zip(NUMPY) {
            assert_eq!(rotate(&image, 2, 3, rotation), expected, "{rotation:?}");
            let mut numbers = [0.0; 18];
            write_rotated(&image, 2, 3, rotation, &Pixels::Raw.table(), &mut numbers);
            assert_eq!(numbers, expected.map(f32::from), "{rotation:?}");
            write_rotated(&image, 2, 3, rotation, &Pixels::Scaled.table(), &mut numbers);
            assert_eq!(numbers, expected.map(|byte| f32::from(byte) / 255.0), "{rotation:?}");
        }
    }

    #[test]
    fn turns_add_up() {
        let image: Vec<u8> = (0..60).collect();
        let mut turned = image.clone();
        let (mut height, mut width) = (4, 5);
        for turns in 1..=4 {
            turned = rotate(&turned, height, width, Rotation::Quarter);
            (height, width) = Rotation::Quarter.shape(height, width);
            assert_eq!(turned, rotate(&image, 4, 5, Rotation::from_turns(turns)));
        }
        assert_eq!(turned, image);
    }
}
