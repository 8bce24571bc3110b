//! The pages hold together: links lead somewhere, README stays short, and the errors that are explained are errors that exist.

use std::fs;
use std::path::{Path, PathBuf};

/// The most lines that a reader of README is asked for.
const README_LINES: usize = 160;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder whose names have this ending.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), "md");
    pages.push(root().join("README.md"));
    pages
}

/// A page without its blocks of code.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            prose += line;
            prose.push('\n');
        }
    }
    prose
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        words.chars().filter(|letter| letter.is_alphanumeric() || "-_".contains(*letter)).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_to_files_and_headings_that_exist_also_in_the_book() {
    let book = root().join("docs").canonicalize().unwrap();
    let mut followed = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let text = prose(&fs::read_to_string(&page).unwrap());
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let exists = match anchor {
                "" => target.exists(),
                _ => fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&prose(&text)).iter().any(|heading| heading == anchor)),
            };
            followed += 1;
            if !exists {
                wrong.push(format!("{}: `{link}` is not there", page.display()));
            } else if page.starts_with(root().join("docs"))
                && !target.canonicalize().unwrap().starts_with(&book)
            {
                wrong.push(format!("{}: `{link}` is outside docs, so not in the book", page.display()));
            }
        }
    }
    assert!(followed > 50, "{followed} links");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn readme_is_short_and_begins_with_the_two_commands() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= README_LINES, "README has {lines} lines, at most {README_LINES}");
    let top: Vec<&str> = readme.lines().take(20).collect();
    for command in ["cargo run --release -- run ", "cargo test --release "] {
        assert!(top.iter().any(|line| line.starts_with(command)), "`{command}` is not at the top");
    }
}

/// All source files, with strings that go on over several lines put together.
fn source() -> String {
    let mut all = String::new();
    for file in files(&root().join("src"), "rs") {
        let text = fs::read_to_string(file).unwrap();
        all.extend(text.split("\\\n").map(str::trim_start));
        all.push('\n');
    }
    all
}

#[test]
fn errors_that_are_explained_occur_in_the_source() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let source = source();
    let messages: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    assert!(messages.len() > 30, "{} messages", messages.len());
    for message in messages {
        // What varies is written as `...`; a single letter says nothing.
        let pieces = message.split("...").map(|piece| piece.trim_matches(['`', '?', ' ']));
        let pieces: Vec<&str> = pieces.filter(|piece| piece.chars().count() > 3).collect();
        assert!(!pieces.is_empty() || message.starts_with("cannot "), "`{message}` has no words");
        for piece in pieces {
            assert!(source.contains(piece), "`{piece}` of `{message}` is in no source file");
        }
    }
}

/// The messages of `src/error.rs` that have words of their own, with `...` for what varies, as the page writes them.
fn kinds() -> Vec<String> {
    let source = fs::read_to_string(root().join("src/error.rs")).unwrap();
    let source: String = source.split("\\\n").map(str::trim_start).collect();
    let messages = source.split("#[error(").skip(1).map(|rest| {
        let message = rest.trim_start().trim_start_matches('"').split('"').next().unwrap();
        let pieces = message.split('{').map(|piece| piece.split_once('}').map_or(piece, |(_, after)| after));
        pieces.collect::<Vec<_>>().join("...").replace('`', "")
    });
    messages.filter(|message| message.chars().any(char::is_alphabetic)).collect()
}

#[test]
fn every_kind_of_error_with_words_of_its_own_has_its_way_out() {
    let page = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let explained: Vec<String> =
        page.lines().filter_map(|line| Some(line.strip_prefix("### ")?.replace('`', ""))).collect();
    let kinds = kinds();
    assert!(kinds.len() > 7, "{kinds:?}");
    for kind in kinds {
        assert!(explained.contains(&kind), "`{kind}` is not in docs/troubleshooting.md");
    }
}
