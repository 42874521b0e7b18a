//! Grouped products: the experts' input projection, gathered from the tokens, and its two gradients.

mod harness;

use emo::Backend;
use emo::ops::grouped_gemm::{Dgrad, Forward, Wgrad};
use harness::plan::plan;
use harness::{Bench, bench_main, floats, floors, shapes, zeros};

bench_main!(measure);

fn measure<B: Backend>(device: &B, bench: &mut Bench) {
    for layer in shapes::layers(bench.size) {
        let (case, shape) = (layer.name(), layer.input_projection());
        let [forward, dgrad, wgrad] = floors::grouped_gemm(shape, layer.shape.tokens);
        let plan = plan(device, layer.slots(), &layer.choices());
        let weights = shape.groups * shape.inputs * shape.outputs;
        let x = floats(device, layer.shape.tokens * shape.inputs, 1);
        let w = floats(device, weights, 2);
        let dy = floats(device, shape.rows * shape.outputs, 3);
        let mut y = zeros(device, shape.rows * shape.outputs);
        let mut dx = zeros(device, shape.rows * shape.inputs);
        let mut dw = zeros(device, weights);
        let mut workspace = zeros(device, device.grouped_gemm_workspace(shape));
        bench.run(device, "grouped_gemm_forward", &case, forward, || {
            device.grouped_gemm_forward(Forward {
                shape,
                offsets: plan.offsets.all(),
                x: x.all(),
                gather: Some(plan.token.all()),
                w: w.all(),
                y: y.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
        bench.run(device, "grouped_gemm_dgrad", &case, dgrad, || {
            device.grouped_gemm_dgrad(Dgrad {
                shape,
                offsets: plan.offsets.all(),
                dy: dy.all(),
                gather: None,
                w: w.all(),
                dx: dx.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
        bench.run(device, "grouped_gemm_wgrad", &case, wgrad, || {
            device.grouped_gemm_wgrad(Wgrad {
                shape,
                offsets: plan.offsets.all(),
                x: x.all(),
                x_gather: Some(plan.token.all()),
                dy: dy.all(),
                dy_gather: None,
                dw: dw.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
    }
}
