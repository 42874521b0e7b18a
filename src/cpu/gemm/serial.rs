//! Small products on one thread, for callers that are themselves parallel tasks (attention tiles).

use super::rows::convert;
use super::{A_LD, BlockC, Blocked, KC, MC, NR_MAX, Operand, block, micro_kernels, pack, part};
use crate::cpu::isa::Isa;
use crate::cpu::simd::Storage;

/// Which operand is stored transposed. C is always `[m, n]`, row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `A B`: A is `[m, k]`, B is `[k, n]`.
    Nn,
    /// `A B^T`: A is `[m, k]`, B is `[n, k]`.
    Nt,
    /// `A^T B`: A is `[k, m]`, B is `[k, n]`.
    Tn,
}

/// A row-major matrix inside a slice: row i starts at element `i * ld`.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// Elements from one row to the next, at least the number of columns.
    pub ld: usize,
}

impl<'a, T> Strided<'a, T> {
    /// The matrix without its first `rows` rows.
    pub fn from(&self, rows: usize) -> Strided<'a, T> {
        Strided { data: &self.data[rows * self.ld..], ld: self.ld }
    }
}

/// f32 elements of scratch that [`matmul`] needs.
pub fn scratch_len(m: usize, n: usize, k: usize) -> usize {
    let packed_b = n.div_ceil(NR_MAX).saturating_mul(NR_MAX).saturating_mul(k.min(KC));
    packed_b.saturating_add(m.min(MC) * A_LD + super::ALIGN)
}

/// `C[m, n] = alpha * op(A) op(B)`, plus the old C with `accumulate`, in f32. Rows of C are `ldc` apart.
///
/// # Panics
/// When an operand is shorter than its extents say or `scratch` shorter than [`scratch_len`].
pub fn matmul<A: Storage, B: Storage>(
    isa: Isa,
    layout: Layout,
    (m, n, k): (usize, usize, usize),
    alpha: f32,
    a: Strided<A>,
    b: Strided<B>,
    (c, ldc): (&mut [f32], usize),
    accumulate: bool,
    scratch: &mut [f32],
) {
    if m == 0 || n == 0 {
        return;
    }
    // Without wrapping: the pointers below are as good as this check.
    let holds = |len: usize, rows: usize, cols: usize, ld: usize| {
        let needed = || (rows - 1).checked_mul(ld)?.checked_add(cols);
        rows == 0 || cols == 0 || (cols <= ld && needed().is_some_and(|needed| needed <= len))
    };
    let (a_rows, a_cols) = if layout == Layout::Tn { (k, m) } else { (m, k) };
    let (b_rows, b_cols) = if layout == Layout::Nt { (n, k) } else { (k, n) };
    assert!(holds(a.data.len(), a_rows, a_cols, a.ld), "A is too short");
    assert!(holds(b.data.len(), b_rows, b_cols, b.ld), "B is too short");
    assert!(holds(c.len(), m, n, ldc), "C is too short");
    assert!(scratch.len() >= scratch_len(m, n, k), "scratch is too short");
    if k == 0 {
        if !accumulate {
            (0..m).for_each(|i| c[i * ldc..i * ldc + n].fill(0.0));
        }
        return;
    }
    let micro = micro_kernels::<f32>(isa);
    let (packed_b, packed_a) = super::aligned(scratch).split_at_mut(k.min(KC) * n.next_multiple_of(NR_MAX));
    let blocks = m.div_ceil(MC);
    for k0 in (0..k).step_by(KC) {
        let kc = KC.min(k - k0);
        for (j, column) in (0..n).step_by(micro.nr).enumerate() {
            let cols = micro.nr.min(n - column);
            let panel = packed_b[j * kc * micro.nr..][..kc * micro.nr].as_mut_ptr();
            // SAFETY: `holds` checked B's extents, and the panel has kc * nr elements.
            unsafe {
                if layout == Layout::Nt {
                    let src = b.data.as_ptr().add(column * b.ld + k0);
                    pack::panel_from_columns(isa, (src, b.ld), kc, cols, panel, micro.nr);
                } else {
                    let src = b.data.as_ptr().add(k0 * b.ld + column);
                    pack::panel_from_rows(isa, (src, b.ld), kc, cols, panel, micro.nr);
                }
            }
        }
        for i in 0..blocks {
            let rows = part(m, blocks, i);
            if layout == Layout::Tn {
                // SAFETY: `holds` checked A's extents, and rows.len() <= MC rows of A_LD fit the scratch.
                unsafe {
                    let src = a.data.as_ptr().add(k0 * a.ld + rows.start);
                    pack::a_from_columns(isa, (src, a.ld), kc, rows.len(), packed_a.as_mut_ptr());
                }
            } else {
                for (row, out) in rows.clone().zip(packed_a.chunks_mut(A_LD)) {
                    convert(isa, &a.data[row * a.ld + k0..][..kc], &mut out[..kc]);
                }
            }
            // SAFETY: both operands were packed just above; rows of C lie inside it by `holds`, and it is exclusive.
            unsafe {
                let ptr = c.as_mut_ptr().add(rows.start * ldc);
                let c = BlockC { ptr, ld: ldc, alpha, accumulate: accumulate || k0 > 0 };
                let (a, b) = (Operand::blocked(packed_a.as_ptr()), Operand::blocked(packed_b.as_ptr()));
                block::<Blocked, f32>(micro.blocked, micro.nr, rows.len(), n, kc, a, b, c, |_, _| {});
            }
        }
    }
}
