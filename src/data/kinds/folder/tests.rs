use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use image::ImageFormat;

use super::*;
use crate::data::decode::tests::{picture, with_orientation};
use crate::progress::{Silent, Stop};

pub(super) struct Home(tempfile::TempDir);

impl Home {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn root(&self) -> PathBuf {
        self.0.path().join("photos")
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("home").join("cache")
    }

    pub(super) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Pictures of different sizes, so that no two files are the same.
    pub(super) fn write_pictures(&self, folder: &str, count: u32) {
        for number in 0..count {
            let png = picture(40 + number, 50, ImageFormat::Png);
            self.write(&format!("{folder}/{number}.png"), &png);
        }
    }

    pub(super) fn open_with(&self, config: &DataConfig, reporter: &mut dyn Reporter) -> Result<Dataset> {
        Folder.open(&self.root(), config, &self.0.path().join("home"), reporter)
    }

    pub(super) fn open(&self) -> Result<Dataset> {
        self.open_with(&DataConfig::default(), &mut Silent)
    }

    pub(super) fn problem(&self) -> String {
        self.open().err().unwrap().to_string()
    }
}

/// Keeps what it is told, and asks for an end if it is to.
#[derive(Default)]
pub(super) struct Log {
    pub lines: Vec<String>,
    decoded: u64,
    stop: bool,
}

impl Reporter for Log {
    fn report(&mut self, event: Event<'_>) {
        match event {
            Event::Note(text) | Event::Warning(text) => self.lines.push(text.to_owned()),
            Event::TaskAdvanced(count) => self.decoded += count,
            _ => {}
        }
    }

    fn stop(&self) -> Option<Stop> {
        self.stop.then_some(Stop::Interrupt)
    }
}

#[test]
fn a_tree_gives_labels_by_folder_and_images_without_at_the_end() {
    let home = Home::new();
    home.write_pictures("train/cat", 5);
    home.write_pictures("train/ant/deeper", 4);
    home.write_pictures("test/cat", 2);
    home.write_pictures("unlabeled/a/b/c", 3);
    home.write("train/cat/readme.txt", b"no image");
    home.write("train/cat/.hidden.png", b"no image");
    let folder = home.open().unwrap();
    assert_eq!(folder.class_names, ["ant", "cat"]);
    assert_eq!((folder.pool.len(), folder.train.len(), folder.unlabeled.clone()), (12, 9, 9..12));
    assert_eq!(folder.pool.labels[..9].iter().filter(|&&label| label == 0).count(), 4);
    assert_eq!(folder.open_test().unwrap().labels, [1, 1]);
    assert_eq!(folder.name, "folder photos: 9 images of 2 classes, 3 without labels");
    assert_eq!((folder.names.train.len(), folder.names.test.len()), (9, 2));
    for (name, &label) in folder.names.train.iter().zip(&folder.train.labels) {
        let expected = ["train/ant/deeper/", "train/cat/"][usize::from(label)];
        assert!(name.starts_with(expected), "{name} {label}");
    }
    let folder = home.open_with(&first(2), &mut Silent).unwrap();
    assert_eq!((folder.train.len(), folder.unlabeled.clone()), (2, 9..11));
    let few = home.open_with(&first(10), &mut Silent).err().unwrap().to_string();
    assert!(few.contains("wants 10 images"), "{few}");
}

fn first(count: usize) -> DataConfig {
    DataConfig { train_images: Some(count), ..DataConfig::default() }
}

/// Names of the images with labels: to train on, and to test on.
fn sides(folder: &Dataset) -> [BTreeSet<String>; 2] {
    [&folder.names.train, &folder.names.test].map(|names| names.iter().cloned().collect())
}

#[test]
fn without_a_test_folder_a_fifth_is_held_out_by_name_and_that_is_said() {
    let home = Home::new();
    home.write_pictures("train/cat", 60);
    home.write_pictures("train/dog/deeper", 40);
    let mut log = Log::default();
    let folder = home.open_with(&DataConfig::default(), &mut log).unwrap();
    let test = folder.open_test().unwrap();
    assert!((10..=30).contains(&test.len()) && folder.train.len() + test.len() == 100, "{}", test.len());
    assert!((0..2).all(|label| test.labels.contains(&label)));
    assert!(log.lines[0].contains("has no test folder: of 100 images"), "{:?}", log.lines);
    assert_eq!(log.lines.len(), 1);
}

