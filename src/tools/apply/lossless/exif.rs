//! The orientation tag in a block of EXIF data, which has TIFF's layout.

use super::edits::Edit;

/// Number of the orientation tag (TIFF 6.0, section 8).
const ORIENTATION: u16 = 0x0112;
/// The type of its value: an unsigned number of 16 bits.
const SHORT: u16 = 3;
/// Bytes of a directory's entry: tag, type, count, value or where it lies.
const ENTRY: usize = 12;
/// Bytes of the header: byte order, 42, where the first directory begins.
const HEADER: usize = 8;

/// A block in TIFF's layout, from its header on.
#[derive(Clone, Copy)]
pub struct Tiff<'a> {
    bytes: &'a [u8],
    big: bool,
}

/// A directory whose entries all lie in the block.
#[derive(Clone, Copy)]
pub struct Directory {
    at: usize,
    count: usize,
}

impl<'a> Tiff<'a> {
    /// A block with a valid header.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let big = match bytes.get(..4)? {
            b"MM\0*" => true,
            b"II*\0" => false,
            _ => return None,
        };
        (bytes.len() >= HEADER).then_some(Self { bytes, big })
    }

    /// The 16 bits at a place.
    pub fn short(&self, at: usize) -> Option<u16> {
        let two = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.big { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    }

    /// The 32 bits at a place.
    pub fn long(&self, at: usize) -> Option<u32> {
        let four = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    }

    fn short_bytes(&self, value: u16) -> [u8; 2] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// 32 bits in the block's byte order.
    pub fn long_bytes(&self, value: u32) -> [u8; 4] {
        if self.big { value.to_be_bytes() } else { value.to_le_bytes() }
    }

    /// The first directory, if it lies in the block and not in its header.
    pub fn directory(&self) -> Option<Directory> {
        let at = self.long(4)? as usize;
        let count = usize::from(self.short(at)?);
        let end = at.checked_add(2 + count * ENTRY + 4)?;
        (at >= HEADER && end <= self.bytes.len()).then_some(Directory { at, count })
    }

    /// Where the entries of a tag begin.
    pub fn entries(&self, directory: Directory, tag: u16) -> impl Iterator<Item = usize> + '_ {
        let entries = (0..directory.count).map(move |index| directory.at + 2 + index * ENTRY);
        entries.filter(move |&at| self.short(at) == Some(tag))
    }

    /// Where the orientation's two bytes lie, and what they are; absent if there is no such tag.
    ///
    /// # Errors
    /// Why programs would not agree on what the block says.
    pub fn orientation(&self) -> Result<Option<(usize, u16)>, String> {
        let directory = self.directory().ok_or("its EXIF data are damaged")?;
        let mut entries = self.entries(directory, ORIENTATION);
        let Some(at) = entries.next() else { return Ok(None) };
        if entries.next().is_some() {
            return Err("its EXIF data hold two orientation tags".into());
        }
        match (self.short(at + 2), self.long(at + 4), self.short(at + 8)) {
            (Some(SHORT), Some(1), Some(value)) => Ok(Some((at + 8, value))),
            _ => Err("its orientation tag is of a kind that programs read differently".into()),
        }
    }

    /// The edits of the block after which its tag has this value. Where there was none, a copy of the first directory
    /// with the tag in it goes behind the block: nothing else moves, so that whatever points into the block, like maker
    /// notes, still does.
    ///
    /// # Errors
    /// Those of [`orientation`](Self::orientation), and of a block without room for another entry.
    pub fn with_orientation(&self, value: u8) -> Result<Vec<Edit>, String> {
        if let Some((at, _)) = self.orientation()? {
            return Ok(vec![Edit::overwrite(at, self.short_bytes(value.into()))]);
        }
        let full = || "its EXIF data have no room for an orientation tag".to_owned();
        let Directory { at, count } = self.directory().ok_or_else(full)?;
        let before = (0..count)
            .take_while(|index| self.short(at + 2 + index * ENTRY).is_some_and(|tag| tag < ORIENTATION))
            .count();
        let entries = &self.bytes[at + 2..at + 2 + count * ENTRY];
        let (front, back) = entries.split_at(before * ENTRY);
        let next = &self.bytes[at + 2 + count * ENTRY..][..4];
        // Directories begin at even places (TIFF 6.0, section 2).
        let padding = self.bytes.len() % 2;
        let count = u16::try_from(count + 1).map_err(|_| full())?;
        let place = u32::try_from(self.bytes.len() + padding).map_err(|_| full())?;
        let directory = [&self.short_bytes(count)[..], front, &self.entry(value), back, next].concat();
        let added = [vec![0; padding], directory].concat();
        Ok(vec![Edit::overwrite(4, self.long_bytes(place)), Edit::insert(self.bytes.len(), added)])
    }

    fn entry(&self, value: u8) -> Vec<u8> {
        let [tag, kind, value] = [ORIENTATION, SHORT, value.into()].map(|number| self.short_bytes(number));
        [&tag[..], &kind, &self.long_bytes(1), &value, &[0, 0]].concat()
    }
}

/// A block that says nothing but this.
pub fn minimal(value: u8) -> Vec<u8> {
    let tiff = Tiff { bytes: &[], big: true };
    [b"MM\0*\0\0\0\x08\0\x01", &tiff.entry(value)[..], &[0; 4]].concat()
}
