//! Images that live on devices: a batch is made there, from a few numbers a sample.
//!
//! A sample is a turned, moved and mirrored copy of a square image, so each of its pixels is a pixel of that image, or
//! black. What is drawn at random is drawn by the samples themselves, as for batches made on the host: the numbers of
//! a batch are the same, bit for bit.

use burn::tensor::{DType, Device, Int, IntDType, Tensor, TensorData};

/// Numbers per pixel.
const CHANNELS: usize = 3;
/// Number of pixels, at most, to put on a device, at four bytes each: half a gibibyte.
const MAX_PIXELS: usize = 1 << 27;
/// Most pixels in a piece of them: 128 MiB, what every graphics card can bind (WebGPU's least
/// `maxStorageBufferBindingSize`, <https://www.w3.org/TR/webgpu/#limits>).
const MAX_PIECE: usize = 1 << 25;

/// Images that samples are copies of, on the host.
#[derive(Clone, Copy, Debug)]
pub struct Pictures<'a> {
    /// `count x side x side x 3` bytes, row by row, channels last.
    pub pixels: &'a [u8],
    /// Rows, and columns, of an image.
    pub side: usize,
    /// The number that stands for a byte, by channel.
    pub numbers: &'a [[f32; 256]; CHANNELS],
    /// Whether the image is mirrored beyond its edge, and not black; places are less than `side` beyond it.
    pub reflected: bool,
}

/// Where the pixels of a sample are: that of (row, column) is in row `row · (row, column, 1)` and column
/// `column · (row, column, 1)` of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Number of the image.
    pub image: u32,
    /// Factors that give the row.
    pub row: [i32; 3],
    /// Factors that give the column.
    pub column: [i32; 3],
}

impl Place {
    /// Numbers per place that a device is sent.
    const LENGTH: usize = 7;

    fn numbers(&self) -> [i32; Self::LENGTH] {
        let ([a, b, c], [d, e, f]) = (self.row, self.column);
        [self.image as i32, a, b, c, d, e, f]
    }
}

/// The images, on every device of a training.
#[derive(Debug)]
pub struct Resident {
    side: usize,
    reflected: bool,
    copies: Vec<OnDevice>,
}

/// What a device keeps.
#[derive(Debug)]
struct OnDevice {
    device: Device,
    /// `[count x side x side]` in pieces of equal length but the last, red in the lowest of three bytes, then green,
    /// then blue.
    pixels: Vec<Tensor<1, Int>>,
    /// `[3 x 256]`, see [`Pictures::numbers`].
    numbers: Tensor<1>,
    /// `[1, side x side]`, the row of each pixel of an image.
    rows: Tensor<2, Int>,
    /// `[1, side x side]`, its column.
    columns: Tensor<2, Int>,
}

impl Resident {
    /// Puts images on `devices` (without automatic differentiation); none if there are too many (over 2^27 pixels).
    pub fn new(pictures: &Pictures<'_>, devices: &[Device]) -> Option<Self> {
        Self::in_pieces(pictures, devices, MAX_PIECE)
    }

    fn in_pieces(pictures: &Pictures<'_>, devices: &[Device], piece: usize) -> Option<Self> {
        let (pixels, _) = pictures.pixels.as_chunks::<CHANNELS>();
        if pixels.len() > MAX_PIXELS {
            return None;
        }
        let packed = |piece: &[[u8; CHANNELS]]| {
            let packed = piece.iter().map(|&[red, green, blue]| i32::from_le_bytes([red, green, blue, 0]));
            TensorData::new(packed.collect::<Vec<_>>(), [piece.len()])
        };
        let packed: Vec<TensorData> = pixels.chunks(piece).map(packed).collect();
        let mut copies: Vec<OnDevice> = Vec::new();
        for device in devices {
            // Replicas may share a device.
            if copies.iter().all(|copy| copy.device != *device) {
                copies.push(OnDevice::new(pictures, &packed, device));
            }
        }
        Some(Self { side: pictures.side, reflected: pictures.reflected, copies })
    }

