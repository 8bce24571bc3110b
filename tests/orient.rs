//! `orient`: which way up images are, and that none of them is ever lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::images::{SHORT, json, save, scene, tagged, with_photos};
use crate::support::Folder;

#[test]
fn sideways_images_are_found_and_turned_upright() {
    let folder = with_photos();
    let longer = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=12");
    folder.succeed(&format!("pretrain {longer} --data photos/unlabeled --out a"));
    let upright = scene(1, 7, 64, 48);
    save(&folder, "album/upright.png", upright.clone());
    save(&folder, "album/trip/clockwise.png", image::imageops::rotate90(&upright));
    save(&folder, "album/trip/counter.jpg", image::imageops::rotate270(&upright));
    save(&folder, "album/down.png", image::imageops::rotate180(&upright));
    // Stored sideways, tagged so that it is shown upright.
    fs::write(folder.path("album/camera.jpg"), tagged(&image::imageops::rotate270(&upright), 6)).unwrap();

    let found = json(&folder.succeed("orient a album --json").stdout);
    let degrees: BTreeMap<String, u64> = found["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| (image["file"].as_str().unwrap().to_owned(), image["degrees"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("album/camera.jpg", 0),
        ("album/down.png", 180),
        ("album/trip/clockwise.png", 270),
        ("album/trip/counter.jpg", 90),
        ("album/upright.png", 0),
    ];
    assert_eq!(degrees, expected.map(|(name, turn)| (name.to_owned(), turn)).into());

    let text = folder.succeed("orient a album --out fixed --sure 0.3").stdout;
    assert!(text.contains("album/down.png: upside down"), "{text}");
    assert!(text.contains("upright copy in fixed/trip/counter.jpg"), "{text}");
    assert!(text.ends_with("3 of 5 images are not upright\n"), "{text}");
    assert!(!folder.path("fixed/upright.png").exists() && !folder.path("fixed/camera.jpg").exists());
    let fixed = image::open(folder.path("fixed/trip/clockwise.png")).unwrap().into_rgb8();
    assert_eq!(fixed, upright);
    assert!(folder.succeed("orient a fixed").stdout.starts_with("0 of 3 images are not upright"));
    let again = folder.rotnet("orient a album/down.png --out fixed --sure 0.3");
    assert!(again.code == 1 && again.stderr.contains("error: fixed/down.png already"), "{}", again.stderr);
    folder.succeed("orient a album/down.png --out fixed --sure 0.3 --force --format csv");
    assert!(folder.temporary_files().is_empty());
}

/// A run that tells which way up scenes are, and an album in which three of four are not.
fn with_album() -> Folder {
    let folder = with_photos();
    let longer = SHORT.replace("pretrain.epochs=2", "pretrain.epochs=12");
    folder.succeed(&format!("pretrain {longer} --data photos/unlabeled --out a"));
    let upright = scene(1, 7, 64, 48);
    save(&folder, "album/upright.png", upright.clone());
    save(&folder, "album/down.png", image::imageops::rotate180(&upright));
    save(&folder, "album/trip/clockwise.png", image::imageops::rotate90(&upright));
    save(&folder, "album/trip/counter.jpg", image::imageops::rotate270(&upright));
    folder
}

/// Every file below a folder, with its bytes.
fn contents(folder: &Folder, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(folder.path(name)).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    files.map(|entry| (entry.path().to_path_buf(), fs::read(entry.path()).unwrap())).collect()
}

