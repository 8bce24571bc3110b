//! `rotnet --help` on one screen: the commands grouped by purpose; shell completions and man pages.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{CommandFactory, FromArgMatches};

use super::arguments::{Arguments, CompletionsArguments, ManArguments};
use super::print_line;
use crate::error::{Error, Result};
use crate::files::create_directory;

type Group = (&'static str, &'static [&'static str]);

/// What `--help` lists, in this order.
const GROUPS: [Group; 4] = [
    ("Pipeline", &["run", "pretrain", "extract", "finetune"]),
    ("Judge", &["evaluate", "compare", "sweep", "report"]),
    ("Use", &["predict", "orient", "export"]),
    ("Data", &["data"]),
];
/// What `--help-all` lists in addition.
const MORE: [Group; 3] = [
    ("Config", &["config"]),
    ("Machine", &["verify", "bench", "devices", "worker"]),
    ("Shell", &["completions", "man"]),
];

/// The arguments in `words`, the program's name first; help, version and usage errors end the process.
pub(super) fn parse(words: &[OsString]) -> Arguments {
    let matches = grouped(Arguments::command()).get_matches_from(words);
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

pub(super) fn completions(arguments: &CompletionsArguments) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "rotnet", &mut script);
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output")(error))
        }
        _ => Ok(()),
    }
}

pub(super) fn man(arguments: &ManArguments) -> Result<()> {
    create_directory(&arguments.out)?;
    clap_mangen::generate_to(Arguments::command(), &arguments.out)
        .map_err(Error::io("write", &arguments.out))?;
    print_line(&format!("man pages in {}", arguments.out.display()))
}

/// The command with a help that lists its subcommands by group.
fn grouped(command: clap::Command) -> clap::Command {
    let few = list(&command, &GROUPS, screen());
    let all = few.clone() + &list(&command, &MORE, screen());
    let template = "{about}\n\n{usage-heading} {usage}\n\n{before-help}Options:\n{options}{after-help}";
    let few = few + "\nMore commands, and every option: --help-all; of one command: rotnet COMMAND --help";
    command.help_template(template).before_help(few).before_long_help(all)
}

/// Columns to wrap at, the same as clap's.
fn screen() -> usize {
    let terminal = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.or_else(told).unwrap_or(SCREEN).min(SCREEN)
}

fn list(command: &clap::Command, groups: &[Group], screen: usize) -> String {
    let about = |name: &str| {
        let about = command.find_subcommand(name)?.get_about()?;
        Some((name.to_owned(), about.to_string()))
    };
    let mut text = String::new();
    for (group, names) in groups {
        for (index, (name, about)) in names.iter().filter_map(|name| about(name)).enumerate() {
            let group = if index == 0 { *group } else { "" };
            text += &format!("  {group:<8} {name:<13} {}\n", wrapped(&about, screen));
        }
    }
    text
}

/// Longest line, as in clap, and the margin in front of a command's description.
const SCREEN: usize = 100;
const MARGIN: usize = 25;

/// Text wrapped behind the margin.
fn wrapped(text: &str, screen: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        match lines[last].chars().count() + 1 + word.chars().count() <= screen.saturating_sub(MARGIN) {
            _ if lines[last].is_empty() => lines[last].push_str(word),
            true => lines[last] += &format!(" {word}"),
            false => lines.push(word.to_owned()),
        }
    }
    lines.join(&format!("\n{}", " ".repeat(MARGIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group_and_its_lines_fit() {
        let command = Arguments::command();
        let groups = [&GROUPS[..], &MORE].concat();
        let grouped: Vec<&str> = groups.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for subcommand in command.get_subcommands() {
            let name = subcommand.get_name();
            let times = grouped.iter().filter(|&&grouped| grouped == name).count();
            assert_eq!(times, 1, "`{name}` is in {times} groups of the help");
        }
        for screen in [SCREEN, 60] {
            let list = list(&command, &groups, screen);
            assert!(list.lines().all(|line| line.chars().count() <= screen), "{list}");
        }
        let list = list(&command, &groups, SCREEN);
        for subcommand in command.get_subcommands() {
            let named =
                |line: &str| line.split_whitespace().take(2).any(|word| word == subcommand.get_name());
            assert!(list.lines().any(named), "{} is missing from\n{list}", subcommand.get_name());
        }
    }
    /// The help texts of a command and of all its subcommands, with their names.
    fn helps(command: &mut clap::Command, name: String, found: &mut Vec<(String, String)>) {
        found.push((name.clone(), command.render_help().to_string()));
        for subcommand in command.get_subcommands_mut() {
            let name = format!("{name} {}", subcommand.get_name());
            helps(subcommand, name, found);
        }
    }

    #[test]
    fn a_paragraph_fills_its_lines_however_wide_the_screen() {
        for screen in [100, 60] {
            let mut found = Vec::new();
            helps(&mut Arguments::command().term_width(screen), "rotnet".into(), &mut found);
            assert!(found.len() > 20);
            for (name, help) in found {
                let lines: Vec<&str> = help.lines().collect();
                for pair in lines.windows(2) {
                    // Prose begins at the margin; a heading ends with a colon, and a colon begins a paragraph.
                    let prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                    let begins = pair[1].split_whitespace().next().is_some_and(|word| word.ends_with(':'));
                    if !prose(pair[0]) || !prose(pair[1]) || pair[0].ends_with(':') || begins {
                        continue;
                    }
                    let next = pair[1].split_whitespace().next().unwrap_or_default();
                    let filled = pair[0].chars().count() + 1 + next.chars().count();
                    assert!(
                        filled > screen,
                        "{name}, {screen} columns: `{}` breaks before `{next}`",
                        pair[0]
                    );
                }
            }
        }
    }
}
