//! What surrounds the products of a transformer: norms, rotations, activations, embeddings, cross-entropy.

mod harness;

use emo::Backend;
use emo::ops::activation::{self, Activation};
use emo::ops::cross_entropy::ForwardBackward;
use emo::ops::{embedding, rms_norm, rope};
use harness::device::{hold, reals};
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    norms(device, bench);
    ropes(device, bench);
    activations(device, bench);
    embeddings(device, bench);
    cross_entropies(device, bench);
}

fn norms<B: Backend>(device: &B, bench: &mut Bench) {
    for shape in shapes::norms(bench.size) {
        let case = format!("{}x{}", shape.rows, shape.width);
        let [forward, backward] = floors::rms_norm(shape);
        let len = shape.rows * shape.stride;
        let (x, dy, weight) =
            (floats(device, len, 1), floats(device, len, 2), floats(device, shape.width, 3));
        let (mut y, mut dx) = (zeros(device, len), zeros(device, len));
        let (mut rstd, mut dweight) = (zeros(device, shape.rows * shape.groups), zeros(device, shape.width));
        let mut workspace = zeros(device, device.rms_norm_workspace(shape));
        let mut run_forward = || {
            device.rms_norm_forward(rms_norm::Forward {
                shape,
                eps: 1e-5,
                x: x.all(),
                weight: weight.all(),
                y: y.all_mut(),
                rstd: rstd.all_mut(),
            })
        };
        run_forward().unwrap_or_else(|error| panic!("{error}"));
        bench.run(device, "rms_norm_forward", &case, forward, run_forward);
        bench.run(device, "rms_norm_backward", &case, backward, || {
            device.rms_norm_backward(rms_norm::Backward {
                shape,
                x: x.all(),
                weight: weight.all(),
                rstd: rstd.all(),
                dy: dy.all(),
                dx: dx.all_mut(),
                accumulate: false,
                dweight: dweight.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
    }
}

fn ropes<B: Backend>(device: &B, bench: &mut Bench) {
    for shape in shapes::ropes(bench.size) {
        let case = format!("{} rows, {} heads of {}", shape.rows, shape.heads, shape.head_dim);
        let (cos, sin) = rope::table(shape.positions, shape.head_dim, 10_000.0);
        let (cos, sin) = (reals(device, &cos), reals(device, &sin));
        let position: Vec<u32> = (0..shape.rows).map(|row| (row % shape.positions) as u32).collect();
        let position = hold(device, &position);
        let mut x = floats(device, shape.rows * shape.stride, 1);
        bench.run(device, "rope", &case, floors::rope(shape), || {
            device.rope(rope::Apply {
                shape,
                position: position.all(),
                cos: cos.all(),
                sin: sin.all(),
                inverse: false,
                x: x.all_mut(),
            })
        });
    }
}

fn activations<B: Backend>(device: &B, bench: &mut Bench) {
    for shape in shapes::activations(bench.size) {
        let case = format!("SwiGLU {}x{}", shape.rows, shape.width);
        let [forward, backward] = floors::activation(shape);
        let (pre, dout) =
            (floats(device, shape.rows * shape.pre(), 1), floats(device, shape.rows * shape.width, 2));
        let (mut out, mut dpre) =
            (zeros(device, shape.rows * shape.width), zeros(device, shape.rows * shape.pre()));
        let activation = Activation::Silu;
        bench.run(device, "activation_forward", &case, forward, || {
            device.activation_forward(activation::Forward {
                shape,
                activation,
                pre: pre.all(),
                out: out.all_mut(),
            })
        });
        bench.run(device, "activation_backward", &case, backward, || {
            device.activation_backward(activation::Backward {
                shape,
                activation,
                pre: pre.all(),
                dout: dout.all(),
                dpre: dpre.all_mut(),
            })
        });
    }
}

fn embeddings<B: Backend>(device: &B, bench: &mut Bench) {
    for shape in shapes::embeddings(bench.size) {
        let case = format!("{} of {} rows of {}", shape.rows, shape.vocabulary, shape.width);
        let [forward, backward] = floors::embedding(shape);
        // Distinct, as the floor has it: 1031 shares no factor with either vocabulary.
        let ids: Vec<u32> = (0..shape.rows).map(|row| (row * 1031 % shape.vocabulary) as u32).collect();
        let ids = hold(device, &ids);
        let table = floats(device, shape.vocabulary * shape.width, 1);
        let dy = floats(device, shape.rows * shape.width, 2);
        let mut y = zeros(device, shape.rows * shape.width);
        let mut dtable = zeros(device, shape.vocabulary * shape.width);
        bench.run(device, "embedding_forward", &case, forward, || {
            device.embedding_forward(embedding::Forward {
                shape,
                ids: ids.all(),
                table: table.all(),
                y: y.all_mut(),
            })
        });
        bench.run(device, "embedding_backward", &case, backward, || {
            device.embedding_backward(embedding::Backward {
                shape,
                ids: ids.all(),
                padding: None,
                dy: dy.all(),
                dtable: dtable.all_mut(),
            })
        });
    }
}

fn cross_entropies<B: Backend>(device: &B, bench: &mut Bench) {
    for (rows, vocabulary) in shapes::cross_entropies(bench.size) {
        let case = format!("{rows}x{vocabulary}");
        let targets: Vec<i32> = (0..rows).map(|row| (row * 1031 % vocabulary) as i32).collect();
        let targets = hold(device, &targets);
        // In place: the second run's logits are the first run's gradient, which costs the same.
        let mut logits = floats(device, rows * vocabulary, 1);
        let (mut loss, mut lse) = (zeros(device, rows), zeros(device, rows));
        bench.run(device, "cross_entropy", &case, floors::cross_entropy(rows, vocabulary), || {
            device.cross_entropy(ForwardBackward {
                rows,
                vocabulary,
                targets: targets.all(),
                scale: 1.0 / rows as f64,
                z_weight: 1e-4,
                logits: logits.all_mut(),
                backward: true,
                loss: loss.all_mut(),
                lse: lse.all_mut(),
            })
        });
    }
}
