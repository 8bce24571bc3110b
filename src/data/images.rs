//! Images in memory: one owner, 8 bits a channel until a batch is made.

/// Colour channels of an image.
pub const CHANNELS: usize = 3;

/// Labeled RGB images of one size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// `len x height x width x 3` values, row-major, channels last.
    pub pixels: Vec<u8>,
    /// One an image.
    pub labels: Vec<u8>,
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

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Values an image: `height x width x 3`.
    pub fn values(&self) -> usize {
        self.height * self.width * CHANNELS
    }

    /// The pixels of one image, `height x width x 3`.
    pub fn image(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.values()..(index + 1) * self.values()]
    }

    /// A copy of some of the images, in the order of `indices`.
    pub fn subset(&self, indices: &[u32]) -> Self {
        let images = indices.iter().map(|&index| self.image(index as usize));
        Self {
            pixels: images.collect::<Vec<_>>().concat(),
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
    fn a_subset_holds_the_images_asked_for_in_that_order() {
        let images = Images { pixels: (0..12).collect(), labels: vec![7, 8], height: 1, width: 2 };
        let subset = images.subset(&[1, 0, 1]);
        assert_eq!(subset.labels, [8, 7, 8]);
        assert_eq!(subset.image(1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(subset.image(2), images.image(1));
    }
}
