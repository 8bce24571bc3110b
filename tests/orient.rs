//! `orient`: which way up images are, and that none of them is ever lost.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sha2::{Digest, Sha256};

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
    assert!(text.contains("upright in fixed/trip/counter.jpg"), "{text}");
    assert!(text.contains("3 of 5 images are not upright; 3 were turned, of which about "), "{text}");
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
pub fn with_album() -> Folder {
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
pub fn contents(folder: &Folder, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = walkdir::WalkDir::new(folder.path(name)).into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    files.map(|entry| (entry.path().to_path_buf(), fs::read(entry.path()).unwrap())).collect()
}

#[cfg(unix)]
#[test]
fn images_are_turned_in_place_once_and_every_byte_comes_back() {
    use std::os::unix::fs::PermissionsExt;
    let folder = with_album();
    let day = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let sideways = ["down.png", "trip/clockwise.png", "trip/counter.jpg"].map(|name| format!("album/{name}"));
    fs::set_permissions(folder.path("album/down.png"), fs::Permissions::from_mode(0o640)).unwrap();
    for name in &sideways {
        fs::File::options().write(true).open(folder.path(name)).unwrap().set_modified(day).unwrap();
    }
    let before = states(&folder, "album");
    // As a kill leaves it between the two steps: the original has both names.
    fs::hard_link(folder.path("album/down.png"), folder.path("album/down.png.orig")).unwrap();
    // No place for the original: that image fails, the others are turned.
    fs::create_dir(folder.path("album/trip/clockwise.png.orig")).unwrap();
    let command = "orient a album --in-place --sure 0.3";
    let failed = folder.rotnet(&format!("{command} --log first.jsonl"));
    assert_eq!(failed.code, 1);
    let errors: Vec<&str> = failed.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains("clockwise.png.orig"), "{}", failed.stderr);
    assert!(failed.stderr.contains("`rotnet orient --undo first.jsonl` brings back"), "{}", failed.stderr);
    assert_eq!(state(&folder, &sideways[1]), before[&folder.path(&sideways[1])]);
    fs::remove_dir(folder.path("album/trip/clockwise.png.orig")).unwrap();
    let text = folder.succeed(&format!("{command} --log second.jsonl")).stdout;
    let kept = "turned, the original is album/trip/clockwise.png.orig";
    assert!(text.contains(kept) && text.contains("1 of 4 images are not upright; 1 were turned"), "{text}");

    let after = states(&folder, "album");
    assert_eq!(after.len(), 6, "a JPEG file needs no copy of its original");
    for name in &sideways {
        let (old, new) = (&before[&folder.path(name)], &after[&folder.path(name)]);
        assert!(old.0 != new.0 && old.1 == new.1, "{name}: other bytes, the same time");
    }
    assert_eq!(after[&folder.path("album/upright.png")], before[&folder.path("album/upright.png")]);
    let mode = fs::metadata(folder.path("album/down.png")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(image::open(folder.path("album/down.png")).unwrap().into_rgb8(), scene(1, 7, 64, 48));
    assert!(folder.succeed(command).stdout.starts_with("0 of 4 images are not upright"));
    assert!(folder.temporary_files().is_empty());

    folder.refuse(&format!("{command} --log second.jsonl"), 1, &["second.jsonl already holds"]);
    for (log, count) in [("second.jsonl", 1), ("first.jsonl", 2)] {
        let text = folder.succeed(&format!("orient --undo {log}")).stdout;
        assert!(text.ends_with(&format!("{count} of {count} images were brought back\n")), "{text}");
    }
    assert_eq!(states(&folder, "album"), before);
    let logs = fs::read_dir(folder.path(""))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("rotnet-orient-"));
    assert_eq!(logs.count(), 0, "nothing was turned, so that there is nothing to undo");
    folder.refuse("orient --undo album/down.png", 1, &["is not a log"]);

    // Whatever the network says of an image that has its original beside it, it is not turned again.
    fs::write(folder.path("album/down.png.orig"), "another").unwrap();
    let text = folder.succeed("orient a album/down.png --in-place --sure 0.3").stdout;
    assert!(text.contains("left as it is: turned before, see album/down.png.orig"), "{text}");
    folder.refuse(
        "orient a album/down.png.orig --in-place --sure 0.3",
        2,
        &["down.png.orig is an original that was kept"],
    );
    assert_eq!(state(&folder, "album/down.png"), before[&folder.path("album/down.png")]);
}

/// Bytes and time of a file.
fn state(folder: &Folder, name: &str) -> (Vec<u8>, SystemTime) {
    (folder.read(name), fs::metadata(folder.path(name)).unwrap().modified().unwrap())
}

/// The same of every file below a folder.
pub fn states(folder: &Folder, name: &str) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let time = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    contents(folder, name).into_iter().map(|(path, bytes)| (path.clone(), (bytes, time(&path)))).collect()
}

