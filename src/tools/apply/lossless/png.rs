//! PNG files, turned with their pixels, which loses nothing: depth, colours and palette stay, as do all other chunks.
//!
//! Programs do not agree on the orientation tag in PNG files, most ignore it. What is interlaced is not any more.

use std::ops::Range;

use super::exif::Tiff;
use super::tag::Tag;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Chunks of the specification (third edition) that are unsafe to copy when the pixels change, but hold when they are
/// turned.
const HOLD: [&[u8; 4]; 12] = [
    b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"bKGD", b"hIST", b"tRNS", b"tIME", b"sPLT", b"cICP",
    b"mDCV",
];
/// The same of 2025.
const HOLD_NEW: [&[u8; 4]; 2] = [b"cLLI", b"eXIf"];
/// Chunks that name a direction or a place in the picture.
const DIRECTED: [&[u8; 4]; 3] = [b"sTER", b"oFFs", b"sCAL"];

/// Most bytes of pixels, and most pixels: what is decoded elsewhere takes no more either.
const MOST: usize = 256 << 20;

struct Chunk<'a> {
    name: [u8; 4],
    content: &'a [u8],
    /// With length, name and check sum.
    whole: &'a [u8],
}

/// A file cut into its parts.
struct Parts<'a> {
    chunks: Vec<Chunk<'a>>,
    /// What lies behind the last chunk.
    rest: &'a [u8],
    /// Of the chunks, those that hold the pixels.
    pixels: Range<usize>,
    tag: Tag,
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, String> {
        let damaged = || "its chunks are damaged".to_owned();
        let mut rest = bytes.strip_prefix(SIGNATURE).ok_or_else(damaged)?;
        let mut chunks = Vec::new();
        loop {
            let (head, _) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let (whole, behind) = length
                .checked_add(12)
                .and_then(|length| rest.split_at_checked(length))
                .ok_or_else(damaged)?;
            let chunk =
                Chunk { name: [head[4], head[5], head[6], head[7]], content: &whole[8..8 + length], whole };
            rest = behind;
            let last = chunk.name == *b"IEND";
            chunks.push(chunk);
            if last {
                break;
            }
        }
        let is_pixels = |chunk: &Chunk| chunk.name == *b"IDAT";
        let first = chunks.iter().position(is_pixels).ok_or_else(damaged)?;
        let last = first + chunks[first..].iter().take_while(|chunk| is_pixels(chunk)).count();
        if chunks[last..].iter().any(is_pixels) || chunks[0].name != *b"IHDR" || chunks[0].content.len() != 13
        {
            return Err(damaged());
        }
        let tag = tag(&chunks, first)?;
        Ok(Self { chunks, rest, pixels: first..last, tag })
    }

    /// Names of the chunks that are left out: they are unknown, and say of themselves that they do not hold when the
    /// pixels change (PNG, section 5.4).
    fn left_out(&self) -> Vec<String> {
        let names = self.chunks.iter().filter(|chunk| !holds(chunk.name)).map(|chunk| chunk.name);
        names.map(|name| String::from_utf8_lossy(&name).into_owned()).collect()
    }
}

fn holds(name: [u8; 4]) -> bool {
    let (critical, safe) = (name[0] & 0x20 == 0, name[3] & 0x20 != 0);
    critical || safe || HOLD.contains(&&name) || HOLD_NEW.contains(&&name)
}

/// What the file says about its orientation.
fn tag(chunks: &[Chunk], pixels: usize) -> Result<Tag, String> {
    let mut blocks = chunks.iter().enumerate().filter(|(_, chunk)| chunk.name == *b"eXIf");
    let Some((place, block)) = blocks.next() else { return Ok(Tag::from_value(1)) };
    if blocks.next().is_some() {
        return Err("holds two blocks of EXIF data".into());
    }
    let damaged = "its EXIF data are damaged";
    let value = Tiff::new(block.content).ok_or(damaged)?.orientation()?.map_or(1, |(_, value)| value);
    let tag = Tag::from_value(value);
    match place > pixels && tag.value() != 1 {
        true => Err("its EXIF data lie behind the pixels, where not all programs look for them".into()),
        false => Ok(tag),
    }
}

/// What turning costs beyond time: chunks that are left out.
///
/// # Errors
/// Why the file cannot be turned.
pub fn way(bytes: &[u8]) -> Result<Option<String>, String> {
    let parts = Parts::of(bytes)?;
    for chunk in &parts.chunks {
        if matches!(&chunk.name, b"acTL" | b"fcTL" | b"fdAT") {
            return Err("animated PNG files are not turned".into());
        }
        if DIRECTED.contains(&&chunk.name) {
            let name = String::from_utf8_lossy(&chunk.name);
            return Err(format!("holds a chunk {name}, which would no longer be right"));
        }
    }
    let names = parts.left_out();
    Ok((!names.is_empty())
        .then(|| format!("chunks that describe the old bytes are left out ({})", names.join(", "))))
}

