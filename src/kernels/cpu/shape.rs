//! The shape of one convolution layer and what follows from it.
//!
//! Layout everywhere: activations `[batch, height, width, channels]` (NHWC), weights
//! `[kernel, kernel, in_channels, out_channels]` (HWIO). In NHWC the inputs under one kernel row are
//! `kernel * in_channels` contiguous numbers, so every kernel here works on *row pieces* and needs no
//! im2col, whatever the channel count (the first layer's 3 channels give pieces of 9).

use std::fmt;
use std::ops::Range;

/// One 2-D convolution with stride 1 and a square kernel, optionally followed by ReLU and a 2x2 max-pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    /// 1, 3, 5 or 6 (any size works; `same` padding asks for an odd one).
    pub kernel: usize,
    /// Zeros on every side: 0 (valid) or `(kernel - 1) / 2` (same).
    pub padding: usize,
    /// 2x2 max-pool with stride 2 behind the convolution; an odd last row or column is dropped.
    pub pool: bool,
    pub relu: bool,
}

impl ConvShape {
    pub fn padded_height(&self) -> usize {
        self.height + 2 * self.padding
    }

    pub fn padded_width(&self) -> usize {
        self.width + 2 * self.padding
    }

    /// Height of the convolution's own output, before pooling.
    pub fn conv_height(&self) -> usize {
        (self.padded_height() + 1).saturating_sub(self.kernel)
    }

    pub fn conv_width(&self) -> usize {
        (self.padded_width() + 1).saturating_sub(self.kernel)
    }

    pub fn out_height(&self) -> usize {
        if self.pool { self.conv_height() / 2 } else { self.conv_height() }
    }

    pub fn out_width(&self) -> usize {
        if self.pool { self.conv_width() / 2 } else { self.conv_width() }
    }

    /// Output positions (pixels) of one image.
    pub fn positions(&self) -> usize {
        self.out_height() * self.out_width()
    }

    pub fn input_len(&self) -> usize {
        self.height * self.width * self.in_channels
    }

    pub fn output_len(&self) -> usize {
        self.positions() * self.out_channels
    }

    /// Length of a row piece: the contiguous inputs under one kernel row.
    pub fn row_piece(&self) -> usize {
        self.kernel * self.in_channels
    }

    /// Products summed in one output number.
    pub fn depth(&self) -> usize {
        self.kernel * self.row_piece()
    }

    pub fn weight_len(&self) -> usize {
        self.depth() * self.out_channels
    }

    /// The convolution of the output's gradient that gives the input's, with turned weights.
    pub fn turned(&self) -> Self {
        Self {
            height: self.conv_height(),
            width: self.conv_width(),
            in_channels: self.out_channels,
            out_channels: self.in_channels,
            padding: self.kernel - 1 - self.padding,
            pool: false,
            relu: false,
            ..*self
        }
    }

    pub(crate) fn check(&self) {
        assert!(self.kernel > 0 && self.in_channels > 0 && self.out_channels > 0, "empty {self:?}");
        assert!(self.padding < self.kernel, "padding must be smaller than the kernel in {self:?}");
    }
}

/// Can the kernels of this module run `shape` well? (They run every shape correctly.) Few channels out are no reason
/// against them: both passes of 3x3 over 32 images, one Zen 5 core, other work beside, best of 8: 16x16x32 -> 1 with pool
/// 2.7 ms (burn's operations 9.5), 32x32x3 -> 1 1.9 (2.6), 8x8x64 -> 1 1.1 (3.3).
pub fn uses_fast_path(shape: &ConvShape) -> bool {
    matches!(shape.kernel, 1 | 3 | 5 | 6) && shape.padding < shape.kernel && shape.positions() > 0
}

/// Splits `0..total` into pieces of at most `largest`, as equal as possible and longer ones first.
pub(crate) fn pieces(total: usize, largest: usize) -> impl Iterator<Item = Range<usize>> {
    let count = total.div_ceil(largest);
    (0..count).scan(0, move |start, index| {
        let size = (total - *start).div_ceil(count - index);
        let range = *start..*start + size;
        *start += size;
        Some(range)
    })
}

impl fmt::Display for ConvShape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, width, in_channels, out_channels, kernel, .. } = self;
        write!(out, "conv {kernel}x{kernel} {height}x{width}x{in_channels} -> {out_channels}")
    }
}