#[cfg(unix)]
#[test]
fn an_album_with_everything_in_it_is_looked_through_planned_and_turned() {
    use std::os::unix::fs::symlink;
    let folder = with_album();
    let upright = scene(1, 7, 64, 48);
    let down = image::imageops::rotate180(&upright);
    save(&folder, "album/<b>&.png", down.clone());
    save(&folder, "album/old.gif", down.clone());
    save(&folder, "album/old.bmp", down.clone());
    save(&folder, "album/net.webp", down.clone());
    fs::write(folder.path("album/mirrored.jpg"), tagged(&image::imageops::flip_horizontal(&down), 2))
        .unwrap();
    for name in ["one.HEIC", "two.heic", "raw.dng", "scan.tif", "notes.txt"] {
        fs::write(folder.path(&format!("album/{name}")), "no picture that is read").unwrap();
    }
    // Bad input, of which each is one line.
    let jpeg = tagged(&down, 1);
    let mut lying = jpeg.clone();
    lying[16..20].copy_from_slice(&[0xff; 4]);
    fs::write(folder.path("album/lying.jpg"), lying).unwrap();
    fs::write(folder.path("album/cut.jpg"), &jpeg[..60]).unwrap();
    fs::write(folder.path("album/empty.png"), "").unwrap();
    symlink(folder.path("album"), folder.path("album/trip/circle")).unwrap();
    symlink(folder.path("nowhere"), folder.path("album/lost.jpg")).unwrap();
    save(&folder, "album/dot.png", scene(0, 1, 1, 1));
    save(&folder, "album/line.png", scene(0, 1, 30_000, 1));

    let before = states(&folder, "album");
    let outcome = folder.rotnet("orient a album --sure 0.3 --review look.html --format json");
    assert_eq!(outcome.code, 1);
    let errors: Vec<&str> = outcome.stderr.lines().collect();
    for (name, problem) in [
        ("cut.jpg", "cannot be decoded"),
        ("empty.png", "is not an image"),
        ("circle", "is a link back to album"),
        ("lost.jpg", "cannot read"),
    ] {
        assert_eq!(
            errors.iter().filter(|line| line.contains(name) && line.contains(problem)).count(),
            1,
            "{errors:?}"
        );
    }
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(states(&folder, "album") == before, "nothing is changed");
    let mut plan = json(&outcome.stdout);
    assert_eq!(plan["unread"].as_array().unwrap().len(), 4, "{}", plan["unread"]);
    let planned = |name: &str| {
        let images = plan["images"].as_array().unwrap();
        images.iter().find(|image| image["file"] == format!("album/{name}")).unwrap().clone()
    };
    for (name, degrees, action, how) in [
        ("upright.png", 0, "leave", Value::Null),
        ("down.png", 180, "turn", "pixels".into()),
        ("<b>&.png", 180, "turn", "pixels".into()),
        ("trip/counter.jpg", 90, "turn", "tag".into()),
        ("mirrored.jpg", 180, "turn", "tag".into()),
        ("net.webp", 180, "turn", "tag".into()),
        ("old.gif", 180, "leave", Value::Null),
        ("old.bmp", 180, "leave", Value::Null),
        ("lying.jpg", 180, "leave", Value::Null),
    ] {
        let image = planned(name);
        assert_eq!(
            (&image["degrees"], &image["action"], &image["how"]),
            (&degrees.into(), &action.into(), &how),
            "{name}"
        );
        assert_eq!(image["sha256"], digest(&folder.read(&format!("album/{name}"))));
        let reason = if action == "leave" && degrees != 0 { &image["why"] } else { &Value::Null };
        assert!(reason.is_string() == (name.starts_with("old") || name == "lying.jpg"), "{image}");
    }
    assert!(planned("net.webp")["warning"].as_str().unwrap().contains("ignore"));
    // Pictures before and after of all that is not upright; nothing from outside, no name that is taken for a tag.
    let page = String::from_utf8(folder.read("look.html")).unwrap();
    let not_upright = plan["images"].as_array().unwrap().iter().filter(|image| image["degrees"] != 0).count();
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 2 * not_upright);
    assert!(page.contains("album/&lt;b&gt;&amp;.png") && !page.contains("<b>") && !page.contains("://"));
    folder.refuse("orient a album --review look.html", 1, &["look.html already holds"]);

    // People take out one image and change their mind about another; a third is edited meanwhile.
    let images = plan["images"].as_array_mut().unwrap();
    images.retain(|image| image["file"] != "album/down.png" && image["file"] != "album/dot.png");
    let at = images.iter().position(|image| image["file"] == "album/upright.png").unwrap();
    (images[at]["action"], images[at]["degrees"]) = ("turn".into(), 270.into());
    fs::write(folder.path("plan.json"), plan.to_string()).unwrap();
    save(&folder, "album/trip/clockwise.png", scene(0, 3, 20, 20));
    let changed = folder.read("album/trip/clockwise.png");
    fs::create_dir(folder.path("elsewhere")).unwrap();
    let applied = folder.shell("cd elsewhere && \"$ROTNET\" orient --apply ../plan.json --log ../log.jsonl");
    assert_eq!(applied.code, 1);
    let errors: Vec<&str> = applied.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(
        errors.len() == 1 && errors[0].contains("clockwise.png: was changed since"),
        "{}",
        applied.stderr
    );
    let now = states(&folder, "album");
    for name in ["down.png", "trip/clockwise.png", "old.gif", "old.bmp", "lying.jpg", "one.HEIC", "dot.png"] {
        let path = folder.path(&format!("album/{name}"));
        let expected = if name == "trip/clockwise.png" { &changed } else { &before[&path].0 };
        assert!(&now[&path].0 == expected, "{name}");
    }
    let shown = |name: &str| image::open(folder.path(&format!("album/{name}"))).unwrap().into_rgb8();
    assert_eq!(shown("upright.png"), image::imageops::rotate270(&upright));
    assert_eq!(shown("<b>&.png"), upright);
    let tag = |name: &str| folder.read(&format!("album/{name}"))[31];
    assert_eq!(tag("mirrored.jpg"), 4, "mirrored, then turned by half");
    let seen = folder.rotnet("orient a album/net.webp album/mirrored.jpg album/trip/counter.jpg");
    assert!(seen.stdout.ends_with("0 of 3 images are not upright\n"), "{}", seen.stdout);

    fs::remove_file(folder.path("album/trip/clockwise.png")).unwrap();
    folder.succeed("orient --undo log.jsonl");
    let mut expected = before;
    expected.remove(&folder.path("album/trip/clockwise.png"));
    assert!(states(&folder, "album") == expected);
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A plan that turns files of an album upside down, for which no network is needed.
fn write_plan(folder: &Folder, names: &[String]) {
    let image = |name: &String| {
        let sha256 = digest(&folder.read(name));
        serde_json::json!({"file": name, "depth": 1, "sha256": sha256, "degrees": 180, "action": "turn"})
    };
    let images: Vec<Value> = names.iter().map(image).collect();
    let plan = serde_json::json!({"plan": 1, "directory": {"file": folder.path("")}, "images": images});
    fs::write(folder.path("plan.json"), plan.to_string()).unwrap();
}

