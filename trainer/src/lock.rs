//! One process a folder.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Locks `folder` for this process; none where another process holds it. The lock goes with the file, and the file with
/// the process, however it ends.
pub(crate) fn exclusive(folder: &Path) -> io::Result<Option<File>> {
    let file = File::create(folder.join(".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        // A file system without locks: nothing to hold.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Some(file)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
