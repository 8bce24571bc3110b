//! Folders that appear whole or not at all.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::error::{Error, Result};

/// A temporary folder beside the one that it is to become; removed if it never does.
pub struct Staging(TempDir);

impl Staging {
    /// A new folder in `parent`, which must exist.
    pub fn new(parent: &Path) -> Result<Self> {
        let builder = tempfile::Builder::new().prefix(".rotnet-").suffix(".tmp").tempdir_in(parent);
        builder.map(Self).map_err(Error::io("create", parent))
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Becomes `folder`; with `force` it replaces what is there, which is removed only once the new one stands.
    ///
    /// # Errors
    /// [`Error::OutputExists`] if it is there, and `force` is not set; [`Error::Io`].
    pub fn put(self, folder: &Path, force: bool) -> Result<()> {
        share(self.path()).map_err(Error::io("write", folder))?;
        let parent = folder.parent().unwrap_or(Path::new("."));
        let attic = Self::new(parent)?;
        let old = attic.path().join("old");
        let replaces = force && folder.exists();
        if replaces {
            fs::rename(folder, &old).map_err(Error::io("replace", folder))?;
        }
        match fs::rename(self.path(), folder) {
            Ok(()) => {
                drop(self.0.keep());
                Ok(())
            }
            Err(_) if !replaces && folder.exists() => Err(Error::OutputExists { path: folder.to_path_buf() }),
            Err(error) => {
                if replaces {
                    fs::rename(&old, folder).map_err(Error::io("restore", folder))?;
                }
                Err(Error::io("write", folder)(error))
            }
        }
    }
}

/// Temporary folders are private to their owner; data sets are for everybody.
#[cfg(unix)]
fn share(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn share(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_folder_is_replaced_and_nothing_else_is_left() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        for content in ["first", "second"] {
            let staging = Staging::new(parent.path()).unwrap();
            fs::write(staging.path().join("file"), content).unwrap();
            staging.put(&folder, true).unwrap();
            assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), content);
        }
        let unforced = Staging::new(parent.path()).unwrap().put(&folder, false);
        assert!(matches!(unforced, Err(Error::OutputExists { .. })));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