/// `ROTNET_KILLS=100` for the long form.
#[cfg(unix)]
#[test]
fn a_kill_leaves_each_file_old_or_new_and_a_log_that_undoes_it() {
    let folder = Folder::new();
    let names: Vec<String> =
        (0..40).map(|number| format!("album/{number}.{}", ["jpg", "png", "webp"][number % 3])).collect();
    names.iter().for_each(|name| save(&folder, name, scene(1, name.len() as u64, 90, 60)));
    write_plan(&folder, &names);
    let before = states(&folder, "album");
    let start = std::time::Instant::now();
    folder.succeed("orient --apply plan.json --log whole.jsonl");
    let took = start.elapsed();
    let after = states(&folder, "album");
    folder.succeed("orient --undo whole.jsonl");
    assert_eq!(states(&folder, "album"), before);
    let kills = std::env::var("ROTNET_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    for kill in 0..kills {
        let mut running = folder.start(&format!("orient --apply plan.json --log {kill}.jsonl"));
        if !running.ends_within(took * (kill + 1) / (kills + 1)) {
            running.signal("KILL");
        }
        running.finish();
        for name in &names {
            let (path, now) = (folder.path(name), state(&folder, name));
            assert!(now == before[&path] || now == after[&path], "{name}");
        }
        if folder.path(&format!("{kill}.jsonl")).exists() {
            folder.rotnet(&format!("orient --undo {kill}.jsonl"));
        }
        for left in folder.temporary_files() {
            fs::remove_file(left).unwrap();
        }
        assert_eq!(states(&folder, "album"), before, "kill {kill}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf_8_goes_through_plan_and_undo() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = with_album();
    let bytes = folder.read("album/down.png");
    let [odd, twin] = [&b"odd\xff.png"[..], "odd\u{fffd}.png".as_bytes()]
        .map(|name| folder.path("odd").join(OsStr::from_bytes(name)));
    fs::create_dir(folder.path("odd")).unwrap();
    fs::write(&odd, &bytes).unwrap();
    // What the name looks like as text is a file as well, and the wrong one.
    fs::write(&twin, folder.read("album/upright.png")).unwrap();
    let right = fs::read(&twin).unwrap();
    folder.shell("\"$ROTNET\" orient a odd --sure 0.3 --format json > plan.json");
    folder.succeed("orient --apply plan.json --log log.jsonl");
    assert!(fs::read(&odd).unwrap() != bytes && fs::read(&twin).unwrap() == right);
    folder.succeed("orient --undo log.jsonl");
    assert!(fs::read(&odd).unwrap() == bytes && fs::read(&twin).unwrap() == right);
    assert_eq!(fs::read_dir(folder.path("odd")).unwrap().count(), 2);
    // Turned at once, and shown as JSON.
    let found = json(&folder.succeed("orient a odd --sure 0.3 --in-place --log log2.jsonl --json").stdout);
    assert!(found["images"][0]["fixed"].is_string() || found["images"][1]["fixed"].is_string(), "{found}");
    folder.succeed("orient --undo log2.jsonl --json");
    assert!(fs::read(&odd).unwrap() == bytes && fs::read(&twin).unwrap() == right);
}
