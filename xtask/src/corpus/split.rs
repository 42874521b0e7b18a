//! Training and validation apart, without leaks.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

/// Longer documents are cut to this, in bytes.
const LONGEST: usize = 64 << 10;
/// Shorter documents are left out, in bytes.
const SHORTEST: usize = 80;
/// Text that stands in training is found by windows of so many bytes.
const WINDOW: usize = 48;
/// Windows of a validation document are looked up at every so many bytes.
const STRIDE: usize = 8;
/// Validation documents with a larger share of such windows are dropped.
const MOST: f64 = 0.25;

/// One document.
pub struct Document {
    /// Unique name, `domain/…`.
    pub id: String,
    /// Its domain.
    pub domain: &'static str,
    /// Its text.
    pub text: String,
}

/// The two sides.
#[derive(Default)]
pub struct Parts {
    /// To train on.
    pub train: Vec<Document>,
    /// To validate on.
    pub valid: Vec<Document>,
    /// Share of the validation windows that training has, before documents were dropped for it.
    pub overlap_before: f64,
    /// The same of the documents that are left.
    pub overlap: f64,
}

/// One document in so many is held out.
fn one_in(domain: &str) -> u8 {
    match domain {
        "legal_en" => 6,
        "code_python" | "code_rust" | "drama_en" => 12,
        _ => 20,
    }
}

/// Cuts, drops duplicates, holds out by the hash of the text, and keeps at most `cap` bytes to train on, chosen by the hash of the
/// documents' names.
pub fn split(domain: &str, mut documents: Vec<Document>, cap: usize) -> Parts {
    documents.sort_by_cached_key(|document| (Sha256::digest(&document.id), document.id.clone()));
    let mut seen = HashSet::new();
    let (mut parts, mut held_out) = (Parts::default(), Vec::new());
    let (mut train_bytes, mut valid_bytes) = (0, 0);
    for mut document in documents {
        let mut end = document.text.len().min(LONGEST);
        while !document.text.is_char_boundary(end) {
            end -= 1;
        }
        document.text.truncate(end);
        let hash = Sha256::digest(&document.text);
        if document.text.len() < SHORTEST || !seen.insert(hash) {
            continue;
        }
        // A share of validation text that goes with the cap.
        let (side, bytes, most) = if hash[0] as u16 * u16::from(one_in(domain)) < 256 {
            (&mut held_out, &mut valid_bytes, cap / usize::from(one_in(domain)))
        } else {
            (&mut parts.train, &mut train_bytes, cap)
        };
        if *bytes + document.text.len() <= most {
            *bytes += document.text.len();
            side.push(document);
        }
    }
    let mut windows = HashSet::new();
    for document in &parts.train {
        windows.extend(hashes(document.text.as_bytes()));
    }
    let (mut before, mut after) = ((0, 0), (0, 0));
    for document in held_out {
        let mut counts = (0, 0);
        for hash in hashes(document.text.as_bytes()).step_by(STRIDE) {
            counts.0 += usize::from(windows.contains(&hash));
            counts.1 += 1;
        }
        before = (before.0 + counts.0, before.1 + counts.1);
        if counts.0 as f64 <= MOST * counts.1 as f64 {
            after = (after.0 + counts.0, after.1 + counts.1);
            parts.valid.push(document);
        }
    }
    let share = |counts: (usize, usize)| counts.0 as f64 / counts.1.max(1) as f64;
    (parts.overlap_before, parts.overlap) = (share(before), share(after));
    parts
}

/// A rolling hash of every window of `text`.
fn hashes(text: &[u8]) -> impl Iterator<Item = u64> + '_ {
    const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
    let first = text.get(..WINDOW).unwrap_or_default();
    let mut hash = first.iter().fold(0u64, |hash, &byte| roll(hash, byte));
    fn roll(hash: u64, byte: u8) -> u64 {
        hash.wrapping_mul(BASE).wrapping_add(u64::from(byte) + 1)
    }
    let gone = (0..WINDOW).fold(1u64, |power, _| power.wrapping_mul(BASE));
    text.windows(WINDOW).enumerate().map(move |(start, window)| {
        if start > 0 {
            let left = u64::from(text[start - 1]) + 1;
            hash = roll(hash, window[WINDOW - 1]).wrapping_sub(left.wrapping_mul(gone));
        }
        // The low bits of such a hash are weak.
        hash ^ (hash >> 32)
    })
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_windows_have_equal_hashes_wherever_they_are() {
        let text: Vec<u8> = (0..300u32).map(|i| (i * i % 251) as u8).collect();
        let shifted = [b"prefix".as_slice(), &text].concat();
        let (a, b): (Vec<u64>, Vec<u64>) = (hashes(&text).collect(), hashes(&shifted).collect());
        assert_eq!(a, b[6..]);
        assert_eq!(hashes(b"short").count(), 0);
        let unique: HashSet<u64> = a.iter().copied().collect();
        assert!(unique.len() > 200);
    }

    #[test]
    fn leaks_are_dropped_and_sides_are_apart() {
        let document = |index: usize| Document {
            id: format!("d/{index}"),
            domain: "d",
            // Every third document repeats a long passage of another.
            text: format!("{index} ").repeat(20) + &format!("passage {} ", index / 3).repeat(60),
        };
        let parts = split("d", (0..2000).map(document).collect(), 1 << 30);
        assert!(
            parts.overlap_before > 0.5 && parts.overlap < 0.25,
            "{} {}",
            parts.overlap_before,
            parts.overlap
        );
        let train: HashSet<&str> = parts.train.iter().map(|document| &*document.text).collect();
        assert!(parts.valid.iter().all(|document| !train.contains(&*document.text)));
        assert!(parts.train.len() > 1700);
    }
}
