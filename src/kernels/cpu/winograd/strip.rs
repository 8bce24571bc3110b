//! Rows of tiles: which there are, and the numbers under one of them, between zeros.

use super::super::scratch::Scratch;
use super::super::shape::ConvShape;
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

#[inline(always)]
fn write_pixels(source: &[f32], channels: usize, target: &mut [f32], stride: usize) {
    if stride == channels {
        target.copy_from_slice(&source[..target.len()]);
        return;
    }
    for (target, source) in target.chunks_mut(stride).zip(source.chunks_exact(channels)) {
        target[..channels].copy_from_slice(source);
    }
}

/// The gradient of a convolution's own output, before ReLU and pooling: zeros where these let nothing through.
#[derive(Clone, Copy)]
pub struct OutputGradient<'a> {
    pub shape: &'a ConvShape,
    /// The output, read only behind ReLU without pooling.
    pub y: &'a [f32],
    /// The places of maxima, read only behind pooling.
    pub argmax: &'a [u8],
    /// The gradient behind ReLU and pooling.
    pub dy: &'a [f32],
}

impl OutputGradient<'_> {
    /// The gradient of the first images, so many of them, and of the others.
    pub fn cut(self, images: usize) -> [Self; 2] {
        let outputs = images * self.shape.output_len();
        // What is not read is empty, and stays so.
        let (y, other_y) = self.y.split_at(outputs.min(self.y.len()));
        let (argmax, other_argmax) = self.argmax.split_at(outputs.min(self.argmax.len()));
        let (dy, other_dy) = self.dy.split_at(outputs);
        [Self { y, argmax, dy, ..self }, Self { y: other_y, argmax: other_argmax, dy: other_dy, ..self }]
    }

    #[inline(always)]
    fn write_row(&self, image: usize, row: usize, target: &mut [f32], stride: usize) {
        let (width, channels) = (self.shape.out_width(), self.shape.out_channels);
        let pooled = if self.shape.pool { row / 2 } else { row };
        if pooled >= self.shape.out_height() {
            // The last row of an odd number, which pooling drops.
            target.fill(0.0);
            return;
        }
        let start = (image * self.shape.out_height() + pooled) * width * channels;
        let range = start..start + width * channels;
        let dy = &self.dy[range.clone()];
        if self.shape.pool {
            let argmax = &self.argmax[range];
            let first = 2 * (row % 2) as u8;
            if self.shape.conv_width() % 2 == 1 {
                target[2 * width * stride..].fill(0.0);
            }
            let pairs = target.chunks_mut(2 * stride);
            for ((pair, dy), argmax) in
                pairs.zip(dy.chunks_exact(channels)).zip(argmax.chunks_exact(channels))
            {
                let (left, right) = pair.split_at_mut(stride);
                for (((left, right), &dy), &place) in left.iter_mut().zip(right).zip(dy).zip(argmax) {
                    *left = if place == first { dy } else { 0.0 };
                    *right = if place == first + 1 { dy } else { 0.0 };
                }
            }
        } else if self.shape.relu {
            let y = self.y[range].chunks_exact(channels);
            for ((target, dy), y) in target.chunks_mut(stride).zip(dy.chunks_exact(channels)).zip(y) {
                for ((target, &dy), &y) in target.iter_mut().zip(dy).zip(y) {
                    *target = if y != 0.0 { dy } else { 0.0 };
                }
            }
        } else {
            write_pixels(dy, channels, target, stride);
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