#[test]
fn no_image_that_is_added_removed_or_broken_moves_another_between_training_and_test() {
    let home = Home::new();
    home.write_pictures("train/cat", 20);
    home.write_pictures("train/dog", 15);
    let [train, test] = sides(&home.open().unwrap());
    assert!(train.len() > 10 && test.len() > 2, "{test:?}");
    let assert_none_moved = |step: &str| {
        let [now_train, now_test] = sides(&home.open().unwrap());
        assert_eq!(train.intersection(&now_test).count(), 0, "{step}");
        assert_eq!(test.intersection(&now_train).count(), 0, "{step}");
    };
    for number in 0..25 {
        home.write(&format!("train/dog/new{number}.png"), &picture(99, 40 + number, ImageFormat::Png));
        assert_none_moved(&format!("added {number}"));
    }
    home.write_pictures("train/bird", 9);
    assert_none_moved("a class more");
    for number in (0..15).step_by(2) {
        fs::remove_file(home.root().join(format!("train/dog/{number}.png"))).unwrap();
        assert_none_moved(&format!("removed {number}"));
    }
    home.write("train/cat/3.png", b"no image");
    assert_none_moved("broken");
}

#[test]
fn a_class_that_chance_leaves_without_test_images_is_named_and_one_without_training_images_is_refused() {
    let held_out =
        |name: &String| tree::is_held_out(Path::new(&format!("train/x/{name}")), tree::CLASS_FOLDERS);
    let (test, train): (Vec<String>, Vec<String>) =
        (0..40).map(|number| format!("{number}.png")).partition(held_out);
    let home = Home::new();
    home.write_pictures("train/cat", 40);
    for (number, name) in train.iter().take(4).enumerate() {
        home.write(&format!("train/rare/{name}"), &picture(90, 40 + number as u32, ImageFormat::Png));
    }
    let mut log = Log::default();
    home.open_with(&DataConfig::default(), &mut log).unwrap();
    assert!(log.lines[1].contains("no image of rare is held out"), "{:?}", log.lines);
    fs::remove_dir_all(home.root().join("train/rare")).unwrap();
    home.write(&format!("train/rare/{}", test[0]), &picture(90, 40, ImageFormat::Png));
    let problem = home.problem();
    assert!(
        problem.contains(
            "train: class `rare`: the fifth that is held out as the test set takes all its images (1)"
        ),
        "{problem}"
    );
    home.write(&format!("train/rare/{}", train[0]), &picture(90, 41, ImageFormat::Png));
    home.open().unwrap();
}

#[test]
fn a_folder_without_classes_is_all_images_without_labels() {
    let home = Home::new();
    home.write_pictures("2019/summer", 3);
    home.write_pictures("2020", 2);
    let folder = home.open().unwrap();
    assert_eq!((folder.train.len(), folder.pool.len(), folder.test_count()), (0, 5, 0));
    assert!(folder.class_names.is_empty() && folder.open_test().is_err());
    let folder = home.open_with(&first(4), &mut Silent).unwrap();
    assert_eq!((folder.train.len(), folder.unlabeled), (0, 0..4));
}

#[test]
fn broken_files_are_named_and_left_out_or_end_a_strict_run() {
    let home = Home::new();
    home.write_pictures("train/cat", 3);
    home.write_pictures("test/cat", 1);
    home.write("train/cat/broken.png", b"\x89PNG\r\n\x1a\nno more");
    let mut log = Log::default();
    let folder = home.open_with(&DataConfig::default(), &mut log).unwrap();
    assert_eq!((folder.train.len(), folder.skipped.len()), (3, 1));
    let warning = &log.lines[0];
    assert!(warning.contains("1 image files cannot be read") && warning.contains("broken.png"), "{warning}");
    let strict = DataConfig { strict: true, ..DataConfig::default() };
    for _ in 0..2 {
        let error = home.open_with(&strict, &mut Silent).err().unwrap().to_string();
        assert!(error.contains("train/cat/broken.png: cannot be decoded"), "{error}");
        fs::remove_dir_all(home.cache()).unwrap();
    }
    let checked = Folder.verify(&home.root(), &mut Silent).unwrap();
    assert_eq!((checked.checked, checked.files.len(), checked.opens), (5, 1, true));
}

