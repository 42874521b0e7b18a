//! The forward pass, with the online softmax.

use crate::Result;
use crate::cpu::Cpu;
use crate::cpu::gemm::rows::convert;
use crate::cpu::gemm::serial::{Layout, Strided, matmul};
use crate::cpu::memory::row_mut;
use crate::cpu::simd::{Kernel, Simd, Storage};
use crate::cpu::threads::DisjointMut;
use crate::cpu::vector;
use crate::ops::attention::{Forward, Shape};

use super::{KEYS, Packed, QUERIES, check_values, per_thread, pieces, product_scratch, scale, workspace};

/// A task is one head of a block of tokens, whatever segments the block holds.
pub(in crate::cpu) fn forward<T: Storage>(cpu: &Cpu<T>, args: Forward<'_, Cpu<T>>) -> Result<()> {
    let shape = args.shape;
    args.check(workspace(cpu, shape))?;
    check_values("attention_forward", shape, &args.segments)?;
    if shape.tokens * shape.out() == 0 {
        return Ok(());
    }
    let (d, heads) = (shape.head_dim, shape.heads);
    let packed = Packed { shape, qkv: args.qkv };
    let (offsets, of_token) = (args.segments.offsets, args.segments.of_token);
    let (out, lse) = (DisjointMut::new(args.out), DisjointMut::new(args.lse));
    let tasks = shape.tokens.div_ceil(QUERIES) * heads;
    cpu.threads.for_each_scratch(tasks, args.workspace, per_thread(shape), |task, scratch| {
        let (block, head) = (task / heads, task % heads);
        let end = shape.tokens.min((block + 1) * QUERIES);
        let mut start = block * QUERIES;
        while start < end {
            let segment = of_token[start] as usize;
            let queries = start..end.min(offsets[segment + 1] as usize);
            let (o, rest) = scratch.split_at_mut(QUERIES * d);
            let o = &mut o[..queries.len() * d];
            let first = offsets[segment] as usize;
            let row = TileRow {
                shape,
                q: packed.head(queries.start, packed.query(head)),
                k: packed.head(first, packed.key(head)),
                v: packed.head(first, packed.value(head)),
                before: queries.start - first,
                queries: queries.len(),
            };
            let lse_of = row.run(cpu, o, rest);
            for (i, token) in queries.clone().enumerate() {
                // SAFETY: a head of a token belongs to one task.
                let (out, lse) = unsafe {
                    (row_mut(&out, token * heads + head, d, d), row_mut(&lse, token * heads + head, 1, 1))
                };
                convert(cpu.isa, &o[i * d..][..d], out);
                lse[0] = lse_of[i];
            }
            start = queries.end;
        }
    });
    Ok(())
}

/// Some queries of one head and sequence, and the keys and values of that sequence.
pub(super) struct TileRow<'a, T> {
    pub shape: Shape,
    /// From the first of the queries on.
    pub q: Strided<'a, T>,
    /// From the sequence's first key on.
    pub k: Strided<'a, T>,
    /// From the sequence's first value on.
    pub v: Strided<'a, T>,
    /// Tokens of the sequence before the first query.
    pub before: usize,
    /// How many queries, at most [`QUERIES`].
    pub queries: usize,
}

impl<T: Storage> TileRow<'_, T> {
    /// Attention of the queries to the tokens up to themselves; writes `o` and returns the log-sum-exp.
    pub fn run(&self, cpu: &Cpu<T>, o: &mut [f32], scratch: &mut [f32]) -> [f32; QUERIES] {
        let (d, m) = (self.shape.head_dim, self.queries);
        let (scores, scratch) = scratch.split_at_mut(QUERIES * KEYS);
        let scratch = &mut scratch[..product_scratch(self.shape)];
        let mut max = [f32::NEG_INFINITY; QUERIES];
        let mut sum = [0.0f32; QUERIES];
        o.fill(0.0);
        for keys in pieces(0..self.before + m, KEYS) {
            let n = keys.len();
            let k = self.k.from(keys.start);
            let scale = scale(self.shape);
            matmul(cpu.isa, Layout::Nt, (m, n, d), scale, self.q, k, (&mut *scores, KEYS), false, scratch);
            for i in 0..m {
                let visible = (self.before + i + 1).saturating_sub(keys.start).min(n);
                cpu.isa.dispatch(SoftmaxRow {
                    visible,
                    scores: &mut scores[i * KEYS..][..n],
                    max: &mut max[i],
                    sum: &mut sum[i],
                    o: &mut o[i * d..][..d],
                });
            }
            let v = self.v.from(keys.start);
            let p = Strided { data: scores, ld: KEYS };
            matmul(cpu.isa, Layout::Nn, (m, d, n), 1.0, p, v, (&mut *o, d), true, scratch);
        }
        for i in 0..m {
            let factor = 1.0 / sum[i];
            o[i * d..][..d].iter_mut().for_each(|o| *o *= factor);
            max[i] = (f64::from(max[i]) + f64::from(sum[i]).ln()) as f32;
        }
        max
    }
}

/// Turns one row of scores into exponentials over a running maximum, and rescales what was summed below an older one.
struct SoftmaxRow<'a> {
    /// How many of the keys the query may see.
    visible: usize,
    scores: &'a mut [f32],
    max: &'a mut f32,
    sum: &'a mut f32,
    o: &'a mut [f32],
}

impl Kernel for SoftmaxRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (seen, hidden) = self.scores.split_at_mut(self.visible);
        hidden.fill(0.0);
        let greatest = vector::max(s, seen);
        if greatest > *self.max {
            let factor = (*self.max - greatest).exp();
            *self.max = greatest;
            *self.sum *= factor;
            for part in self.o.chunks_mut(S::LANES) {
                let scaled = s.load_partial(part, 0.0) * s.splat(factor);
                s.store_partial(part, scaled);
            }
        }
        let shift = s.splat(*self.max);
        let mut sum = s.splat(0.0);
        for part in seen.chunks_mut(S::LANES) {
            let e = s.exp(s.load_partial(part, f32::NEG_INFINITY) - shift);
            sum = sum + e;
            s.store_partial(part, e);
        }
        *self.sum += s.reduce_add(sum);
    }
}
