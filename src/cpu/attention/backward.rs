//! The backward pass: probabilities are computed again from the scores and the log-sum-exp.

use std::ops::Range;

use crate::Result;
use crate::cpu::Cpu;
use crate::cpu::gemm::rows::convert;
use crate::cpu::gemm::serial::{Layout, Strided, matmul};
use crate::cpu::memory::row_mut;
use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::threads::DisjointMut;
use crate::ops::attention::Backward;

use super::{KEYS, Packed, QUERIES, check_values, per_thread, pieces, product_scratch, scale, workspace};

/// A task is one key head of one segment with all the query heads that read it, so that every gradient has one owner and the
/// products are computed once.
pub(in crate::cpu) fn backward<T: Storage>(cpu: &Cpu<T>, args: Backward<'_, Cpu<T>>) -> Result<()> {
    let shape = args.shape;
    args.check(workspace(cpu, shape))?;
    check_values("attention_backward", shape, &args.segments)?;
    if shape.tokens * shape.out() == 0 {
        return Ok(());
    }
    let (d, kv_heads) = (shape.head_dim, shape.kv_heads);
    let inputs =
        Inputs { packed: Packed { shape, qkv: args.qkv }, out: args.out, dout: args.dout, lse: args.lse };
    let dqkv = DisjointMut::new(args.dqkv);
    let slots = shape.row() / d;
    let write = |rows: &[f32], first: usize, slot: usize| {
        for (i, row) in rows.chunks_exact(d).enumerate() {
            // SAFETY: a head of a token belongs to the one task that has its segment and its key head.
            let target = unsafe { row_mut(&dqkv, (first + i) * slots + slot, d, d) };
            convert(cpu.isa, row, target);
        }
    };
    let offsets = args.segments.offsets;
    let tasks = args.segments.count() * kv_heads;
    cpu.threads.for_each_scratch(tasks, args.workspace, per_thread(shape), |task, scratch| {
        let (segment, kv_head) = (task / kv_heads, task % kv_heads);
        let tokens = offsets[segment] as usize..offsets[segment + 1] as usize;
        let (dk, scratch) = scratch.split_at_mut(tokens.len() * d);
        let (dv, scratch) = scratch.split_at_mut(tokens.len() * d);
        let (dq, scratch) = scratch.split_at_mut(QUERIES * d);
        dk.fill(0.0);
        dv.fill(0.0);
        let group = shape.heads / kv_heads;
        for head in kv_head * group..(kv_head + 1) * group {
            for queries in pieces(tokens.clone(), QUERIES) {
                let dq = &mut dq[..queries.len() * d];
                inputs.tile_row(
                    cpu,
                    head,
                    queries.clone(),
                    tokens.start,
                    (&mut *dq, &mut *dk, &mut *dv),
                    scratch,
                );
                write(dq, queries.start, head);
            }
        }
        write(dk, tokens.start, shape.heads + kv_head);
        write(dv, tokens.start, shape.heads + kv_heads + kv_head);
    });
    Ok(())
}

#[derive(Clone, Copy)]
struct Inputs<'a, T> {
    packed: Packed<'a, T>,
    out: &'a [T],
    dout: &'a [T],
    lse: &'a [f32],
}

impl<T: Storage> Inputs<'_, T> {
    /// Some queries of one head against the keys from `first` on: overwrites `dq`, adds to the segment's `dk` and `dv`.
    fn tile_row(
        &self,
        cpu: &Cpu<T>,
        head: usize,
        queries: Range<usize>,
        first: usize,
        (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
        scratch: &mut [f32],
    ) {
        let packed = self.packed;
        let (heads, d, m, scale) =
            (packed.shape.heads, packed.shape.head_dim, queries.len(), scale(packed.shape));
        let (p, scratch) = scratch.split_at_mut(QUERIES * KEYS);
        let (ds, scratch) = scratch.split_at_mut(QUERIES * KEYS);
        let scratch = &mut scratch[..product_scratch(packed.shape)];
        let place = |token: usize| (token * heads + head) * d;
        let mut along = [0.0f32; QUERIES];
        for (along, token) in along.iter_mut().zip(queries.clone()) {
            *along = cpu.isa.dispatch(Dot(&self.out[place(token)..][..d], &self.dout[place(token)..][..d]));
        }
        let q = packed.head(queries.start, packed.query(head));
        let dout = Strided { data: &self.dout[place(queries.start)..], ld: heads * d };
        dq.fill(0.0);
        for keys in pieces(first..queries.end, KEYS) {
            let n = keys.len();
            let k = packed.head(keys.start, packed.key(head));
            let v = packed.head(keys.start, packed.value(head));
            matmul(cpu.isa, Layout::Nt, (m, n, d), scale, q, k, (&mut *p, KEYS), false, scratch);
            matmul(cpu.isa, Layout::Nt, (m, n, d), 1.0, dout, v, (&mut *ds, KEYS), false, scratch);
            for (i, token) in queries.clone().enumerate() {
                cpu.isa.dispatch(Row {
                    visible: (token + 1).saturating_sub(keys.start).min(n),
                    lse: self.lse[token * heads + head],
                    along: along[i],
                    p: &mut p[i * KEYS..][..n],
                    ds: &mut ds[i * KEYS..][..n],
                });
            }
            let own = (keys.start - first) * d..(keys.end - first) * d;
            let (p, ds) = (Strided { data: p, ld: KEYS }, Strided { data: ds, ld: KEYS });
            matmul(cpu.isa, Layout::Tn, (n, d, m), 1.0, p, dout, (&mut dv[own.clone()], d), true, scratch);
            matmul(cpu.isa, Layout::Tn, (n, d, m), scale, ds, q, (&mut dk[own], d), true, scratch);
            matmul(cpu.isa, Layout::Nn, (m, d, n), scale, ds, k, (&mut *dq, d), true, scratch);
        }
    }
}

struct Dot<'a, T>(&'a [T], &'a [T]);

impl<T: Storage> Kernel for Dot<'_, T> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        s.dot(self.0, self.1)
    }
}

/// One row of a tile: scores to probabilities `p`, and `ds` from `dout . v` to `p (dout . v - dout . out)`.
struct Row<'a> {
    visible: usize,
    lse: f32,
    along: f32,
    p: &'a mut [f32],
    ds: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (p, hidden) = self.p.split_at_mut(self.visible);
        hidden.fill(0.0);
        let (ds, hidden) = self.ds.split_at_mut(self.visible);
        hidden.fill(0.0);
        let (lse, along) = (s.splat(self.lse), s.splat(self.along));
        for (p, ds) in p.chunks_mut(S::LANES).zip(ds.chunks_mut(S::LANES)) {
            let probability = s.exp(s.load_partial(p, f32::NEG_INFINITY) - lse);
            s.store_partial(ds, probability * (s.load_partial(ds, 0.0) - along));
            s.store_partial(p, probability);
        }
    }
}
