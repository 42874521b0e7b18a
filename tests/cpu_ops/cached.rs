//! Attention to cached keys: against the specification, and against attention over the whole sequences.

use crate::agree::{Call, Outputs, values};
use crate::attention::Attention;
use crate::device::{hold, reals, segments, unset};
use crate::machines::{agree, machines};
use crate::shapes::{Size, attentions, documents};
use emo::Backend;
use emo::cpu::Cpu;
use emo::ops::attention::{Cached, Shape};
use emo::ops::segments::Segments;

fn cpu() -> &'static Cpu {
    &machines()[0][1]
}

/// Sequences that grow in three calls: prompts, one token each in the reverse order of their places, the rest of the rows.
struct Growing(Attention);

impl Call for Growing {
    fn name(&self) -> String {
        format!("cached {}", self.0.name())
    }
    fn terms(&self) -> f64 {
        self.0.shape.longest as f64 / 8.0
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let Attention { offsets, shape } = &self.0;
        let lengths: Vec<usize> = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect();
        let places = lengths.len() + 1;
        let qkv: Vec<f64> = values(shape.tokens * shape.row(), 1).iter().map(|x| 2.0 * x).collect();
        let mut cache = unset(b, places * shape.longest * shape.cache_row());
        let mut past = vec![0usize; lengths.len()];
        let mut found = vec![Vec::new(); lengths.len()];
        for call in 0..3 {
            let order: Vec<usize> = match call {
                1 => (0..lengths.len()).rev().collect(),
                _ => (0..lengths.len()).collect(),
            };
            let (mut ends, mut rows) = (vec![0u32], Vec::new());
            for &sequence in &order {
                let left = lengths[sequence] - past[sequence];
                let new = [left / 2, left.min(1), left][call];
                let start = offsets[sequence] as usize + past[sequence];
                rows.extend_from_slice(&qkv[start * shape.row()..(start + new) * shape.row()]);
                ends.push((rows.len() / shape.row()) as u32);
            }
            let shape = Shape { tokens: rows.len() / shape.row(), ..*shape };
            let whole = |of: &dyn Fn(usize) -> usize| order.iter().map(|&i| of(i) as u32).collect::<Vec<_>>();
            let mut out = unset(b, shape.tokens * shape.out());
            b.attention_cached(Cached {
                shape,
                places,
                segments: segments(b, &ends).all(),
                slots: hold(b, &whole(&|sequence| places - 1 - sequence)).all(),
                past: hold(b, &whole(&|sequence| past[sequence])).all(),
                qkv: reals(b, &rows).all(),
                cache: cache.all_mut(),
                out: out.all_mut(),
                workspace: unset(b, b.attention_workspace(shape)).all_mut(),
            })
            .unwrap();
            let out = out.reals();
            for (&sequence, ends) in order.iter().zip(ends.windows(2)) {
                let rows = ends[0] as usize * shape.out()..ends[1] as usize * shape.out();
                found[sequence].extend_from_slice(&out[rows]);
                past[sequence] += (ends[1] - ends[0]) as usize;
            }
        }
        vec![("out", found.concat())]
    }
}

/// The new tokens' outputs are those of the whole sequences, on the backend itself as well.
fn grows_as_a_whole<B: Backend>(b: &B, attention: Attention) {
    let growing = Growing(attention);
    let whole = growing.0.on(b).swap_remove(0).1;
    let found = growing.on(b).swap_remove(0).1;
    assert_eq!(whole.len(), found.len());
    let furthest = whole.iter().zip(&found).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(furthest < 1e-5, "{}: {furthest}", growing.name());
}

#[test]
fn attention_to_a_cache_agrees_with_the_specification() {
    for offsets in documents() {
        let tokens = offsets[offsets.len() - 1] as usize;
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as usize;
        for (heads, kv_heads, head_dim) in [(1, 1, 1), (4, 2, 7), (3, 1, 40), (2, 2, 64)] {
            let shape = Shape { tokens, heads, kv_heads, head_dim, longest };
            agree(&Growing(Attention { offsets: offsets.clone(), shape }));
            grows_as_a_whole(cpu(), Attention { offsets: offsets.clone(), shape });
        }
    }
    for (shape, offsets) in attentions(Size::Small) {
        agree(&Growing(Attention { offsets, shape }));
    }
}

#[test]
fn a_cache_without_room_or_with_one_place_for_two_is_refused() {
    let shape = Shape { tokens: 2, heads: 1, kv_heads: 1, head_dim: 1, longest: 4 };
    let call = |slots: [u32; 2], past: [u32; 2]| {
        let cpu = cpu();
        cpu.attention_cached(Cached {
            shape,
            places: 2,
            segments: Segments { offsets: &[0, 1, 2], of_token: &[0, 1] },
            slots: &slots,
            past: &past,
            qkv: &[0.0; 6],
            cache: &mut [0.0; 16],
            out: &mut [0.0; 2],
            workspace: &mut vec![0.0; cpu.attention_workspace(shape)],
        })
        .map_err(|error| error.to_string())
    };
    assert_eq!(call([1, 0], [3, 0]), Ok(()));
    assert_eq!(call([1, 2], [0, 0]).unwrap_err(), "attention_cached: `slots`[1] must be below 2, found 2");
    assert!(call([1, 1], [0, 0]).unwrap_err().contains("1 twice"));
    for past in [4, u32::MAX] {
        assert!(call([0, 1], [0, past]).unwrap_err().contains("at most 4"), "{past}");
    }
}
