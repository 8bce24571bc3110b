//! Smaller images, by averaging over areas, in whole numbers.

use super::images::CHANNELS;

/// Makes images of one size smaller.
pub(crate) struct Shrink {
    /// Side of the small images.
    pub side: usize,
    rows: Vec<Cover>,
    columns: Vec<Cover>,
    /// Sum of all weights of a pixel.
    whole: u32,
}

/// The source pixels of one line that a target pixel covers, and how much of it each takes.
struct Cover {
    first: usize,
    weights: Vec<u32>,
}

impl Shrink {
    /// From `height x width` to `side x side`, which is not larger.
    pub(crate) fn new([height, width]: [usize; 2], side: usize) -> Self {
        Self {
            side,
            rows: covers(height, side),
            columns: covers(width, side),
            whole: (height * width) as u32,
        }
    }

    /// The mean over the area of each target pixel, rounded.
    pub(crate) fn apply(&self, image: &[u8], out: &mut Vec<u8>) {
        let row_length = self.columns.last().map_or(0, |last| last.first + last.weights.len()) * CHANNELS;
        let mut sums = vec![0u32; self.side * CHANNELS];
        out.clear();
        for rows in &self.rows {
            sums.fill(0);
            for (row, &weight) in image[rows.first * row_length..].chunks_exact(row_length).zip(&rows.weights)
            {
                self.add_row(row, weight, &mut sums);
            }
            out.extend(sums.iter().map(|sum| ((sum + self.whole / 2) / self.whole) as u8));
        }
    }

    fn add_row(&self, row: &[u8], weight: u32, sums: &mut [u32]) {
        for (columns, sums) in self.columns.iter().zip(sums.chunks_exact_mut(CHANNELS)) {
            let pixels = row[columns.first * CHANNELS..].chunks_exact(CHANNELS);
            for (pixel, &share) in pixels.zip(&columns.weights) {
                for (sum, &byte) in sums.iter_mut().zip(pixel) {
                    *sum += weight * share * u32::from(byte);
                }
            }
        }
    }
}

/// Of `from` pixels, each cut into `to` parts, target pixel i covers parts `i * from` to `(i + 1) * from`.
fn covers(from: usize, to: usize) -> Vec<Cover> {
    let cover = |target: usize| {
        let (begin, end) = (target * from, (target + 1) * from);
        let (first, last) = (begin / to, end.div_ceil(to));
        let weight = |pixel: usize| (end.min((pixel + 1) * to) - begin.max(pixel * to)) as u32;
        Cover { first, weights: (first..last).map(weight).collect() }
    };
    (0..to).map(cover).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shrunk(image: &[u8], from: [usize; 2], side: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Shrink::new(from, side).apply(image, &mut out);
        out
    }

    #[test]
    fn halves_are_means_of_four_and_uneven_sizes_share_pixels() {
        let image: Vec<u8> = (0..16).flat_map(|n| [n * 10, 1, 200]).collect();
        let half = shrunk(&image, [4, 4], 2);
        assert_eq!(half, [25, 1, 200, 45, 1, 200, 105, 1, 200, 125, 1, 200]);
        // 3 to 2: weights 2 and 1, so (2 a + b) / 3 and (b + 2 c) / 3 in each direction.
        let row: Vec<u8> = [30, 60, 90].repeat(3).into_iter().flat_map(|red| [red, 0, 0]).collect();
        let reds: Vec<u8> = shrunk(&row, [3, 3], 2).into_iter().step_by(3).collect();
        assert_eq!(reds, [40, 80, 40, 80]);
    }

    #[test]
    fn the_same_size_and_one_colour_stay_as_they_are() {
        let image: Vec<u8> = (0..=255).cycle().take(5 * 5 * 3).collect();
        assert_eq!(shrunk(&image, [5, 5], 5), image);
        assert_eq!(shrunk(&[255; 32 * 32 * 3], [32, 32], 20), [255; 20 * 20 * 3]);
    }
}
