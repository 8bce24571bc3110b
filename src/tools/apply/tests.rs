//! Files turned by a plan and brought back, also from what a killed process leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use image::ImageFormat;
use serde_json::json;

use super::{Applied, Fix, carry_out, files, list, undo};
use crate::data::{picture, read_photo, with_orientation};
use crate::files::sha256;

/// An album of three kinds, and a plan that turns all of them by one quarter.
struct Album(tempfile::TempDir);

const NAMES: [&str; 4] = ["a.jpg", "b.png", "c.webp", "d.jpg"];

impl Album {
    fn new() -> Self {
        let album = Self(tempfile::tempdir().unwrap());
        let jpeg = picture(24, 16, ImageFormat::Jpeg);
        album.write("a.jpg", &jpeg);
        album.write("b.png", &picture(24, 16, ImageFormat::Png));
        album.write("c.webp", &picture(24, 16, ImageFormat::WebP));
        album.write("d.jpg", &with_orientation(&jpeg, 5));
        album.plan(&NAMES);
        album
    }

    fn plan(&self, names: &[&str]) {
        let image = |name: &&str| json!({"file": name, "depth": 1, "sha256": sha256(&self.read(name)), "degrees": 90, "action": "turn"});
        let images: Vec<_> = names.iter().map(image).collect();
        let plan = json!({"plan": 1, "directory": {"file": self.0.path()}, "images": images});
        self.write("plan.json", plan.to_string().as_bytes());
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn carry_out(&self) -> Applied {
        carry_out(&self.path("plan.json"), &Fix::InPlace { log: self.path("log.jsonl") }).unwrap()
    }

    /// Every file but plan and log, with content and time.
    fn state(&self) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
        let entries = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let images =
            entries.filter(|path| path.extension().is_some_and(|end| end != "json" && end != "jsonl"));
        let state = |path: &Path| (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap());
        images.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), state(&path))).collect()
    }
}

#[test]
fn a_plan_is_carried_out_and_undone_to_the_byte_times_included() {
    let album = Album::new();
    let before = album.state();
    let shown = NAMES.map(|name| read_photo(&album.path(name), None).unwrap());
    let applied = album.carry_out();
    assert_eq!((applied.images.len(), applied.failed.len()), (4, 0), "{:?}", applied.failed);
    let after = album.state();
    for (name, shown) in NAMES.iter().zip(shown) {
        let expected = shown.turned_back(crate::data::Rotation::Quarter);
        assert!(read_photo(&album.path(name), None).unwrap().is_same_picture(&expected), "{name}");
        assert!(after[*name].0 != before[*name].0 && after[*name].1 == before[*name].1, "{name}");
    }
    assert_eq!(after.len(), 5, "one original: the others need none");
    assert_eq!(after["b.png.orig"], before["b.png"]);
    // The tag of d.jpg was there: two bytes, and not another.
    let changed = |(old, new): &(&u8, &u8)| old != new;
    assert!(after["d.jpg"].0.len() == before["d.jpg"].0.len());
    assert!(after["d.jpg"].0.iter().zip(&before["d.jpg"].0).filter(changed).count() <= 2);

    let undone = undo(&album.path("log.jsonl")).unwrap();
    assert_eq!((undone.restored.len(), undone.failed.len()), (4, 0));
    assert_eq!(album.state(), before);
    let again = undo(&album.path("log.jsonl")).unwrap();
    assert_eq!((again.unchanged.len(), again.restored.len(), again.failed.len()), (4, 0, 0));
    assert_eq!(album.state(), before);
}

#[test]
fn what_changed_since_is_left_alone_and_the_rest_is_done() {
    let album = Album::new();
    let other = picture(8, 8, ImageFormat::Jpeg);
    album.write("a.jpg", &other);
    fs::remove_file(album.path("c.webp")).unwrap();
    let applied = album.carry_out();
    assert_eq!(applied.images.len(), 2);
    let problems: Vec<&str> = applied.failed.iter().map(|failure| failure.problem.as_str()).collect();
    assert!(problems[0].contains("a.jpg: was changed since it was looked at"), "{problems:?}");
    assert!(problems[1].contains("cannot read") && problems[1].contains("c.webp"), "{problems:?}");
    assert_eq!(album.read("a.jpg"), other);

    // The original of one was changed, the other itself.
    let png = album.read("b.png");
    album.write("b.png.orig", b"no picture");
    album.write("d.jpg", &other);
    let undone = undo(&album.path("log.jsonl")).unwrap();
    assert_eq!((undone.restored.len(), undone.failed.len()), (0, 2));
    assert!(undone.failed[0].problem.contains("was changed after it was turned"), "{:?}", undone.failed);
    assert!(undone.failed[1].problem.contains("is not its original any more"), "{:?}", undone.failed);
    assert!(album.read("b.png") == png && album.read("d.jpg") == other);
}

