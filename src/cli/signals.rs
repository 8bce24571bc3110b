//! SIGINT and SIGTERM: the first asks for an end after the current step, the second ends at once. SIGUSR1, which Slurm sends
//! some time before a job's end, asks for it as well.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(unix)]
use signal_hook::consts::SIGUSR1;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};
use crate::progress::{Event, Reporter, Stop};

/// Forwards events, and asks to stop once a signal has arrived.
pub(super) struct Stoppable {
    inner: Box<dyn Reporter>,
    signal: Arc<AtomicUsize>,
}

impl Stoppable {
    /// Installs the signal handlers.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses.
    pub(super) fn new(inner: Box<dyn Reporter>) -> Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        register(&signal).map_err(Error::io("listen to", "SIGINT, SIGTERM and SIGUSR1"))?;
        Ok(Self { inner, signal })
    }
}

/// Actions of a signal run in the order of registration: the first signal finds `pending` unset and sets it.
fn register(signal: &Arc<AtomicUsize>) -> io::Result<()> {
    let pending = Arc::new(AtomicBool::new(false));
    for (number, stop) in [(SIGINT, Stop::Interrupt), (SIGTERM, Stop::Terminate)] {
        let code = i32::from(stop.exit_code());
        flag::register_conditional_shutdown(number, code, pending.clone())?;
        flag::register(number, pending.clone())?;
        flag::register_usize(number, signal.clone(), number as usize)?;
    }
    #[cfg(unix)]
    flag::register_usize(SIGUSR1, signal.clone(), SIGUSR1 as usize)?;
    Ok(())
}

impl Reporter for Stoppable {
    fn report(&mut self, event: Event<'_>) {
        self.inner.report(event);
    }

    fn shows_time(&self) -> bool {
        self.inner.shows_time()
    }

    fn stop(&self) -> Option<Stop> {
        match self.signal.load(Ordering::Relaxed) as i32 {
            SIGINT => Some(Stop::Interrupt),
            SIGTERM => Some(Stop::Terminate),
            #[cfg(unix)]
            SIGUSR1 => Some(Stop::Warning),
            _ => None,
        }
    }
}
