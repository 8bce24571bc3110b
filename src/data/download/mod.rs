//! Downloads a file over HTTP, in as many attempts as the connection needs: what has arrived is kept and continued.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ureq::http::Response;
use ureq::{Agent, Body};

use crate::error::{Error, Result};
use crate::progress::{Event, Reporter, Unit};

/// Attempts before giving up.
const ATTEMPTS: u32 = 4;
/// Longest wait for a connection, and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest file accepted if its size is not known beforehand.
const LARGEST: u64 = 1 << 30;
const AGAIN: &str = "run the same command again: it continues the download";
const ELSEWHERE: &str = "check the address, or give another with --url, or a file with --archive";

/// What to download.
pub struct Download<'a> {
    /// The address, `http` or `https`.
    pub url: &'a str,
    /// Its size in bytes, if known.
    pub bytes: Option<u64>,
    /// Wait before the second attempt; doubled before each further one.
    pub pause: Duration,
}

/// Why an attempt did not finish.
enum Interruption {
    /// Another attempt may succeed.
    Passing(String),
    /// Another attempt would fail as well.
    Final(Error),
}

impl From<Error> for Interruption {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl Download<'_> {
    /// Downloads to `path`, continuing what is there; the caller must check the content.
    ///
    /// # Errors
    /// [`Error::Download`] if the server refuses or offers another size, or if the connection fails too often (what has
    /// arrived is kept for the next call); [`Error::Io`].
    pub fn to(&self, path: &Path, reporter: &mut dyn Reporter) -> Result<()> {
        let open = OpenOptions::new().create(true).append(true).open(path);
        let mut file = open.map_err(Error::io("write", path))?;
        if file.try_lock().is_err() {
            let problem = format!("{} is being written by another download", path.display());
            return Err(self.error(problem, "wait for it to finish"));
        }
        let agent = agent();
        for attempt in 1.. {
            match self.attempt(&agent, &mut file, path, reporter) {
                Ok(()) => break,
                Err(Interruption::Final(error)) => return Err(error),
                Err(Interruption::Passing(reason)) if attempt == ATTEMPTS => {
                    let arrived = length(&file, path)?;
                    let problem = format!("{reason}; {arrived} bytes have arrived after {ATTEMPTS} attempts");
                    return Err(self.error(problem, AGAIN));
                }
                Err(Interruption::Passing(reason)) => {
                    let warning = format!("{}: {reason}; trying again", self.url);
                    reporter.report(Event::Warning(&warning));
                    thread::sleep(self.pause * 2_u32.pow(attempt - 1));
                }
            }
        }
        file.sync_all().map_err(Error::io("write", path))
    }

    /// One request for what is missing, appended to `file`.
    fn attempt(
        &self,
        agent: &Agent,
        file: &mut File,
        path: &Path,
        reporter: &mut dyn Reporter,
    ) -> Result<(), Interruption> {
        let limit = self.bytes.unwrap_or(LARGEST);
        if length(file, path)? > limit {
            restart(file, path)?;
        }
        if self.bytes == Some(length(file, path)?) {
            return Ok(());
        }
        let body = self.request(agent, file, path)?;
        let mut arrived = length(file, path)?;
        let announced = body.content_length().map(|rest| arrived.saturating_add(rest));
        if let (Some(announced), Some(expected)) = (announced, self.bytes)
            && announced != expected
        {
            let problem = format!("the server offers {announced} bytes, expected {expected}");
            return Err(self.error(problem, ELSEWHERE).into());
        }
        let total = announced.or(self.bytes);
        reporter.report(Event::TaskStarted {
            label: "download",
            total: total.unwrap_or(0),
            unit: Unit::Bytes,
        });
        reporter.report(Event::TaskAdvanced(arrived));
        let received = self.receive(body, file, path, limit - arrived, reporter);
        reporter.report(Event::TaskFinished);
        arrived += received?;
        match total {
            Some(total) if arrived < total => {
                Err(Interruption::Passing(format!("the connection ended at byte {arrived} of {total}")))
            }
            _ => Ok(()),
        }
    }

    /// Requests what is missing; empties `file` if the server sends everything again.
    fn request(&self, agent: &Agent, file: &mut File, path: &Path) -> Result<Body, Interruption> {
        let arrived = length(file, path)?;
        let mut request = agent.get(self.url);
        if arrived > 0 {
            request = request.header("Range", format!("bytes={arrived}-"));
        }
        let response = request.call().map_err(|error| self.failed(error))?;
        let status = response.status().as_u16();
        let answer = || format!("the server answers with status {status}");
        match status {
            206 if first_byte(&response) == Some(arrived) => {}
            200 => restart(file, path)?,
            206 | 416 => {
                restart(file, path)?;
                let reason = "the server cannot continue the download";
                return Err(Interruption::Passing(reason.into()));
            }
            408 | 429 | 500.. => return Err(Interruption::Passing(answer())),
            _ => return Err(self.error(answer(), ELSEWHERE).into()),
        }
        Ok(response.into_body())
    }

    /// Appends the body, which must not be longer than `limit`, and returns its length.
    fn receive(
        &self,
        body: Body,
        file: &mut File,
        path: &Path,
        limit: u64,
        reporter: &mut dyn Reporter,
    ) -> Result<u64, Interruption> {
        let mut reader = body.into_reader();
        let mut buffer = vec![0; 1 << 16];
        let mut received = 0;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(received),
                Ok(count) => count,
                Err(error) => {
                    let reason = format!("the connection failed after {received} bytes ({error})");
                    return Err(Interruption::Passing(reason));
                }
            };
            received += count as u64;
            if received > limit {
                restart(file, path)?;
                return Err(self.error("the server sends more than expected".into(), ELSEWHERE).into());
            }
            file.write_all(&buffer[..count]).map_err(Error::io("write", path))?;
            reporter.report(Event::TaskAdvanced(count as u64));
        }
    }

    fn failed(&self, error: ureq::Error) -> Interruption {
        match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::RequireHttpsOnly(_) => {
                self.error(error.to_string(), ELSEWHERE).into()
            }
            _ => Interruption::Passing(error.to_string()),
        }
    }

    fn error(&self, problem: String, hint: &str) -> Error {
        Error::Download { url: self.url.to_owned(), problem, hint: hint.to_owned() }
    }
}

fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .timeout_per_read(Some(PATIENCE))
        .user_agent(concat!("rotnet/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

fn length(file: &File, path: &Path) -> Result<u64> {
    Ok(file.metadata().map_err(Error::io("read", path))?.len())
}

fn restart(file: &mut File, path: &Path) -> Result<()> {
    file.set_len(0).map_err(Error::io("write", path))
}

/// The first byte of `Content-Range: bytes FIRST-LAST/TOTAL` (RFC 9110, 14.4).
fn first_byte(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get("Content-Range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
pub(super) mod tests;