    /// The samples at `places`, `[samples, side x side x 3]`, on one of the devices, with automatic differentiation
    /// or without as `device` says.
    ///
    /// Panics for another device, and for a place beyond the images.
    pub fn batch(&self, places: &[Place], device: &Device) -> Tensor<2> {
        let copy = self.copies.iter().find(|copy| copy.device == *device);
        let copy = copy.expect("the images are on every device of the training");
        let numbers: Vec<i32> = places.iter().flat_map(Place::numbers).collect();
        let numbers = TensorData::new(numbers, [places.len(), Place::LENGTH]);
        let numbers = Tensor::<2, Int>::from_data(numbers, (device, DType::I32));
        let number = |index| numbers.clone().narrow(1, index, 1);
        let place = |first| {
            number(first) * copy.rows.clone() + number(first + 1) * copy.columns.clone() + number(first + 2)
        };
        let (rows, columns) = (place(1), place(4));
        let side = self.side as i32;
        let packed = match self.reflected {
            true => copy.pixels_at(number(0), reflect(rows, side), reflect(columns, side), side),
            false => {
                let seen = inside(&rows, side) * inside(&columns, side);
                let [rows, columns] = [rows, columns].map(|places| places.clamp(0, side - 1));
                copy.pixels_at(number(0), rows, columns, side) * seen.flatten(0, 1)
            }
        };
        let samples = copy.unpacked(packed).reshape([places.len(), self.side * self.side * CHANNELS]);
        if device.is_autodiff() { samples.autodiff() } else { samples }
    }
}

impl OnDevice {
    fn new(pictures: &Pictures<'_>, packed: &[TensorData], device: &Device) -> Self {
        let side = pictures.side;
        let area = side * side;
        let each = |number: fn(usize, usize) -> usize| {
            let numbers: Vec<i32> = (0..area).map(|pixel| number(pixel, side) as i32).collect();
            Tensor::from_data(TensorData::new(numbers, [1, area]), (device, DType::I32))
        };
        Self {
            device: device.clone(),
            pixels: packed
                .iter()
                .map(|piece| Tensor::from_data(piece.clone(), (device, DType::I32)))
                .collect(),
            numbers: Tensor::from_data(
                TensorData::new(pictures.numbers.concat(), [CHANNELS * 256]),
                (device, DType::F32),
            ),
            rows: each(|pixel, side| pixel / side),
            columns: each(|pixel, side| pixel % side),
        }
    }

    /// Packed pixels `[samples x side x side]` of images `[samples, 1]` at rows and columns `[samples, side x side]`.
    fn pixels_at(
        &self,
        images: Tensor<2, Int>,
        rows: Tensor<2, Int>,
        columns: Tensor<2, Int>,
        side: i32,
    ) -> Tensor<1, Int> {
        let index = images.mul_scalar(side * side) + rows.mul_scalar(side) + columns;
        let index: Tensor<1, Int> = index.flatten(0, 1);
        if let [all] = &self.pixels[..] {
            return all.clone().select(0, index);
        }
        let mut first = 0;
        let from = |piece: &Tensor<1, Int>| {
            let length = piece.dims()[0] as i32;
            let own = index.clone().sub_scalar(first);
            first += length;
            piece.clone().select(0, own.clone().clamp(0, length - 1)) * inside(&own, length)
        };
        let found = self.pixels.iter().map(from).reduce(|found, more| found + more);
        found.unwrap_or_else(|| index.zeros_like())
    }

    /// The numbers `[pixels, 3]` of packed pixels `[pixels]`.
    fn unpacked(&self, packed: Tensor<1, Int>) -> Tensor<2> {
        let channel = |channel: usize| {
            let bytes = packed.clone().bitwise_right_shift_scalar(8 * channel as i32).bitwise_and_scalar(255);
            self.numbers.clone().select(0, bytes.add_scalar(256 * channel as i32))
        };
        Tensor::stack((0..CHANNELS).map(channel).collect(), 1)
    }
}

