//! `rotnet worker`: serves this machine's devices to other rotnet processes.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;

pub(super) const HELP: &str = "\
Prints the name under which `--device` and `--devices` of another rotnet reach it, and serves until it is stopped. \
A websocket (--listen) is not encrypted: use it within one machine or on a private network. Whatever other \
machines can reach needs a token, which clients read from the file that ROTNET_TOKEN_FILE names.

Examples:
  rotnet worker
  rotnet worker --listen 10.0.0.2:3000 --device cuda:0 --device cuda:1 --token-file token
  ROTNET_TOKEN_FILE=token rotnet run --devices ws://10.0.0.2:3000,ws://10.0.0.2:3000/1";

/// Options of `worker`.
#[derive(Args, Debug)]
pub struct WorkerArguments {
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: String,
    /// Serve over iroh, encrypted and across networks, with the key in this file (created if missing)
    #[arg(long, value_name = "KEY_FILE", conflicts_with = "listen")]
    iroh: Option<PathBuf>,
    /// Device to serve; may be repeated, for devices of one engine
    #[arg(long, value_name = "DEVICE", default_value = "flex")]
    device: Vec<String>,
    /// File with the token that clients must present
    #[arg(long, value_name = "FILE", env = "ROTNET_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Number of threads (default: one per processor)
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print nothing but errors and the name
    #[arg(long, short)]
    quiet: bool,
}

#[cfg(not(feature = "remote"))]
pub(super) fn execute(_: &WorkerArguments) -> Result<()> {
    Err(crate::error::Error::Device {
        device: "worker".into(),
        problem: "it is not compiled into this program".into(),
        hint: "build with `cargo build --release --features remote`".into(),
    })
}

#[cfg(feature = "remote")]
pub(super) fn execute(arguments: &WorkerArguments) -> Result<()> {
    use crate::device::{DeviceName, read_token};
    use crate::error::Error;
    use crate::progress::Event;
    use crate::tools::worker::{Listen, Worker};

    let usage = |problem| Error::Usage { problem, hint: "`rotnet devices` lists the devices".into() };
    let devices = arguments.device.iter().map(|device| device.parse::<DeviceName>());
    let devices: Vec<DeviceName> =
        devices.collect::<Result<_, _>>().map_err(|problem| usage(format!("--device: {problem}")))?;
    let token = arguments.token_file.as_deref().map(read_token).transpose()?;
    start_threads(arguments.threads)?;
    let listen = match &arguments.iroh {
        Some(key) => Listen::Key(key.clone()),
        None => Listen::Address(arguments.listen.clone()),
    };
    let worker = Worker::new(&listen, &devices, token)?;
    let mut reporter = super::display::reporter(arguments.quiet);
    if let Some(warning) = worker.warning() {
        reporter.report(Event::Warning(warning));
    }
    log_to_stderr(arguments.quiet);
    super::print_line(worker.name())?;
    worker.serve()
}

/// The log of burn's server, which would otherwise install its own, on stdout.
#[cfg(feature = "remote")]
fn log_to_stderr(quiet: bool) {
    use std::io::IsTerminal;

    use tracing_subscriber::filter::LevelFilter;
    let level = if quiet { LevelFilter::ERROR } else { LevelFilter::WARN };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails if there is a log already.
    let _ = log.try_init();
}

/// The pool of the whole process, on which the threads of burn's server compute.
#[cfg(feature = "remote")]
fn start_threads(threads: Option<usize>) -> Result<()> {
    rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build_global().map_err(|error| {
        crate::error::Error::Usage {
            problem: format!("cannot start threads: {error}"),
            hint: "ask for fewer with --threads".into(),
        }
    })
}
