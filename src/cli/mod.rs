//! The command line: arguments in, one stage or tool called, result and errors out.

mod arguments;
mod bench;
mod compare;
mod config;
mod data;
mod devices;
mod display;
mod encoder;
mod evaluate;
mod export;
mod extract;
mod finetune;
mod help;
mod images;
mod old_spellings;
mod options;
mod orient;
mod pipeline;
mod plan;
mod predict;
mod ranks;
mod readable;
#[cfg(test)]
mod reference;
mod report;
mod shell;
mod signals;
mod suitable;
mod sweep;
mod table;
mod time_left;
mod verify;
mod worker;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::kernels;
use arguments::Command;
use old_spellings::Translated;
use options::Settings;
use readable::readable;

/// Runs the command that the arguments name, and returns the exit status: 0 done, 1 failed, 2 usage or config.
pub fn main() -> ExitCode {
    let Translated { words, notes } = old_spellings::translate(std::env::args_os().collect());
    let arguments = help::parse(&words);
    notes.iter().for_each(|text| note(text));
    let command = arguments.command;
    match choose_kernels().and_then(|()| ranks::join(&command)).and_then(|()| execute(command)) {
        Ok(()) => {
            ranks::leave(0, true);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let stopped = matches!(error, Error::Stopped { .. });
            let text = match stopped {
                true => format!("{error}; continue with `{}`", shell::resuming_command()),
                false => format!("error: {error}; {}", error.hint()),
            };
            ranks::complain(readable(&text), stopped);
            ranks::leave(error.exit_code(), stopped);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Lets the environment limit the instruction set of the kernels.
fn choose_kernels() -> Result<()> {
    match std::env::var_os("ROTNET_KERNELS") {
        Some(name) => kernels::choose_instruction_set(&name.to_string_lossy()),
        None => Ok(()),
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Run(run) => pipeline::run(&run),
        Command::Pretrain(run) => pipeline::pretrain(&run),
        Command::Extract(arguments) => {
            let (run, checkpoint) = arguments.into_parts();
            pipeline::extract(&run, checkpoint)
        }
        Command::Finetune(arguments) => pipeline::finetune(arguments),
        Command::Evaluate(arguments) => evaluate::execute(arguments),
        Command::Sweep(arguments) => sweep::execute(&arguments),
        Command::Compare(arguments) => compare::execute(&arguments),
        Command::Predict(arguments) => predict::execute(&arguments),
        Command::Orient(arguments) => orient::execute(&arguments),
        Command::Data { command } => data::execute(command),
        Command::Bench(arguments) => bench::execute(&arguments),
        Command::Verify { command } => verify::execute(&command),
        Command::Report(arguments) => report::execute(&arguments),
        Command::Export(arguments) => export::execute(&arguments),
        Command::Devices(arguments) => devices::execute(&arguments),
        Command::Worker(arguments) => worker::execute(&arguments),
        Command::Config { command } => config::execute(command),
        Command::Completions(arguments) => help::completions(&arguments),
        Command::Man(arguments) => help::man(&arguments),
    }
}

/// Prints a note on stderr, unless `--quiet` is given.
fn note(text: &str) {
    let quiet = std::env::args_os().any(|word| word == "--quiet" || word == "-q");
    if !quiet && crate::ranks::launched()[0] == 0 {
        eprintln!("note: {text}");
    }
}

/// The config that the settings name: a recipe or a file, or else the quickstart.
fn resolve(settings: &Settings) -> Result<Config> {
    settings.load(settings.config.as_deref(), settings.overrides()?)
}

/// Runs `work` on a pool of the given number of threads, by default one per processor, which ranks of one machine share.
fn on_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let threads = threads.unwrap_or_else(ranks::threads);
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| Error::Usage {
            problem: format!("cannot start threads: {error}"),
            hint: "ask for fewer with --threads".into(),
        })?;
    Ok(pool.install(work))
}

/// Prints a result as one JSON document.
fn print_json(value: &impl Serialize) -> Result<()> {
    if !ranks::leads() {
        return Ok(());
    }
    // Not by way of a text, which takes the memory of the result several times.
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    printed(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Prints a line of the result.
fn print_line(text: &str) -> Result<()> {
    if !ranks::leads() {
        return Ok(());
    }
    let mut out = io::stdout();
    // Programs read names as they are.
    let text = if out.is_terminal() { readable(text) } else { text.into() };
    printed(writeln!(out, "{text}"))
}

/// A closed pipe (`| head`) is not an error.
fn printed(written: io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output")(error))
        }
        _ => Ok(()),
    }
}
