//! Tells the program which commit it is built from, and whether what it is made of was changed since.

use std::path::Path;
use std::process::Command;

/// What the program is made of.
const SOURCES: [&str; 5] = ["src", "configs", "Cargo.toml", "Cargo.lock", "build.rs"];

fn main() {
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    for path in SOURCES.into_iter().chain(log.as_deref()).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={path}");
    }
    let Some(commit) = git(&["rev-parse", "HEAD"]).or_else(packaged) else {
        return;
    };
    println!("cargo::rustc-env=ROTNET_COMMIT={commit}");
    let changed = [&["status", "--porcelain", "--untracked-files=no", "--"], &SOURCES[..]].concat();
    if git(&changed).is_some_and(|changed| !changed.is_empty()) {
        println!("cargo::rustc-env=ROTNET_CHANGED=yes");
    }
}

/// The output of a git command; absent where there is no git, or no repository of this package.
fn git(arguments: &[&str]) -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The commit that cargo notes in a package that it makes: `{"git": {"sha1": "..."}}`.
fn packaged() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    Some(rest.split('"').nth(1)?.to_owned())
}