#[cfg(unix)]
#[test]
fn orient_refuses_to_write_over_an_image_before_it_writes_anything() {
    use std::os::unix::fs::symlink;
    let folder = with_album();
    save(&folder, "other/down.png", scene(0, 8, 40, 40));
    fs::create_dir_all(folder.path("linked/trip")).unwrap();
    fs::create_dir_all(folder.path("pointing")).unwrap();
    fs::hard_link(folder.path("album/trip/counter.jpg"), folder.path("linked/trip/counter.jpg")).unwrap();
    symlink(folder.path("album/down.png"), folder.path("pointing/down.png")).unwrap();
    symlink(folder.path("album"), folder.path("alias")).unwrap();
    save(&folder, "taken/trip/counter.jpg", scene(0, 9, 40, 40));
    fs::create_dir(folder.path("blocked")).unwrap();
    fs::write(folder.path("blocked/trip"), "a file").unwrap();
    let before = contents(&folder, "");

    let own = "is one of the images themselves";
    for (arguments, code, problem) in [
        ("album --out album", 2, own),
        ("album --out album --force", 2, own),
        ("album --out ./other/../album --force", 2, own),
        ("album --out new/../album", 2, "leads through new, which is not there"),
        ("album --out alias --force", 2, own),
        ("alias --out album --force", 2, own),
        ("album/trip --out album/trip --force", 2, own),
        ("album --out linked --force", 2, own),
        ("album --out pointing --force", 2, own),
        ("other album --out album --force", 2, "would both be written to album/down.png"),
        ("album/down.png other/down.png --out new --force", 2, "would both be written to new/down.png"),
        ("album --out album/down.png", 2, "album/down.png is a file"),
        ("album --out blocked", 2, "blocked/trip is a file"),
        ("album --out taken", 1, "taken/trip/counter.jpg already holds"),
        ("album/down.png album/down.png --in-place", 2, "are one file"),
        ("album alias --in-place", 2, "are one file"),
    ] {
        folder.refuse(&format!("orient a --sure 0.3 {arguments}"), code, &[problem]);
        assert!(contents(&folder, "") == before, "{arguments}");
    }
    for usage in ["--out new --in-place", "--in-place --force", "--force"] {
        assert_eq!(folder.rotnet(&format!("orient a album {usage}")).code, 2, "{usage}");
    }
    assert!(contents(&folder, "") == before && !folder.path("new").exists());

    // What is written is written beside the images, and copies below their folder are not taken for more of them.
    let text = folder.succeed("orient a album --out album/upright --sure 0.3").stdout;
    assert!(text.ends_with("3 of 4 images are not upright\n"), "{text}");
    let text = folder.succeed("orient a album --out album/upright --sure 0.3 --force").stdout;
    assert!(text.ends_with("3 of 4 images are not upright\n"), "{text}");
    folder.succeed("orient a album/trip/counter.jpg --out taken/trip --sure 0.3 --force");
    let after = contents(&folder, "album");
    assert!(
        after.len() == 7 && before.iter().all(|(path, bytes)| after.get(path).is_none_or(|now| now == bytes))
    );
    assert!(folder.temporary_files().is_empty());
}

#[cfg(unix)]
#[test]
fn images_are_turned_in_place_once_and_every_original_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let folder = with_album();
    let sideways = ["down.png", "trip/clockwise.png", "trip/counter.jpg"].map(|name| format!("album/{name}"));
    let before = sideways.clone().map(|name| folder.read(&name));
    let upright = folder.read("album/upright.png");
    fs::set_permissions(folder.path("album/down.png"), fs::Permissions::from_mode(0o640)).unwrap();
    // As a kill leaves it between the two steps: the original has both names.
    fs::hard_link(folder.path("album/down.png"), folder.path("album/down.png.orig")).unwrap();
    // No place for the original: that image fails, the others are turned.
    fs::create_dir(folder.path("album/trip/counter.jpg.orig")).unwrap();
    let command = "orient a album --in-place --sure 0.3";
    folder.rotnet(command);
    let failed = folder.rotnet(command);
    assert_eq!(failed.code, 1);
    assert!(
        failed.stderr.contains("error: ") && failed.stderr.contains("counter.jpg.orig"),
        "{}",
        failed.stderr
    );
    assert!(folder.read("album/trip/counter.jpg") == before[2]);
    fs::remove_dir(folder.path("album/trip/counter.jpg.orig")).unwrap();
    let text = folder.succeed(command).stdout;
    let kept = "turned, the original is album/trip/counter.jpg.orig";
    assert!(text.contains(kept) && text.ends_with("1 of 4 images are not upright\n"), "{text}");
    for (name, before) in sideways.iter().zip(&before) {
        assert!(folder.read(&format!("{name}.orig")) == *before && folder.read(name) != *before, "{name}");
    }
    assert!(folder.read("album/upright.png") == upright && !folder.path("album/upright.png.orig").exists());
    let mode = fs::metadata(folder.path("album/down.png")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(image::open(folder.path("album/down.png")).unwrap().into_rgb8(), scene(1, 7, 64, 48));

    let after = contents(&folder, "album");
    assert_eq!(after.len(), 7);
    assert!(folder.succeed(command).stdout.starts_with("0 of 4 images are not upright"));
    // Whatever the network says of an image that has its original beside it, it is not turned again.
    fs::write(folder.path("album/down.png"), folder.read("album/trip/clockwise.png.orig")).unwrap();
    let turned = contents(&folder, "album");
    let text = folder.succeed(command).stdout;
    assert!(text.contains("left as it is: turned before, see album/down.png.orig"), "{text}");
    assert!(contents(&folder, "album") == turned);
    folder.refuse(
        "orient a album/trip/counter.jpg.orig --in-place --sure 0.3",
        2,
        &["counter.jpg.orig is an original that was kept"],
    );
    assert!(contents(&folder, "album") == turned && folder.temporary_files().is_empty());
}
