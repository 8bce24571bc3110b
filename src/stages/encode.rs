//! Features of images, batch by batch.

use std::convert::Infallible;

use crate::kernels;
use crate::model::{Encoder, Readout};
use crate::ranks::{Ranks, To, in_turn};
use crate::samples::{Batch, PlainImages, Samples};

/// Passes the features of all images to `take`, with their labels, `batch_size` images at a time; the features do not
/// depend on the batch size. Several ranks share the images out, and pass them on where `to` says.
///
/// # Errors
/// Whatever `take` returns.
pub(super) fn encode<E>(
    encoder: &Encoder,
    readout: &Readout,
    images: &PlainImages,
    batch_size: usize,
    (ranks, to): (&dyn Ranks, To),
    mut take: impl FnMut(&[f32], &[u16]) -> Result<(), E>,
) -> Result<(), E> {
    let device = encoder.device();
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    // Features, then labels.
    let work = |indices: &&[u32]| {
        let batch = Batch::new(images, 0, indices);
        let labels = batch.labels.clone();
        let (inputs, _) = batch.into_tensors(&device);
        let mut rows: Vec<f32> = encoder.read(inputs, readout).into_data().iter::<f32>().collect();
        rows.extend(labels.into_iter().map(f32::from));
        rows
    };
    let encoded = in_turn(ranks, indices.chunks(batch_size), to, work, |indices, rows| {
        let (rows, labels) = rows.split_at(rows.len().saturating_sub(indices.len()));
        take(rows, &labels.iter().map(|&label| label as u16).collect::<Vec<_>>())
    });
    kernels::release_memory();
    encoded
}

/// Images encoded at a time when all features are kept.
const BATCH: usize = 256;

/// The features of all images, `[images, width]`, and their labels.
pub(crate) fn features(
    encoder: &Encoder,
    readout: &Readout,
    images: &PlainImages,
    ranks: &dyn Ranks,
) -> (Vec<f32>, Vec<u16>) {
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    let Ok(()) = encode(encoder, readout, images, BATCH, (ranks, To::All), |rows, of| {
        values.extend_from_slice(rows);
        labels.extend_from_slice(of);
        Ok::<(), Infallible>(())
    });
    (values, labels)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Images, Pixels};
    use crate::model::{EncoderConfig, EncoderKind, Initialiser, Pool, Views};
    use crate::ranks::Alone;
    use crate::samples::{RotatedImages, Rotations};

    #[test]
    fn views_are_the_rotations_of_pretraining_in_their_order() {
        let pixels = (0..3 * 32 * 32 * 3).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let images = Images { pixels, labels: vec![0, 1, 2], height: 32, width: 32 };
        let (pixels, device) = (Pixels::Raw, Device::flex());
        let config = EncoderConfig {
            kind: EncoderKind::Compact,
            widths: Some(vec![8, 8]),
            pools: Some(vec![true, true]),
            ..EncoderConfig::default()
        };
        let encoder = Encoder::new(&config, [32, 32, 3], &mut Initialiser::new(1, config.scheme(), &device));
        let one = Readout { layers: vec!["block2".into()], pool: Pool::Two, views: Views::One };
        let rotated = RotatedImages::new(&images, vec![0, 1, 2], Rotations::All, &pixels, 0);
        let (inputs, _) = Batch::new(&rotated, 0, &(0..12).collect::<Vec<_>>()).into_tensors(&device);
        let each: Vec<f32> = encoder.read(inputs, &one).into_data().iter::<f32>().collect();

        let four = Readout { views: Views::Four, ..one };
        let plain = PlainImages::all(&images, &pixels);
        let mut together = Vec::new();
        let take = |rows: &[f32], _: &[u16]| {
            together.extend_from_slice(rows);
            Ok::<(), Infallible>(())
        };
        let Ok(()) = encode(&encoder, &four, &plain, 2, (&Alone, To::First), take);
        assert_eq!(features(&encoder, &four, &plain, &Alone), (together.clone(), vec![0, 1, 2]));
        assert_eq!(together, each);
        assert_ne!(each[..32], each[32..64]);
    }
}
