//! The CPU's attention against the specification.

use crate::agree::{Call, Outputs, values};
use crate::device::{reals, segments, unset};
use crate::machines::agree;
use crate::shapes::{Size, attentions, documents};
use emo::Backend;
use emo::ops::attention::{Backward, Forward, Shape};

pub struct Attention {
    pub offsets: Vec<u32>,
    pub shape: Shape,
}

impl Call for Attention {
    fn name(&self) -> String {
        format!("attention {:?} of {:?}", self.shape, self.offsets)
    }
    /// The keys of a row, and the products of a head's outputs with their gradients, which are taken from rounded outputs.
    fn terms(&self) -> f64 {
        self.shape.longest as f64 / 8.0 + self.shape.head_dim as f64 / 16.0
    }
    fn on<B: Backend>(&self, b: &B) -> Outputs {
        let shape = self.shape;
        let segments = segments(b, &self.offsets);
        let qkv: Vec<f64> = values(shape.tokens * shape.row(), 1).iter().map(|x| 2.0 * x).collect();
        let qkv = reals(b, &qkv);
        let (mut out, mut lse) = (unset(b, shape.tokens * shape.out()), unset(b, shape.tokens * shape.heads));
        let mut workspace = unset(b, b.attention_workspace(shape));
        b.attention_forward(Forward {
            shape,
            segments: segments.all(),
            qkv: qkv.all(),
            out: out.all_mut(),
            lse: lse.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        let mut dqkv = unset(b, shape.tokens * shape.row());
        b.attention_backward(Backward {
            shape,
            segments: segments.all(),
            qkv: qkv.all(),
            out: out.all(),
            lse: lse.all(),
            dout: reals(b, &values(shape.tokens * shape.out(), 2)).all(),
            dqkv: dqkv.all_mut(),
            workspace: workspace.all_mut(),
        })
        .unwrap();
        vec![("out", out.reals()), ("lse", lse.reals()), ("dqkv", dqkv.reals())]
    }
}

#[test]
fn agrees_with_the_specification() {
    for offsets in documents() {
        let tokens = offsets[offsets.len() - 1] as usize;
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as usize;
        for (heads, kv_heads, head_dim) in [(1, 1, 1), (4, 2, 7), (3, 1, 40), (2, 2, 64)] {
            let shape = Shape { tokens, heads, kv_heads, head_dim, longest };
            agree(&Attention { offsets: offsets.clone(), shape });
        }
    }
    for (shape, offsets) in attentions(Size::Small) {
        agree(&Attention { offsets, shape });
    }
}
