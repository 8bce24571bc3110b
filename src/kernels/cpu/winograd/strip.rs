//! Rows of tiles: which there are, and the numbers under one of them, between zeros.

use super::super::scratch::Scratch;
use super::super::unfold::{OutputGradient, write_pixels};
use super::filter::Grid;

/// The rows of tiles of a batch; tiles at the lower and right border may be cut off.
#[derive(Clone, Copy)]
pub struct Tiling {
    /// Outputs along the side of a tile.
    pub outputs: usize,
    /// Rows of tiles an image.
    pub rows: usize,
    /// Tiles a row.
    pub columns: usize,
}

impl Tiling {
    /// Tiles that cover so many outputs.
    pub fn new(outputs: usize, height: usize, width: usize) -> Self {
        Self { outputs, rows: height.div_ceil(outputs), columns: width.div_ceil(outputs) }
    }

    /// Image, and first output row there, of a row of tiles.
    pub fn place(&self, row: usize) -> [usize; 2] {
        [row / self.rows, row % self.rows * self.outputs]
    }
}

/// A batch of maps `[images, height, width, channels]`, wherever their numbers come from.
#[derive(Clone, Copy)]
pub enum Maps<'a> {
    /// They lie in memory.
    Plain {
        shape: [usize; 3],
        numbers: &'a [f32],
    },
    Gradient(OutputGradient<'a>),
}

impl Maps<'_> {
    /// Height, width and channels.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Plain { shape, .. } => *shape,
            Self::Gradient(gradient) => {
                let shape = gradient.shape;
                [shape.conv_height(), shape.conv_width(), shape.out_channels]
            }
        }
    }

    /// Writes as much of a row as the target takes, `stride` floats a pixel; what lies between the channels and the stride
    /// stays.
    #[inline(always)]
    fn write_row(&self, image: usize, row: usize, target: &mut [f32], stride: usize) {
        match self {
            Self::Plain { shape: [height, width, channels], numbers } => {
                let row = &numbers[(image * height + row) * width * channels..][..width * channels];
                write_pixels(row, *channels, target, stride);
            }
            Self::Gradient(gradient) => gradient.write_row(image, row, target, stride),
        }
    }
}

/// The numbers under one row of tiles, `[height, width, stride]`, and zeros around them.
pub struct Strip {
    pub numbers: Scratch,
    pub width: usize,
    pub stride: usize,
    height: usize,
    padding: usize,
}

impl Strip {
    /// Room for `height` rows of `width` pixels of `stride` floats, that start `padding` rows and columns before the map.
    pub fn new(height: usize, width: usize, stride: usize, padding: usize) -> Self {
        Self { numbers: Scratch::take_zeroed(height * width * stride), width, stride, height, padding }
    }

    /// The vectors of a tile that starts at a column, for the channels from `channel` on.
    pub fn tile(&self, column: usize, channel: usize) -> Grid<*const f32> {
        let numbers = &self.numbers[column * self.stride + channel..];
        Grid { at: numbers.as_ptr(), row: self.width * self.stride, column: self.stride }
    }

    /// Fills it for the outputs of an image from `first` on.
    #[inline(always)]
    pub fn fill(&mut self, maps: Maps, image: usize, first: usize) {
        let [height, width, _] = maps.shape();
        let width = width.min(self.width - self.padding);
        let (padding, stride) = (self.padding, self.stride);
        for (index, row) in self.numbers.chunks_exact_mut(self.width * stride).enumerate().take(self.height) {
            let target = &mut row[padding * stride..][..width * stride];
            match (first + index).checked_sub(padding) {
                Some(row) if row < height => maps.write_row(image, row, target, stride),
                _ => target.fill(0.0),
            }
        }
    }
}
