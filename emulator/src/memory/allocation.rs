//! One allocation: bytes and a flag a byte that says whether it was ever written.
//!
//! Blocks on several threads access the same memory, and a kernel may race. Every access is therefore a relaxed atomic of the access's own
//! size: a racing kernel gets one of the values that a device could give it, and the emulator itself has no data race.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Bytes of device memory with their `written` flags. Offsets are in bytes from the start.
#[derive(Debug)]
pub(crate) struct Allocation {
    start: u64,
    length: usize,
    constant: bool,
    /// Every byte was written: the flags need no look.
    complete: AtomicBool,
    data: Box<[AtomicU64]>,
    /// One byte a byte of data: 0 or 1.
    written: Box<[AtomicU64]>,
}

/// Gives the atomic of a width at a byte offset. The offset must be a multiple of the width.
macro_rules! atomic_at {
    ($name:ident, $atomic:ty) => {
        fn $name(words: &[AtomicU64], offset: usize) -> &$atomic {
            const WIDTH: usize = size_of::<$atomic>();
            assert!(offset.is_multiple_of(WIDTH) && offset + WIDTH <= words.len() * 8);
            // SAFETY: the range [offset, offset + WIDTH) lies inside `words` and is aligned, both asserted above; `words` starts at a
            // multiple of 8; the memory is only ever accessed through atomics, which have interior mutability; the borrow lives as
            // long as `words`.
            unsafe { &*words.as_ptr().cast::<u8>().add(offset).cast::<$atomic>() }
        }
    };
}
atomic_at!(at8, AtomicU8);
atomic_at!(at16, AtomicU16);
atomic_at!(at32, AtomicU32);
atomic_at!(at64, AtomicU64);

const ALL_WRITTEN: u64 = 0x0101_0101_0101_0101;

fn words(count: usize, value: u64) -> Option<Box<[AtomicU64]>> {
    let mut words = Vec::new();
    words.try_reserve_exact(count).ok()?;
    words.resize_with(count, || AtomicU64::new(value));
    Some(words.into_boxed_slice())
}

