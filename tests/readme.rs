//! The README's commands: those in `sh quick` blocks are run, in order; of the others the options must exist.

use crate::support::Folder;

const README: &str = include_str!("../README.md");

/// The `rotnet` command lines of code blocks whose first line is as given.
fn commands(fence: &str) -> Vec<&'static str> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in README.lines() {
        if line.starts_with("```") {
            inside = !inside && line == fence;
        } else if inside && let Some(command) = line.strip_prefix("rotnet ") {
            found.push(command.split('#').next().unwrap_or(command).trim());
        }
    }
    found
}

#[test]
fn quick_commands_work_as_written() {
    let folder = Folder::new();
    let commands = commands("```sh quick");
    assert!(commands.len() >= 10, "{commands:?}");
    for command in commands {
        folder.succeed(command);
    }
}

#[test]
fn options_of_the_other_commands_exist() {
    let folder = Folder::new();
    let commands = commands("```sh");
    assert!(!commands.is_empty());
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        let end = if words[0] == "data" { 2 } else { 1 };
        let help = folder.succeed(&format!("{} --help-all", words[..end].join(" "))).stdout;
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "`{option}` of `rotnet {command}` is not in its help");
        }
    }
}