/// 1 where a place is one of the `length` first, 0 elsewhere.
fn inside<const D: usize>(places: &Tensor<D, Int>, length: i32) -> Tensor<D, Int> {
    places.clone().clamp(0, length - 1).equal(places.clone()).cast(IntDType::I32)
}

/// The place within the image whose mirror image lies at a place less than `side` beyond its edge.
fn reflect(places: Tensor<2, Int>, side: i32) -> Tensor<2, Int> {
    let before = places.abs();
    let after = before.clone().neg().add_scalar(2 * (side - 1));
    before.min_pair(after)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{AugmentConfig, Images, Padding, Pixels};
    use crate::samples::{Batch, Samples};
    use crate::samples::{PlainImages, RotatedImages, Rotations};

    const SIDE: usize = 6;
    const IMAGES: usize = 5;

    fn images() -> Images {
        let pixels = (0..IMAGES * SIDE * SIDE * CHANNELS).map(|place| (place * 151 % 256) as u8);
        Images { pixels: pixels.collect(), labels: vec![3, 1, 4, 1, 5], height: SIDE, width: SIDE }
    }

    /// Whether a device makes the very numbers that the host makes.
    fn assert_same(samples: &dyn Samples) {
        let device = Device::flex();
        let pictures = samples.pictures().unwrap();
        let order: Vec<u32> = (0..samples.len() as u32).rev().collect();
        // All in one piece, and in pieces that end within images.
        for piece in [MAX_PIECE, 2 * SIDE * SIDE + 7] {
            let resident = Resident::in_pieces(&pictures, std::slice::from_ref(&device), piece);
            let resident = Arc::new(resident.unwrap());
            for epoch in 0..20 {
                let there = Batch::on(&resident, samples, epoch, &order).into_tensors(&device);
                let here = Batch::new(samples, epoch, &order).into_tensors(&device);
                assert_eq!(there.0.into_data(), here.0.into_data());
                assert_eq!(there.1.into_data(), here.1.into_data());
            }
        }
    }

    #[test]
    fn a_device_makes_the_samples_that_the_host_makes() {
        let images = images();
        let scaled = Pixels::Scaled;
        let normalised = Pixels::Normalised { mean: [0.4, 0.5, 0.6], std: [0.2, 0.3, 0.4] };
        let indices = || vec![4, 0, 2, 3];
        assert_same(&PlainImages::all(&images, &scaled));
        for rotations in [Rotations::Shuffled, Rotations::All, Rotations::Random] {
            assert_same(&RotatedImages::new(&images, indices(), rotations, &normalised, 7));
        }
        for (padding, crop_padding) in [(Padding::Zero, 4), (Padding::Reflect, 5), (Padding::Reflect, 1)] {
            let config = AugmentConfig { padding, crop_padding, ..AugmentConfig::default() };
            let rotated = RotatedImages::new(&images, indices(), Rotations::All, &normalised, 7);
            assert_same(&rotated.augmented(Some(&config)));
            assert_same(&PlainImages::all(&images, &scaled).augmented(Some(&config), 8));
        }
    }

    #[test]
    fn what_changes_more_than_places_is_left_to_the_host() {
        let images = images();
        let rotated = || RotatedImages::new(&images, vec![1], Rotations::All, &Pixels::Raw, 7);
        let none = |samples: &dyn Samples| samples.pictures().is_none();
        assert!(!none(&rotated()));
        assert!(none(&rotated().resized(3)));
        let config =
            |contrast, crop_padding| AugmentConfig { contrast, crop_padding, ..AugmentConfig::default() };
        assert!(none(&rotated().augmented(Some(&config(0.1, 0)))));
        assert!(none(&rotated().augmented(Some(&config(0.0, SIDE)))));
        let wide = Images { height: 2, width: 18, ..images.clone() };
        assert!(none(&PlainImages::all(&wide, &Pixels::Raw)));
    }
}
