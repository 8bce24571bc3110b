//! Images in memory or in a mapped file: one owner, 8 bits per channel until a batch is made.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Colour channels of an image.
pub const CHANNELS: usize = 3;

/// Bytes that are shared and never change, in memory or in a mapped file; taking a part copies nothing.
#[derive(Clone)]
pub struct PixelBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl PixelBytes {
    /// All bytes of `owner`.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let range = 0..owner.as_ref().len();
        Self { owner: Arc::new(owner), range }
    }

    /// The bytes in `range`, shared with the same owner; panics if it reaches beyond the end.
    pub fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len());
        let start = self.range.start;
        Self { owner: Arc::clone(&self.owner), range: start + range.start..start + range.end }
    }
}

impl Deref for PixelBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

impl From<Vec<u8>> for PixelBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl FromIterator<u8> for PixelBytes {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Self::new(bytes.into_iter().collect::<Vec<_>>())
    }
}

impl Default for PixelBytes {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl PartialEq for PixelBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for PixelBytes {}

impl fmt::Debug for PixelBytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.len())
    }
}

/// Labeled RGB images of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// `len x height x width x 3` values, row-major, channels last.
    pub pixels: PixelBytes,
    /// One per image; 0 if the images have none.
    pub labels: Vec<u16>,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
}

impl Images {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values per image: `height x width x 3`.
    pub fn values(&self) -> usize {
        self.height * self.width * CHANNELS
    }

    /// The pixels of one image, `height x width x 3`.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.values()..(index + 1) * self.values()]
    }

    /// The images in `range`, sharing the pixels; panics if it reaches beyond the end.
    pub fn part(&self, range: Range<usize>) -> Self {
        let values = self.values();
        Self {
            pixels: self.pixels.part(range.start * values..range.end * values),
            labels: self.labels[range].to_vec(),
            height: self.height,
            width: self.width,
        }
    }

    /// A copy of the images at `indices`, in that order.
    pub fn subset(&self, indices: &[u32]) -> Self {
        let images = indices.iter().map(|&index| self.image(index as usize));
        Self {
            pixels: images.collect::<Vec<_>>().concat().into(),
            labels: indices.iter().map(|&index| self.labels[index as usize]).collect(),
            height: self.height,
            width: self.width,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_holds_the_images_asked_for_in_that_order_and_a_part_its_neighbours() {
        let images = Images { pixels: (0..18).collect(), labels: vec![7, 8, 9], height: 1, width: 2 };
        let subset = images.subset(&[1, 0, 1]);
        assert_eq!(subset.labels, [8, 7, 8]);
        assert_eq!(subset.image(1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(subset.image(2), images.image(1));
        let part = images.part(1..3).part(1..2);
        assert_eq!((part.labels, &*part.pixels), (vec![9], images.image(2)));
    }
}
