//! README and the pages of docs: commands of `sh quick` blocks are run, a page in one temporary folder, and print what the
//! `text` block behind them shows; options of the other commands exist; SUMMARY.md names every page.
//!
//! In a `text` block a line `...` stands for any lines and `...` within a line for any text. Times, rates and sizes may be
//! others, spaces as well. `sh quick fails` is for commands that end with an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::docs_links::files;
use crate::support::Folder;

/// A block of code: what stands behind its fence, where it begins, its text, and whether only blank lines stand between it
/// and the block before.
struct Block {
    fence: String,
    line: usize,
    text: String,
    follows: bool,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md and every page below docs, by the path in the repository.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut paths = files(&root().join("docs"), "md");
    paths.push(root().join("README.md"));
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_owned();
    paths.into_iter().map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect()
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut found, mut open, mut follows) = (Vec::<Block>::new(), false, false);
    for (number, line) in page.lines().enumerate() {
        if let Some(fence) = line.strip_prefix("```") {
            if !open {
                let block =
                    Block { fence: fence.trim().into(), line: number + 1, text: String::new(), follows };
                found.push(block);
            }
            (open, follows) = (!open, true);
        } else if open {
            found.last_mut().unwrap().text += &format!("{line}\n");
        } else {
            follows &= line.is_empty();
        }
    }
    found
}

/// The words of a line, without times, rates and sizes.
fn masked(line: &str) -> String {
    const UNITS: &[&str] =
        &["s", "ms", "min", "h", "images/s", "B", "bytes", "kB", "KB", "MB", "GB", "KiB", "MiB", "GiB"];
    let bare = |word: &str| word.trim_matches([',', ';', ':', '.', '(', ')']).to_owned();
    let number = |word: &str| {
        let digits = |letter: char| letter.is_ascii_digit() || ".,".contains(letter);
        !word.is_empty() && word.chars().all(digits)
    };
    let words: Vec<&str> = line.split_whitespace().collect();
    let quantity = |index: usize| {
        let word = bare(words[index]);
        let unit = words.get(index + 1).is_some_and(|next| UNITS.contains(&bare(next).as_str()));
        let joined = word.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
        unit && number(&word) || joined != word && UNITS.contains(&joined)
    };
    let words: Vec<&str> = (0..words.len()).map(|at| if quantity(at) { "#" } else { words[at] }).collect();
    words.join(" ")
}

/// Whether a line is as shown, in which `...` stands for any text.
fn line_fits(shown: &str, line: &str) -> bool {
    let Some((start, rest)) = shown.split_once("...") else { return shown == line };
    let Some(mut line) = line.strip_prefix(start) else { return false };
    let parts: Vec<&str> = rest.split("...").collect();
    let (end, middle) = parts.split_last().unwrap();
    for part in middle {
        let Some(at) = line.find(part) else { return false };
        line = &line[at + part.len()..];
    }
    line.ends_with(end)
}

/// Whether lines are as shown, where a line `...` stands for any number of lines; if not, the first that is missing.
fn fits(shown: &[String], lines: &[String]) -> Result<(), String> {
    let Some((first, rest)) = shown.split_first() else {
        return lines.first().map_or(Ok(()), |line| Err(format!("nothing, got `{line}`")));
    };
    if first == "..." {
        let mut tries = (0..=lines.len()).map(|skipped| fits(rest, &lines[skipped..]));
        let failed = tries.next().unwrap();
        return if failed.is_ok() || tries.any(|tried| tried.is_ok()) { Ok(()) } else { failed };
    }
    match lines.split_first() {
        Some((line, lines)) if line_fits(first, line) => fits(rest, lines),
        line => Err(format!("`{first}`, got `{}`", line.map_or("the end", |(line, _)| line))),
    }
}

/// The lines of an output; a slow machine also prints how much time is left.
fn lines(text: &str) -> Vec<String> {
    let progress = |line: &String| line.contains('%') && line.ends_with(" left");
    text.lines().map(masked).filter(|line| !line.is_empty() && !progress(line)).collect()
}

#[test]
fn quick_commands_print_what_is_shown() {
    let binary = Path::new(env!("CARGO_BIN_EXE_rotnet")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
    let mut compared = 0;
    for (name, page) in pages() {
        let folder = Folder::new();
        let blocks = blocks(&page);
        for (index, block) in
            blocks.iter().enumerate().filter(|(_, block)| block.fence.starts_with("sh quick"))
        {
            let place = format!("{}:{}", name.display(), block.line);
            let script = format!("exec 2>&1\n{}", block.text);
            let outcome = folder.spawn(Command::new("sh").args(["-ec", &script]).env("PATH", &path)).finish();
            let fails = block.fence.ends_with("fails");
            assert_eq!(outcome.code != 0, fails, "{place}: exit status {}\n{}", outcome.code, outcome.stdout);
            let shown = blocks.get(index + 1).filter(|next| next.follows && next.fence == "text");
            if let Some(shown) = shown {
                compared += 1;
                let fit = fits(&lines(&shown.text), &lines(&outcome.stdout));
                assert!(fit.is_ok(), "{place}: expected {}; all:\n{}", fit.unwrap_err(), outcome.stdout);
            }
        }
    }
    assert!(compared >= 5, "{compared}");
}

#[test]
fn options_of_the_other_commands_exist() {
    let folder = Folder::new();
    let mut helps = BTreeMap::new();
    for (name, page) in pages() {
        for block in blocks(&page).iter().filter(|block| block.fence == "sh") {
            let text = block.text.replace("\\\n", " ");
            let pieces =
                text.lines().flat_map(|line| line.split(" #").next().unwrap().split(['&', '|', ';']));
            for piece in pieces {
                let words = piece.split_whitespace().skip_while(|word| *word != "rotnet").skip(1);
                let words: Vec<&str> = words.collect();
                let Some(first) = words.first().filter(|word| !word.starts_with('-')) else { continue };
                let end = if ["data", "config", "verify"].contains(first) { 2 } else { 1 };
                let command = words[..end].join(" ");
                let help = || folder.succeed(&format!("{command} --help-all")).stdout;
                let help = helps.entry(command.clone()).or_insert_with(help);
                for option in words.iter().filter(|word| word.starts_with("--")) {
                    let option = option.split('=').next().unwrap();
                    let known = help.split([' ', '\n', ',']).any(|word| word == option);
                    assert!(known, "{}:{}: `{option}` is not in `{command}`", name.display(), block.line);
                }
            }
        }
    }
    assert!(helps.len() >= 10, "{:?}", helps.keys());
}

#[test]
fn the_summary_names_every_page() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let links = summary.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let named: BTreeSet<PathBuf> = links.map(|link| Path::new("docs").join(link)).collect();
    let pages = pages().into_keys();
    let pages: BTreeSet<PathBuf> =
        pages.filter(|page| page.starts_with("docs") && !page.ends_with("SUMMARY.md")).collect();
    assert_eq!(named, pages, "docs/SUMMARY.md and the pages below docs");
}
