//! The orientation in XMP, which some programs write beside that in EXIF.

use super::edits::Edit;

const NAME: &[u8] = b"tiff:Orientation";

/// The edits after which `tiff:Orientation` is `value` wherever a packet has it, as an attribute or an element. A value
/// that is not one digit is left as it is.
pub fn with_orientation(packet: &[u8], value: u8) -> Vec<Edit> {
    let places = packet.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    let digits = places.filter_map(|(at, _)| digit(packet, at));
    digits.map(|at| Edit::overwrite(at, [b'0' + value])).collect()
}

/// Where the digit lies that is the value of the name at `at`.
fn digit(packet: &[u8], at: usize) -> Option<usize> {
    let blank = |mut at: usize| {
        while packet.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        at
    };
    if matches!(packet.get(at.checked_sub(1)?)?, b'/') {
        return None;
    }
    let mut here = blank(at + NAME.len());
    let end = match packet.get(here)? {
        b'=' => {
            here = blank(here + 1);
            *packet.get(here).filter(|byte| matches!(byte, b'"' | b'\''))?
        }
        b'>' => b'<',
        _ => return None,
    };
    let found = blank(here + 1);
    (packet.get(found)?.is_ascii_digit() && packet.get(blank(found + 1)) == Some(&end)).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(packet: &str) -> String {
        let edits = with_orientation(packet.as_bytes(), 6);
        String::from_utf8(super::super::edits::apply(packet.as_bytes(), &edits).unwrap()).unwrap()
    }

    #[test]
    fn the_digit_is_found_in_attributes_and_elements_and_nowhere_else() {
        for (packet, expected) in [
            ("<a tiff:Orientation=\"1\" b='1'/>", "<a tiff:Orientation=\"6\" b='1'/>"),
            ("<a tiff:Orientation = '8'/>", "<a tiff:Orientation = '6'/>"),
            ("<tiff:Orientation>1</tiff:Orientation>", "<tiff:Orientation>6</tiff:Orientation>"),
            ("<tiff:Orientation> 3\n</tiff:Orientation>", "<tiff:Orientation> 6\n</tiff:Orientation>"),
        ] {
            assert_eq!(changed(packet), expected);
        }
        for packet in [
            "<tiff:Orientation>12</",
            "tiff:Orientation",
            " tiff:Orientation=",
            "<a tiff:OrientationX=\"1\"/>",
            "",
        ] {
            assert_eq!(changed(packet), packet);
        }
    }
}
