//! The little of protocol buffers that an ONNX file needs: fields of numbers, of 32-bit floats, and of bytes with their
//! length, one behind the other (<https://protobuf.dev/programming-guides/encoding/>).

/// Numbers of seven bits a byte, the lowest first.
const VARINT: u8 = 0;
/// A length, then so many bytes.
const BYTES: u8 = 2;
/// Four bytes.
const FIXED_32: u8 = 5;

/// A message, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// An integer or an enumeration; a negative one takes ten bytes.
    pub(super) fn number(mut self, field: u32, value: i64) -> Self {
        self.tag(field, VARINT);
        self.varint(value as u64);
        self
    }

    /// A 32-bit float.
    pub(super) fn float(mut self, field: u32, value: f32) -> Self {
        self.tag(field, FIXED_32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Bytes.
    pub(super) fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        self.tag(field, BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// Text.
    pub(super) fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    /// A message within this one.
    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// A field that occurs as often as there are `values`.
    pub(super) fn each<T>(self, values: impl IntoIterator<Item = T>, add: impl Fn(Self, T) -> Self) -> Self {
        values.into_iter().fold(self, add)
    }

    /// The message as it is written.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn tag(&mut self, field: u32, kind: u8) {
        self.varint(u64::from(field) << 3 | u64::from(kind));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the format's description, and what its limits come to.
    #[test]
    fn fields_have_the_known_bytes() {
        let bytes = |message: Message| message.into_bytes();
        assert_eq!(bytes(Message::default().number(1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(bytes(Message::default().number(1, 127)), [0x08, 0x7f]);
        assert_eq!(
            bytes(Message::default().text(2, "testing")),
            [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]
        );
        let inner = Message::default().number(1, 150);
        assert_eq!(bytes(Message::default().message(3, &inner)), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(bytes(Message::default().float(2, 1.0)), [0x15, 0x00, 0x00, 0x80, 0x3f]);
        // Tags from 16 on take two bytes.
        assert_eq!(bytes(Message::default().number(20, 7)), [0xa0, 0x01, 0x07]);
        assert_eq!(
            bytes(Message::default().number(1, -1)),
            [0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]
        );
        let each = Message::default().each([2, 300], |message, value| message.number(8, value));
        assert_eq!(bytes(each), [0x40, 0x02, 0x40, 0xac, 0x02]);
    }
}
