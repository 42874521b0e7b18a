//! Small files, read whole: never more than a bound, whatever a path turns out to be.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Larger files are no configurations, manifests or tables; the largest published tokenizers have some 35 MB.
pub(crate) const MOST: u64 = 1 << 28;

/// The bytes of `path`; an error beyond [`MOST`], also where the file does not say its length (a device, a pipe).
pub(crate) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(length.min(MOST) as usize);
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST {
        let message = format!("expected at most {} MiB, found more; is it the right file?", MOST >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// [`bytes`] as text.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    String::from_utf8(bytes(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_file_without_an_end_is_refused() {
        let error = bytes(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("at most 256 MiB"), "{error}");
    }

    #[test]
    fn text_must_be_utf_8() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [0xff]).unwrap();
        assert!(text(&path).is_err());
        std::fs::write(&path, "größer").unwrap();
        assert_eq!(text(&path).unwrap(), "größer");
    }
}
