use std::fs;

use proptest::prelude::*;

use super::*;
use crate::data::images::CHANNELS;

/// A folder with all six files, each of `records` records of made-up pixels.
fn folder(records: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (number, name) in FILES.iter().enumerate() {
        let bytes: Vec<u8> = (0..records)
            .flat_map(|record| {
                let label = ((number + record) % CLASSES) as u8;
                [label].into_iter().chain((0..IMAGE).map(move |place| (place + number + record) as u8))
            })
            .collect();
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn problem(folder: &Path) -> String {
    load_train(folder, None).unwrap_err().to_string()
}

#[test]
fn planes_become_channels_last_and_files_follow_each_other() {
    let folder = folder(3);
    let (images, facts) = load_train(folder.path(), None).unwrap();
    assert_eq!((images.len(), facts.len(), facts[0].records), (15, 5, 3));
    assert_eq!(images.labels[..4], [0, 1, 2, 1]);
    let (number, record, row, column) = (1, 2, 5, 7);
    let pixel = &images.image(3 * number + record)[(row * SIDE + column) * CHANNELS..][..CHANNELS];
    let place = row * SIDE + column + number + record;
    assert_eq!(pixel, [0, SIDE * SIDE, 2 * SIDE * SIDE].map(|plane| (place + plane) as u8));
    let (test, facts) = load_test(folder.path()).unwrap();
    assert_eq!((test.len(), facts.name.as_str()), (3, TEST_FILE));
    assert_eq!(facts.sha256, crate::files::sha256_file(&folder.path().join(TEST_FILE)).unwrap());
}

#[test]
fn a_limit_takes_the_first_images_across_files_and_no_more_than_there_are() {
    let folder = folder(3);
    let (all, _) = load_train(folder.path(), None).unwrap();
    let (some, facts) = load_train(folder.path(), Some(4)).unwrap();
    assert_eq!((some.len(), facts.len()), (4, 5));
    assert_eq!(some.pixels[..], all.pixels[..4 * IMAGE]);
    let error = load_train(folder.path(), Some(16)).unwrap_err().to_string();
    assert!(error.starts_with("data.train_images: wants 16 images"), "{error}");
}

#[test]
fn the_folder_is_found_from_above_and_from_within() {
    let folder = folder(1);
    assert_eq!(find_folder(folder.path()).unwrap(), folder.path());
    let above = tempfile::tempdir().unwrap();
    assert!(find_folder(above.path()).unwrap_err().to_string().contains("holds neither"));
    fs::create_dir(above.path().join(FOLDER)).unwrap();
    assert_eq!(find_folder(above.path()).unwrap(), above.path().join(FOLDER));
    let missing = find_folder(&above.path().join("nowhere")).unwrap_err().to_string();
    assert!(missing.contains("nowhere: there is no such folder"), "{missing}");
}

#[test]
fn damage_is_named_by_file_and_record() {
    let folder = folder(3);
    let third = folder.path().join(TRAIN_FILES[2]);
    let good = fs::read(&third).unwrap();

    let mut bytes = good.clone();
    bytes[2 * RECORD] = 10;
    fs::write(&third, &bytes).unwrap();
    assert!(
        problem(folder.path()).ends_with("data_batch_3.bin: record 3 of 3 has label 10, labels are 0 to 9")
    );

    fs::write(&third, &good[..RECORD + 5]).unwrap();
    let cut = "data_batch_3.bin: 3078 bytes are not whole records of 3073 bytes: 1 records and 5 bytes";
    assert!(problem(folder.path()).ends_with(cut));

    fs::write(&third, []).unwrap();
    assert!(problem(folder.path()).ends_with("data_batch_3.bin: is empty"));

    fs::remove_file(&third).unwrap();
    assert!(problem(folder.path()).ends_with("data_batch_3.bin: there is no such file"));

    fs::create_dir(&third).unwrap();
    assert!(problem(folder.path()).ends_with("data_batch_3.bin: there is no such file"));
}

#[test]
fn a_file_that_shrank_since_it_was_checked_is_an_error() {
    let folder = folder(3);
    let facts = check_file(folder.path(), TEST_FILE).unwrap();
    fs::write(folder.path().join(TEST_FILE), [0; RECORD]).unwrap();
    let error = load(folder.path(), &[facts], 3).unwrap_err().to_string();
    assert!(error.ends_with("test_batch.bin: was changed while it was read"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_path_that_is_not_unicode_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let above = tempfile::tempdir().unwrap();
    let odd = above.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
    fs::rename(folder(1).keep(), &odd).unwrap();
    assert!(problem(&odd).ends_with("is not valid UTF-8, which the reader needs"));
}

#[test]
fn class_names_come_from_the_folder_or_are_the_official_ones() {
    let folder = folder(1);
    assert_eq!(class_names(folder.path()).unwrap()[9], "truck");
    let path = folder.path().join(NAMES_FILE);
    fs::write(&path, "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n").unwrap();
    assert_eq!(class_names(folder.path()).unwrap()[9], "j");
    fs::write(&path, "a\n").unwrap();
    assert!(class_names(folder.path()).unwrap_err().to_string().contains("names 1 classes"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_the_loader_panic(
        head in prop::collection::vec(any::<u8>(), 0..40),
        length in prop_oneof![0..20_000_usize, Just(RECORD), Just(3 * RECORD)],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![3; length];
        let shared = head.len().min(length);
        bytes[..shared].copy_from_slice(&head[..shared]);
        fs::write(folder.path().join(TEST_FILE), &bytes).unwrap();
        let right = length > 0 && length % RECORD == 0 && bytes.iter().step_by(RECORD).all(|&label| label < 10);
        match load_test(folder.path()) {
            Ok((images, _)) => prop_assert!(right && images.len() == length / RECORD),
            Err(Error::Data { .. }) => prop_assert!(!right),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