/// The file with its picture turned clockwise by so many quarters.
///
/// # Errors
/// Why it cannot be.
pub fn turn(bytes: &[u8], clockwise: u8) -> Result<Vec<u8>, String> {
    way(bytes)?;
    let parts = Parts::of(bytes)?;
    let turns = parts.tag.turns_of_pixels(clockwise);
    let failed = |error: &dyn std::fmt::Display| format!("cannot be turned: {error}");
    let limits = png::Limits { bytes: MOST };
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::IDENTITY);
    // The chunks beside the pixels are copied, whatever is in them.
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(|error| failed(&error))?;
    let (width, height) = reader.info().size();
    let size =
        reader.output_buffer_size().filter(|size| (*size).max(width as usize * height as usize) <= MOST);
    let mut pixels = vec![0; size.ok_or("is too large")?];
    let frame = reader.next_frame(&mut pixels).map_err(|error| failed(&error))?;
    let image = Raster {
        pixels,
        width: frame.width as usize,
        height: frame.height as usize,
        bits: reader.info().bits_per_pixel(),
    };
    let info = reader.info();
    let (colours, depth, palette) = (info.color_type, info.bit_depth, info.palette.clone());
    drop(reader);
    let turned = image.turned(turns);
    let encoded = encoded(&turned, colours, depth, palette).map_err(|error| failed(&error))?;
    let data = Parts::of(&encoded)?;
    Ok(assembled(&parts, &data, &turned, turns))
}

fn encoded(
    image: &Raster,
    colours: png::ColorType,
    depth: png::BitDepth,
    palette: Option<std::borrow::Cow<'_, [u8]>>,
) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width as u32, image.height as u32);
    encoder.set_color(colours);
    encoder.set_depth(depth);
    if let Some(palette) = palette.filter(|_| colours == png::ColorType::Indexed) {
        encoder.set_palette(palette);
    }
    encoder.set_compression(png::Compression::Balanced);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&image.pixels)?;
    writer.finish()?;
    Ok(bytes)
}

/// The old file with the pixels of another.
fn assembled(parts: &Parts, data: &Parts, image: &Raster, turns: u8) -> Vec<u8> {
    let mut result = SIGNATURE.to_vec();
    for (place, chunk) in parts.chunks.iter().enumerate() {
        match &chunk.name {
            b"IHDR" => {
                let [width, height] = [image.width, image.height].map(|side| (side as u32).to_be_bytes());
                // The last byte is the kind of interlacing.
                result.extend(made(b"IHDR", &[&width[..], &height, &chunk.content[8..12], &[0]].concat()));
            }
            b"pHYs" if turns % 2 == 1 && chunk.content.len() == 9 => {
                let (across, rest) = chunk.content.split_at(4);
                let (down, unit) = rest.split_at(4);
                result.extend(made(b"pHYs", &[down, across, unit].concat()));
            }
            b"IDAT" if place == parts.pixels.start => {
                data.chunks[data.pixels.clone()].iter().for_each(|chunk| result.extend(chunk.whole));
            }
            b"IDAT" => {}
            _ if holds(chunk.name) => result.extend(chunk.whole),
            _ => {}
        }
    }
    result.extend(parts.rest);
    result
}

/// A chunk with length and check sum.
fn made(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(name);
    sum.update(content);
    [&(content.len() as u32).to_be_bytes(), &name[..], content, &sum.sum().to_be_bytes()].concat()
}

/// Pixels of whole bytes, or of bits packed into rows of whole bytes, the first one in the highest bits.
struct Raster {
    pixels: Vec<u8>,
    width: usize,
    height: usize,
    bits: usize,
}

impl Raster {
    fn turned(self, clockwise: u8) -> Self {
        let Self { width, height, bits, .. } = self;
        let step = bits.div_ceil(8);
        let source = if bits < 8 { self.unpacked() } else { self.pixels };
        let (wide, high) = if clockwise % 2 == 1 { (height, width) } else { (width, height) };
        let mut pixels = Vec::with_capacity(source.len());
        for row in 0..high {
            for column in 0..wide {
                let (from_row, from_column) = match clockwise % 4 {
                    0 => (row, column),
                    1 => (height - 1 - column, row),
                    2 => (height - 1 - row, width - 1 - column),
                    _ => (column, width - 1 - row),
                };
                let at = (from_row * width + from_column) * step;
                pixels.extend_from_slice(&source[at..at + step]);
            }
        }
        let turned = Self { pixels, width: wide, height: high, bits };
        if bits < 8 { turned.packed() } else { turned }
    }

    /// A byte a pixel.
    fn unpacked(self) -> Vec<u8> {
        let (bits, mask) = (self.bits, (1u8 << self.bits) - 1);
        let row = |row: &[u8]| -> Vec<u8> {
            let pixel = |x: usize| row[x * bits / 8] >> (8 - bits - x * bits % 8) & mask;
            (0..self.width).map(pixel).collect()
        };
        let length = (self.width * bits).div_ceil(8);
        self.pixels.chunks_exact(length).take(self.height).flat_map(row).collect()
    }

    fn packed(mut self) -> Self {
        let bits = self.bits;
        let length = (self.width * bits).div_ceil(8);
        let mut packed = vec![0; length * self.height];
        for (row, source) in packed.chunks_exact_mut(length).zip(self.pixels.chunks_exact(self.width)) {
            for (x, &value) in source.iter().enumerate() {
                row[x * bits / 8] |= value << (8 - bits - x * bits % 8);
            }
        }
        self.pixels = packed;
        self
    }
}