impl Allocation {
    /// `None` where the host has not so much memory.
    pub(super) fn new(start: u64, length: usize, constant: bool) -> Option<Self> {
        let count = length.div_ceil(8);
        Some(Self {
            start,
            length,
            constant,
            complete: AtomicBool::new(false),
            data: words(count, u64::MAX)?,
            written: words(count, 0)?,
        })
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_constant(&self) -> bool {
        self.constant
    }

    /// Whether every byte is known to be written, so that [`is_written`](Self::is_written) need not be asked.
    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Relaxed)
    }

    #[inline]
    pub(crate) fn load8(&self, offset: usize) -> u8 {
        at8(&self.data, offset).load(Relaxed)
    }

    #[inline]
    pub(crate) fn load16(&self, offset: usize) -> u16 {
        at16(&self.data, offset).load(Relaxed)
    }

    #[inline]
    pub(crate) fn load32(&self, offset: usize) -> u32 {
        at32(&self.data, offset).load(Relaxed)
    }

    #[inline]
    pub(crate) fn load64(&self, offset: usize) -> u64 {
        at64(&self.data, offset).load(Relaxed)
    }

    #[inline]
    pub(crate) fn store8(&self, offset: usize, value: u8) {
        at8(&self.data, offset).store(value, Relaxed);
        if !self.is_complete() {
            at8(&self.written, offset).store(1, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn store16(&self, offset: usize, value: u16) {
        at16(&self.data, offset).store(value, Relaxed);
        if !self.is_complete() {
            at16(&self.written, offset).store(ALL_WRITTEN as u16, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn store32(&self, offset: usize, value: u32) {
        at32(&self.data, offset).store(value, Relaxed);
        if !self.is_complete() {
            at32(&self.written, offset).store(ALL_WRITTEN as u32, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn store64(&self, offset: usize, value: u64) {
        at64(&self.data, offset).store(value, Relaxed);
        if !self.is_complete() {
            at64(&self.written, offset).store(ALL_WRITTEN, Relaxed);
        }
    }

    /// Replaces the 32-bit word at `offset` by `change` of it in one atomic step and returns the old word.
    #[inline]
    pub(crate) fn update32(&self, offset: usize, mut change: impl FnMut(u32) -> u32) -> u32 {
        let word = at32(&self.data, offset);
        let mut old = word.load(Relaxed);
        loop {
            match word.compare_exchange_weak(old, change(old), std::sync::atomic::Ordering::AcqRel, Relaxed) {
                Ok(old) => return old,
                Err(now) => old = now,
            }
        }
    }

    /// As [`update32`](Self::update32) for 64 bits.
    #[inline]
    pub(crate) fn update64(&self, offset: usize, mut change: impl FnMut(u64) -> u64) -> u64 {
        let word = at64(&self.data, offset);
        let mut old = word.load(Relaxed);
        loop {
            match word.compare_exchange_weak(old, change(old), std::sync::atomic::Ordering::AcqRel, Relaxed) {
                Ok(old) => return old,
                Err(now) => old = now,
            }
        }
    }

    /// Whether all bytes of a range were written. The range must lie inside the allocation.
    pub(crate) fn is_written(&self, offset: usize, bytes: usize) -> bool {
        if self.is_complete() {
            return true;
        }
        match bytes {
            4 if offset.is_multiple_of(4) => at32(&self.written, offset).load(Relaxed) == ALL_WRITTEN as u32,
            8 if offset.is_multiple_of(8) => at64(&self.written, offset).load(Relaxed) == ALL_WRITTEN,
            _ => (offset..offset + bytes).all(|byte| at8(&self.written, byte).load(Relaxed) == 1),
        }
    }

    pub(super) fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        assert!(offset + bytes.len() <= self.length);
        let (head, words) = split(offset, bytes.len());
        let (first, rest) = bytes.split_at_mut(head);
        for (i, byte) in first.iter_mut().enumerate() {
            *byte = self.load8(offset + i);
        }
        let base = offset + head;
        let (middle, last) = rest.split_at_mut(words * 8);
        for (i, chunk) in middle.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&self.load64(base + i * 8).to_le_bytes());
        }
        for (i, byte) in last.iter_mut().enumerate() {
            *byte = self.load8(base + words * 8 + i);
        }
    }

    pub(super) fn copy_in(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length);
        let (head, words) = split(offset, bytes.len());
        for (i, &byte) in bytes[..head].iter().enumerate() {
            self.store8(offset + i, byte);
        }
        let base = offset + head;
        for (i, chunk) in bytes[head..head + words * 8].chunks_exact(8).enumerate() {
            self.store64(base + i * 8, chunk.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)));
        }
        for (i, &byte) in bytes[head + words * 8..].iter().enumerate() {
            self.store8(base + words * 8 + i, byte);
        }
        self.note_written(offset, bytes.len());
    }

    /// Marks the allocation complete where a write from the host covered it.
    pub(super) fn note_written(&self, offset: usize, bytes: usize) {
        if offset == 0 && bytes == self.length {
            self.complete.store(true, Relaxed);
        }
    }

    /// The flags of a range, or `None` where all of it was written.
    pub(super) fn written_bytes(&self, offset: usize, bytes: usize) -> Option<Vec<u8>> {
        if self.is_written(offset, bytes) {
            return None;
        }
        Some((offset..offset + bytes).map(|byte| at8(&self.written, byte).load(Relaxed)).collect())
    }

    /// Sets the flags of a range. An allocation that was complete is so no longer.
    pub(super) fn set_written_bytes(&self, offset: usize, flags: &[u8]) {
        if self.complete.swap(false, Relaxed) {
            for word in &self.written {
                word.store(ALL_WRITTEN, Relaxed);
            }
        }
        for (i, &flag) in flags.iter().enumerate() {
            at8(&self.written, offset + i).store(flag, Relaxed);
        }
    }
}

/// Bytes before the first multiple of 8, and whole words after them.
fn split(offset: usize, bytes: usize) -> (usize, usize) {
    let head = (offset.next_multiple_of(8) - offset).min(bytes);
    (head, (bytes - head) / 8)
}
