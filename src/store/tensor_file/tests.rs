//! What is noticed, and what is harmless.

use std::fs;

use burn::tensor::TensorData;
use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::reader::{Problem, parse};
use super::*;
use crate::model::Parameters;

const FORMAT: Format = Format { name: "rotnet-test", version: 3, hint: "write it again" };

fn sample(values: Vec<f32>) -> Parameters {
    let count = values.len();
    let labels: Vec<u8> = (0..count).map(|index| index as u8).collect();
    Parameters::from([
        ("weight".to_owned(), TensorData::new(values, [count])),
        ("labels".to_owned(), TensorData::new(labels, [count])),
    ])
}

/// Names, types, shapes and bits.
fn same(one: &Parameters, other: &Parameters) -> bool {
    let content = |(name, data): (&String, &TensorData)| {
        (name.clone(), data.dtype(), data.shape().to_vec(), data.as_bytes().to_vec())
    };
    one.iter().map(content).eq(other.iter().map(content))
}

fn parse_all<H: DeserializeOwned>(bytes: &[u8]) -> Result<(H, Parameters), Problem> {
    let content = parse(&mut &*bytes, bytes.len() as u64, &FORMAT, |_, _| true)?;
    Ok((content.header, content.kept))
}

#[test]
fn every_nan_is_written_alike() {
    let directory = tempfile::tempdir().unwrap();
    let written = |nan: u32| {
        let path = directory.path().join("x.safetensors");
        write(&path, &FORMAT, &"header", &sample(vec![1.0, f32::from_bits(nan)])).unwrap();
        fs::read(path).unwrap()
    };
    // Quiet as x86 makes it, as ARM makes it, and with a payload.
    assert_eq!(written(0xffc0_0000), written(0x7fc0_0000));
    assert_eq!(written(0x7fc0_0123), written(0x7fc0_0000));
}

#[test]
fn a_file_in_memory_is_checked_like_one_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    write(&path, &FORMAT, &"header", &sample(vec![1.0, 2.0])).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let (header, tensors): (String, _) = read_in_memory(&bytes, &path, &FORMAT).unwrap();
    assert!(header == "header" && same(&tensors, &sample(vec![1.0, 2.0])));
    *bytes.last_mut().unwrap() ^= 1;
    let refused = read_in_memory::<String>(&bytes, "included".as_ref(), &FORMAT).err().unwrap();
    assert!(refused.to_string().starts_with("included: damaged"), "{refused}");
}

proptest! {
    #[test]
    fn what_is_written_is_read(values in proptest::collection::vec(any::<f32>(), 0..50)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.safetensors");
        write(&path, &FORMAT, &"header", &sample(values.clone())).unwrap();
        let (header, tensors): (String, _) = read(&path, &FORMAT).unwrap();
        prop_assert_eq!(header, "header");
        prop_assert!(same(&tensors, &sample(values)));
    }

    #[test]
    fn any_change_of_a_byte_is_refused_or_harmless(position in 0usize..400, flip in 1u8..=255) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.safetensors");
        let original = sample((0..30).map(|n| n as f32).collect());
        write(&path, &FORMAT, &"header", &original).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let position = position % bytes.len();
        bytes[position] ^= flip;
        if let Ok((header, tensors)) = parse_all::<Value>(&bytes) {
            prop_assert_eq!(header, "header");
            prop_assert!(same(&tensors, &original));
        }
        prop_assert!(parse_all::<String>(&bytes[..position]).is_err());
    }
}

#[test]
fn rejects_another_format_and_a_future_version() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    write(&path, &Format { version: 4, ..FORMAT }, &"header", &sample(vec![1.0])).unwrap();
    let error = read::<String>(&path, &FORMAT).unwrap_err().to_string();
    assert!(error.contains("rotnet-test version 4, expected rotnet-test version 3"), "{error}");
}