#[test]
fn trees_that_are_not_understood_are_refused_by_the_path() {
    let home = Home::new();
    assert!(home.problem().contains("no such folder"));
    fs::create_dir_all(home.root()).unwrap();
    assert!(home.problem().contains("holds no image"));
    home.write_pictures("train/cat", 2);
    fs::create_dir(home.root().join("train/dog")).unwrap();
    assert!(home.problem().ends_with("dog: holds no image"));
    fs::remove_dir(home.root().join("train/dog")).unwrap();
    home.write_pictures("test/cow", 1);
    assert!(home.problem().contains("class `cow`, which train does not have"));
    fs::remove_dir_all(home.root().join("test")).unwrap();
    home.write("train/loose.png", &picture(40, 40, ImageFormat::Png));
    assert!(home.problem().contains("loose.png: lies in no folder of a class"));
    fs::remove_dir_all(home.root()).unwrap();
    home.write("a.png", b"not one");
    assert!(home.problem().contains("none of its image files can be read"));
}

#[cfg(unix)]
#[test]
fn links_that_lead_nowhere_or_back_and_odd_names_are_left_out_or_in_and_the_rest_is_there() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let home = Home::new();
    home.write_pictures("train/cat", 12);
    home.write_pictures("train/dog", 12);
    symlink(home.root().join("train"), home.root().join("train/dog/circle")).unwrap();
    symlink(home.root(), home.root().join("train/circle")).unwrap();
    symlink("nowhere", home.root().join("train/cat/lost.png")).unwrap();
    let odd = home.root().join("train/cat").join(OsStr::from_bytes(b"odd\xff.png"));
    fs::copy(home.root().join("train/cat/0.png"), odd).unwrap();
    let mut log = Log::default();
    let folder = home.open_with(&DataConfig::default(), &mut log).unwrap();
    assert_eq!(folder.class_names, ["cat", "dog"]);
    assert_eq!(folder.train.len() + folder.open_test().unwrap().len(), 25);
    let problems: BTreeSet<String> =
        folder.skipped.iter().map(|file| format!("{}: {}", file.name, file.problem)).collect();
    let problems: Vec<String> = problems.into_iter().collect();
    assert!(problems[0].starts_with("train/cat/lost.png: No such file"), "{problems:?}");
    assert!(problems[1].starts_with("train/circle: is a link back to "), "{problems:?}");
    assert!(problems[2].starts_with("train/dog/circle: is a link back to "), "{problems:?}");
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(log.lines.concat().contains("3 image files cannot be read and are left out"), "{:?}", log.lines);
    let checked = Folder.verify(&home.root(), &mut Silent).unwrap();
    assert_eq!((checked.checked, checked.files.len(), checked.opens), (28, 3, true));
    assert_eq!(checked.sizes.map(|sizes| [sizes.smallest, sizes.largest]), Some([[50, 40], [50, 51]]));
    let strict = DataConfig { strict: true, ..DataConfig::default() };
    let refused = home.open_with(&strict, &mut Log::default()).err().unwrap().to_string();
    assert!(refused.contains("mend or remove the file") || refused.contains("train/"), "{refused}");
}

#[test]
fn a_file_that_goes_away_after_it_was_listed_costs_only_itself() {
    let home = Home::new();
    home.write_pictures("a", 5);
    /// Removes a file when decoding begins, after the folder was listed.
    struct Thief(PathBuf);
    impl Reporter for Thief {
        fn report(&mut self, event: Event<'_>) {
            if let Event::TaskStarted { .. } = event {
                let _ = fs::remove_file(&self.0);
            }
        }
    }
    let folder = home.open_with(&DataConfig::default(), &mut Thief(home.root().join("a/3.png"))).unwrap();
    assert_eq!((folder.pool.len(), folder.skipped.len()), (4, 1));
    assert_eq!(folder.skipped[0].name, "a/3.png");
}

