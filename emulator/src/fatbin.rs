//! Finds the PTX text in what a program hands to `cuModuleLoadData`: PTX text itself or a fat binary.
//!
//! A fat binary (`nvcc -fatbin`) is a 16-byte header followed by entries, each a header and a payload. Layout, all
//! integers little-endian, as observed from nvcc 13.0:
//!
//! | at | header | | at | entry |
//! |---|---|---|---|---|
//! | 0 | u32 magic `0xBA55ED50` | | 0 | u16 kind: 1 PTX, 2 machine code |
//! | 4 | u16 version, 1 | | 4 | u32 size of this entry's header |
//! | 6 | u16 size of this header | | 8 | u64 size of the payload with its padding |
//! | 8 | u64 bytes that follow it | | 16 | u32 size of the payload where compressed |
//! | | | | 28 | u32 compute capability, 80 for 8.0 |
//! | | | | 40 | u64 flags: `0x2000` LZ4, `0x8000` Zstandard |
//! | | | | 56 | u64 size of the text where compressed |
//!
//! Every size is checked against the bytes at hand, so a hostile image gives an error and nothing else.

use std::fmt;
use std::io::Read;

/// First four bytes of a fat binary.
pub const MAGIC: u32 = 0xBA55_ED50;
/// First four bytes of the descriptor that the CUDA runtime wraps around a fat binary: the same word, a version, and
/// a pointer to the binary.
pub const WRAPPER_MAGIC: u32 = 0x4662_43B1;
/// No PTX text may be longer than this many bytes, whatever a header claims.
pub const MAX_TEXT: usize = 256 << 20;

const ELF_MAGIC: [u8; 4] = *b"\x7fELF";
const KIND_PTX: u16 = 1;
const LZ4: u64 = 0x2000;
const ZSTANDARD: u64 = 0x8000;

/// Why no PTX could be taken from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImageError {
    /// The image ends before something its headers announce; the text says what.
    Truncated(&'static str),
    /// The image is machine code only: a cubin, which this device cannot execute.
    MachineCode,
    /// The fat binary holds no PTX of this capability (80 for 8.0) or lower; the second field lists the PTX it has.
    NoPtx(u32, Vec<u32>),
    /// A compressed entry does not unpack; the text says why.
    Compression(String),
    /// The text is not PTX: not UTF-8, or without the `.version` that every PTX file opens with.
    NotPtx,
    /// The text is longer than [`MAX_TEXT`].
    TooLarge,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated(what) => write!(f, "the image ends before its {what}"),
            Self::MachineCode => write!(
                f,
                "the image is machine code for a real GPU; the emulator executes PTX (add `code=compute_80` to -gencode)"
            ),
            Self::NoPtx(device, found) => write!(
                f,
                "the fat binary has no PTX that a device of capability {}.{} can use (PTX found for: {found:?}); \
                 add `-gencode arch=compute_{device},code=compute_{device}`",
                device / 10,
                device % 10
            ),
            Self::Compression(why) => write!(f, "a compressed entry does not unpack: {why}"),
            Self::NotPtx => write!(f, "the image is neither a fat binary nor PTX text"),
            Self::TooLarge => write!(f, "the PTX text is longer than {MAX_TEXT} bytes"),
        }
    }
}

impl std::error::Error for ImageError {}

/// The PTX text in `image` (PTX text, with or without a NUL at its end, or a fat binary) that a device of
/// `capability` (80 for 8.0) would compile: the entry of the highest capability not above its own.
///
/// Text in architecture-specific PTX (`sm_90a`) runs on that very capability only, so it is taken only when
/// `capability` equals it.
pub fn ptx_text(image: &[u8], capability: u32) -> Result<String, ImageError> {
    if image.starts_with(&ELF_MAGIC) {
        return Err(ImageError::MachineCode);
    }
    if u32_at(image, 0) != Some(MAGIC) {
        return checked_text(image);
    }
    let mut best: Option<(u32, String)> = None;
    let mut found = Vec::new();
    for entry in entries(image)? {
        if entry.kind != KIND_PTX {
            continue;
        }
        found.push(entry.capability);
        let better = best.as_ref().is_none_or(|(held, _)| entry.capability > *held);
        if entry.capability > capability || !better {
            continue;
        }
        let text = entry.text()?;
        if entry.capability == capability || !is_architecture_specific(&text) {
            best = Some((entry.capability, text));
        }
    }
    best.map(|(_, text)| text).ok_or(ImageError::NoPtx(capability, found))
}

