//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{Error, Result};

/// Writes a file beside `path`, flushes it to the disk and renames it: whoever reads `path` finds the old content or the new.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let attempt = || {
        let file = File::create(&partial).map_err(Error::io(&partial))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        file.flush().map_err(Error::io(&partial))?;
        file.get_ref().sync_all().map_err(Error::io(&partial))?;
        std::fs::rename(&partial, path).map_err(Error::io(path))
    };
    let result = attempt();
    if result.is_err() {
        // The original error matters more than a left-over file.
        let _ = std::fs::remove_file(&partial);
    }
    result
}
