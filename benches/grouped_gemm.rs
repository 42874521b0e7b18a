//! Grouped products: the experts' input projection, gathered from the tokens, and its two gradients.

mod harness;

use emo::Backend;
use emo::ops::grouped_gemm::{Dgrad, Forward, Wgrad};
use half::bf16;
use harness::plan::plan;
use harness::{Bench, cpu, floats, floors, shapes, stored, zeros};

fn main() {
    let mut bench = Bench::new();
    measure(&cpu(), &mut bench);
    measure(&cpu().storing::<bf16>(), &mut bench);
    bench.finish();
}

fn measure<B: Backend>(cpu: &B, bench: &mut Bench) {
    for layer in shapes::layers(bench.size) {
        let (case, shape) = (format!("{}{}", stored::<B>(), layer.name()), layer.input_projection());
        let [forward, dgrad, wgrad] =
            floors::grouped_gemm(shape, layer.shape.tokens, size_of::<B::Storage>());
        let plan = plan(cpu, layer.slots(), &layer.choices());
        let weights = shape.groups * shape.inputs * shape.outputs;
        let x = floats(cpu, layer.shape.tokens * shape.inputs, 1);
        let w = floats(cpu, weights, 2);
        let dy = floats(cpu, shape.rows * shape.outputs, 3);
        let mut y = zeros(cpu, shape.rows * shape.outputs);
        let mut dx = zeros(cpu, shape.rows * shape.inputs);
        let mut dw = zeros(cpu, weights);
        let mut workspace = zeros(cpu, cpu.grouped_gemm_workspace(shape));
        bench.run("grouped_gemm_forward", &case, forward, || {
            cpu.grouped_gemm_forward(Forward {
                shape,
                offsets: plan.offsets.all(),
                x: x.all(),
                gather: Some(plan.token.all()),
                w: w.all(),
                y: y.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
        bench.run("grouped_gemm_dgrad", &case, dgrad, || {
            cpu.grouped_gemm_dgrad(Dgrad {
                shape,
                offsets: plan.offsets.all(),
                dy: dy.all(),
                gather: None,
                w: w.all(),
                dx: dx.all_mut(),
                workspace: workspace.all_mut(),
            })
        });
        bench.run("grouped_gemm_wgrad", &case, wgrad, || {
            cpu.grouped_gemm_wgrad(Wgrad {
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
