//! The command line: arguments in, one stage or tool called, result and errors out.

mod arguments;
mod bench;
mod compare;
mod data;
mod devices;
mod display;
mod evaluate;
mod export;
mod extract;
mod help;
mod images;
mod options;
mod orient;
mod pipeline;
mod plan;
mod predict;
mod report;
mod reproduce;
mod shell;
mod signals;
mod sweep;
mod table;
mod verify_resume;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::stages::Sources;
use arguments::Command;
use options::Settings;

/// Parses the arguments, does what they say, and gives the exit status: 0 done, 1 failed, 2 usage or config.
pub fn main() -> ExitCode {
    let arguments = help::parse();
    match execute(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            match &error {
                Error::Stopped { .. } => eprintln!("{error}; go on with `{}`", shell::resuming_command()),
                _ => eprintln!("error: {error}; {}", error.hint()),
            }
            ExitCode::from(error.exit_code())
        }
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
        Command::Finetune { run, checkpoint, features, from_scratch, no_test } => {
            let sources = Sources { checkpoint, features, split: None };
            pipeline::finetune(&run, &sources, from_scratch, no_test)
        }
        Command::Evaluate(run) => evaluate::execute(&run),
        Command::Sweep(arguments) => sweep::execute(&arguments),
        Command::Compare(arguments) => compare::execute(&arguments),
        Command::Predict(arguments) => predict::execute(&arguments),
        Command::Orient(arguments) => orient::execute(&arguments),
        Command::Data { command } => data::execute(command),
        Command::Bench { settings, repeats, seconds, profile, burn_operations } => {
            crate::kernels::use_burn_operations(burn_operations);
            bench::execute(&settings, repeats, seconds, profile)
        }
        Command::VerifyResume { settings, kills, whole } => verify_resume::execute(&settings, kills, whole),
        Command::Reproduce(arguments) => reproduce::execute(&arguments),
        Command::Report(arguments) => report::execute(&arguments),
        Command::Export(arguments) => export::execute(&arguments),
        Command::Devices(arguments) => devices::execute(&arguments),
        Command::Worker(arguments) => worker::execute(&arguments),
        Command::Config { settings, schema } => show_config(&settings, schema),
        Command::Completions(arguments) => help::completions(&arguments),
        Command::Man(arguments) => help::man(&arguments),
    }
}

fn show_config(settings: &Settings, schema: bool) -> Result<()> {
    match schema {
        true => print_json(&config::schema()),
        false => print_json(&resolve(settings)?),
    }
}

/// The config that the settings name: their file, or the quickstart.
fn resolve(settings: &Settings) -> Result<Config> {
    settings.load(settings.config.as_deref(), settings.overrides()?)
}

/// Runs `work` on a pool of as many threads as asked for, or one a processor.
fn on_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build().map_err(|error| {
            Error::Usage {
                problem: format!("cannot start threads: {error}"),
                hint: "ask for fewer with --threads".into(),
            }
        })?;
    Ok(pool.install(work))
}

/// Prints a result as one JSON document.
fn print_json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::io("write", "standard output")(error.into()))?;
    print_line(&text)
}

/// Prints a line of the result; a reader that went away (`| head`) is no error.
fn print_line(text: &str) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("write", "standard output")(error))
        }
        _ => Ok(()),
    }
}
