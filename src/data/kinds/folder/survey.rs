//! What the images of a folder are like, by their headers alone.

use std::path::{Path, PathBuf};

use image::ImageReader;

use super::tree::Tree;

/// Images whose headers are read: enough for a median, in a fraction of a second.
const LOOKED_AT: usize = 200;

/// What the images of a folder are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Images to train on.
    pub images: usize,
    /// Median of their shorter sides, in pixels.
    pub side: usize,
    /// The files of some of the images: a fair sample.
    pub sample: Vec<PathBuf>,
}

/// Looks at a folder; `labels` is a table of classes, if it is not the folder's own. `None` where it cannot be opened, or no
/// image of the first ones can be read: opening it says why.
pub fn survey(root: &Path, labels: Option<&Path>) -> Option<Survey> {
    let tree = Tree::read(root, labels).ok()?;
    let side = |path: &Path| {
        let reader = ImageReader::open(root.join(path)).ok()?.with_guessed_format().ok()?;
        let (width, height) = reader.into_dimensions().ok()?;
        Some(width.min(height) as usize)
    };
    let sample = &tree.train[..tree.train.len().min(LOOKED_AT)];
    let mut sides: Vec<usize> = sample.iter().filter_map(|entry| side(&entry.path)).collect();
    sides.sort_unstable();
    Some(Survey {
        images: tree.train.len(),
        side: *sides.get(sides.len() / 2)?,
        sample: sample.iter().map(|entry| root.join(&entry.path)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::super::tests::Home;
    use super::*;
    use crate::data::decode::tests::picture;

    #[test]
    fn the_median_of_the_shorter_sides_is_found_without_decoding() {
        let home = Home::new();
        for (number, [width, height]) in
            [[40, 90], [200, 100], [300, 400], [500, 64], [90, 80]].into_iter().enumerate()
        {
            let jpeg = picture(width, height, ImageFormat::Jpeg);
            // The header is there, most of the pixels are not.
            home.write(&format!("{number}.jpg"), &jpeg[..jpeg.len() * 3 / 4]);
        }
        let found = survey(&home.root(), None).unwrap();
        assert_eq!((found.images, found.side, found.sample.len()), (5, 80, 5));
        assert!(found.sample.iter().all(|file| file.is_file()));
        assert_eq!(survey(&home.root().join("nowhere"), None), None);
        let empty = Home::new();
        empty.write("0.png", b"no image");
        assert_eq!(survey(&empty.root(), None), None);
    }
}