#[test]
fn large_jpegs_are_decoded_at_a_quarter_and_change_the_fingerprint() {
    let home = Home::new();
    home.write("a.jpg", &picture(520, 700, ImageFormat::Jpeg));
    let size = |image_size| DataConfig { image_size, ..DataConfig::default() };
    let [small, large] = [32, 33].map(|side| home.open_with(&size(side), &mut Silent).unwrap());
    assert!(small.fingerprint != large.fingerprint);
    assert!(small.pool.image(0)[0] > 200 && small.pool.image(0)[2] < 60);
    home.write("a.jpg", &picture(511, 700, ImageFormat::Jpeg));
    let [small, large] = [32, 33].map(|side| home.open_with(&size(side), &mut Silent).unwrap());
    assert!(small.fingerprint == large.fingerprint);
}

#[test]
fn the_cache_is_used_until_a_file_changes_and_an_older_one_goes() {
    let home = Home::new();
    home.write_pictures("train/cat", 6);
    home.write_pictures("test/cat", 1);
    let decoded = |log: &mut Log, config: &DataConfig| {
        log.decoded = 0;
        let folder = home.open_with(config, log).unwrap();
        (log.decoded, folder.fingerprint)
    };
    let mut log = Log::default();
    let config = DataConfig::default();
    let (count, first) = decoded(&mut log, &config);
    assert_eq!(count, 7);
    assert_eq!(decoded(&mut log, &config), (0, first.clone()));
    home.write("train/cat/0.png", &picture(77, 77, ImageFormat::Png));
    let (count, second) = decoded(&mut log, &config);
    assert!(count == 6 && second != first);
    assert_eq!(cache::files(&home.cache()).len(), 2);
    let larger = DataConfig { image_size: 48, ..config };
    assert_eq!(decoded(&mut log, &larger), (7, second));
    assert_eq!(cache::files(&home.cache()).len(), 4);
}

#[test]
fn a_damaged_cache_is_noticed_wherever_a_byte_changes_and_made_anew() {
    let home = Home::new();
    home.write_pictures("unlabeled", 3);
    let pixels = home.open().unwrap().pool.pixels;
    let path = cache::files(&home.cache()).remove(0);
    let whole = fs::read(&path).unwrap();
    let (last, middle) = (whole.len() - 1, whole.len() - 60);
    let mut damaged: Vec<Vec<u8>> = [0, 5_000, middle, last - 45, last]
        .into_iter()
        .map(|place| {
            let mut bytes = whole.clone();
            bytes[place] ^= 1;
            bytes
        })
        .collect();
    damaged.extend([Vec::new(), whole[..30].to_vec(), whole[..last].to_vec()]);
    for bytes in damaged {
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let mut log = Log::default();
        let folder = home.open_with(&DataConfig::default(), &mut log).unwrap();
        assert!(log.lines[0].contains("decoded again"), "{:?}", log.lines);
        assert!(folder.pool.pixels == pixels && fs::read(&path).unwrap() == whole);
    }
}

#[test]
fn a_signal_ends_decoding_and_leaves_nothing() {
    let home = Home::new();
    home.write_pictures("unlabeled", 3);
    let mut log = Log { stop: true, ..Log::default() };
    let stopped = home.open_with(&DataConfig::default(), &mut log).err().unwrap();
    assert!(matches!(stopped, Error::Stopped { .. }));
    assert_eq!(fs::read_dir(home.cache()).unwrap().count(), 0);
}

#[test]
fn orientation_tags_are_applied_and_counted() {
    let home = Home::new();
    let jpeg = picture(60, 60, ImageFormat::Jpeg);
    home.write("a/plain.jpg", &jpeg);
    home.write("a/upright.jpg", &with_orientation(&jpeg, 1));
    home.write("a/turned.jpg", &with_orientation(&jpeg, 6));
    let folder = home.open().unwrap();
    assert_eq!(folder.tags, Some([1, 1, 1]));
    let red = |index| folder.pool.image(index)[0] > 128 && folder.pool.image(index)[2] < 128;
    assert_eq!((0..3).filter(|&index| red(index)).count(), 2);
}
