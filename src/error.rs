//! The one error type: every variant says what failed, where, and (through [`Error::hint`]) how to mend it.

use std::io;
use std::path::{Path, PathBuf};

use crate::progress::Stop;

/// What a rotnet operation can fail with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A config file, a `--set` override or a combination of settings is not usable.
    #[error("{path}: {problem}")]
    Config {
        /// Dotted path of the key (`pretrain.batch_size`) or the name of the file.
        path: String,
        /// What is wrong, with the value that was found.
        problem: String,
    },
    /// An argument of the command line is not usable.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to type instead.
        hint: String,
    },
    /// The operating system refused a file operation.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// A verb: `read`, `write`, `create`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A data set is missing, damaged or of another layout.
    #[error("{path}: {problem}")]
    Data {
        /// The file or directory.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
        /// How to mend it.
        hint: String,
    },
    /// A checkpoint or feature file is missing, damaged, or does not belong here.
    #[error("{path}: {problem}")]
    Checkpoint {
        /// The file or directory.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
        /// How to mend it.
        hint: String,
    },
    /// A download failed or delivered something else than was asked for.
    #[error("{url}: {problem}")]
    Download {
        /// Where from.
        url: String,
        /// What happened.
        problem: String,
        /// How to mend it.
        hint: String,
    },
    /// An output that must not be written over is already there.
    #[error("{path} already holds results")]
    OutputExists {
        /// The file or directory.
        path: PathBuf,
    },
    /// Another process writes to the run.
    #[error("{path} is in use by another rotnet process ({owner})")]
    RunInUse {
        /// The run directory.
        path: PathBuf,
        /// The number of that process.
        owner: String,
    },
    /// The device named is not in this build or on this machine.
    #[error("device `{device}` cannot be used: {problem}")]
    Device {
        /// The device as named by the user.
        device: String,
        /// Why not.
        problem: String,
        /// How to mend it.
        hint: String,
    },
    /// A device failed in the middle of the work.
    #[error("lost in the middle of the work ({devices}): {problem}")]
    DeviceLost {
        /// Those at work, apart from this process's own processors.
        devices: String,
        /// The first thing that went wrong.
        problem: String,
    },
    /// The work was asked to end; [`Reporter::stop`](crate::progress::Reporter::stop) said so.
    #[error("{stage}: stopped by {stop} {state}")]
    Stopped {
        /// The stage that was at work.
        stage: &'static str,
        /// Who asked.
        stop: Stop,
        /// How far it came, and what of it is saved.
        state: String,
    },
    /// The work needs more memory than it may take.
    #[error("{what}: needs {:.1} GB of memory, the limit here is {:.1} GB", giga(*needed), giga(*limit))]
    Memory {
        /// The work.
        what: String,
        /// Bytes it would take at its peak.
        needed: u64,
        /// Bytes it may take.
        limit: u64,
        /// How to do with less.
        hint: String,
    },
    /// A result did not come out the same again.
    #[error("{problem}")]
    Verification {
        /// Which one, and in which comparison.
        problem: String,
        /// What that means.
        hint: String,
    },
    /// Training produced a loss that is not a number.
    #[error("{stage}: the loss became {loss} in epoch {epoch}, step {step} (learning rate {learning_rate})")]
    Diverged {
        /// The stage that was training.
        stage: &'static str,
        /// The loss as read.
        loss: f64,
        /// Epoch, counted from 1.
        epoch: usize,
        /// Step within the epoch, counted from 1.
        step: usize,
        /// Learning rate of that step.
        learning_rate: f64,
    },
    /// Training produced a parameter that is not a number, from a loss that still was one.
    #[error(
        "{stage}: parameter {parameter} is no longer finite after step {step} (learning rate {learning_rate}); \
         the checkpoint before it is kept"
    )]
    NotFinite {
        /// The stage that was training.
        stage: &'static str,
        /// The first such parameter.
        parameter: String,
        /// Steps made in all.
        step: u64,
        /// Learning rate of the next step.
        learning_rate: f64,
    },
}

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An [`Error::Io`] for `map_err`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// An [`Error::Config`].
    pub fn config(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { path: path.into(), problem: problem.into() }
    }

    /// An [`Error::Data`].
    pub fn data(path: impl AsRef<Path>, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_path_buf(), problem: problem.into(), hint: hint.into() }
    }

    /// An [`Error::Checkpoint`].
    pub fn checkpoint(path: impl AsRef<Path>, problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.as_ref().to_path_buf(), problem: problem.into(), hint: hint.into() }
    }

    /// What the user can do about it, as something to type where there is one.
    pub fn hint(&self) -> String {
        match self {
            Self::Config { .. } => "see `rotnet config schema`".into(),
            Self::Io { source, .. } => io_hint(source.kind()).into(),
            Self::OutputExists { .. } => "name another place, or write over it with --force".into(),
            Self::RunInUse { .. } => "wait until it has ended, or name another directory with --out".into(),
            Self::Stopped { .. } => "go on with --resume".into(),
            Self::DeviceLost { .. } => {
                "the last checkpoint stands; go on with --resume, on other devices too".into()
            }
            Self::Diverged { .. } | Self::NotFinite { .. } => {
                "lower the learning rate, or scale the pixels (data.scale_pixels)".into()
            }
            Self::Usage { hint, .. }
            | Self::Data { hint, .. }
            | Self::Checkpoint { hint, .. }
            | Self::Download { hint, .. }
            | Self::Device { hint, .. }
            | Self::Memory { hint, .. }
            | Self::Verification { hint, .. } => hint.clone(),
        }
    }

    /// Exit status of the program: 2 for usage and config, 130 and 143 for signals, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } | Self::Usage { .. } => 2,
            Self::Stopped { stop, .. } => stop.exit_code(),
            _ => 1,
        }
    }
}

fn giga(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn io_hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::NotADirectory => "name another place",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "check the permissions, or name another place"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room, then run again; --resume goes on with a run"
        }
        _ => "check the path and the disk",
    }
}
