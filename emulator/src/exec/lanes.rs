//! Values of the 32 lanes of a warp, and the loops over them.

/// A 32-bit register of a warp.
pub(crate) type Word = [u32; 32];
/// A 64-bit register of a warp.
pub(crate) type Long = [u64; 32];

/// All lanes.
pub(crate) const ALL: u32 = u32::MAX;

/// The register files of a warp.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    pub(crate) words: Vec<Word>,
    pub(crate) longs: Vec<Long>,
    /// One bit a lane.
    pub(crate) preds: Vec<u32>,
    /// The carry flags (PTX ISA 9.7.2).
    pub(crate) carry: u32,
}

impl Registers {
    #[inline(always)]
    pub(crate) fn word(&self, slot: u32) -> &Word {
        &self.words[slot as usize]
    }

    #[inline(always)]
    pub(crate) fn long(&self, slot: u32) -> &Long {
        &self.longs[slot as usize]
    }

    #[inline(always)]
    pub(crate) fn pred(&self, slot: u32) -> u32 {
        self.preds[slot as usize]
    }

    /// Sets the lanes of `mask` to the bits of `value`.
    #[inline(always)]
    pub(crate) fn set_pred(&mut self, slot: u32, mask: u32, value: u32) {
        let pred = &mut self.preds[slot as usize];
        *pred = *pred & !mask | value & mask;
    }

    /// Sets the lanes of `mask` to what `value` gives for them. `value` is called for no other lane.
    #[inline(always)]
    pub(crate) fn set_word(&mut self, slot: u32, mask: u32, value: impl FnMut(usize) -> u32) {
        set(&mut self.words[slot as usize], mask, value);
    }

    /// As [`set_word`](Self::set_word) for 64 bits.
    #[inline(always)]
    pub(crate) fn set_long(&mut self, slot: u32, mask: u32, value: impl FnMut(usize) -> u64) {
        set(&mut self.longs[slot as usize], mask, value);
    }
}

#[inline(always)]
fn set<T>(lanes: &mut [T; 32], mask: u32, mut value: impl FnMut(usize) -> T) {
    if mask == ALL {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = value(i);
        }
    } else {
        for (i, lane) in lanes.iter_mut().enumerate() {
            if mask >> i & 1 == 1 {
                *lane = value(i);
            }
        }
    }
}

/// One bit a lane.
#[inline(always)]
pub(crate) fn flags(value: impl Fn(usize) -> bool) -> u32 {
    let mut bits = 0;
    for i in 0..32 {
        bits |= u32::from(value(i)) << i;
    }
    bits
}

/// The lanes of a mask in ascending order.
pub(crate) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let lane = left.trailing_zeros();
        left &= left.wrapping_sub(1);
        (lane < 32).then_some(lane as usize)
    })
}
