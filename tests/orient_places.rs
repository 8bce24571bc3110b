//! Where `orient` writes pages, plans and copies: over no image, log or plan.

use std::fs;

use crate::images::{save, scene};
use crate::orient::{contents, with_album};

/// What belongs to photographs is no place for a page, and an image that a plan leaves is as safe as one that it turns.
#[cfg(unix)]
#[test]
fn pages_and_plans_write_over_no_image_log_or_plan() {
    use std::os::unix::fs::PermissionsExt;
    let folder = with_album();
    let turned = "orient a album --sure 0.3";
    fs::write(folder.path("plan.json"), folder.succeed(&format!("{turned} --json")).stdout).unwrap();
    save(&folder, "pages/down.png", scene(0, 8, 40, 40));
    let before = contents(&folder, "");
    for (options, code, problem) in [
        ("--review album/upright.png --force", 2, "is no page of this program"),
        ("--review plan.json --force", 2, "is no page of this program"),
        ("--review pages --force", 2, "is no page of this program"),
        ("--review plan.json", 1, "already holds"),
        (
            "--in-place --log new.jsonl --review new.jsonl",
            2,
            "is a place for an image, its original or the log",
        ),
        ("--in-place --log new.jsonl --review album/down.png.orig", 2, "is a place for an image"),
        ("--out new --review new/down.png", 2, "is a place for an image"),
        ("--in-place --log new.jsonl --review missing/page.html", 1, "missing/page.html"),
    ] {
        folder.refuse(&format!("{turned} {options}"), code, &[problem]);
        assert!(contents(&folder, "") == before, "{options}");
    }
    folder.succeed(&format!("{turned} --review page.html"));
    folder.succeed(&format!("{turned} --review page.html --force"));

    // album/upright.png is in the plan, and left.
    let plan = fs::read_to_string(folder.path("plan.json")).unwrap();
    save(&folder, "upright.png", scene(0, 9, 40, 40));
    let plan = plan.replace("\"file\": \"album/upright.png\"", "\"file\": \"down.png\"");
    fs::rename(folder.path("upright.png"), folder.path("down.png")).unwrap();
    fs::write(folder.path("edited.json"), plan).unwrap();
    let before = contents(&folder, "");
    folder.refuse("orient --apply edited.json --out . --force", 2, &["is one of the images themselves"]);
    assert!(contents(&folder, "") == before);

    // A JPEG file is turned by its tag and keeps no original: what lies beside it is somebody else's. Copies are for
    // whom the originals are for.
    fs::write(folder.path("album/trip/counter.jpg.orig"), "notes").unwrap();
    fs::set_permissions(folder.path("album/trip/counter.jpg"), fs::Permissions::from_mode(0o600)).unwrap();
    folder.succeed("orient a album/trip/counter.jpg --sure 0.3 --out private");
    let mode = fs::metadata(folder.path("private/counter.jpg")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = folder.succeed("orient a album/trip/counter.jpg --sure 0.3 --in-place --log log.jsonl").stdout;
    assert!(text.contains("upright in album/trip/counter.jpg") && text.contains("1 were turned"), "{text}");
    assert_eq!(fs::read_to_string(folder.path("album/trip/counter.jpg.orig")).unwrap(), "notes");
    // An original of a PNG file beside it says that it was turned before.
    fs::write(folder.path("album/down.png.orig"), "notes").unwrap();
    let text = folder.succeed("orient a album/down.png --sure 0.3 --in-place --log other.jsonl").stdout;
    assert!(text.contains("turned before") && !text.contains("were turned,"), "{text}");
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
    for usage in [
        "--out new --in-place",
        "--in-place --force",
        "--force",
        "--log l",
        "--out new --log l",
        "--apply plan.json",
        "--undo log.jsonl",
        "--apply plan.json --undo log.jsonl",
    ] {
        assert_eq!(folder.rotnet(&format!("orient a album {usage}")).code, 2, "{usage}");
    }
    assert!(contents(&folder, "") == before && !folder.path("new").exists());

    // What is written is written beside the images, and copies below their folder are not taken for more of them.
    let text = folder.succeed("orient a album --out album/upright --sure 0.3").stdout;
    assert!(text.contains("3 of 4 images are not upright"), "{text}");
    let text = folder.succeed("orient a album --out album/upright --sure 0.3 --force").stdout;
    assert!(text.contains("3 of 4 images are not upright"), "{text}");
    folder.succeed("orient a album/trip/counter.jpg --out taken/trip --sure 0.3 --force");
    let after = contents(&folder, "album");
    assert!(
        after.len() == 7 && before.iter().all(|(path, bytes)| after.get(path).is_none_or(|now| now == bytes))
    );
    assert!(folder.temporary_files().is_empty());
}