#[test]
fn what_a_kill_leaves_between_the_steps_is_undone_as_well() {
    let album = Album::new();
    let before = album.state();
    album.carry_out();
    let after = album.state();
    // The log has its line, the file was not replaced yet; and the original has its second name already.
    album.write("a.jpg", &before["a.jpg"].0);
    album.write("b.png", &before["b.png"].0);
    // The last line has no end: its file was not changed.
    let log = album.read("log.jsonl");
    let lines: Vec<&[u8]> = log.split_inclusive(|&byte| byte == b'\n').collect();
    assert_eq!(lines.len(), 5);
    let (last, front) = lines.split_last().unwrap();
    album.write("log.jsonl", &[&front.concat()[..], &last[..last.len() / 2]].concat());
    let undone = undo(&album.path("log.jsonl")).unwrap();
    assert_eq!((undone.restored.len(), undone.unchanged.len(), undone.failed.len()), (1, 2, 0));
    for name in ["a.jpg", "b.png", "c.webp"] {
        assert!(album.read(name) == before[name].0, "{name}");
    }
    assert!(!album.path("b.png.orig").exists());
    assert_eq!(album.read("d.jpg"), after["d.jpg"].0);

    // A damaged line is named, the others are undone.
    album.write("log.jsonl", &[lines[0], b"{\"file\": \n", lines[4]].concat());
    let undone = undo(&album.path("log.jsonl")).unwrap();
    assert_eq!((undone.restored.len(), undone.failed.len()), (1, 1));
    assert!(undone.failed[0].problem.contains("line 2 is damaged"), "{:?}", undone.failed);
    assert_eq!(album.read("d.jpg"), before["d.jpg"].0);
}

#[test]
fn copies_are_turned_keep_their_time_and_leave_the_album_alone() {
    let album = Album::new();
    let before = album.state();
    let folder = album.path("copies");
    let copies = Fix::Copies { folder: folder.clone(), force: false };
    fs::create_dir(&folder).unwrap();
    let applied = carry_out(&album.path("plan.json"), &copies).unwrap();
    assert_eq!((applied.images.len(), applied.failed.len(), applied.log), (4, 0, None));
    for name in NAMES {
        let copy = fs::metadata(folder.join(name)).unwrap();
        assert_eq!(copy.modified().unwrap(), before[name].1, "{name}");
    }
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(album.state(), before);
}

#[test]
fn a_plan_that_is_none_is_refused_and_a_wrong_line_costs_only_itself() {
    let album = Album::new();
    let plan = String::from_utf8(album.read("plan.json")).unwrap();
    let how = Fix::InPlace { log: album.path("log.jsonl") };
    for wrong in ["", "{}", "[]", &plan.replace("\"plan\":1", "\"plan\":2"), &plan.replace("turn", "explode")]
    {
        album.write("plan.json", wrong.as_bytes());
        let problem = carry_out(&album.path("plan.json"), &how).unwrap_err().to_string();
        assert!(problem.contains("plan"), "{problem}");
    }
    let before = album.state();
    let mut lines: serde_json::Value = serde_json::from_str(&plan).unwrap();
    lines["images"][0]["degrees"] = 45.into();
    lines["images"][1]["depth"] = 0.into();
    lines["images"][2]["file_bytes"] = "?".into();
    lines["images"][3]["action"] = "leave".into();
    album.write("plan.json", lines.to_string().as_bytes());
    let applied = album.carry_out();
    assert_eq!((applied.images.len(), applied.failed.len()), (0, 3), "{:?}", applied.failed);
    assert!(album.state() == before && !album.path("log.jsonl").exists());
}

#[test]
fn a_file_that_goes_away_after_it_was_listed_costs_only_itself() {
    let album = Album::new();
    let listing = list(&[album.0.path().to_path_buf()], None).unwrap();
    fs::remove_file(album.path("b.png")).unwrap();
    let read = files::read(&listing.files, 8, |photo| vec![photo.square(8)]);
    assert_eq!((read.images.len(), read.places), (3, vec![0, 2, 3]));
    assert_eq!(read.failed.len(), 1);
    assert!(read.failed[0].problem.contains("cannot read") && read.failed[0].problem.contains("b.png"));
}
