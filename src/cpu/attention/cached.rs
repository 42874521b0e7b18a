//! The forward pass of tokens that continue sequences, over a cache of keys and values.

use crate::cpu::Cpu;
use crate::cpu::gemm::rows::convert;
use crate::cpu::gemm::serial::Strided;
use crate::cpu::memory::row_mut;
use crate::cpu::simd::Storage;
use crate::cpu::threads::DisjointMut;
use crate::ops::attention::Cached;
use crate::{Result, host};

use super::forward::TileRow;
use super::{Packed, QUERIES, per_thread, workspace};

/// A task is one head of a block of new tokens, whatever sequences the block continues.
pub(in crate::cpu) fn cached<T: Storage>(cpu: &Cpu<T>, args: Cached<'_, Cpu<T>>) -> Result<()> {
    let shape = args.shape;
    args.check(workspace(cpu, shape))?;
    host::cached_sequences("attention_cached", &args)?;
    if shape.tokens == 0 {
        return Ok(());
    }
    let Cached { segments, slots, past, qkv, cache, out, workspace, .. } = args;
    let (d, heads, kept) = (shape.head_dim, shape.heads, shape.cache_row());
    let place = shape.longest * kept;
    for (segment, ends) in segments.offsets.windows(2).enumerate() {
        let start = slots[segment] as usize * place + past[segment] as usize * kept;
        let rows = qkv[..ends[1] as usize * shape.row()].chunks_exact(shape.row()).skip(ends[0] as usize);
        for (row, target) in rows.zip(cache[start..].chunks_exact_mut(kept)) {
            target.copy_from_slice(&row[shape.out()..]);
        }
    }
    let (packed, cache) = (Packed { shape, qkv }, &*cache);
    let out = DisjointMut::new(out);
    let tasks = shape.tokens.div_ceil(QUERIES) * heads;
    cpu.threads.for_each_scratch(tasks, workspace, per_thread(shape), |task, scratch| {
        let (block, head) = (task / heads, task % heads);
        let end = shape.tokens.min((block + 1) * QUERIES);
        let mut start = block * QUERIES;
        while start < end {
            let segment = segments.of_token[start] as usize;
            let first = segments.offsets[segment] as usize;
            let queries = start..end.min(segments.offsets[segment + 1] as usize);
            let (o, rest) = scratch.split_at_mut(QUERIES * d);
            let o = &mut o[..queries.len() * d];
            let keys = &cache[slots[segment] as usize * place..][..place];
            let key = packed.kv_head(head) * d;
            let row = TileRow {
                shape,
                q: packed.head(start, packed.query(head)),
                k: Strided { data: &keys[key..], ld: kept },
                v: Strided { data: &keys[shape.kv_heads * d + key..], ld: kept },
                before: past[segment] as usize + start - first,
                queries: queries.len(),
            };
            row.run(cpu, o, rest);
            for (i, token) in queries.clone().enumerate() {
                // SAFETY: a head of a token belongs to one task.
                let out = unsafe { row_mut(&out, token * heads + head, d, d) };
                convert(cpu.isa, &o[i * d..][..d], out);
            }
            start = queries.end;
        }
    });
    Ok(())
}
