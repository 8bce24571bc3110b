//! Processes that `mpirun` or `srun` started together: they share the work of the pipeline's commands, and the first one
//! alone writes and shows anything.

use std::fmt::Display;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::arguments::Command;
use crate::error::{Error, Result};
use crate::ranks::{Alone, Ranks, launched};

static WORLD: OnceLock<Arc<dyn Ranks>> = OnceLock::new();

/// How long the others leave it to the first one to say what is wrong.
const PATIENCE: Duration = Duration::from_secs(3);

/// Those that share the work of this command.
pub(super) fn world() -> Arc<dyn Ranks> {
    WORLD.get().cloned().unwrap_or_else(|| Arc::new(Alone))
}

/// Whether this process writes and shows anything.
pub(super) fn leads() -> bool {
    world().rank() == 0
}

/// Joins the processes that were started together, if the command is one that they share; each does any other by itself.
///
/// # Errors
/// [`Error::Usage`] if this program cannot share work, or the others are not the same.
pub(super) fn join(command: &Command) -> Result<()> {
    let shared = matches!(
        command,
        Command::Run(_) | Command::Pretrain(_) | Command::Extract(_) | Command::Finetune(_)
    );
    let [rank, size] = launched();
    if size == 1 || !shared {
        return Ok(());
    }
    let ranks = connect(size).and_then(|ranks| all_there(ranks, size)).inspect_err(|error| {
        // The first one says it.
        if rank > 0 {
            std::process::exit(error.exit_code().into());
        }
    })?;
    WORLD.get_or_init(|| Arc::clone(&ranks));
    same_program(&*ranks)
}

#[cfg(feature = "mpi")]
fn connect(_: usize) -> Result<Arc<dyn Ranks>> {
    crate::ranks::mpi::join()
}

#[cfg(not(feature = "mpi"))]
fn connect(size: usize) -> Result<Arc<dyn Ranks>> {
    Err(Error::Usage {
        problem: format!(
            "started {size} times, and built without the feature `mpi`, with which processes share the work"
        ),
        hint: "build it with `--features mpi`, or start it once".into(),
    })
}

/// Refuses a launcher that does not speak the language of the MPI library: each process would believe to be alone.
fn all_there(ranks: Arc<dyn Ranks>, size: usize) -> Result<Arc<dyn Ranks>> {
    match ranks.size() == size {
        true => Ok(ranks),
        false => Err(Error::Usage {
            problem: format!("started {size} times, but MPI finds {} of them", ranks.size()),
            hint: "start it with the mpirun of the MPI library that it was built with, or tell srun which one that is \
                   (--mpi=pmix; `srun --mpi=list`)"
                .into(),
        }),
    }
}

/// Refuses processes of other programs or command lines. Programs for other processors have other bytes.
fn same_program(ranks: &dyn Ranks) -> Result<()> {
    use crate::device::environment::{Source, VERSION};
    use crate::files::{sha256, sha256_file};
    let program = format!("{VERSION} {:?}", Source::of_this_program());
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    crate::ranks::agree(
        ranks,
        &[("program", program.into_bytes()), ("command line", format!("{arguments:?}").into_bytes())],
    )?;
    let processors = ranks.gather(sha256(std::env::consts::ARCH.as_bytes()).as_bytes());
    if processors.iter().any(|processor| *processor != processors[0]) {
        return Ok(());
    }
    let path = std::env::current_exe().map_err(Error::io("read", "the program's own file"))?;
    crate::ranks::agree(ranks, &[("program", sha256_file(&path)?.into_bytes())])
}

/// Threads of this process, if its options do not say how many. Of several ranks: all processors it may use, or its share of
/// them where it is bound to none, as the others on this machine are not either; else 0, which leaves it to rayon.
pub(super) fn threads() -> usize {
    if world().size() == 1 || std::env::var_os("RAYON_NUM_THREADS").is_some() {
        return 0;
    }
    let usable = std::thread::available_parallelism().map_or(1, usize::from);
    let [_, ranks] = world().local();
    let all = crate::device::environment::processors().unwrap_or(usable);
    if usable < all { usable } else { (usable / ranks).max(1) }
}

/// Shows why this process ends: those that fail in the same way leave it to the first one.
pub(super) fn complain(text: impl Display, stopped: bool) {
    match world().rank() {
        0 => eprintln!("{text}"),
        _ if stopped => {}
        rank => {
            std::thread::sleep(PATIENCE);
            eprintln!("rank {rank}: {text}");
        }
    }
}

/// Ends this process, if others share its work: `together` with them, when all are done or stopped, else all at once.
pub(super) fn leave(status: u8, together: bool) {
    if WORLD.get().is_none() {
        return;
    }
    if !together {
        world().abort(status);
    }
    #[cfg(feature = "mpi")]
    crate::ranks::mpi::leave(status);
}
