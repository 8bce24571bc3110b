use super::super::unpack::tests::{FILE_BYTES as SMALL, good_archive};
use super::*;
use crate::data::download::tests::{Manner, Server};
use crate::files::sha256;
use crate::progress::Silent;

fn request(home: &Path, sha256: &str) -> FetchRequest {
    FetchRequest { directory: home.to_path_buf(), sha256: Some(sha256.to_owned()), ..FetchRequest::default() }
}

fn fetch_small(request: &FetchRequest) -> Result<FetchReport> {
    fetch_files_of(SMALL, request, &mut Silent)
}

#[test]
fn a_download_of_the_right_digest_is_unpacked_and_recorded() {
    let home = tempfile::tempdir().unwrap();
    let digest = sha256(&good_archive());
    let server = Server::start(good_archive(), Manner::Cut(700));
    let mut request = request(home.path(), &digest);
    request.url = Some(server.url);
    let report = fetch_small(&request).unwrap();
    assert_eq!(report.name, "CIFAR-10 layout, not the official files");
    assert_eq!((report.sha256, report.directory.clone()), (digest, home.path().join(FOLDER)));
    let record = DatasetRecord::read(&report.directory).unwrap().unwrap();
    assert_eq!(record.files.len(), 6);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "the archive is gone");
    assert!(matches!(fetch_small(&request), Err(Error::OutputExists { .. })));
}

#[test]
fn a_download_of_another_digest_is_removed_and_both_are_named() {
    let home = tempfile::tempdir().unwrap();
    let expected = "a".repeat(64);
    let mut request = request(home.path(), &expected);
    request.url = Some(Server::start(good_archive(), Manner::NoRanges).url);
    let error = fetch_small(&request).unwrap_err().to_string();
    let found = sha256(&good_archive());
    assert!(error.ends_with(&format!("has SHA-256 {found}, expected {expected}; the file was removed")));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn an_archive_of_this_machine_is_checked_and_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let archive = home.path().join("mine.tar.gz");
    fs::write(&archive, good_archive()).unwrap();
    let mut request = request(home.path(), &sha256(&good_archive()).to_ascii_uppercase());
    request.archive = Some(archive.clone());
    fetch_small(&request).unwrap();
    request.force = true;
    fetch_small(&request).unwrap();
    request.sha256 = None;
    let error = fetch_small(&request).unwrap_err().to_string();
    assert!(error.ends_with("bytes, expected 170052171"), "{error}");
    assert!(archive.exists() && home.path().join(FOLDER).exists());
    request.sha256 = Some("beef".into());
    assert!(matches!(fetch_small(&request), Err(Error::Usage { .. })));
}

#[test]
fn an_archive_with_a_bad_label_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let entries: Vec<(String, Vec<u8>)> =
        FILES.iter().map(|name| (format!("{FOLDER}/{name}"), vec![10; SMALL as usize])).collect();
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, content)| (name.as_str(), tar::EntryType::Regular, content.as_slice()))
        .collect();
    let bytes = super::super::unpack::tests::archive(&entries);
    let archive = home.path().join("mine.tar.gz");
    fs::write(&archive, &bytes).unwrap();
    let mut request = request(home.path(), &sha256(&bytes));
    request.archive = Some(archive);
    assert!(fetch_small(&request).unwrap_err().to_string().contains("has label 10"));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}
