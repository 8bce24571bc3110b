use std::fs;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::super::layout::RECORD;
use super::*;

/// Bytes of the data files in tests.
pub const FILE_BYTES: u64 = 2 * RECORD as u64;

/// A tar entry: name, type, content.
pub type Content<'a> = (&'a str, EntryType, &'a [u8]);

/// A `.tar.gz` in memory; names are written as they are, however malicious.
pub fn archive(entries: &[Content<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, kind, content) in entries {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// The archive as it should be, with small files.
pub fn good_archive() -> Vec<u8> {
    let content = vec![3; FILE_BYTES as usize];
    let names: Vec<String> = FILES.iter().map(|name| format!("{FOLDER}/{name}")).collect();
    let mut entries: Vec<Content<'_>> =
        names.iter().map(|name| (name.as_str(), EntryType::Regular, content.as_slice())).collect();
    entries.insert(0, (FOLDER, EntryType::Directory, &[]));
    entries.insert(3, ("cifar-10-batches-bin/readme.html", EntryType::Regular, b"<html>"));
    entries.push(("cifar-10-batches-bin/batches.meta.txt", EntryType::Regular, b"a\nb\n"));
    archive(&entries)
}

fn unpacked(bytes: &[u8]) -> (Result<()>, usize) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("archive.tar.gz");
    fs::write(&path, bytes).unwrap();
    let folder = home.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let result = unpack(&path, &folder, FILE_BYTES);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2, "nothing outside the folder");
    (result, fs::read_dir(&folder).unwrap().count())
}

fn problem(entries: &[Content<'_>]) -> String {
    unpacked(&archive(entries)).0.unwrap_err().to_string()
}

#[test]
fn only_the_expected_files_are_taken() {
    let (result, count) = unpacked(&good_archive());
    result.unwrap();
    assert_eq!(count, 7);
}

#[test]
fn no_entry_leads_anywhere_else() {
    let content = vec![0; FILE_BYTES as usize];
    let outside = [
        "../data_batch_1.bin",
        "cifar-10-batches-bin/../data_batch_1.bin",
        "/cifar-10-batches-bin/data_batch_1.bin",
        "cifar-10-batches-bin/x/data_batch_1.bin",
    ];
    for name in outside {
        let problem = problem(&[(name, EntryType::Regular, &content)]);
        assert!(problem.ends_with("holds no cifar-10-batches-bin/data_batch_1.bin"), "{problem}");
    }
}

#[test]
fn links_wrong_sizes_and_repetitions_are_refused() {
    let name = "cifar-10-batches-bin/test_batch.bin";
    let expected = format!("{name} in it is not the one file expected");
    let right = vec![0; FILE_BYTES as usize];
    let cases: [&[Content<'_>]; 4] = [
        &[(name, EntryType::Symlink, b"")],
        &[(name, EntryType::Regular, &right[1..])],
        &[(name, EntryType::Link, &right)],
        &[(name, EntryType::Regular, &right), (name, EntryType::Regular, &right)],
    ];
    for entries in cases {
        assert!(problem(entries).ends_with(&expected));
    }
}

#[test]
fn a_bomb_is_read_only_up_to_the_limit() {
    let bomb = vec![0; 8 << 20];
    let problem = problem(&[("bomb", EntryType::Regular, &bomb)]);
    assert!(problem.contains("cannot be unpacked"), "{problem}");
}

#[test]
fn cut_or_random_bytes_are_errors() {
    let good = good_archive();
    for length in [0, 1, 10, good.len() / 2, good.len() - 20] {
        assert!(unpacked(&good[..length]).0.is_err(), "{length}");
    }
    assert!(unpacked(&[7; 1_000]).0.is_err());
}
