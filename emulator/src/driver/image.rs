//! Takes a module image from an address of which nothing is known, not even how many bytes lie there.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::fatbin::{MAX_TEXT, WRAPPER_MAGIC, declared_size};

/// Bytes of the descriptor around a fat binary: magic, version, pointer to the binary.
const WRAPPER: usize = 16;
const PAGE: usize = 4096;

/// The image at `address`: a fat binary of the size its header declares, or text up to its NUL. A descriptor is
/// followed to its binary.
///
/// The driver API is not told a length, and a header may lie about it. So the bytes are read through the operating
/// system, which refuses pages that do not exist instead of ending the process; a cut image comes back short.
pub(crate) fn read(address: usize) -> std::io::Result<Vec<u8>> {
    let memory = File::open("/proc/self/mem")?;
    let mut opening = read_up_to(&memory, address, WRAPPER)?;
    let mut start = address;
    if opening.len() == WRAPPER && opening[..4] == WRAPPER_MAGIC.to_le_bytes() {
        let mut pointer = [0; 8];
        pointer.copy_from_slice(&opening[8..16]);
        start = usize::from_le_bytes(pointer);
        opening = read_up_to(&memory, start, WRAPPER)?;
    }
    match declared_size(&opening) {
        Some(size) => read_up_to(&memory, start, size.min(MAX_TEXT)),
        None => read_text(&memory, start),
    }
}

/// At most `size` bytes: fewer where the readable memory ends before.
fn read_up_to(memory: &File, start: usize, size: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < size {
        let mut page = [0; PAGE];
        let at = start.saturating_add(bytes.len());
        let wanted = (PAGE - at % PAGE).min(size - bytes.len());
        match memory.read_at(&mut page[..wanted], at as u64) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&page[..read]),
            Err(error) if bytes.is_empty() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(bytes)
}

/// Everything before the first NUL.
fn read_text(memory: &File, start: usize) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() <= MAX_TEXT {
        let at = start.saturating_add(text.len());
        let page = match read_up_to(memory, at, PAGE - at % PAGE) {
            Ok(page) => page,
            Err(error) if text.is_empty() => return Err(error),
            Err(_) => break,
        };
        let end = page.iter().position(|&byte| byte == 0);
        text.extend_from_slice(&page[..end.unwrap_or(page.len())]);
        if end.is_some() || page.is_empty() {
            break;
        }
    }
    Ok(text)
}
