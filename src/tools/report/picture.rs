//! Pictures as PNG data embedded in the page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// An RGB picture as the address of an `<img>`; empty if its size is not that of its pixels.
pub(super) fn data_uri(pixels: &[u8], height: usize, width: usize) -> String {
    encode(pixels, height, width)
        .map(|png| format!("data:image/png;base64,{}", STANDARD.encode(png)))
        .unwrap_or_default()
}

fn encode(pixels: &[u8], height: usize, width: usize) -> Option<Vec<u8>> {
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, width.try_into().ok()?, height.try_into().ok()?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header().ok()?;
    writer.write_image_data(pixels).ok()?;
    writer.finish().ok()?;
    Some(png)
}

/// Weights `[height, width, 3, filters]` as one picture per filter: grey is zero, black or white the largest weight of
/// the filter.
pub(super) fn filters(weights: &[f32], height: usize, width: usize, filters: usize) -> Vec<String> {
    let of = |filter: usize| {
        let weights: Vec<f32> = weights.iter().copied().skip(filter).step_by(filters).collect();
        let largest = weights.iter().fold(f32::MIN_POSITIVE, |most, weight| most.max(weight.abs()));
        let pixels: Vec<u8> =
            weights.iter().map(|weight| (127.5 + 127.5 * weight / largest).round() as u8).collect();
        data_uri(&pixels, height, width)
    };
    (0..filters).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_decoded_to_its_pixels() {
        let pixels: Vec<u8> = (0..2 * 3 * 3).collect();
        let address = data_uri(&pixels, 2, 3);
        let png = STANDARD.decode(address.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut decoded = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut decoded).unwrap();
        assert_eq!((info.height, info.width, decoded), (2, 3, pixels.clone()));
        assert_eq!(data_uri(&pixels, 3, 3), "");
    }

    #[test]
    fn a_filter_is_grey_where_it_is_zero() {
        // Two filters of one place: (0, 1, -1) and (2, 0, 1).
        let pictures = filters(&[0.0, 2.0, 1.0, 0.0, -1.0, 1.0], 1, 1, 2);
        let expected = [[128, 255, 0], [255, 128, 191]].map(|pixels| data_uri(&pixels, 1, 1));
        assert_eq!(pictures, expected);
    }
}
