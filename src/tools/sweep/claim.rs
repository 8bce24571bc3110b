//! Who does which piece of a sweep, where several processes share its directory: a file for each piece that is being
//! done, created by the one process that does it.
//!
//! A process that was killed leaves its claim behind. On the same machine the lock on the file tells, which the system
//! releases with the process; on another machine the owner's heartbeat: the file changes every few seconds while the
//! owner lives. No clocks of two machines are compared. A claim that is taken over by mistake does no harm: the same
//! piece gives the same bytes.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::files::create_directory;

/// Time between two heartbeats.
const BEAT: Duration = Duration::from_secs(5);
/// A claim of another machine that has not changed for so long is taken over: a dozen heartbeats.
const STALE: Duration = Duration::from_secs(60);

/// The claims in the directory of a sweep.
pub(super) struct Claims {
    directory: PathBuf,
    stale: Duration,
    /// What other claims said, and since when.
    seen: HashMap<PathBuf, (String, Instant)>,
}

/// A piece that this process does, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    owner: String,
    alive: Option<(mpsc::Sender<()>, thread::JoinHandle<()>)>,
    /// Locked, for other processes of this machine.
    _file: File,
}

impl Claims {
    pub(super) fn new(sweep: &Path) -> Self {
        Self { directory: sweep.join("claims"), stale: STALE, seen: HashMap::new() }
    }

    /// Claims a piece; nothing if another process has it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn take(&mut self, piece: &str) -> Result<Option<Claim>> {
        create_directory(&self.directory)?;
        let path = self.directory.join(piece.replace(['/', '\\'], "-"));
        if let Some(claim) = Claim::create(&path)? {
            return Ok(Some(claim));
        }
        let Ok(said) = fs::read_to_string(&path) else { return Ok(None) };
        if !self.is_abandoned(&path, &said) {
            return Ok(None);
        }
        bury(&path, &said)?;
        Claim::create(&path)
    }

    fn is_abandoned(&mut self, path: &Path, said: &str) -> bool {
        if said.split(' ').next() == Some(&machine()) {
            match File::open(path)
                .map(|file| file.try_lock().map_err(|error| matches!(error, TryLockError::WouldBlock)))
            {
                Ok(Ok(())) => return true,
                Ok(Err(true)) => return false,
                // No locks here: the heartbeat tells.
                Ok(Err(false)) | Err(_) => {}
            }
        }
        let (known, since) = self.seen.entry(path.to_path_buf()).or_insert((said.to_owned(), Instant::now()));
        if known != said {
            (*known, *since) = (said.to_owned(), Instant::now());
        }
        since.elapsed() >= self.stale
    }

    /// Removes claims of processes that are gone, and the directory if there are no others.
    pub(super) fn tidy(&mut self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().filter_map(Result::ok) {
            let path = entry.path();
            if fs::read_to_string(&path).is_ok_and(|said| self.is_abandoned(&path, &said)) {
                let _ = fs::remove_file(&path);
            }
        }
        let _ = fs::remove_dir(&self.directory);
    }
}

/// Takes away a claim that `said` this; one that another process made in the meantime is put back.
fn bury(path: &Path, said: &str) -> Result<()> {
    let tomb = path.with_extension(format!("{}.old", std::process::id()));
    match fs::rename(path, &tomb) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("remove", path)(error)),
    }
    if fs::read_to_string(&tomb).is_ok_and(|found| found != said) {
        let _ = fs::hard_link(&tomb, path);
    }
    fs::remove_file(&tomb).map_err(Error::io("remove", &tomb))
}

impl Claim {
    /// Creates the file of a claim; nothing if it is there.
    fn create(path: &Path) -> Result<Option<Self>> {
        let mut file = match File::options().read(true).write(true).create_new(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(Error::io("write", path)(error)),
        };
        // Locked before it says whose it is. Where there are no locks, heartbeats have to do.
        let _ = file.try_lock();
        let owner = format!("{} {}", machine(), std::process::id());
        let say = move |file: &mut File, owner: &str, beat: u64| {
            file.rewind().and_then(|()| write!(file, "{owner} {beat:020}")).and_then(|()| file.flush())
        };
        say(&mut file, &owner, 0).map_err(Error::io("write", path))?;
        let (sender, receiver) = mpsc::channel();
        let (mut beating, name) = (file.try_clone().map_err(Error::io("write", path))?, owner.clone());
        let beats = thread::spawn(move || {
            let mut beat = 0;
            while receiver.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                beat += 1;
                // The next one may succeed.
                let _ = say(&mut beating, &name, beat);
            }
        });
        Ok(Some(Self { path: path.to_path_buf(), owner, alive: Some((sender, beats)), _file: file }))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((sender, beats)) = self.alive.take() {
            drop(sender);
            let _ = beats.join();
        }
        if fs::read_to_string(&self.path).is_ok_and(|said| said.starts_with(&self.owner)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What tells this machine from others: locks work between processes that have it in common.
fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    boot.map_or_else(|_| format!("process-{}", std::process::id()), |boot| boot.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_claimed_once_and_free_again_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let [mut one, mut other] = [(); 2].map(|()| Claims::new(directory.path()));
        let claim = one.take("a/b").unwrap().unwrap();
        assert!(other.take("a/b").unwrap().is_none() && one.take("a/b").unwrap().is_none());
        assert!(other.take("c").unwrap().is_some());
        drop(claim);
        assert!(other.take("a/b").unwrap().is_some());
        other.tidy();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_claim_of_a_process_that_is_gone_is_taken_over_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut claims = Claims::new(directory.path());
        drop(claims.take("a").unwrap());
        let path = directory.path().join("claims/a");
        fs::write(&path, format!("{} 1 00000000000000000003", machine())).unwrap();
        let claim = claims.take("a").unwrap();
        assert!(claim.is_some());
        assert!(fs::read_to_string(&path).unwrap().starts_with(&claim.unwrap().owner));
    }

    #[test]
    fn the_claim_of_another_machine_is_taken_over_when_its_heart_has_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let mut claims = Claims::new(directory.path());
        drop(claims.take("a").unwrap());
        let path = directory.path().join("claims/a");
        let beat = |count: u32| fs::write(&path, format!("elsewhere 1 {count:020}")).unwrap();
        beat(1);
        assert!(claims.take("a").unwrap().is_none());
        claims.stale = Duration::ZERO;
        beat(2);
        // Another beat is life; the same again is not.
        claims.stale = Duration::from_secs(3_600);
        assert!(claims.take("a").unwrap().is_none());
        claims.stale = Duration::ZERO;
        assert!(claims.take("a").unwrap().is_some());
    }

    #[test]
    fn a_claim_that_another_process_made_in_the_meantime_is_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "new").unwrap();
        bury(&path, "old").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        bury(&path, "new").unwrap();
        assert!(!path.exists());
        bury(&path, "new").unwrap();
    }
}