/// Replaces text in front of the data by other text of the same length, the digest left as it is.
fn forged(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&place| bytes[place..].starts_with(from.as_bytes())).collect();
    assert_eq!(places.len(), 1, "{from}");
    let mut forged = bytes.to_vec();
    forged[places[0]..][..to.len()].copy_from_slice(to.as_bytes());
    forged
}

#[test]
fn another_shape_type_name_or_place_of_the_same_bytes_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    let floats = |count: usize| TensorData::new(vec![0.0_f32; count], [count / 2, 2]);
    let tensors = Parameters::from([
        ("a".to_owned(), floats(8)),
        ("b".to_owned(), floats(8)),
        ("c".to_owned(), TensorData::new(vec![0_u8; 16], [16])),
    ]);
    write(&path, &FORMAT, &"header", &tensors).unwrap();
    let bytes = fs::read(&path).unwrap();
    assert!(same(&parse_all::<String>(&bytes).unwrap().1, &tensors));
    let forgeries = [
        (r#""a":{"dtype":"F32","shape":[4,2]"#, r#""a":{"dtype":"F32","shape":[2,4]"#),
        (r#""c":{"dtype":"U8","shape":[16]"#, r#""c":{"dtype":"F32","shape":[4]"#),
        (r#""a":{"#, r#""d":{"#),
    ];
    for (from, to) in forgeries {
        let forged = forged(&bytes, from, to);
        // A reader that does not know of the digest takes it.
        safetensors::SafeTensors::deserialize(&forged).unwrap();
        let found = parse_all::<String>(&forged);
        let Err(Problem::Content(problem)) = found else { panic!("{to} was taken") };
        assert!(problem.contains("digest"), "{problem}");
    }
    let swapped = forged(&forged(&bytes, r#""a":{"#, r#""x":{"#), r#""b":{"#, r#""a":{"#);
    let swapped = forged(&swapped, r#""x":{"#, r#""b":{"#);
    assert!(parse_all::<String>(&swapped).is_err());
    assert!(same(&parse_all::<String>(&signed(&bytes)).unwrap().1, &tensors));
}

#[test]
fn tensors_that_are_not_kept_are_checked_and_found_in_their_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    let numbers: Vec<f32> = (0..300_000).map(|number| number as f32).collect();
    write(&path, &FORMAT, &"header", &sample(numbers)).unwrap();
    let opened = open::<String>(&path, &FORMAT, |name, bytes| name == "labels" && bytes == 300_000).unwrap();
    assert_eq!(opened.content.kept.keys().collect::<Vec<_>>(), ["labels"]);
    let place = &opened.content.rest["weight"];
    assert_eq!((place.floats, &place.shape[..]), (true, &[300_000][..]));
    let mut bytes = [0; 8];
    opened.file.read_exact_at(&mut bytes, place.start + 4 * 123_456).unwrap();
    assert_eq!(bytes, [123_456_f32.to_le_bytes(), 123_457_f32.to_le_bytes()].concat()[..]);

    let mut bytes = fs::read(&path).unwrap();
    bytes[place.start as usize + 700_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = open::<String>(&path, &FORMAT, |name, _| name == "labels").err().unwrap();
    assert!(error.to_string().contains("digest"), "{error}");
}

#[test]
fn a_file_that_is_not_given_all_its_bytes_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.safetensors");
    let entries = || vec![("a".to_owned(), Dtype::F32, vec![2])];
    let mut writer = Writer::create(&path, &FORMAT, &"header", entries()).unwrap();
    writer.put_numbers(&[1.0]).unwrap();
    assert!(writer.finish().is_err());
    let mut writer = Writer::create(&path, &FORMAT, &"header", entries()).unwrap();
    assert!(writer.put_numbers(&[1.0, 2.0, 3.0]).is_err());
    drop(writer);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = ["a", "b"].map(|name| {
        let path = directory.path().join(name);
        write(&path, &FORMAT, &"header", &sample(vec![1.0, 2.0])).unwrap();
        fs::read(path).unwrap()
    });
    assert_eq!(bytes[0], bytes[1]);
}
