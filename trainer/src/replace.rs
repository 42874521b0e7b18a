//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes a file beside `path`, flushes it to the disk and renames it: whoever reads `path` finds the old content or
/// the new. `failed` makes the caller's error of what the file system says.
pub(crate) fn replace<E>(
    path: &Path,
    failed: impl Fn(io::Error) -> E,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let attempt = || {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&partial).map_err(&failed)?);
        write(&mut file)?;
        file.flush().and_then(|()| file.get_ref().sync_all()).map_err(&failed)?;
        std::fs::rename(&partial, path).and_then(|()| sync_folder(path)).map_err(&failed)
    };
    let result = attempt();
    if result.is_err() {
        // The original error matters more than a left-over file.
        let _ = std::fs::remove_file(&partial);
    }
    result
}

/// [`replace`] by bytes that are at hand.
pub(crate) fn replace_with(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |error| error, |file| file.write_all(bytes))
}

/// [`replace`] by the bytes of another file.
pub(crate) fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    replace(to, |error| error, |file| io::copy(&mut File::open(from)?, file).map(|_| ()))
}

/// A name is on the disk only when its folder is. Windows cannot open folders as files.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !cfg!(windows) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_keeps_the_old_content_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace_with(&path, b"old").unwrap();
        let broken = replace(
            &path,
            |error| error,
            |file| {
                file.write_all(b"half")?;
                Err(io::Error::other("the disk is full"))
            },
        );
        assert_eq!(broken.unwrap_err().to_string(), "the disk is full");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        replace_with(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
