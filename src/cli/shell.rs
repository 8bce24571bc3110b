//! The command that resumes this one.

use std::ffi::OsString;

use clap::CommandFactory;

use super::arguments::Arguments;
use crate::tools::shell::quoted;

/// The command that resumes this one: as typed, with `--resume` instead of `--force` if it has that option.
pub(super) fn resuming_command() -> String {
    resuming(std::env::args_os().collect())
}

fn resuming(typed: Vec<OsString>) -> String {
    let command = Arguments::command();
    let subcommand = typed.get(1).and_then(|name| command.find_subcommand(name));
    let resumes = subcommand.is_some_and(|it| it.get_arguments().any(|option| option.get_id() == "resume"));
    let again = typed.iter().filter(|word| !resumes || *word != "--force" && *word != "--resume");
    let mut words: Vec<String> = again.map(|word| quoted(word)).collect();
    words.extend(resumes.then(|| "--resume".to_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_goes_on_with_resume_where_it_takes_that() {
        let resuming = |typed: &str| resuming(typed.split(' ').map(OsString::from).collect());
        assert_eq!(resuming("rotnet run --force --out a"), "rotnet run --out a --resume");
        assert_eq!(resuming("rotnet sweep a.json --resume"), "rotnet sweep a.json --resume");
        assert_eq!(resuming("rotnet reproduce runs/a"), "rotnet reproduce runs/a");
    }
}
