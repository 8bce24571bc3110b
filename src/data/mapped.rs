//! Files mapped into memory, which the system reads when their bytes are looked at: the one `unsafe` outside the kernels.

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use crate::error::{Error, Result};

/// Maps a whole file that is never written to again: one of those that [`crate::files::write_atomically`] puts in
/// place by a rename, and that are only ever replaced by another rename or removed.
///
/// # Errors
/// [`Error::Io`] if it cannot be opened or mapped.
#[allow(unsafe_code)]
pub fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    // SAFETY: the bytes must not change while they are borrowed. Nothing in this program writes to such a file
    // once it has its name (see above), replacing or removing it leaves this mapping on the old file, and the map
    // is read-only. What remains is another program that writes into the file in place: shortening it would end the
    // process with SIGBUS, changing it would give other pixels than those whose digest was checked.
    unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))
}
