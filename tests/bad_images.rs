//! Image files that are damaged, odd, or not there any more: each costs itself at most, whatever is done with the others.

#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use image::codecs::gif::GifEncoder;
use image::{DynamicImage, Frame};

use crate::images::{SHORT, json, save, scene, tagged};
use crate::orient::states;
use crate::support::Folder;

/// What can be read, of all kinds: `album/`, 9 files.
const GOOD: [&str; 9] = [
    "upright.png",
    "down.png",
    "deep.png",
    "moving.gif",
    "cmyk.jpg",
    "dot.png",
    "line.png",
    "line.jpg",
    "lying.jpg",
];
/// What cannot, with the problem that is named.
const BAD: [(&str, &str); 8] = [
    ("cut.jpg", "cannot be decoded"),
    ("header.png", "cannot be decoded"),
    ("header.webp", "cannot be decoded"),
    ("empty.bmp", "is not an image"),
    ("text.gif", "is not an image"),
    ("odd\u{fffd}.png", "is not an image"),
    ("lost.jpg", "cannot read"),
    ("circle", "is a link back to"),
];

fn with_mixed_album() -> Folder {
    let folder = crate::images::with_photos();
    let longer = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=12");
    folder.succeed(&format!("run {longer} --data photos --out a"));
    let upright = scene(1, 7, 64, 48);
    let down = image::imageops::rotate180(&upright);
    save(&folder, "album/upright.png", upright);
    save(&folder, "album/down.png", down.clone());
    save(&folder, "album/deep.png", DynamicImage::from(down.clone()).into_rgb16());
    save(&folder, "album/dot.png", scene(0, 1, 1, 1));
    save(&folder, "album/line.png", scene(0, 1, 30_000, 1));
    save(&folder, "album/line.jpg", scene(0, 1, 30_000, 1));
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path("album").join(name), bytes).unwrap();
    let mut gif = Vec::new();
    let frames = (0..3).map(|_| Frame::new(DynamicImage::from(down.clone()).into_rgba8()));
    GifEncoder::new(&mut gif).encode_frames(frames).unwrap();
    write("moving.gif", &gif);
    write("cmyk.jpg", include_bytes!("fixtures/cmyk.jpg"));
    let jpeg = tagged(&down, 1);
    let mut lying = jpeg.clone();
    lying[16..20].copy_from_slice(&[0xff; 4]);
    write("lying.jpg", &lying);
    write("cut.jpg", &jpeg[..60]);
    let mut header = folder.read("album/down.png");
    header[12..16].copy_from_slice(b"IHDX");
    write("header.png", &header);
    write("header.webp", b"RIFF....WEBPVP8X");
    write("empty.bmp", b"");
    write("text.gif", b"no picture");
    fs::write(folder.path("album").join(OsStr::from_bytes(b"odd\xff.png")), "no picture").unwrap();
    symlink("nowhere", folder.path("album/lost.jpg")).unwrap();
    symlink(folder.path("album"), folder.path("album/circle")).unwrap();
    folder
}

/// Makes sure that each bad file is one line of error, and no other one is.
fn assert_bad(stderr: &str) {
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    for (name, problem) in BAD {
        let named = errors.iter().filter(|line| line.contains(name) && line.contains(problem));
        assert_eq!(named.count(), 1, "{name}: {errors:#?}");
    }
    assert_eq!(errors.len(), BAD.len(), "{errors:#?}");
}

#[test]
fn bad_image_files_cost_only_themselves_whatever_is_done() {
    let folder = with_mixed_album();
    let before = states(&folder, "album");
    for command in [
        "predict a album --json",
        "orient a album --json --sure 0.3 --review look.html",
        "orient a album --json --sure 0.3 --out fixed",
    ] {
        let outcome = folder.rotnet(command);
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        assert_bad(&outcome.stderr);
        let found = json(&outcome.stdout);
        let seen = |name: &&str| {
            let file = format!("album/{name}");
            found["images"].as_array().unwrap().iter().any(|image| image["file"] == file)
        };
        assert!(GOOD.iter().all(seen) && found["images"].as_array().unwrap().len() == GOOD.len(), "{found}");
        assert_eq!(found["failed"].as_array().unwrap().len(), BAD.len());
        assert!(states(&folder, "album") == before, "{command}: nothing is changed");
    }
    assert!(folder.path("look.html").exists() && folder.path("fixed/down.png").exists());

    let turned = folder.rotnet("orient a album --in-place --sure 0.3 --log log.jsonl");
    assert_eq!(turned.code, 1);
    assert_bad(&turned.stderr);
    let now = states(&folder, "album");
    let is = |name: &str| now[&folder.path(name)] == before[&folder.path(name)];
    assert!(!is("album/down.png") && !is("album/deep.png"));
    let deep = image::open(folder.path("album/deep.png")).unwrap();
    assert_eq!((deep.color(), deep.into_rgb8()), (image::ColorType::Rgb16, scene(1, 7, 64, 48)));
    let kept = ["upright.png", "moving.gif", "cut.jpg", "header.png", "header.webp", "empty.bmp", "text.gif"];
    assert!(kept.iter().all(|name| is(&format!("album/{name}"))));
    folder.succeed("orient --undo log.jsonl");
    assert!(states(&folder, "album") == before);
}

#[test]
fn a_plan_and_a_folder_of_data_do_the_rest_as_well() {
    let folder = with_mixed_album();
    folder.shell("\"$ROTNET\" orient a album --sure 0.3 --format json > plan.json 2> errors.txt");
    // One image goes away before the plan is carried out.
    fs::remove_file(folder.path("album/down.png")).unwrap();
    let before = states(&folder, "album");
    let applied = folder.rotnet("orient --apply plan.json --log log.jsonl");
    assert_eq!(applied.code, 1);
    let errors: Vec<&str> = applied.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains("down.png"), "{errors:?}");
    let deep = image::open(folder.path("album/deep.png")).unwrap();
    assert_eq!(deep.into_rgb8(), scene(1, 7, 64, 48));
    folder.succeed("orient --undo log.jsonl");
    assert!(states(&folder, "album") == before);

    let loud = SHORT.replace("--quiet ", "");
    let outcome = folder.succeed(&format!("pretrain {loud} --data album --out b"));
    assert!(outcome.stderr.contains("8 image files cannot be read and are left out: "), "{}", outcome.stderr);
    assert_eq!(folder.json("b/pretrain/summary.json")["images"], GOOD.len() as u64 - 1);
    let info = folder.rotnet("data info album");
    assert_eq!(info.code, 1);
    for (name, _) in BAD {
        assert!(info.stdout.contains(&format!("{name}: damaged: ")), "{name}: {}", info.stdout);
    }
    assert!(info.stdout.contains("16 files read, 8 of them damaged"), "{}", info.stdout);
    assert!(
        info.stdout.contains("images of 1 x 1 to 1 x 30000 pixels, 48 x 64 in the middle; "),
        "{}",
        info.stdout
    );
    assert!(states(&folder, "album") == before);
}
