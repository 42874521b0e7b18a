//! Groups of few rows, of which a model with many experts has many: packing a group's weights would cost as much as its
//! product. The weights are read where they lie instead, once.
//!
//! Weights stored `[k, n]` are plain rows already, which a micro-kernel can read as B ([`Unpacked`]). Of weights stored
//! `[n, k]` the product is turned over: `C^T = W A^T` makes W, row by row, what A is otherwise ([`Turned`]), and the few rows
//! are packed instead. Either way every element of C is summed in the same order as with packed weights.

use super::pack::{Single, Transpose};
use super::{A_LD, BlockC, KC, MC, MicroKernels, NR_MAX, Operand, Operands, block};
use crate::cpu::isa::Isa;
use crate::cpu::simd::Storage;

/// A row by row, any distance apart; B in panels.
pub(crate) struct Turned;

impl Operands for Turned {
    const A_ROW: Option<usize> = None;
    const A_NEIGHBOURS: bool = true;
    const B_PANELS: bool = true;
}

/// A row by row ([`A_LD`] apart); B in plain rows, any distance apart.
pub(crate) struct Unpacked;

impl Operands for Unpacked {
    const A_ROW: Option<usize> = Some(A_LD);
    const A_NEIGHBOURS: bool = true;
    const B_PANELS: bool = false;
}

/// Whether `rows` rows are so few beside `n` columns that packing the weights costs more than it saves.
pub(super) fn few(rows: usize, n: usize) -> bool {
    rows <= MC && 2 * rows <= n
}

/// Whether [`turned`] can do the product, in scratch of `len` words.
pub(super) fn can_turn<T: Storage>(
    micro: MicroKernels<T>,
    rows: usize,
    (n, k): (usize, usize),
    len: usize,
) -> bool {
    let width = rows.next_multiple_of(NR_MAX);
    let words = k / micro.terms;
    let readable = size_of::<T>() * micro.terms == size_of::<f32>() && k.is_multiple_of(micro.terms);
    readable && (1..=KC).contains(&words) && n <= A_LD && (words + n) * width <= len
}

/// `C = A W^T` for the rows of A in `packed_a`, [`A_LD`] words apart, to where `c` points, rows `ld` apart, in f32.
///
/// # Safety
/// [`can_turn`], with `scratch` of that length; `packed_a` holds `rows` rows of `k / terms` words; `micro` are kernels of `isa`,
/// which this processor has; and `rows` rows of `n` elements are writable at `c` (which may be `packed_a`) and touched by no
/// one else.
pub(super) unsafe fn turned<T: Storage>(
    isa: Isa,
    micro: MicroKernels<T>,
    weights: &[T],
    (rows, n, k): (usize, usize, usize),
    packed_a: *const f32,
    scratch: &mut [f32],
    (c, ld): (*mut f32, usize),
    mut between: impl FnMut(usize, usize),
) {
    assert!(weights.len() == n * k && rows <= MC && can_turn(micro, rows, (n, k), scratch.len()));
    let (words, nr) = (k / micro.terms, micro.nr);
    // A last panel that is at most half full is half as wide: its empty columns would be computed too.
    let narrow = if micro.narrow.is_empty() { 0 } else { nr / 2 };
    let wide = if (1..=narrow).contains(&(rows % nr)) { rows - rows % nr } else { rows };
    let width = rows.next_multiple_of(nr);
    let (panels, turned_c) = scratch.split_at_mut(words * width);
    for (first, panel) in (0..rows).step_by(nr).zip(panels.chunks_exact_mut(words * nr)) {
        let (nr, columns) = if first < wide { (nr, nr.min(rows - first)) } else { (narrow, rows - first) };
        // SAFETY: the rows lie in `packed_a`, by the caller's promise, and the panel has `words` rows of `nr` words.
        unsafe {
            let from = packed_a.add(first * A_LD);
            super::pack::panel_from_columns(isa, (from, A_LD), words, columns, panel.as_mut_ptr(), nr);
        }
    }
    // SAFETY: W has n rows of `words` words, which `can_turn` checked are whole; the panels were just made; C^T has n rows of
    // `width` words in scratch; and C's elements are the caller's promise.
    unsafe {
        let a = Operand { ptr: weights.as_ptr().cast(), step: words };
        let panel = |column: usize| Operand::blocked(panels.as_ptr().add(column * words));
        let turned_ptr = turned_c.as_mut_ptr();
        let to =
            |column: usize| BlockC { ptr: turned_ptr.add(column), ld: width, alpha: 1.0, accumulate: false };
        block::<Turned, f32>(micro.turned, nr, n, wide, words, a, panel(0), to(0), &mut between);
        if wide < rows {
            let between = |call, calls| {
                if wide == 0 {
                    between(call, calls)
                }
            };
            block::<Turned, f32>(
                micro.narrow,
                narrow,
                n,
                rows - wide,
                words,
                a,
                panel(wide),
                to(wide),
                between,
            );
        }
        let from = turned_ptr.cast_const();
        Transpose::<Single<f32>> {
            src: from,
            src_ld: width,
            rows: n,
            cols: rows,
            dst: c,
            dst_ld: ld,
            ahead: false,
        }
        .run(isa);
    }
}
