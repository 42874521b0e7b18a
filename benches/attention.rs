//! Causal attention inside sequences, forward and backward.

mod harness;

use emo::Backend;
use emo::ops::attention::{Backward, Forward};
use harness::device::segments;
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    for (shape, offsets) in shapes::attentions(bench.size) {
        let sequences = offsets.len() - 1;
        let case = format!("{sequences}x{}, {} heads of {}", shape.longest, shape.heads, shape.head_dim);
        let [forward, backward] = floors::attention(shape, &offsets);
        let segments = segments(device, &offsets);
        let qkv = floats(device, shape.tokens * shape.row(), 1);
        let dout = floats(device, shape.tokens * shape.out(), 2);
        let mut out = zeros(device, shape.tokens * shape.out());
        let mut lse = zeros(device, shape.tokens * shape.heads);
        let mut dqkv = zeros(device, shape.tokens * shape.row());
        let mut workspace = zeros(device, device.attention_workspace(shape));
        let mut run_forward = || {
            device.attention_forward(Forward {
                shape,
                segments: segments.all(),
                qkv: qkv.all(),
                out: out.all_mut(),
                lse: lse.all_mut(),
                workspace: workspace.all_mut(),
            })
        };
        // The backward pass needs the outputs also where a filter leaves the forward bench out.
        run_forward().unwrap_or_else(|error| panic!("{error}"));
        bench.run(device, "attention_forward", &case, forward, run_forward);
        bench.run(device, "attention_backward", &case, backward, || {
            device.attention_backward(Backward {
                shape,
                segments: segments.all(),
                qkv: qkv.all(),
                out: out.all(),
                lse: lse.all(),
                dout: dout.all(),
                dqkv: dqkv.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
    }
}
