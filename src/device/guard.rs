//! Panics of devices as errors.
//!
//! burn reports a lost connection, a missing driver or a graphics card out of memory by a panic, often on a thread of
//! its own with the reason and then on the caller's without it.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use super::DeviceName;
use crate::error::{Error, Result};

/// Does `work`, which uses `devices`. If one of them is not this process's own processors, a panic becomes an error and
/// is not printed.
///
/// # Errors
/// Those of `work`; [`Error::DeviceLost`] with the first panic's message.
pub fn guarded<T>(devices: &[DeviceName], work: impl FnOnce() -> Result<T>) -> Result<T> {
    if devices.iter().all(DeviceName::is_local_cpu) {
        return work();
    }
    catching(work).unwrap_or_else(|problem| {
        let devices = devices.iter().filter(|device| !device.is_local_cpu());
        let devices = devices.map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(Error::DeviceLost { devices, problem })
    })
}

type Recorder = Arc<Mutex<Option<String>>>;

/// Where panics are recorded; while there is a recorder, panics are not printed.
static RECORDERS: Mutex<Vec<Recorder>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

/// The result of `work`, or the message of the first panic on any thread while it ran.
pub(super) fn catching<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    HOOK.call_once(install_hook);
    let recorder = Recorder::default();
    lock(&RECORDERS).push(Arc::clone(&recorder));
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    // After a panic the recorder stays: other threads of the device may panic later.
    if outcome.is_ok() || cfg!(test) {
        lock(&RECORDERS).retain(|other| !Arc::ptr_eq(other, &recorder));
    }
    outcome.map_err(|_| lock(&recorder).take().unwrap_or_else(|| "no reason was given".into()))
}

fn install_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let recorders = lock(&RECORDERS);
        if recorders.is_empty() {
            drop(recorders);
            return previous(info);
        }
        let message = info.payload_as_str().unwrap_or("a panic without a message");
        let line = message.lines().next().unwrap_or_default().trim();
        recorders.iter().for_each(|recorder| {
            lock(recorder).get_or_insert_with(|| line.to_owned());
        });
    }));
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_panic_of_any_thread_is_the_reason() {
        let cuda: DeviceName = "cuda".parse().unwrap();
        let error = guarded::<()>(&[DeviceName::Flex, cuda], || {
            let runner = std::thread::spawn(|| panic!("no driver\nbacktrace"));
            runner.join().unwrap_or_else(|_| panic!("the runner is gone"));
            Ok(())
        });
        let message = error.unwrap_err().to_string();
        assert!(message.contains("cuda") && message.contains("no driver"), "{message}");
        assert!(!message.contains("flex") && !message.contains('\n'), "{message}");
    }
}
