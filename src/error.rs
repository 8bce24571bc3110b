//! The one error type: every variant says what failed, where, and (through [`Error::hint`]) what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::progress::Stop;

/// Every way in which a rotnet operation can fail.
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
        /// What to do about it.
        hint: String,
    },
    /// A checkpoint or feature file is missing, damaged, or does not belong here.
    #[error("{path}: {problem}")]
    Checkpoint {
        /// The file or directory.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// A download failed or delivered something other than what was asked for.
    #[error("{url}: {problem}")]
    Download {
        /// The address.
        url: String,
        /// What happened.
        problem: String,
        /// What to do about it.
        hint: String,
    },
    /// An output that must not be overwritten already exists.
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
        /// What to do about it.
        hint: String,
    },
    /// A device failed in the middle of the work.
    #[error("lost in the middle of the work ({devices}): {problem}")]
    DeviceLost {
        /// The devices in use, apart from this process's own processors.
        devices: String,
        /// The first thing that went wrong.
        problem: String,
    },
    /// The work was asked to stop; [`Reporter::stop`](crate::progress::Reporter::stop) said so.
    #[error("{stage}: stopped by {stop} {state}")]
    Stopped {
        /// The stage that was running.
        stage: &'static str,
        /// Who asked.
        stop: Stop,
        /// How far it got, and what is saved of it.
        state: String,
    },
    /// The work needs more memory than it may take.
    #[error("{what}: needs {:.1} GB of memory, the limit here is {:.1} GB", giga(*needed), giga(*limit))]
    Memory {
        /// The work.
        what: String,
        /// Bytes needed at the peak.
        needed: u64,
        /// The limit, in bytes.
        limit: u64,
        /// How to get by with less.
        hint: String,
    },
    /// Repeating a computation gave another result.
    #[error("{problem}")]
    Verification {
        /// Which result, and in which comparison.
        problem: String,
        /// What that means.
        hint: String,
    },
    /// Training produced a loss that is not finite.
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
    /// Training produced a parameter that is not finite, although the loss still was.
    #[error(
        "{stage}: parameter {parameter} is no longer finite after step {step} (learning rate {learning_rate}); \
         the checkpoint before it is kept"
    )]
    NotFinite {
        /// The stage that was training.
        stage: &'static str,
        /// The first such parameter.
        parameter: String,
        /// Steps made in total.
        step: u64,
        /// Learning rate of the next step.
        learning_rate: f64,
    },
}

/// Result with this error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an [`Error::Io`], for `map_err`.
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

    /// What the user can do about it, if possible as something to type.
    pub fn hint(&self) -> String {
        match self {
            Self::Config { .. } => "see `rotnet config schema`".into(),
            Self::Io { source, .. } => io_hint(source.kind()).into(),
            Self::OutputExists { .. } => "choose another path, or overwrite it with --force".into(),
            Self::RunInUse { .. } => "wait until it ends, or choose another directory with --out".into(),
            Self::Stopped { .. } => "continue with --resume".into(),
            Self::DeviceLost { .. } => {
                "the last checkpoint is intact; continue with --resume, on other devices if need be".into()
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
        io::ErrorKind::NotADirectory => "choose another path",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "check the permissions, or choose another path"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "make room, then run again; --resume continues a run"
        }
        _ => "check the path and the disk",
    }
}
