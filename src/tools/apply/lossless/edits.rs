//! Changes to a few places of a file, which can be undone without a copy of the rest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a file that give way to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Where they begin.
    pub at: usize,
    /// How many they are.
    pub remove: usize,
    /// What takes their place; Base64 in JSON.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub insert: Vec<u8>,
}

impl Edit {
    /// Other bytes, as many as before.
    pub fn overwrite(at: usize, bytes: impl Into<Vec<u8>>) -> Self {
        let insert = bytes.into();
        Self { at, remove: insert.len(), insert }
    }

    /// More bytes.
    pub fn insert(at: usize, bytes: impl Into<Vec<u8>>) -> Self {
        Self { at, remove: 0, insert: bytes.into() }
    }

    /// The same of a file in which the part that was meant begins at `start`.
    pub fn shifted(mut self, start: usize) -> Self {
        self.at += start;
        self
    }
}

/// The file after `edits`, which go from its front to its end; absent if they overlap or reach beyond it.
pub fn apply(bytes: &[u8], edits: &[Edit]) -> Option<Vec<u8>> {
    let mut result =
        Vec::with_capacity(bytes.len() + edits.iter().map(|edit| edit.insert.len()).sum::<usize>());
    let mut done = 0;
    for edit in edits {
        result.extend_from_slice(bytes.get(done..edit.at)?);
        result.extend_from_slice(&edit.insert);
        done = edit.at.checked_add(edit.remove)?;
    }
    result.extend_from_slice(bytes.get(done..)?);
    Some(result)
}

/// The edits that lead from [`apply`]'s result back to `bytes`; absent where that is.
pub fn inverse(bytes: &[u8], edits: &[Edit]) -> Option<Vec<Edit>> {
    let (mut added, mut removed) = (0, 0);
    let back = |edit: &Edit| {
        let insert = bytes.get(edit.at..edit.at.checked_add(edit.remove)?)?.to_vec();
        let at = (edit.at + added).checked_sub(removed)?;
        added += edit.insert.len();
        removed += edit.remove;
        Some(Edit { at, remove: edit.insert.len(), insert })
    };
    edits.iter().map(back).collect()
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_undone_by_their_inverse_and_wrong_ones_refused() {
        let edits = [
            Edit::overwrite(1, *b"xy"),
            Edit::insert(4, *b"more"),
            Edit { at: 5, remove: 2, insert: vec![] },
        ];
        let changed = apply(b"0123456789", &edits).unwrap();
        assert_eq!(changed, b"0xy3more4789");
        assert_eq!(apply(&changed, &inverse(b"0123456789", &edits).unwrap()).unwrap(), b"0123456789");
        let text = serde_json::to_string(&edits).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Edit>>(&text).unwrap(), edits);
        let overlapping = [Edit::overwrite(3, *b"ab"), Edit::insert(4, *b"c")];
        assert_eq!(apply(b"0123456789", &overlapping), None);
        assert_eq!(apply(b"012", &[Edit::overwrite(2, *b"ab")]), None);
        assert_eq!(apply(b"012", &[Edit { at: 1, remove: usize::MAX, insert: vec![] }]), None);
        assert_eq!(inverse(b"012", &[Edit::overwrite(2, *b"ab")]), None);
    }
}