/// The bytes that a fat binary occupies, from its first 16; `None` where they do not open one.
pub(crate) fn declared_size(header: &[u8]) -> Option<usize> {
    if u32_at(header, 0)? != MAGIC {
        return None;
    }
    usize::try_from(u64_at(header, 8)?).ok()?.checked_add(usize::from(u16_at(header, 6)?))
}

struct Entry<'a> {
    kind: u16,
    capability: u32,
    flags: u64,
    unpacked: usize,
    payload: &'a [u8],
}

fn entries(image: &[u8]) -> Result<Vec<Entry<'_>>, ImageError> {
    let end = declared_size(image).ok_or(ImageError::Truncated("header"))?;
    let body = image.get(..end).ok_or(ImageError::Truncated("last entry"))?;
    let mut rest = body.get(usize::from(u16_at(image, 6).unwrap_or(16))..).unwrap_or(&[]);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let entry = (|| {
            let header = usize::try_from(u32_at(rest, 4)?).ok()?;
            let padded = usize::try_from(u64_at(rest, 8)?).ok()?;
            // The fields read below end at byte 64; a shorter header would have the loop crawl or stand still.
            if header < 64 {
                return None;
            }
            let flags = u64_at(rest, 40)?;
            let stored = match flags & (LZ4 | ZSTANDARD) {
                0 => padded,
                _ => usize::try_from(u32_at(rest, 16)?).ok()?.min(padded),
            };
            let entry = Entry {
                kind: u16_at(rest, 0)?,
                capability: u32_at(rest, 28)?,
                flags,
                unpacked: usize::try_from(u64_at(rest, 56)?).ok()?,
                payload: rest.get(header..header.checked_add(stored)?)?,
            };
            Some((entry, rest.get(header.checked_add(padded)?..)?))
        })();
        let (entry, after) = entry.ok_or(ImageError::Truncated("last entry"))?;
        found.push(entry);
        rest = after;
    }
    Ok(found)
}

impl Entry<'_> {
    fn text(&self) -> Result<String, ImageError> {
        if self.unpacked > MAX_TEXT || self.payload.len() > MAX_TEXT {
            return Err(ImageError::TooLarge);
        }
        if self.flags & ZSTANDARD != 0 {
            return checked_text(&zstandard(self.payload, self.unpacked)?);
        }
        if self.flags & LZ4 != 0 {
            return checked_text(&lz4(self.payload, self.unpacked)?);
        }
        checked_text(self.payload)
    }
}

fn zstandard(packed: &[u8], size: usize) -> Result<Vec<u8>, ImageError> {
    let stream = ruzstd::decoding::StreamingDecoder::new(packed)
        .map_err(|e| ImageError::Compression(e.to_string()))?;
    let mut text = Vec::new();
    // Reads at most what the entry announced: a frame cannot make memory grow beyond it.
    stream.take(size as u64).read_to_end(&mut text).map_err(|e| ImageError::Compression(e.to_string()))?;
    Ok(text)
}

fn lz4(packed: &[u8], size: usize) -> Result<Vec<u8>, ImageError> {
    // LZ4 packs at most 255 to 1, so a larger claim is false and not worth its allocation.
    if size > packed.len().saturating_mul(255).saturating_add(64) {
        return Err(ImageError::Compression(format!("{} bytes cannot unpack to {size}", packed.len())));
    }
    lz4_flex::block::decompress(packed, size).map_err(|e| ImageError::Compression(e.to_string()))
}

fn checked_text(bytes: &[u8]) -> Result<String, ImageError> {
    if bytes.len() > MAX_TEXT {
        return Err(ImageError::TooLarge);
    }
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| ImageError::NotPtx)?;
    if !text.contains(".version") {
        return Err(ImageError::NotPtx);
    }
    Ok(text.to_owned())
}

/// `.target sm_90a` and `.target sm_100f` name one architecture or family; `.target sm_90` also what follows.
fn is_architecture_specific(text: &str) -> bool {
    text.lines()
        .find_map(|line| line.trim_start().strip_prefix(".target"))
        .and_then(|rest| rest.trim().split(',').next())
        .is_some_and(|target| target.trim_end().ends_with(['a', 'f']))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}
