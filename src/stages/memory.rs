//! Limit for work that keeps everything in memory.

use crate::device::environment::memory;
use crate::error::{Error, Result};
use crate::progress::{Event, Reporter};

/// Assumed memory if the system does not report it: that of a small laptop.
const UNKNOWN: u64 = 8 << 30;

/// Reports the peak memory of work, and refuses more than three quarters of the machine's memory: the rest is for the
/// system and its file cache.
///
/// # Errors
/// [`Error::Memory`], with `hint`.
pub(super) fn require(what: &str, needed: u64, hint: &str, reporter: &mut dyn Reporter) -> Result<()> {
    require_within(what, needed, memory().unwrap_or(UNKNOWN) / 4 * 3, hint)?;
    reporter.report(Event::Note(&format!("{what}: takes about {:.2} GB of memory", needed as f64 / 1e9)));
    Ok(())
}

fn require_within(what: &str, needed: u64, limit: u64, hint: &str) -> Result<()> {
    if needed <= limit {
        return Ok(());
    }
    Err(Error::Memory { what: what.into(), needed, limit, hint: hint.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_limit_is_refused_with_both_numbers_and_a_way_out() {
        require_within("ridge", 5_000_000_000, 5_000_000_000, "").unwrap();
        let error = require_within("ridge", 5_100_000_000, 5_000_000_000, "take fewer images").unwrap_err();
        assert_eq!(error.to_string(), "ridge: needs 5.1 GB of memory, the limit here is 5.0 GB");
        assert_eq!((error.hint().as_str(), error.exit_code()), ("take fewer images", 1));
        let total = memory().unwrap_or(UNKNOWN);
        assert!(total > 100_000_000, "{total}");
    }
}
